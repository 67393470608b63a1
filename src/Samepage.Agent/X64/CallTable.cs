using System.Runtime.InteropServices;
using Samepage.Linux;
using Samepage.Linux.Processes;

namespace Samepage.Agent.X64;

/// <summary>What an interruption does to a system call, by its x86-64 number; all calls stand in docs/threads.md.</summary>
/// <remarks>The kernel begins most calls again by itself, and the program sees nothing. signal(7), "Interruption of system calls and library functions by stop signals", names those that answer EINTR: they are begun
/// again by hand (<see cref="Tracing.Restarts"/>). What cannot be put right stands here: calls that come back half done, that cannot be repeated, or that cannot be interrupted at all.</remarks>
internal static class CallTable
{
    private const int SYS_epoll_wait = 232, SYS_epoll_pwait = 281, SYS_epoll_pwait2 = 441, SYS_rt_sigtimedwait = 128, SYS_semtimedop = 220, SYS_bpf = 321, SYS_close = 3, SYS_connect = 42;
    private const ulong MsgWaitAll = 0x100, CloneVfork = 0x4000, FutexCommand = 0x7f, FutexWaitRequeuePi = 11;

    /// <summary>True for calls that, interrupted while they wait, may answer with a part of what was asked for, or cannot be begun again.</summary>
    /// <remarks>A write waits for room in the middle, a receive with MSG_WAITALL has a part, io_uring_enter has submitted and waits, io_getevents has some events. connect and close cannot be repeated, and a futex
    /// that was requeued meanwhile is not what is waited for any more.</remarks>
    public static bool MayReturnHalfDone(int number, ReadOnlySpan<ulong> arguments) => number switch
    {
        1 or 18 or 20 or 40 or 44 or 46 or 296 or 307 or 328 => true, // write, pwrite64, writev, sendfile, sendto, sendmsg, pwritev, sendmmsg, pwritev2
        275 or 276 or 278 or 326 or 318 => true, // splice, tee, vmsplice, copy_file_range, getrandom
        45 => (arguments[3] & MsgWaitAll) != 0, // recvfrom
        47 => (arguments[2] & MsgWaitAll) != 0, // recvmsg
        299 => true, // recvmmsg
        208 or 333 => true, // io_getevents, io_pgetevents
        426 => arguments[1] != 0, // io_uring_enter that submitted something
        202 => (arguments[1] & FutexCommand) == FutexWaitRequeuePi, // futex
        42 or 3 => true, // connect, close
        _ => false,
    };

    /// <summary>True for calls that wait where nothing but death reaches: a thread in one cannot be stopped.</summary>
    /// <remarks>The flags of clone3 lie in memory that the program can change meanwhile, and to read it may have to wait for the program. They need not be known: whatever it waits for, its child or the lock
    /// of its address space, no signal reaches it there.</remarks>
    public static bool IsUninterruptible(int number, ReadOnlySpan<ulong> arguments) => number is 58 or 435 || (number == 56 && (arguments[0] & CloneVfork) != 0); // vfork, clone3, clone

    /// <summary>True for what a call answers that did nothing, because its thread was to stop, and that can be begun again by hand.</summary>
    /// <remarks>bpf(2) gives up loading a program with EAGAIN. close and connect have done their part when they answer EINTR.</remarks>
    public static bool CameToNothing(int number, long answer) =>
        (answer == -(long)Errno.EINTR && number is not (SYS_close or SYS_connect)) || (number == SYS_bpf && answer == -(long)Errno.EAGAIN);

    /// <summary>How long a call waits at most that answers EINTR when it is interrupted, and whose time begins anew when it is begun again.</summary>
    /// <param name="number">The call.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="memory">The program's memory, where some calls have their time; reading it may wait for the program.</param>
    /// <returns>Null for other calls, and for calls that wait for ever or not at all.</returns>
    public static TimeSpan? TimeOf(int number, ReadOnlySpan<ulong> arguments, RemoteMemory memory) => number switch
    {
        SYS_epoll_wait or SYS_epoll_pwait => (int)arguments[3] is > 0 and var milliseconds ? TimeSpan.FromMilliseconds(milliseconds) : null,
        SYS_epoll_pwait2 or SYS_semtimedop => ReadTime(arguments[3], memory),
        SYS_rt_sigtimedwait => ReadTime(arguments[2], memory),
        _ => null,
    };

    /// <summary>What a call answers when its time is over and nothing came; for those that have a <see cref="TimeOf"/>.</summary>
    public static long AnswerWhenOver(int number) => number is SYS_rt_sigtimedwait or SYS_semtimedop ? -(long)Errno.EAGAIN : 0;

    /// <summary>The name of a call that stands here; its number otherwise.</summary>
    public static string Name(int number) => number switch
    {
        1 => "write",
        3 => "close",
        18 => "pwrite64",
        20 => "writev",
        40 => "sendfile",
        42 => "connect",
        44 => "sendto",
        45 => "recvfrom",
        46 => "sendmsg",
        47 => "recvmsg",
        56 => "clone with CLONE_VFORK",
        58 => "vfork",
        202 => "futex with FUTEX_WAIT_REQUEUE_PI",
        208 => "io_getevents",
        275 => "splice",
        276 => "tee",
        278 => "vmsplice",
        296 => "pwritev",
        299 => "recvmmsg",
        307 => "sendmmsg",
        318 => "getrandom",
        326 => "copy_file_range",
        328 => "pwritev2",
        333 => "io_pgetevents",
        426 => "io_uring_enter",
        435 => "clone3",
        _ => $"call {number}",
    };

    /// <summary>True for sleeping calls that the kernel begins again by itself: the best place to borrow a thread.</summary>
    public static bool RestartsByItself(int number) => number is not (SYS_epoll_wait or SYS_epoll_pwait or SYS_epoll_pwait2 or 65 or SYS_semtimedop or SYS_rt_sigtimedwait or 426);

    /// <summary>A struct timespec; null where there is none, it is none, or it cannot be read.</summary>
    private static TimeSpan? ReadTime(ulong address, RemoteMemory memory)
    {
        const long Longest = 1_000_000_000; // seconds
        Span<long> time = stackalloc long[2];
        return address != 0 && memory.Read(address, MemoryMarshal.AsBytes(time)) == 16 && time[0] is >= 0 and < Longest && time[1] is >= 0 and < 1_000_000_000 && (time[0] | time[1]) != 0
            ? TimeSpan.FromSeconds(time[0]) + TimeSpan.FromTicks((time[1] + 99) / 100)
            : null;
    }
}
