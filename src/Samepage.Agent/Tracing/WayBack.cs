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
    private const int RedZone = 128, AlternateStackFlagsAt = SignalFrame.AlternateStackAt + 8, NoSuchKind = 0x40;

    /// <summary>Bytes of code that are looked at, of one file and in all: many programs have more.</summary>
    private const int LookedAtMost = 16 << 20, LookedAtInAll = 64 << 20;

    private static readonly KnownCode s_call = new([0x0f, 0x05, 0xc3]);

    /// <summary>Where handlers return to, in C libraries: mov $15, %rax; syscall, or mov $15, %eax; syscall.</summary>
    private static readonly KnownCode s_return = new([0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05], [0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05]);

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
        Mapping[] code = [.. mappings.Where(mapping => mapping is { Executable: true, Readable: true, Inode: not 0 }).OrderBy(mapping => mapping.Length)];
        ulong call = s_call.Recall(memory, code), back = s_return.Recall(memory, code);
        if (call == 0 || back == 0)
            Search(memory, code, ref call, ref back);
        byte[] frame = new byte[AgentLayout.FrameBytes];
        if (call == 0 || back == 0 || !framing(frame, place))
            return null;
        BinaryPrimitives.WriteUInt64LittleEndian(frame, back);
        BinaryPrimitives.WriteInt32LittleEndian(frame.AsSpan(AlternateStackFlagsAt), NoSuchKind);
        return memory.Write(place, frame) == frame.Length ? new WayBack(call, place) : null;
    }

    /// <summary>Looks through the code of a program for what is not known of it, the shortest first: a C library is short beside most of what uses it.</summary>
    private static void Search(RemoteMemory memory, Mapping[] code, ref ulong call, ref ulong back)
    {
        if (code.Length == 0)
            return;
        byte[] bytes = GC.AllocateUninitializedArray<byte>((int)Math.Min(code[^1].Length, LookedAtMost));
        long left = LookedAtInAll;
        foreach (Mapping mapping in code)
        {
            if (left <= 0 || (call != 0 && back != 0))
                break;
            int wanted = (int)Math.Min(mapping.Length, (ulong)bytes.Length);
            left -= wanted;
            ReadOnlySpan<byte> read = bytes.AsSpan(0, memory.Read(mapping.Start, bytes.AsSpan(0, wanted)));
            call = call != 0 ? call : s_call.Find(read, mapping);
            back = back != 0 ? back : s_return.Find(read, mapping);
        }
    }

    /// <summary>A piece of code that C libraries have, and in which files it was found, so that they need not be looked through for every program.</summary>
    /// <remarks>A program may have written over its own copy of a file's code. So what was found in one is believed of another only where it stands there, too, and nothing is known of where it was not found.</remarks>
    /// <param name="forms">Its forms, of which any will do.</param>
    private sealed class KnownCode(params byte[][] forms)
    {
        private const int KnownMost = 4096;
        private readonly ConcurrentDictionary<(ulong Device, ulong Inode, ulong Offset), int> _known = [];

        /// <summary>Where a program has it, by what is known of its files; 0 where that is not known, or wrong.</summary>
        public ulong Recall(RemoteMemory memory, Mapping[] code)
        {
            foreach (Mapping mapping in code)
            {
                if (_known.TryGetValue(KeyOf(mapping), out int at) && Stands(memory, mapping.Start + (ulong)at))
                    return mapping.Start + (ulong)at;
            }

            return 0;
        }

        /// <summary>Looks for it in what was read of a mapping.</summary>
        /// <returns>0 where it is not.</returns>
        public ulong Find(ReadOnlySpan<byte> read, in Mapping mapping)
        {
            foreach (byte[] form in forms)
            {
                if (read.IndexOf(form) is not (>= 0 and int at))
                    continue;
                if (_known.Count >= KnownMost)
                    _known.Clear();
                _known[KeyOf(mapping)] = at;
                return mapping.Start + (ulong)at;
            }

            return 0;
        }

        private bool Stands(RemoteMemory memory, ulong address)
        {
            Span<byte> there = stackalloc byte[16];
            there = there[..memory.Read(address, there)];
            foreach (byte[] form in forms)
            {
                if (there.StartsWith(form))
                    return true;
            }

            return false;
        }

        private static (ulong Device, ulong Inode, ulong Offset) KeyOf(in Mapping mapping) => (mapping.Device, mapping.Inode, mapping.Offset);
    }
}
