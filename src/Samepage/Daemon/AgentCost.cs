namespace Samepage.Daemon;

/// <summary>What an agent costs a target at rest, and what the daemon costs, for whoever tells it in advance.</summary>
internal static class AgentCost
{
    /// <summary>Resident bytes: code, words, stacks, operations and buffers that were touched. Measured with smaps on Linux 6.18.</summary>
    public const long ResidentBytes = 128 * 1024;

    /// <summary>Bytes of records and indexes a page where slabs are full; docs/engine-figures.md.</summary>
    public const double RecordBytesOfAPage = 22;

    /// <summary>Resident bytes of the daemon with few records. Measured: 91 MiB with two processes.</summary>
    public const long DaemonBytes = 90L << 20;
}
