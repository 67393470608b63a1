using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Samepage.Linux.Interop;

namespace Samepage.Agent.X64;

/// <summary>A thread's whole state as rt_sigreturn(2) takes it back: asm/sigcontext.h, asm/ucontext.h.</summary>
/// <remarks><code>
///     0  return address       not used by the kernel; by the gate: not 0 for a thread that goes on by restart_syscall(2)
///     8  struct ucontext      flags, link (not used by the kernel; by the gate: the signals that end the call in which the thread was), alternate stack (24),
///                             struct sigcontext (48), signal mask (304)
///   512  extended state       as XSAVE lays it out, with its size and its two magic words: the kernel's struct _fpx_sw_bytes at 464
/// </code>Extended features that a process must ask for (AMX tiles) are left out; a thread that has state in them cannot be framed.</remarks>
internal static class SignalFrame
{
    public const int SleeperAt = 0, EndingAt = 16, AlternateStackAt = 24, ContextAt = 48, MaskAt = 304;
    private const int StateAt = 512;
    private const ulong RestartSyscall = 219;
    private const int SoftwareAt = 464, HeaderAt = 512, StateLeast = 576;
    private const ulong AllContextFlags = 7; // UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
    private const uint Magic1 = 0x46505853, Magic2 = 0x46505845; // FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2
    private const ulong Dynamic = 3ul << 17; // AMX: XTILECFG, XTILEDATA

    /// <summary>Bytes of extended state without what a process must ask for.</summary>
    public static int StateBytes { get; } = MeasureState();

    /// <summary>Writes a frame.</summary>
    /// <param name="frame">At least <see cref="AgentLayout.FrameBytes"/>.</param>
    /// <param name="address">Where it will lie.</param>
    /// <param name="registers">The registers with which the thread goes on.</param>
    /// <param name="mask">The signals that it blocks.</param>
    /// <param name="restarted">Its registers were made such that an interrupted call begins again.</param>
    /// <param name="state">Its extended state, as PTRACE_GETREGSET gives it.</param>
    /// <param name="ending">Signals that end the call that was made to begin again, with EINTR: such as it does not block, and has handlers for.</param>
    /// <returns>False when its state does not fit into a frame.</returns>
    public static bool TryWrite(Span<byte> frame, ulong address, in LibC.user_regs_struct registers, bool restarted, ulong mask, ReadOnlySpan<byte> state, ulong ending = 0)
    {
        if (state.Length < StateBytes || StateBytes < StateLeast || StateAt + StateBytes + 4 > AgentLayout.FrameBytes)
            return false;
        ulong features = BinaryPrimitives.ReadUInt64LittleEndian(state[SoftwareAt..]), used = BinaryPrimitives.ReadUInt64LittleEndian(state[HeaderAt..]);
        if ((used & Dynamic) != 0)
            return false;
        frame[..StateAt].Clear();
        Put(frame, SleeperAt, restarted && registers.rax == RestartSyscall ? 1ul : 0ul);
        Put(frame, 8, AllContextFlags);
        Put(frame, EndingAt, ending);
        ReadOnlySpan<ulong> general =
        [
            registers.r8, registers.r9, registers.r10, registers.r11, registers.r12, registers.r13, registers.r14, registers.r15, registers.rdi, registers.rsi,
            registers.rbp, registers.rbx, registers.rdx, registers.rax, registers.rcx, registers.rsp, registers.rip, registers.eflags,
            (registers.cs & 0xFFFF) | ((registers.ss & 0xFFFF) << 48),
        ];
        MemoryMarshal.AsBytes(general).CopyTo(frame[ContextAt..]);
        Put(frame, ContextAt + 8 * 23, address + StateAt);
        Put(frame, MaskAt, mask);
        Span<byte> saved = frame[StateAt..];
        state[..StateBytes].CopyTo(saved);
        BinaryPrimitives.WriteUInt32LittleEndian(saved[SoftwareAt..], Magic1);
        BinaryPrimitives.WriteUInt32LittleEndian(saved[(SoftwareAt + 4)..], (uint)StateBytes + 4);
        Put(saved, SoftwareAt + 8, features & ~Dynamic);
        BinaryPrimitives.WriteUInt32LittleEndian(saved[(SoftwareAt + 16)..], (uint)StateBytes);
        BinaryPrimitives.WriteUInt32LittleEndian(saved[StateBytes..], Magic2);
        return true;
    }

    private static void Put(Span<byte> to, int at, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(to[at..], value);

    /// <summary>CPUID leaf 0xD: sub-leaf 0 names the features, each further one says where its state lies.</summary>
    private static int MeasureState()
    {
        if (!X86Base.IsSupported)
            return 0;
        (int low, _, _, int high) = X86Base.CpuId(0xD, 0);
        ulong features = ((ulong)(uint)high << 32 | (uint)low) & ~Dynamic;
        int bytes = StateLeast;
        for (int feature = 2; feature < 63; feature++)
        {
            if ((features >> feature & 1) == 0)
                continue;
            (int size, int offset, _, _) = X86Base.CpuId(0xD, feature);
            bytes = Math.Max(bytes, offset + size);
        }

        return bytes;
    }
}
