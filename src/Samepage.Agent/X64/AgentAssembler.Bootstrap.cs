using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>The first code that runs in the target, on a borrowed thread: prepares the mapping, clones the executor, puts the thread back.</summary>
/// <remarks>
/// What the borrowed thread was lies in a signal frame of its own, and it leaves through the gate, so it returns to where it was by itself: once it runs
/// here the daemon has let go of it, and may die without harm to it. It uses no byte of the program's stack. Signals stay blocked from
/// before the executor is cloned, which so inherits a full mask, until the thread is what it was.
/// </remarks>
internal sealed partial class AgentAssembler
{
    private const int CLONE_VM = 0x100, CLONE_FS = 0x200, CLONE_FILES = 0x400, CLONE_SIGHAND = 0x800, CLONE_THREAD = 0x10000, CLONE_SYSVSEM = 0x40000;

    /// <summary>Assembles the whole agent for one target.</summary>
    /// <param name="baseAddress">Where its mapping lies in the target; the code begins there, with the bootstrap.</param>
    /// <param name="poolDevice">Major and minor of the frame pool, as PROCMAP_QUERY reports them: minor &lt;&lt; 32 | major.</param>
    /// <param name="poolInode">Its inode.</param>
    public static byte[] Assemble(ulong baseAddress, ulong poolDevice, ulong poolInode)
    {
        AgentAssembler assembler = new(baseAddress);
        assembler.Bootstrap(poolDevice, poolInode);
        assembler.ExecutorMain();
        assembler.Merge();
        assembler.Zero();
        assembler.Unmerge();
        assembler.Join();
        assembler.WardenMain();
        assembler.Subroutines();
        using MemoryStream stream = new();
        assembler.c.Assemble(new StreamCodeWriter(stream), baseAddress);
        return stream.Length <= AgentLayout.GateOffset
            ? stream.ToArray()
            : throw new InvalidOperationException($"the agent's code has {stream.Length} bytes, its place {AgentLayout.GateOffset}");
    }

    private void Bootstrap(ulong poolDevice, ulong poolInode)
    {
        Label child = c.CreateLabel(), failed = c.CreateLabel(), back = c.CreateLabel();
        ulong data = _base + AgentLayout.DataOffset;
        c.mov(r12, data);
        Madvise(_base, AgentLayout.Size, 10); // MADV_DONTFORK
        Madvise(_base, AgentLayout.Size, 16); // MADV_DONTDUMP
        Madvise(_base + AgentLayout.ScratchOffset, AgentLayout.ScratchBytes, 15); // MADV_NOHUGEPAGE
        c.mov(rax, poolDevice);
        c.mov(Word(OwnWord.PoolDevice), rax);
        c.mov(rax, poolInode);
        c.mov(Word(OwnWord.PoolInode), rax);
        c.mov(__qword_ptr[r12 + AgentLayout.AllSignals], -1);
        BlockSignals();
        CloneThread(0, AgentLayout.ExecutorStackTop);
        c.test(rax, rax);
        c.jz(child);
        c.js(failed);
        // The gate is open to every generation but its own: it is passed at once.
        At(ref back);
        c.mov(r13, -1);
        c.mov(r14, _base + AgentLayout.HomeFrameOffset);
        c.mov(rax, _base + AgentLayout.GateOffset);
        c.jmp(rax);
        At(ref failed);
        c.mov(Word(OwnWord.State), rax);
        c.jmp(back);
        At(ref child);
        c.jmp(_executorMain);
    }

    /// <summary>Makes a thread of the process. rax = 0 in it, its id or an errno, negative, in the one that makes it.</summary>
    /// <param name="shared">What it has in common with its maker besides: CLONE_FILES, or nothing.</param>
    /// <param name="stackTop">Where its stack begins, from Data on.</param>
    private void CloneThread(int shared, int stackTop)
    {
        c.mov(edi, CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | shared);
        c.lea(rsi, __[r12 + stackTop]);
        c.xor(edx, edx);
        c.xor(r10d, r10d);
        c.xor(r8d, r8d);
        Sys(SYS_clone);
    }

    private void Madvise(ulong address, int length, int advice)
    {
        c.mov(rdi, address);
        c.mov(esi, length);
        c.mov(edx, advice);
        Sys(SYS_madvise);
    }

    private void BlockSignals()
    {
        c.mov(edi, SIG_SETMASK);
        c.lea(rsi, __[r12 + AgentLayout.AllSignals]);
        c.xor(edx, edx);
        c.mov(r10d, 8);
        Sys(SYS_rt_sigprocmask);
    }
}
