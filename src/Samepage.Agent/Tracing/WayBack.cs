using System.Buffers.Binary;
using System.Collections.Concurrent;
using Samepage.Agent.X64;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent.Tracing;

/// <summary>Brings a borrowed thread back by itself from a call that is made in it, should we die meanwhile.</summary>
/// <remarks>
/// <para>A call of ours wants registers of ours, and the kernel sets a thread free with those that it has when its tracer dies: it would go on in the program with the answer of a call that it has not made. So
/// the call is made like a signal's handler: by a <c>syscall; ret</c> that the program has anyway (every C library does), on a frame as the kernel lays it for a handler, whose return address is where the program's
/// handlers return to (<c>mov $15, %eax; syscall</c>: rt_sigreturn(2)). Set free at whatever moment, the thread makes the call, returns, and is what it was.</para>
/// <para>The frame lies below the thread's stack pointer and the 128 bytes behind it that are the program's (the red zone of the ABI), where the kernel would lay one as well: nobody has anything there. That holds for
/// the first stack of a process; what lies below other stack pointers may be somebody's, such as other coroutines'. Threads on those have no way back, and nor have threads of programs without such instructions.</para>
/// <para>The frame does not know the thread's alternate stack: it names a kind that does not exist, which the kernel passes over (rt_sigreturn(2) ignores what sigaltstack(2) would refuse).</para>
/// </remarks>
/// <param name="Instruction">A system call instruction with a return behind it.</param>
/// <param name="Stack">The stack pointer with which it is to be run.</param>
internal sealed record WayBack(ulong Instruction, ulong Stack)
{
    private const int RedZone = 128, AlternateStackFlagsAt = SignalFrame.AlternateStackAt + 8, NoSuchKind = 0x40, KnownMost = 4096, LookedAtMost = 16 << 20;
    private static readonly ConcurrentDictionary<(ulong Device, ulong Inode, ulong Offset), (int Call, int Return)> s_known = [];

    private static ReadOnlySpan<byte> CallAndReturn => [0x0f, 0x05, 0xc3];

    /// <summary>mov $15, %rax; syscall: where handlers return to, in C libraries.</summary>
    private static ReadOnlySpan<byte> Return64 => [0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05];

    /// <summary>mov $15, %eax; syscall.</summary>
    private static ReadOnlySpan<byte> Return32 => [0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05];

    /// <summary>Writes the frame's bytes for an address.</summary>
    /// <returns>False when the thread's state does not fit into one.</returns>
    public delegate bool Framing(Span<byte> frame, ulong address);

    /// <summary>Lays the frame.</summary>
    /// <param name="thread">The thread, which stands still.</param>
    /// <param name="stackPointer">Its stack pointer.</param>
    /// <param name="framing">Writes the frame.</param>
    /// <returns>Null where there is no way back.</returns>
    public static WayBack? TryLay(int thread, ulong stackPointer, Framing framing)
    {
        List<Mapping> mappings = [];
        if (!Mapping.TryReadAll($"/proc/{thread}/maps", mappings))
            return null;
        Mapping stack = mappings.Find(mapping => mapping.Start <= stackPointer && stackPointer < mapping.End);
        ulong place = (stackPointer - RedZone - AgentLayout.FrameBytes) & ~(ulong)(AgentLayout.FrameBytes - 1);
        if (stack is not { Name: "[stack]", Writable: true } || place < stack.Start)
            return null;
        RemoteMemory memory = new(thread);
        ulong call = 0, back = 0;
        foreach (Mapping code in mappings.Where(mapping => mapping is { Executable: true, Readable: true, Inode: not 0 }))
        {
            (int callAt, int returnAt) = Find(memory, code);
            call = call == 0 && callAt >= 0 ? code.Start + (ulong)callAt : call;
            back = back == 0 && returnAt >= 0 ? code.Start + (ulong)returnAt : back;
            if (call != 0 && back != 0)
                break;
        }

        byte[] frame = new byte[AgentLayout.FrameBytes];
        if (call == 0 || back == 0 || !framing(frame, place))
            return null;
        BinaryPrimitives.WriteUInt64LittleEndian(frame, back);
        BinaryPrimitives.WriteInt32LittleEndian(frame.AsSpan(AlternateStackFlagsAt), NoSuchKind);
        return memory.Write(place, frame) == frame.Length ? new WayBack(call, place) : null;
    }

    /// <summary>Where in a mapping the two stand; -1 where it has none. What was found in a file once is only looked at again.</summary>
    private static (int Call, int Return) Find(RemoteMemory memory, in Mapping code)
    {
        (ulong, ulong, ulong) key = (code.Device, code.Inode, code.Offset);
        if (s_known.TryGetValue(key, out (int Call, int Return) known) && Stands(memory, code.Start, known.Call, CallAndReturn) &&
            (Stands(memory, code.Start, known.Return, Return64) || Stands(memory, code.Start, known.Return, Return32)))
        {
            return known;
        }

        byte[] bytes = new byte[Math.Min(code.Length, LookedAtMost)];
        Span<byte> read = bytes.AsSpan(0, memory.Read(code.Start, bytes));
        int longer = read.IndexOf(Return64);
        if (s_known.Count >= KnownMost)
            s_known.Clear();
        return s_known[key] = (read.IndexOf(CallAndReturn), longer >= 0 ? longer : read.IndexOf(Return32));
    }

    private static bool Stands(RemoteMemory memory, ulong start, int at, ReadOnlySpan<byte> code)
    {
        Span<byte> read = stackalloc byte[16];
        return at < 0 || (memory.Read(start + (ulong)at, read[..code.Length]) == code.Length && read[..code.Length].SequenceEqual(code));
    }
}
