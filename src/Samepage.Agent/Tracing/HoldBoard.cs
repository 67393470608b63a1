using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;

namespace Samepage.Agent.Tracing;

/// <summary>Tells another process whether this one holds threads at the moment: a page that both map.</summary>
/// <remarks>
/// <para>Threads that are held stay held for as long as their tracer is stopped itself (SIGSTOP, a debugger), and nobody but the tracer can let them go. So the
/// guardian looks at this page four times a second. Where a hold has lasted from one look to the next, and the daemon is stopped, it wakes the daemon, which ends its
/// hold and begins none, and stops it again. See <see cref="X64.GuardianAssembler"/>.</para>
/// <code>
///   0     Own × 8 bytes     a counter of each tracing thread: odd while it holds threads
///   2032  8 bytes           a counter of all tracing threads that hold some and found no counter of their own: odd while there are any
///   2040  8 bytes           a counter of all tracing threads that have some which they could not let go of yet: odd while there are any
///   2048  8 bytes           no hold is begun before this time, CLOCK_MONOTONIC, nanoseconds; the guardian writes it
/// </code>
/// <para>What one program does must not keep another's threads from being held. A program can have a thread that lingers for as long as it lives, and keep whoever holds it waiting as long. So no number of
/// tracing threads is too many, and none keeps a counter for what lingers. Those that share a counter show as one hold that lasts although each is short. That harms nobody: the guardian does nothing to
/// a daemon that runs; one that is stopped holds what it holds; and one that a debugger holds is killed for it, which it may be at any moment.</para>
/// <para>The page belongs to the process, as being a tracer does.</para>
/// </remarks>
public static unsafe class HoldBoard
{
    internal const int Own = 254, Common = Own, Lingerers = Own + 1, Slots = Own + 2, PauseAt = Slots * sizeof(ulong), Bytes = 4096;
    private static readonly FileDescriptor s_file = Create();
    private static readonly ulong* s_page = Map();
    private static readonly ConcurrentStack<int> s_free = new(Enumerable.Range(0, Own).Reverse());

    /// <summary>How many share each of the counters that belong to nobody.</summary>
    private static readonly int[] s_sharers = new int[Slots - Own];

    /// <summary>The slot of the calling thread, and one more; 0 while it holds nothing.</summary>
    [ThreadStatic]
    private static int s_own;

    /// <summary>The calling thread has threads that linger, and is counted for it.</summary>
    [ThreadStatic]
    private static bool s_lingers;

    /// <summary>The calling thread comes first because it holds threads.</summary>
    [ThreadStatic]
    private static bool s_comesFirst;

    /// <summary>Where another process of the same user can open it for as long as this one lives.</summary>
    public static string Path { get; } = $"/proc/{Environment.ProcessId}/fd/{s_file.Number}";

    /// <summary>False while no hold may be begun: this process was stopped in the middle of one, and is about to be stopped again.</summary>
    internal static bool MayHold => Volatile.Read(ref s_page[Slots]) <= (ulong)(Stopwatch.GetTimestamp() * (1e9 / Stopwatch.Frequency));

    /// <summary>The calling thread holds threads from now on, and comes first: on a crowded machine they would stand still for as long as it waits for a processor. To be called right behind <see cref="MayHold"/>.</summary>
    internal static void Begin()
    {
        if (!s_comesFirst)
            Scheduling.ComeFirst();
        s_comesFirst = true;
        if (s_own != 0)
            return;
        if (s_free.TryPop(out int slot))
            Volatile.Write(ref s_page[slot], s_page[slot] + 1);
        else
            Share(slot = Common, 1);
        s_own = slot + 1;
    }

    /// <summary>The calling thread holds none any more; some may linger.</summary>
    internal static void End()
    {
        if (s_comesFirst)
            Scheduling.ComeAsBefore();
        s_comesFirst = false;
        // Counted for what lingers before it is no more for what it held: it is on the board at every moment between.
        if (Lingering.Any != s_lingers)
            Share(Lingerers, (s_lingers = !s_lingers) ? 1 : -1);
        if (s_own == 0)
            return;
        int slot = s_own - 1;
        s_own = 0;
        if (slot == Common)
        {
            Share(Common, -1);
            return;
        }

        Volatile.Write(ref s_page[slot], s_page[slot] + 1);
        s_free.Push(slot);
    }

    /// <summary>One more, or one less, shares a counter that belongs to nobody.</summary>
    private static void Share(int slot, int more)
    {
        lock (s_sharers)
        {
            ref int sharers = ref s_sharers[slot - Own];
            bool any = sharers > 0;
            sharers += more;
            if (sharers > 0 != any)
                Volatile.Write(ref s_page[slot], s_page[slot] + 1);
        }
    }

    private static FileDescriptor Create()
    {
        int number = LibC.memfd_create("samepage-holds", LibC.MFD_CLOEXEC);
        if (number < 0 || LibC.ftruncate(number, Bytes) != 0)
            throw new SyscallException("memfd_create", "samepage-holds", (Errno)Marshal.GetLastPInvokeError());
        return new FileDescriptor(number);
    }

    private static ulong* Map()
    {
        void* page = LibC.mmap(null, Bytes, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED, s_file.Number, 0);
        return (nint)page != -1 ? (ulong*)page : throw new SyscallException("mmap", "samepage-holds", (Errno)Marshal.GetLastPInvokeError());
    }
}
