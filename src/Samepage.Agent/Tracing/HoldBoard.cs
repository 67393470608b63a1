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
///   0     Slots × 8 bytes   a counter of each tracing thread: odd while it holds threads, or has some that it could not let go of yet
///   2048  8 bytes           no hold is begun before this time, CLOCK_MONOTONIC, nanoseconds; the guardian writes it
/// </code>
/// <para>The page belongs to the process, as being a tracer does.</para>
/// </remarks>
public static unsafe class HoldBoard
{
    internal const int Slots = 256, PauseAt = Slots * sizeof(ulong), Bytes = 4096;
    private static readonly FileDescriptor s_file = Create();
    private static readonly ulong* s_page = Map();
    private static readonly ConcurrentStack<int> s_free = new(Enumerable.Range(0, Slots).Reverse());

    /// <summary>The slot of the calling thread, and one more; 0 while it holds nothing.</summary>
    [ThreadStatic]
    private static int s_own;

    /// <summary>The calling thread comes first because it holds threads.</summary>
    [ThreadStatic]
    private static bool s_comesFirst;

    /// <summary>Where another process of the same user can open it for as long as this one lives.</summary>
    public static string Path { get; } = $"/proc/{Environment.ProcessId}/fd/{s_file.Number}";

    /// <summary>False while no hold may be begun: this process was stopped in the middle of one, and is about to be stopped again; or as many threads as there are slots hold some.</summary>
    internal static bool MayHold => (s_own != 0 || !s_free.IsEmpty) && Volatile.Read(ref s_page[Slots]) <= (ulong)(Stopwatch.GetTimestamp() * (1e9 / Stopwatch.Frequency));

    /// <summary>The calling thread holds threads from now on, and comes first: on a crowded machine they would stand still for as long as it waits for a processor. To be called right behind <see cref="MayHold"/>.</summary>
    /// <remarks>Where others took the last slots in between, this hold is not on the board: only a daemon that is stopped during it would not be woken for it.</remarks>
    internal static void Begin()
    {
        if (!s_comesFirst)
            Scheduling.ComeFirst();
        s_comesFirst = true;
        if (s_own != 0 || !s_free.TryPop(out int slot))
            return;
        s_own = slot + 1;
        Volatile.Write(ref s_page[slot], s_page[slot] + 1);
    }

    /// <summary>The calling thread holds none any more, unless some linger.</summary>
    internal static void End()
    {
        if (s_comesFirst)
            Scheduling.ComeAsBefore();
        s_comesFirst = false;
        if (s_own == 0 || Lingering.Any)
            return;
        int slot = s_own - 1;
        s_own = 0;
        Volatile.Write(ref s_page[slot], s_page[slot] + 1);
        s_free.Push(slot);
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
