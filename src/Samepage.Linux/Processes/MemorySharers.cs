using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Processes;

/// <summary>Finds processes that have the address space of a program without being threads of it: clone(2) with CLONE_VM, vfork(2).</summary>
/// <remarks>
/// <para>They run while all of the program's threads are held, and may change any of its mappings meanwhile. The kernel lists them nowhere; who made them, or is their parent by now, says nothing: a program may be such a child
/// itself, and one may be made as a sibling (CLONE_PARENT), or lose its parent.</para>
/// <para>kcmp(2) says of any two whether they share, but may have to wait for one of them, and so is asked only before anybody is held, and only of what looks like the program in <c>/proc/TID/stat</c>: where its stack, its heap
/// and its arguments begin. Addresses are chosen at random, so that is itself, whoever came from it by fork without exec, and hardly anybody else. To read that waits for nobody.</para>
/// <para>Processes and threads get their numbers in one rising row, of which <c>/proc/loadavg</c> has the last. So only those that are new are looked at; all, where so much time has gone by that the row could have come round.
/// Only who shares can make another who shares, and none of the program's threads is about to while they are held: so what is found free then has to be looked at no more. Before that, a number may be given out, and its
/// owner not to be seen yet: the last <see cref="Unseen"/> are looked at once more.</para>
/// <para>One thread at a time. The ids are those of this process's own pid namespace: it should be the machine's.</para>
/// </remarks>
public sealed class MemorySharers
{
    private const int Unseen = 1024, MostNew = 8192, NumbersASecond = 100_000, LeastNumber = 300;
    private readonly HashSet<int> _strangers = [], _sharers = [];
    private int _from;
    private long _lookedAt;

    /// <summary>Looks for such processes, before the program's threads are held.</summary>
    /// <param name="pid">The program.</param>
    /// <param name="thread">A thread of it that lives.</param>
    /// <returns>One of them; 0 when there is none.</returns>
    public int Find(int pid, int thread)
    {
        int last = LastNumber();
        Likeness program = Likeness.Of(thread);
        if (program.IsNone)
            return 0;
        _sharers.RemoveWhere(other => !Kinship.ShareMemory(thread, other));
        bool all = MustLookAtAll(last);
        if (all)
            _strangers.Clear();
        foreach (int other in all ? Everybody() : Numbers(_from, last))
            Judge(pid, thread, other, program);
        // What was found free in an earlier hold is not looked at again.
        _from = all || last < _from ? Math.Max(LeastNumber, last - Unseen) : Math.Max(_from, last - Unseen);
        _lookedAt = Stopwatch.GetTimestamp();
        _strangers.RemoveWhere(other => other <= _from || other > last);
        return _sharers.FirstOrDefault();
    }

    /// <summary>Looks for such as have come since <see cref="Find"/>, while all of the program's threads are held. Waits for nobody.</summary>
    /// <param name="pid">The program.</param>
    /// <param name="thread">A thread of it that lives.</param>
    /// <returns>One that may be such a process; 0 when there is none.</returns>
    public int FindNew(int pid, int thread)
    {
        int last = LastNumber();
        Likeness program = Likeness.Of(thread);
        foreach (int other in Numbers(_from, last))
        {
            if (!_strangers.Contains(other) && Likeness.Of(other) is { IsNone: false } found && found == program && !IsThreadOf(pid, other))
                return other;
        }

        (_from, _lookedAt) = (last, Stopwatch.GetTimestamp());
        _strangers.Clear();
        return 0;
    }

    private void Judge(int pid, int thread, int other, Likeness program)
    {
        Likeness found = Likeness.Of(other);
        if (found.IsNone)
            return;
        if (found == program && !IsThreadOf(pid, other) && Kinship.ShareMemory(thread, other))
            _sharers.Add(other);
        else
            _strangers.Add(other);
    }

    private bool MustLookAtAll(int last)
    {
        int most = LargestNumber();
        return _lookedAt == 0 || Stopwatch.GetElapsedTime(_lookedAt).TotalSeconds * NumbersASecond > most || (last >= _from ? last - _from : last - _from + most) > MostNew;
    }

    /// <summary>The numbers behind one to another that somebody has; the row begins anew at its end.</summary>
    private static IEnumerable<int> Numbers(int from, int last)
    {
        int most = last >= from ? last : LargestNumber();
        for (int number = from + 1; number <= most; number++)
        {
            if (IsTaken(number))
                yield return number;
        }

        for (int number = LeastNumber; last < from && number <= last; number++)
        {
            if (IsTaken(number))
                yield return number;
        }
    }

    /// <summary>Most numbers are nobody's any more: this asks for a fraction of what it costs to open a file.</summary>
    private static bool IsTaken(int number) => LibC.sched_getscheduler(number) >= 0 || (Errno)Marshal.GetLastPInvokeError() != Errno.ESRCH;

    /// <summary>A thread of every process that there is, and all of those whose first one has ended.</summary>
    private static IEnumerable<int> Everybody()
    {
        List<int> threads = [];
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder.AsSpan()), NumberStyles.None, CultureInfo.InvariantCulture, out int pid))
                continue;
            yield return pid;
            if (!LivingThread.HasEnded(pid, pid) || !Threads.TryList(pid, threads))
                continue;
            foreach (int tid in threads.ToArray())
                yield return tid;
        }
    }

    private static bool IsThreadOf(int pid, int tid) => Directory.Exists($"/proc/{pid}/task/{tid}");

    private static int LastNumber() => ProcFile.TryRead("/proc/loadavg", out string text) && int.TryParse(text.AsSpan(text.LastIndexOf(' ') + 1).TrimEnd(), CultureInfo.InvariantCulture, out int last) ? last : 0;

    private static int LargestNumber() => ProcFile.TryRead("/proc/sys/kernel/pid_max", out string text) && int.TryParse(text, CultureInfo.InvariantCulture, out int most) ? most : 32768;

    /// <summary>What an address space looks like from outside: equal for those who share one.</summary>
    private readonly record struct Likeness(ulong Stack, ulong Heap, ulong Arguments, ulong Environment)
    {
        // Fields of /proc/PID/stat, counted from the state: proc_pid_stat(5).
        private const int StackField = 25, HeapField = 44, ArgumentsField = 45, EnvironmentField = 47;

        /// <summary>There is nobody, or he has no memory.</summary>
        public bool IsNone => this == default;

        public static Likeness Of(int thread)
        {
            // Of the thread alone: that of a process adds up all of its threads.
            if (!ProcFile.TryRead($"/proc/{thread}/task/{thread}/stat", out string text))
                return default;
            ReadOnlySpan<char> fields = text.AsSpan(text.LastIndexOf(')') + 2);
            Likeness found = default;
            int field = 0;
            foreach (Range range in fields.Split(' '))
            {
                switch (field++)
                {
                    case StackField: found = found with { Stack = Number(fields[range]) }; break;
                    case HeapField: found = found with { Heap = Number(fields[range]) }; break;
                    case ArgumentsField: found = found with { Arguments = Number(fields[range]) }; break;
                    case EnvironmentField: return found with { Environment = Number(fields[range]) };
                    default: break;
                }
            }

            return default;
        }

        private static ulong Number(ReadOnlySpan<char> field) => ulong.TryParse(field, CultureInfo.InvariantCulture, out ulong number) ? number : 0;
    }
}
