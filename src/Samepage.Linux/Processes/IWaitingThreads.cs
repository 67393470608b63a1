namespace Samepage.Linux.Processes;

/// <summary>Threads of other programs that wait for an answer of ours, and could not be held before they have one.</summary>
/// <remarks>Any thread.</remarks>
public interface IWaitingThreads
{
    /// <summary>Whether a thread waits in a call that it may begin again: it is done as often as it is begun, and comes to the same.</summary>
    bool Waits(int threadId);

    /// <summary>Answers EINTR to a thread that waits, if it still does. Whoever asked for it begins the call again.</summary>
    void LetGo(int threadId);
}
