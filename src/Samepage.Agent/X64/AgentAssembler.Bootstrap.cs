using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>The first code that runs in the target, on a borrowed thread: prepares the mapping, clones the executor, puts the thread back.</summary>
/// <remarks>
/// The borrowed thread's registers are constants in this very code, so it returns to where it was by itself: once it runs here the daemon
/// has let go of it, and may die without harm to it. It uses no byte of the program's stack. Signals are blocked only while the executor
/// is cloned, so that the executor inherits a full mask; a handler that runs before or after finds an ordinary interrupted thread.
/// </remarks>
internal sealed partial class AgentAssembler
{
    private const int CLONE_VM = 0x100, CLONE_FS = 0x200, CLONE_FILES = 0x400, CLONE_SIGHAND = 0x800, CLONE_THREAD = 0x10000, CLONE_SYSVSEM = 0x40000;

    /// <summary>Assembles the whole agent for one target.</summary>
    /// <param name="baseAddress">Where its mapping lies in the target; the code begins there, with the bootstrap.</param>
    /// <param name="resume">The registers with which the borrowed thread goes on.</param>
    /// <param name="poolDevice">Major and minor of the frame pool, as PROCMAP_QUERY reports them: minor &lt;&lt; 32 | major.</param>
    /// <param name="poolInode">Its inode.</param>
    public static byte[] Assemble(ulong baseAddress, in LibC.user_regs_struct resume, ulong poolDevice, ulong poolInode)
    {
        AgentAssembler assembler = new(baseAddress);
        assembler.Bootstrap(resume, poolDevice, poolInode);
        assembler.ExecutorMain();
        assembler.Merge();
        assembler.Zero();
        assembler.Unmerge();
        assembler.WardenMain();
        assembler.Subroutines();
        using MemoryStream stream = new();
        assembler.c.Assemble(new StreamCodeWriter(stream), baseAddress);
        return stream.Length <= AgentLayout.CodeBytes
            ? stream.ToArray()
            : throw new InvalidOperationException($"the agent's code has {stream.Length} bytes, its place {AgentLayout.CodeBytes}");
    }

    private void Bootstrap(in LibC.user_regs_struct resume, ulong poolDevice, ulong poolInode)
    {
        Label child = c.CreateLabel(), failed = c.CreateLabel(), back = c.CreateLabel();
        Label[] registers = [.. Enumerable.Range(0, 18).Select(_ => c.CreateLabel())];
        ulong data = _base + AgentLayout.DataOffset;
        c.mov(r12, data);
        Madvise(_base, AgentLayout.Size, 10); // MADV_DONTFORK
        Madvise(_base, AgentLayout.Size, 16); // MADV_DONTDUMP
        Madvise(_base + AgentLayout.ScratchOffset, AgentLayout.ScratchBytes, 15); // MADV_NOHUGEPAGE
        c.mov(rax, poolDevice);
        c.mov(Word(AgentLayout.PoolDevice), rax);
        c.mov(rax, poolInode);
        c.mov(Word(AgentLayout.PoolInode), rax);
        c.mov(__qword_ptr[r12 + AgentLayout.AllSignals], -1);
        SignalMask(AgentLayout.AllSignals, AgentLayout.OldMask);
        c.mov(edi, CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM);
        c.lea(rsi, __[r12 + AgentLayout.ExecutorStackTop]);
        c.xor(edx, edx);
        c.xor(r10d, r10d);
        c.xor(r8d, r8d);
        Sys(SYS_clone);
        c.test(rax, rax);
        c.jz(child);
        c.js(failed);
        At(ref back);
        SignalMask(AgentLayout.OldMask, null);
        Resume(registers);
        At(ref failed);
        c.mov(Word(AgentLayout.State), rax);
        c.jmp(back);
        At(ref child);
        c.jmp(_executorMain);

        ulong[] values = [resume.rax, resume.rbx, resume.rcx, resume.rdx, resume.rsi, resume.rdi, resume.rbp, resume.r8, resume.r9,
            resume.r10, resume.r11, resume.r12, resume.r13, resume.r14, resume.r15, resume.rsp, resume.rip, resume.eflags];
        for (int i = 0; i < values.Length; i++)
        {
            At(ref registers[i]);
            c.dq(values[i]);
        }
    }

    /// <summary>Loads every register from the table and goes on where the thread was. The flags come first: only they need a stack, ours.</summary>
    private void Resume(Label[] table)
    {
        ulong stack = _base + AgentLayout.DataOffset + AgentLayout.ResumeStackTop;
        c.mov(rsp, stack);
        c.push(__qword_ptr[table[17]]);
        c.popfq();
        AssemblerRegister64[] order = [rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rsp];
        for (int i = 0; i < order.Length; i++)
            c.mov(order[i], __qword_ptr[table[i]]);
        c.jmp(__qword_ptr[table[16]]);
    }

    private void Madvise(ulong address, int length, int advice)
    {
        c.mov(rdi, address);
        c.mov(esi, length);
        c.mov(edx, advice);
        Sys(SYS_madvise);
    }

    private void SignalMask(int set, int? old)
    {
        c.mov(edi, 2); // SIG_SETMASK
        c.lea(rsi, __[r12 + set]);
        if (old is int offset)
            c.lea(rdx, __[r12 + offset]);
        else
            c.xor(edx, edx);
        c.mov(r10d, 8);
        Sys(SYS_rt_sigprocmask);
    }
}
