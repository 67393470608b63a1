namespace Samepage.Agent;

/// <summary>A process cannot be taken in. The message is the reason that <c>samepage status</c> shows; nothing was changed in it.</summary>
public sealed class AttachException(string reason, bool permission = false, bool agentLeft = false) : Exception(reason)
{
    /// <summary>The reason is a missing permission.</summary>
    public bool Permission { get; } = permission;

    /// <summary>Something of the agent is left in the process after all: what was written down about it is still wanted.</summary>
    public bool AgentLeft { get; } = agentLeft;
}
