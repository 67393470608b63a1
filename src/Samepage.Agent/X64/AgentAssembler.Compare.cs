using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>Compares what was moved out with frames.</summary>
/// <remarks>Neither is touched through page tables: the kernel copies both into buffers, some pages at a time, ahead of what is asked for. Short runs near each
/// other, and what lies between them, are then served by one copy. A copy is good for one stretch, or one run that is alone: what was moved out does not change
/// until it is given back, in rising order, and a frame not before every plan that names it is carried out.</remarks>
internal sealed partial class AgentAssembler
{
    /// <summary>Forgets the copies; what is copied from now on ends at <paramref name="end"/>, in scratch.</summary>
    private void BeginCopies(AssemblerRegister64 end)
    {
        c.mov(Word(OwnWord.MovedEnd), end);
        c.mov(Word(OwnWord.MovedBytes), 0);
        c.mov(Word(OwnWord.FramesBytes), 0);
    }

    /// <summary>movedCopy: rax = an address in scratch. Returns rsi = a copy of what lies there, rdx = its bytes: whole pages, 0 when it cannot be read.
    /// Keeps r12–r15, rbx, rbp and r9.</summary>
    /// <remarks>What lies behind the address was moved in and has not been given back, up to MovedEnd. A page of it that has gone since, because the program does not need it (MADV_FREE), reads as zeros.</remarks>
    private void MovedCopy()
    {
        At(ref _movedCopy);
        LookUpCopy(OwnWord.MovedAt, OwnWord.MovedBytes, () =>
        {
            c.mov(rdx, Word(OwnWord.MovedEnd));
            c.sub(rdx, rax);
            CopyToBuffer();
        });
        c.lea(rsi, __[r12 + rcx + AgentLayout.MovedCopyOffset]);
        c.mov(rdx, Word(OwnWord.MovedBytes));
        c.sub(rdx, rcx);
        c.ret();
    }

    /// <summary>frameCopy: rax = an offset into the pool. Returns rdi = a copy of what lies there, rcx = its bytes: whole pages, 0 when it cannot be read.
    /// Keeps r12–r15, rbx, rbp, r9, rsi and rdx.</summary>
    private void FrameCopy()
    {
        At(ref _frameCopy);
        LookUpCopy(OwnWord.FramesAt, OwnWord.FramesBytes, () =>
        {
            c.push(rsi);
            c.push(rdx);
            c.mov(rdi, Word(OwnWord.PoolFd));
            c.lea(rsi, __[r12 + AgentLayout.FrameCopyOffset]);
            c.mov(edx, AgentLayout.CompareBytes);
            c.mov(r10, rax);
            Sys(17); // pread64
            c.pop(rdx);
            c.pop(rsi);
        });
        c.lea(rdi, __[r12 + rcx + AgentLayout.FrameCopyOffset]);
        c.neg(rcx);
        c.add(rcx, Word(OwnWord.FramesBytes));
        c.ret();
    }

    /// <summary>rax = a place; what has been copied begins at word <paramref name="at"/> and has as many bytes as word <paramref name="bytes"/> says. Leaves in rcx
    /// how far behind that beginning the place is; if it was not copied, it is now, as the beginning, or there are 0 bytes.</summary>
    /// <param name="at">A word.</param>
    /// <param name="bytes">A word.</param>
    /// <param name="copy">Copies from rax on; rax = bytes, or an errno, negative.</param>
    private void LookUpCopy(OwnWord at, OwnWord bytes, Action copy)
    {
        Label copied = c.CreateLabel();
        c.mov(rcx, rax);
        c.sub(rcx, Word(at));
        c.cmp(rcx, Word(bytes));
        c.jb(copied);
        c.mov(Word(at), rax);
        copy();
        c.xor(ecx, ecx);
        c.test(rax, rax);
        c.cmovs(rax, rcx);
        c.and(rax, -4096);
        c.mov(Word(bytes), rax);
        At(ref copied);
    }

    /// <summary>Copies rdx bytes at rax, at most CompareBytes of them, to where copies of what was moved lie: rax = bytes, rdx = bytes asked for. Keeps r9.</summary>
    private void CopyToBuffer()
    {
        Label most = c.CreateLabel();
        c.cmp(rdx, AgentLayout.CompareBytes);
        c.jbe(most);
        c.mov(edx, AgentLayout.CompareBytes);
        At(ref most);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageControl], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageControl + 8], rdx);
        c.lea(rax, __[r12 + AgentLayout.MovedCopyOffset]);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageVector], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageVector + 8], rdx);
        c.push(r9);
        c.push(rdx);
        ReadThroughKernel();
        c.pop(rdx);
        c.pop(r9);
    }

    /// <summary>compare: r9 = how many of the rbp bytes in X, at r15, equal the frames: whole pages. Where fewer do, Error says why: EILSEQ, or EAGAIN where they
    /// could not be read.</summary>
    private void Compare()
    {
        Label next = c.CreateLabel(), enoughFrames = c.CreateLabel(), enough = c.CreateLabel(), page = c.CreateLabel();
        Label unread = c.CreateLabel(), different = c.CreateLabel(), stop = c.CreateLabel(), compared = c.CreateLabel();
        At(ref _compare);
        c.xor(r9d, r9d);
        At(ref next);
        c.cmp(r9, rbp);
        c.je(compared);
        c.lea(rax, __[r15 + r9]);
        c.call(_movedCopy);
        c.test(rdx, rdx);
        c.jz(unread);
        c.mov(rax, __qword_ptr[rbx + OffsetAt]);
        c.add(rax, r9);
        c.call(_frameCopy);
        c.test(rcx, rcx);
        c.jz(unread);
        c.cmp(rdx, rcx);
        c.jbe(enoughFrames);
        c.mov(rdx, rcx);
        At(ref enoughFrames);
        c.mov(rax, rbp);
        c.sub(rax, r9);
        c.cmp(rdx, rax);
        c.jbe(enough);
        c.mov(rdx, rax);
        At(ref enough);
        At(ref page);
        c.call(_samePage);
        c.jne(different);
        c.add(r9, 4096);
        c.sub(rdx, 4096);
        c.jnz(page);
        c.jmp(next);

        At(ref unread);
        c.mov(eax, Eagain);
        c.jmp(stop);
        At(ref different);
        c.mov(eax, Eilseq);
        At(ref stop);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        At(ref compared);
        c.ret();
    }

    /// <summary>samePage: ZF set when the pages at rsi and rdi are equal; both are then one page on. Destroys rax, rcx, xmm0–3.</summary>
    private void SamePage()
    {
        Label line = c.CreateLabel(), end = c.CreateLabel();
        At(ref _samePage);
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
        c.jne(end);
        c.add(rsi, 64);
        c.add(rdi, 64);
        c.dec(ecx);
        c.jnz(line);
        At(ref end);
        c.ret();
    }

    /// <summary>process_vm_readv(2) on this very process, for the vectors in MessageVector (to) and MessageControl (from): rax = bytes. Destroys r8–r10.</summary>
    private void ReadThroughKernel()
    {
        c.mov(rdi, Word(OwnWord.ExecutorTid));
        c.lea(rsi, __[r12 + AgentLayout.MessageVector]);
        c.mov(edx, 1);
        c.lea(r10, __[r12 + AgentLayout.MessageControl]);
        c.mov(r8d, 1);
        c.xor(r9d, r9d);
        Sys(310); // process_vm_readv
    }
}
