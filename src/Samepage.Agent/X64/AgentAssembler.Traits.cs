using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>What an unmerge keeps of memory besides its content and its advice: guard pages, and locks.</summary>
internal sealed partial class AgentAssembler
{
    /// <summary>Copies [r13, r13 + r14) to rbp, and notes which of its pages are guard pages (MADV_GUARD_INSTALL): whoever touches those is to be killed, so nobody can copy them.</summary>
    /// <remarks>Through the kernel, not by reading: a program that was let go may take the memory away meanwhile, which is an answer here, not a fault. A page that cannot be read is a
    /// guard page only if the kernel says both that filling it is a fault, and that it may be one.</remarks>
    private void CopyToD(Label fail)
    {
        Label read = c.CreateLabel(), some = c.CreateLabel(), copied = c.CreateLabel(), unread = c.CreateLabel();
        for (int word = 0; word < 8; word++)
            c.mov(__qword_ptr[r12 + AgentLayout.Guarded + 8 * word], 0);
        c.xor(r9d, r9d);
        At(ref read);
        c.lea(rax, __[rbp + r9]);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageVector], rax);
        c.lea(rax, __[r13 + r9]);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageControl], rax);
        c.mov(rax, r14);
        c.sub(rax, r9);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageVector + 8], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageControl + 8], rax);
        c.push(r9);
        ReadThroughKernel();
        c.pop(r9);
        c.test(rax, rax);
        c.jns(some);
        c.xor(eax, eax);
        At(ref some);
        c.and(rax, -4096);
        c.add(r9, rax);
        c.cmp(r9, r14);
        c.je(copied);
        foreach ((int advice, int answer) in new[] { (MADV_POPULATE_READ, -Efault), (MADV_GUARD_INSTALL, 0) })
        {
            c.lea(rdi, __[r13 + r9]);
            c.mov(esi, 4096);
            c.mov(edx, advice);
            Sys(SYS_madvise);
            c.cmp(rax, answer);
            c.jne(unread);
        }

        c.mov(rax, r9);
        c.shr(rax, 12);
        c.bts(__qword_ptr[r12 + AgentLayout.Guarded], rax);
        c.add(r9, 4096);
        c.cmp(r9, r14);
        c.jb(read);
        c.jmp(copied);
        At(ref unread);
        c.mov(rax, -Efault);
        c.jmp(fail);
        At(ref copied);
    }

    private const int MADV_DONTNEED = 4, MADV_POPULATE_READ = 22, MADV_GUARD_INSTALL = 102; // the last: Linux 6.13

    /// <summary>Makes the pages at r13 guard pages again that <see cref="CopyToD"/> found to be such.</summary>
    private void GuardAgain()
    {
        Label next = c.CreateLabel(), not = c.CreateLabel(), all = c.CreateLabel();
        c.xor(r9d, r9d);
        At(ref next);
        c.cmp(r9, r14);
        c.je(all);
        c.mov(rax, r9);
        c.shr(rax, 12);
        c.bt(__qword_ptr[r12 + AgentLayout.Guarded], rax);
        c.jnc(not);
        c.lea(rdi, __[r13 + r9]);
        c.mov(esi, 4096);
        c.mov(edx, MADV_GUARD_INSTALL);
        Sys(SYS_madvise);
        At(ref not);
        c.add(r9, 4096);
        c.jmp(next);
        At(ref all);
    }

    /// <summary>Where the record says so: locks [r13, r13 + r14), as the program locked the frames that were there (mlock made their pages its own then).</summary>
    /// <remarks>Only now: what the frames' mapping took of RLIMIT_MEMLOCK is free again, and no page is missing that the warden would have to bring.</remarks>
    private void LockAgain()
    {
        Label not = c.CreateLabel();
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.Locked);
        c.jz(not);
        c.mov(rdi, r13);
        c.mov(rsi, r14);
        OnFaultOfRecord();
        Sys(SYS_mlock2);
        At(ref not);
    }

    /// <summary>edx = flags for mlock2(2): MLOCK_ONFAULT where the record says so.</summary>
    private void OnFaultOfRecord()
    {
        Label whole = c.CreateLabel();
        c.xor(edx, edx);
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.OnFault);
        c.jz(whole);
        c.mov(edx, 1);
        At(ref whole);
    }
}
