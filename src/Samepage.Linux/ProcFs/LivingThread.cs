namespace Samepage.Linux.ProcFs;

/// <summary>A thread by which a process can be looked at: one that lives.</summary>
/// <remarks>A first thread that has ended while others go on (pthread_exit of main) stays as a zombie without memory, descriptors or credentials of use: what <c>/proc/PID</c> shows
/// then is empty, and process_vm_readv(2) answers ESRCH. All of these take the id of any other thread in its place, <c>/proc/TID</c> too.</remarks>
public static class LivingThread
{
    /// <summary>Finds one.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="passOver">Threads that will not do: those with descriptors of their own, where these are to be looked at.</param>
    /// <returns>The first thread where it lives, another otherwise; the first one also where none lives.</returns>
    public static int Of(int pid, params ReadOnlySpan<int> passOver)
    {
        if (!HasEnded(pid, pid))
            return pid;
        List<int> threads = [];
        _ = Threads.TryList(pid, threads);
        foreach (int tid in threads)
        {
            if (tid != pid && !passOver.Contains(tid) && !HasEnded(pid, tid))
                return tid;
        }

        return pid;
    }

    /// <summary>Whether a thread has ended, reaped or not. What cannot be read says nothing.</summary>
    public static bool HasEnded(int pid, int tid) => Threads.State(pid, tid) is 'Z' or 'X';

    /// <summary>The letter behind the name, which may hold blanks and parentheses.</summary>
    internal static char StateIn(string stat)
    {
        int at = stat.LastIndexOf(')') + 2;
        return at > 1 && at < stat.Length ? stat[at] : 'X';
    }
}
