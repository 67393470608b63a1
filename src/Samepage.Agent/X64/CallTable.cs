namespace Samepage.Agent.X64;

/// <summary>Which system calls must not be interrupted, by their x86-64 numbers.</summary>
internal static class CallTable
{
    private const ulong MsgWaitAll = 0x100;

    /// <summary>True for calls that, interrupted while they wait, may answer with a part of what was asked for, or cannot be begun again.</summary>
    /// <remarks>signal(7), "Interruption of system calls and library functions by stop signals", names those that answer EINTR; they are begun
    /// again by hand. The ones here answer a short count: a write waits for room in the middle, a receive with MSG_WAITALL has a part,
    /// io_uring_enter has submitted and waits, io_getevents has some events. connect and close cannot be repeated.</remarks>
    public static bool MayReturnHalfDone(int number, ReadOnlySpan<ulong> arguments) => number switch
    {
        1 or 18 or 20 or 40 or 44 or 46 or 296 or 307 or 328 => true, // write, pwrite64, writev, sendfile, sendto, sendmsg, pwritev, sendmmsg, pwritev2
        275 or 276 or 278 or 326 or 318 => true, // splice, tee, vmsplice, copy_file_range, getrandom
        45 => (arguments[3] & MsgWaitAll) != 0, // recvfrom
        47 => (arguments[2] & MsgWaitAll) != 0, // recvmsg
        299 => true, // recvmmsg
        208 or 333 => true, // io_getevents, io_pgetevents
        426 => arguments[1] != 0, // io_uring_enter that submitted something
        42 or 3 => true, // connect, close
        _ => false,
    };

    /// <summary>The name of a call that <see cref="MayReturnHalfDone"/> knows; its number otherwise.</summary>
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
        _ => $"call {number}",
    };

    /// <summary>True for sleeping calls that the kernel begins again by itself: the best place to borrow a thread.</summary>
    public static bool RestartsByItself(int number) => number is not (232 or 281 or 441 or 65 or 220 or 128 or 426);
}
