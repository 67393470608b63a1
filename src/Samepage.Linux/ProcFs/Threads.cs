using System.Globalization;

namespace Samepage.Linux.ProcFs;

/// <summary>What a thread was doing when looked at, <c>/proc/PID/task/TID/syscall</c>: a call with its arguments, or neither.</summary>
/// <param name="Blocked">It is asleep inside a system call; otherwise it runs, or faults.</param>
/// <param name="Number">The call's number.</param>
/// <param name="Arguments">Its six arguments.</param>
/// <param name="StackPointer">Where its stack stands.</param>
public readonly record struct ThreadCall(bool Blocked, int Number, ulong[] Arguments, ulong StackPointer)
{
    /// <summary>Whether it is the same call with the same arguments, as far as can be seen.</summary>
    public bool IsLike(in ThreadCall other) => Blocked == other.Blocked && Number == other.Number && StackPointer == other.StackPointer && (Arguments ?? []).AsSpan().SequenceEqual(other.Arguments ?? []);
}

/// <summary>The threads of a process.</summary>
public static class Threads
{
    private const int TriesToListAll = 16;

    /// <summary>Lists all thread ids of a process: where one ends just then, the kernel's list may pass others over, which live.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="threads">Cleared, then filled; also with some that have ended since, perhaps.</param>
    /// <returns>False when the process is gone, or threads come and go faster than they can be listed.</returns>
    public static bool TryListAll(int pid, List<int> threads)
    {
        for (int tries = 0; tries < TriesToListAll && TryList(pid, threads); tries++)
        {
            if (IsWhole(pid, threads[0], threads))
                return true;
        }

        return false;
    }

    /// <summary>Whether a list that was just read has all threads that there are.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="living">A thread of it that lives.</param>
    /// <param name="listed">The list.</param>
    /// <param name="exists">Says of a thread that it is known to be there still; of the others that is looked at. Null where nothing is known.</param>
    /// <remarks>As many of them are there still as the kernel counted, <c>num_threads</c> in proc_pid_stat(5), behind the list and before that look: whoever is listed, and is there behind the count, was there when it was
    /// counted. To hold the length of the list against the count would not do: one that is listed and ends makes the kernel pass another one over, and both numbers are the same.</remarks>
    public static bool IsWhole(int pid, int living, List<int> listed, Predicate<int>? exists = null) =>
        ProcessStat.TryCountThreads(pid, living, out int count) && count == listed.Count(tid => exists?.Invoke(tid) == true || IsThere(pid, tid));

    /// <summary>Whether a thread is there, ended or not.</summary>
    public static bool IsThere(int pid, int tid) => Directory.Exists($"/proc/{pid}/task/{tid}");

    /// <summary>Lists the thread ids of a process, perhaps not all: see <see cref="TryListAll"/>.</summary>
    /// <returns>False when the process is gone.</returns>
    public static bool TryList(int pid, List<int> threads)
    {
        threads.Clear();
        try
        {
            foreach (string directory in Directory.EnumerateDirectories($"/proc/{pid}/task"))
                threads.Add(int.Parse(directory.AsSpan(directory.LastIndexOf('/') + 1), CultureInfo.InvariantCulture));
        }
        catch (IOException)
        {
            return false;
        }

        return threads.Count > 0;
    }

    /// <summary>Finds a thread by the id that it has for itself, in the innermost pid namespace that it is in; pid_namespaces(7).</summary>
    /// <param name="pid">The process; no thread of another is ever found.</param>
    /// <param name="ownTid">What gettid(2) answers in the thread.</param>
    /// <returns>The thread's id here; 0 when there is none. One that lives is found, whoever ends meanwhile.</returns>
    public static int FindByOwnId(int pid, int ownTid)
    {
        if (ownTid <= 0)
            return 0;
        bool Is(int tid) => ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status")?.OwnId == ownTid;
        // In most processes that is its id here, too.
        if (Is(ownTid))
            return ownTid;
        List<int> threads = [];
        int found = 0;
        for (int tries = 0; tries < TriesToListAll && found == 0 && TryList(pid, threads); tries++)
        {
            found = threads.Find(Is);
            if (IsWhole(pid, threads[0], threads))
                break;
        }

        return found;
    }

    /// <summary>The children that a thread has made, <c>/proc/PID/task/TID/children</c>; none where the kernel does not say (CONFIG_PROC_CHILDREN).</summary>
    public static int[] Children(int pid, int tid) => ProcFile.TryRead($"/proc/{pid}/task/{tid}/children", out string text) && text.Length > 0
        ? [.. text.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(child => int.Parse(child, CultureInfo.InvariantCulture))]
        : [];

    /// <summary>The command name of a thread; empty when it is gone.</summary>
    public static string Name(int pid, int tid)
    {
        _ = ProcFile.TryRead($"/proc/{pid}/task/{tid}/comm", out string name);
        return name.TrimEnd('\n');
    }

    /// <summary>Whether a thread of this very process traces a thread.</summary>
    public static bool IsTracedByUs(int pid, int tid) => ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status") is { Tracer: not 0 and var tracer } && IsOurs(tracer);

    /// <summary>Whether a thread is one of this very process.</summary>
    public static bool IsOurs(int tid) => Directory.Exists($"/proc/self/task/{tid}");

    /// <summary>The state of a thread, as proc_pid_stat(5) has it; X when it is gone; a question mark when it cannot be read, which says nothing (no descriptor is left).</summary>
    public static char State(int pid, int tid) => ProcFile.TryRead($"/proc/{pid}/task/{tid}/stat", out string text) ? LivingThread.StateIn(text) : IsThere(pid, tid) ? '?' : 'X';

    /// <summary>Looks at what a thread is doing at this moment.</summary>
    /// <remarks>A thread that was stopped, by a signal or for its tracer, shows the call that it is on its way out of: see <see cref="State"/>.</remarks>
    public static ThreadCall Look(int pid, int tid)
    {
        _ = ProcFile.TryRead($"/proc/{pid}/task/{tid}/syscall", out string text);
        string[] fields = text.Split(' ');
        if (fields.Length < 8 || !int.TryParse(fields[0], CultureInfo.InvariantCulture, out int number) || number < 0)
            return default;
        ulong[] arguments = new ulong[6];
        for (int i = 0; i < 6; i++)
            arguments[i] = Hex(fields[i + 1]);
        return new ThreadCall(true, number, arguments, Hex(fields[7]));
    }

    /// <summary>Where a thread that sleeps in the kernel goes on in the program.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="tid">The thread.</param>
    /// <param name="stack">Its stack pointer.</param>
    /// <param name="instruction">Its instruction pointer.</param>
    /// <returns>False when it runs, waits for a processor, or is gone: that is not shown then.</returns>
    public static bool TryFindAsleep(int pid, int tid, out ulong stack, out ulong instruction)
    {
        // NUMBER ARGUMENTS STACK INSTRUCTION, or -1 STACK INSTRUCTION where it is in no call, or "running".
        _ = ProcFile.TryRead($"/proc/{pid}/task/{tid}/syscall", out string text);
        string[] fields = text.TrimEnd('\n').Split(' ');
        (stack, instruction) = fields.Length >= 3 ? (Hex(fields[^2]), Hex(fields[^1])) : (0, 0);
        return fields.Length >= 3;
    }

    private static ulong Hex(string field) => ulong.Parse(field.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}
