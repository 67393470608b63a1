using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>Compares what was moved out with frames.</summary>
internal sealed partial class AgentAssembler
{
    /// <summary>compare: r9 = how many of the rbp bytes in X, at r15, equal the frames: whole pages. Where fewer do, Error says why: EILSEQ, or EAGAIN where they
    /// could not be read.</summary>
    /// <remarks>Both are read into buffers by the kernel, some pages at a time, which stay in the processor's cache.</remarks>
    private void Compare()
    {
        Label next = c.CreateLabel(), most = c.CreateLabel(), page = c.CreateLabel(), line = c.CreateLabel();
        Label unread = c.CreateLabel(), different = c.CreateLabel(), stop = c.CreateLabel(), compared = c.CreateLabel();
        At(ref _compare);
        c.xor(r9d, r9d);
        At(ref next);
        c.mov(rdx, rbp);
        c.sub(rdx, r9);
        c.jz(compared);
        c.cmp(rdx, AgentLayout.CompareBytes);
        c.jbe(most);
        c.mov(edx, AgentLayout.CompareBytes);
        At(ref most);
        c.push(rdx);
        c.lea(rax, __[r15 + r9]);
        c.push(r9);
        CopyMoved();
        c.pop(r9);
        c.cmp(rax, __qword_ptr[rsp]);
        c.jne(unread);
        c.mov(rdi, Word(AgentLayout.PoolFd));
        c.lea(rsi, __[r12 + AgentLayout.FrameCopyOffset]);
        c.mov(rdx, rax);
        c.mov(r10, __qword_ptr[rbx + OffsetAt]);
        c.add(r10, r9);
        Sys(17); // pread64
        c.cmp(rax, __qword_ptr[rsp]);
        c.jne(unread);
        c.pop(rdx);
        c.lea(rsi, __[r12 + AgentLayout.MovedCopyOffset]);
        c.lea(rdi, __[r12 + AgentLayout.FrameCopyOffset]);
        At(ref page);
        c.mov(ecx, 64);
        At(ref line);
        for (int i = 0; i < 4; i++)
        {
            c.movdqa(__xmm(i), __xmmword_ptr[rsi + 16 * i]);
            c.pcmpeqb(__xmm(i), __xmmword_ptr[rdi + 16 * i]);
        }

        c.pand(xmm0, xmm1);
        c.pand(xmm2, xmm3);
        c.pand(xmm0, xmm2);
        c.pmovmskb(eax, xmm0);
        c.cmp(eax, 0xFFFF);
        c.jne(different);
        c.add(rsi, 64);
        c.add(rdi, 64);
        c.dec(ecx);
        c.jnz(line);
        c.add(r9, 4096);
        c.sub(rdx, 4096);
        c.jnz(page);
        c.jmp(next);

        At(ref unread);
        c.pop(rdx);
        c.mov(eax, Eagain);
        c.jmp(stop);
        At(ref different);
        c.mov(eax, Eilseq);
        At(ref stop);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        At(ref compared);
        c.ret();
    }

    /// <summary>Copies rdx bytes of scratch at rax, at most CompareBytes, to where copies of what was moved lie: rax = bytes copied. Destroys r8–r10.</summary>
    private void CopyMoved()
    {
        c.mov(__qword_ptr[r12 + AgentLayout.MessageControl], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageControl + 8], rdx);
        c.lea(rax, __[r12 + AgentLayout.MovedCopyOffset]);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageVector], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageVector + 8], rdx);
        ReadThroughKernel();
    }

    /// <summary>process_vm_readv(2) on this very process, for the vectors in MessageVector (to) and MessageControl (from): rax = bytes. Destroys r8–r10.</summary>
    private void ReadThroughKernel()
    {
        c.mov(rdi, Word(AgentLayout.ExecutorTid));
        c.lea(rsi, __[r12 + AgentLayout.MessageVector]);
        c.mov(edx, 1);
        c.lea(r10, __[r12 + AgentLayout.MessageControl]);
        c.mov(r8d, 1);
        c.xor(r9d, r9d);
        Sys(310); // process_vm_readv
    }
}
