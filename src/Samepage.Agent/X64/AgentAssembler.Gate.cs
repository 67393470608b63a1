using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>A gate: where a held thread goes if whoever holds it dies.</summary>
/// <remarks>
/// <para>The kernel lets every held thread go when its tracer dies, also in the middle of a batch of exchanges, which must not be seen half done.
/// So each held thread is put before a gate of its own (see <see cref="Tracing.Gate"/>): set free, it waits there until the executor has
/// ended the batch and noticed the death. Where the holder lives, it puts the thread back itself, and no instruction here is ever run.</para>
/// <para>The code is the same for every gate: the table of a gate lies as far behind it as any other's. On entry r12 is the data base and r13d the
/// generation at which the thread was held; the gate is open as soon as the word Gate differs. Signals are blocked until the thread is
/// itself again but for its general registers, so that no handler runs in the middle of a batch, or on another stack than the program's. From
/// then on mov and jmp alone are used: they change no flag. A system call leaves the flags as they were.</para>
/// </remarks>
internal sealed partial class AgentAssembler
{
    private const int SIG_SETMASK = 2, SYS_futex = 202, FUTEX_WAIT_PRIVATE = 128, FUTEX_WAKE_PRIVATE = 129;

    // The table is a struct user_regs_struct, with the signal mask behind it.
    private const int FlagsAt = 144, StackAt = 152, InstructionAt = 128;

    private static readonly Register[] General =
    [
        Register.R15, Register.R14, Register.R13, Register.R12, Register.RBP, Register.RBX, Register.R11, Register.R10, Register.R9,
        Register.R8, Register.RAX, Register.RCX, Register.RDX, Register.RSI, Register.RDI,
    ];

    /// <summary>Assembles the code of a gate; it serves at any of their places.</summary>
    public static byte[] AssembleGate()
    {
        AgentAssembler assembler = new(0);
        assembler.GateCode();
        using MemoryStream stream = new();
        assembler.c.Assemble(new StreamCodeWriter(stream), AgentLayout.GateOffset);
        return stream.Length <= AgentLayout.GateBytes
            ? stream.ToArray()
            : throw new InvalidOperationException($"a gate's code has {stream.Length} bytes, its place {AgentLayout.GateBytes}");
    }

    private void GateCode()
    {
        Label wait = c.CreateLabel(), open = c.CreateLabel();
        BlockSignals();
        At(ref wait);
        c.mov(eax, __dword_ptr[r12 + AgentLayout.Gate]);
        c.cmp(eax, r13d);
        c.jne(open);
        c.lea(rdi, __[r12 + AgentLayout.Gate]);
        c.mov(esi, FUTEX_WAIT_PRIVATE);
        c.mov(edx, r13d);
        c.xor(r10d, r10d);
        Sys(SYS_futex);
        c.jmp(wait);

        At(ref open);
        c.AddInstruction(Instruction.Create(Code.Lea_r64_m, Register.RSP, Table(FlagsAt)));
        c.popfq();
        Load(Register.RSP, StackAt);
        c.mov(edi, SIG_SETMASK);
        c.AddInstruction(Instruction.Create(Code.Lea_r64_m, Register.RSI, Table(AgentLayout.TableMask)));
        c.mov(edx, 0);
        c.mov(r10d, 8);
        Sys(SYS_rt_sigprocmask);
        for (int i = 0; i < General.Length; i++)
            Load(General[i], 8 * i);
        c.AddInstruction(Instruction.Create(Code.Jmp_rm64, Table(InstructionAt)));
    }

    private void Load(Register register, int offset) => c.AddInstruction(Instruction.Create(Code.Mov_r64_rm64, register, Table(offset)));

    /// <summary>A word of the table, relative to the instruction: the same at every gate.</summary>
    private static MemoryOperand Table(int offset) => new(Register.RIP, AgentLayout.TablesOffset + offset, 8);

    /// <summary>Opens every gate of this generation.</summary>
    private void OpenGates()
    {
        c.@lock.inc(__dword_ptr[r12 + AgentLayout.Gate]);
        c.lea(rdi, __[r12 + AgentLayout.Gate]);
        c.mov(esi, FUTEX_WAKE_PRIVATE);
        c.mov(edx, int.MaxValue);
        Sys(SYS_futex);
    }
}
