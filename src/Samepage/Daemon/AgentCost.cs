namespace Samepage.Daemon;

/// <summary>What an agent costs a target at rest.</summary>
internal static class AgentCost
{
    /// <summary>Resident bytes: code, words, stacks, operations and buffers that were touched. Measured with smaps on Linux 6.18.</summary>
    public const long ResidentBytes = 128 * 1024;
}
