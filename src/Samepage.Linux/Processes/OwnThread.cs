namespace Samepage.Linux.Processes;

/// <summary>Starts threads of ours. That there are as many as there may be (RLIMIT_NPROC, pids.max, TasksMax= of our service) is an answer, which programs can bring about that keep many of them.</summary>
public static class OwnThread
{
    /// <param name="thread">One that was not started.</param>
    /// <param name="start">Starts it; null as the runtime does.</param>
    /// <returns>False when there are as many as there may be: this one will never run.</returns>
    public static bool TryStart(Thread thread, Action<Thread>? start = null)
    {
        try
        {
            if (start is null)
                thread.Start();
            else
                start(thread);
            return true;
        }
        catch (Exception refused) when (refused is OutOfMemoryException or ThreadStartException)
        {
            return false;
        }
    }

    /// <inheritdoc cref="TryStart"/>
    /// <exception cref="SyscallException">EAGAIN: there are as many as there may be.</exception>
    public static void Start(Thread thread, Action<Thread>? start = null)
    {
        if (!TryStart(thread, start))
            throw new SyscallException("clone", $"a thread, {thread.Name}", Errno.EAGAIN);
    }
}
