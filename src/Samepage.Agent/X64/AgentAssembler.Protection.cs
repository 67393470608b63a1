using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>Memory that cannot be read and written: its protection is lifted for an exchange, and put back. And names, which are asked for at the same place.</summary>
/// <remarks>
/// <para>The kernel moves pages only where it may write, and between areas of one protection. So a merge of memory that is read-only, without any access, or code, makes it writable besides what it is, and protects it again when the
/// exchange is done, whatever came of that.</para>
/// <para>No instruction of the program runs in between. That is so as for all exchanges (see WorldStop and the gate), but here more hangs on it: a thread that ran would write where it was to be killed. So, one by one:</para>
/// <list type="bullet">
/// <item>The daemon lives, and the batch ends in time: it lets threads go when the batch was answered, and the answer comes behind the last operation, which does not end before it has protected again.</item>
/// <item>The daemon dies before the executor has taken the batch: who comes to the gate calls it off, or the executor begins it, by one locked exchange. Nothing is lifted in a batch that was called off.</item>
/// <item>The daemon dies, or is stopped and killed by its guardian, in the middle of a batch: threads wait at the gate until the word Batch says that it has ended. The executor needs nobody for what is left of an operation, and what it has to tell nobody is
/// an error that it passes over.</item>
/// <item>The batch takes longer than a second: the threads are sent to the gate, and wait there likewise.</item>
/// <item>A daemon that takes over finds the executor only when it waits for a daemon: behind its batch. So no recovery, and no detach, meets lifted memory; nor does a fork, which is a thread's.</item>
/// <item>A signal, also one that stops or ends the program: handlers run in threads that run. A program that is stopped meanwhile stands still together with its executor. One that ends, or calls exec, by a thread that was not held, does not exist: all are, and no
/// other process shares the memory (MemorySharers).</item>
/// <item>The executor is ended alone: no filter that forbids what a batch makes is over it when the batch begins, and none comes while all threads are held. Whoever ends it otherwise may trace the program, and harms that alone (docs/limits.md).</item>
/// <item>The kernel refuses to protect again. It splits nothing for that which was whole before, for what was lifted is a mapping of its own by its registration, and there was room for it; so it can want memory only, and it is tried until it is done. What can be executed stays so
/// all the time: nobody can be forbidden to make that executable again (PR_SET_MDWE, SELinux), for it never ceases to be. Memory that takes its place is mapped executable at once, or not at all.</item>
/// </list>
/// <para>What is not the program may see it: /proc/PID/maps shows the lifted protection; and until it is back a read or write of another process (process_vm_writev), or of a kernel's thread of io_uring, is done that would have
/// been refused (docs/limits.md). What comes before the pages are moved is compared like everything else. Who comes while they are away waits, and goes on when they are put back, or finds the frames: what he writes then is in a page of the program's own, whatever the comparison has said.</para>
/// </remarks>
internal sealed partial class AgentAssembler
{
    private const int Eacces = 13, Estale = 116, SYS_prctl = 157, PR_SET_VMA = 0x53564d41;

    /// <summary>Takes what is moved for memory that can be read and written, until it was looked at.</summary>
    private void TakeForPlain()
    {
        c.mov(ecx, LibC.PROT_READ | LibC.PROT_WRITE);
        c.mov(Word(OwnWord.Protection), rcx);
        c.mov(Word(OwnWord.Lifted), 0);
    }

    /// <summary>Where the record says that the range at r13, r14 is protected, or has a name: finds out how, from the kernel. Jumps, with ESTALE in rax, where it is not one mapping of private memory, or can be written and executed: it is not what it was
    /// when it was looked at, all of it, and is left for another time. Keeps r9.</summary>
    private void LookAtArea(Label refused)
    {
        Label plain = c.CreateLabel(), allowed = c.CreateLabel();
        c.test(__dword_ptr[rbx + FlagsAt], (int)(OperationFlags.Protected | OperationFlags.Named));
        c.jz(plain);
        QueryWithName();
        c.test(rax, rax);
        c.mov(rax, -Estale); // leaves the flags
        c.jnz(refused);
        c.cmp(__qword_ptr[r12 + AgentLayout.QueryStruct + 64], 0);
        c.jne(refused);
        c.lea(rcx, __[r13 + r14]);
        c.cmp(rcx, __qword_ptr[r12 + AgentLayout.QueryStruct + 32]);
        c.ja(refused);
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.Protected);
        c.jz(plain);
        c.mov(rcx, __qword_ptr[r12 + AgentLayout.QueryStruct + 40]); // PROCMAP's bits are PROT's
        c.and(ecx, 7);
        c.test(ecx, LibC.PROT_EXEC);
        c.jz(allowed);
        c.test(ecx, LibC.PROT_WRITE);
        c.jnz(refused);
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.Executable);
        c.jz(refused);
        At(ref allowed);
        c.mov(Word(OwnWord.Protection), rcx);
        At(ref plain);
    }

    /// <summary>edx = the protection of what is moved, and that it can be read and written.</summary>
    private void LiftedProtection()
    {
        c.mov(rdx, Word(OwnWord.Protection));
        c.or(edx, LibC.PROT_READ | LibC.PROT_WRITE);
    }

    /// <summary>Lifts the protection of the range at r13, r14, and has its place in X, at r15, be protected alike. Jumps, with an errno in rax, where that is refused; <see cref="ProtectAsBefore"/> ends it in any case.</summary>
    /// <remarks>The range is registered already: so it is a mapping of its own, and stays one.</remarks>
    private void Lift(Label refused)
    {
        Label plain = c.CreateLabel();
        c.cmp(Word(OwnWord.Protection), LibC.PROT_READ | LibC.PROT_WRITE);
        c.je(plain);
        c.mov(Word(OwnWord.Lifted), 1);
        LiftAt(r13, refused);
        LiftAt(r15, refused);
        At(ref plain);
    }

    /// <summary>Gives r14 bytes the protection that is lifted to: the range, or its place in X.</summary>
    private void LiftAt(AssemblerRegister64 start, Label refused)
    {
        c.mov(rdi, start);
        c.mov(rsi, r14);
        LiftedProtection();
        Sys(SYS_mprotect);
        c.test(rax, rax);
        c.jnz(refused);
    }

    private void ProtectScratchAgain()
    {
        Label again = c.CreateLabel();
        At(ref again);
        c.mov(rdi, r15);
        c.mov(rsi, r14);
        c.mov(edx, LibC.PROT_READ | LibC.PROT_WRITE);
        Sys(SYS_mprotect);
        c.cmp(rax, -Enomem);
        c.je(again);
    }

    /// <summary>Protects the range at r13, r14 as it was before <see cref="Lift"/>: the program's pages in it, and the frames. Keeps r9.</summary>
    /// <remarks>Before anything is unregistered, and before anybody is woken. The mapping of frames has its reverse map for private pages by then (<see cref="KeepInCoreDumps"/>): so it stays charged. Without memory it is tried until it is done.</remarks>
    private void ProtectAsBefore()
    {
        Label again = c.CreateLabel(), asBefore = c.CreateLabel();
        c.cmp(Word(OwnWord.Lifted), 0);
        c.je(asBefore);
        At(ref again);
        c.mov(rdi, r13);
        c.mov(rsi, r14);
        c.mov(rdx, Word(OwnWord.Protection));
        Sys(SYS_mprotect);
        c.cmp(rax, -Enomem);
        c.je(again);
        ProtectScratchAgain();
        c.mov(Word(OwnWord.Lifted), 0);
        At(ref asBefore);
    }

    /// <summary>Of code that is given back to a program which has forbidden itself to make more of it (PR_SET_MDWE): maps V, at r9, as code from the beginning, which nobody forbids. It can be filled like any other.</summary>
    /// <remarks>It is not charged then, unlike what was there, for it could never be written; and joins nothing. But the program has it back.</remarks>
    private void MapCodeAtOnce(Label refused)
    {
        c.cmp(rax, -Eacces);
        c.jne(refused);
        c.cmp(r15d, LibC.PROT_READ | LibC.PROT_EXEC);
        c.jne(refused);
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.Executable);
        c.jz(refused);
        c.push(r9);
        c.mov(rdi, r9);
        c.mov(rsi, r14);
        c.mov(edx, LibC.PROT_READ | LibC.PROT_EXEC);
        c.mov(r10d, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_FIXED);
        ReserveAsBefore();
        c.mov(r8, -1);
        c.xor(r9d, r9d);
        Sys(SYS_mmap);
        c.pop(r9);
        c.cmp(rax, r9);
        c.jne(refused);
    }

    /// <summary>Protects frames at r13, r14 again, as r15 says, which were made readable to be copied and are not given back.</summary>
    /// <param name="done">Where that is done, or nobody is left to protect it for.</param>
    private void ProtectFramesAgain(Label done)
    {
        Label again = c.CreateLabel();
        At(ref again);
        c.mov(rdi, r13);
        c.mov(rsi, r14);
        c.mov(rdx, r15);
        Sys(SYS_mprotect);
        c.cmp(rax, -Enomem);
        c.jne(done);
        // No memory; or a part of it is not there any more, and then there is nobody to protect it for.
        Query(r13, 0);
        c.test(rax, rax);
        c.jnz(done);
        c.lea(rcx, __[r13 + r14]);
        c.cmp(rcx, __qword_ptr[r12 + AgentLayout.QueryStruct + 32]);
        c.jbe(again);
    }

    /// <summary>Where the record says that the mapping at r13 has a name: finds out which. Keeps r9.</summary>
    private void LookAtName()
    {
        Label unnamed = c.CreateLabel();
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.Named);
        c.jz(unnamed);
        QueryWithName();
        At(ref unnamed);
    }

    /// <summary>Asks for the mapping at r13 and its name, which lies in <see cref="AgentLayout.Name"/> then, ended where its closing bracket was; nothing does if it has none. rax = 0 or an errno, negative.</summary>
    private void QueryWithName()
    {
        Label none = c.CreateLabel();
        c.mov(__dword_ptr[r12 + AgentLayout.Name], 0);
        Query(r13, 0, named: true);
        c.mov(ecx, __dword_ptr[r12 + AgentLayout.QueryStruct + 80]);
        c.cmp(ecx, "[anon:]".Length);
        c.jbe(none);
        c.cmp(ecx, AgentLayout.NameBytes);
        c.ja(none);
        c.mov(__byte_ptr[r12 + rcx + (AgentLayout.Name - 2)], 0);
        At(ref none);
    }

    /// <summary>Gives a range the name that was found (<see cref="LookAtArea"/>, <see cref="LookAtName"/>), where the record says that there is one.</summary>
    /// <remarks>The kernel shows "[anon:NAME]", and of a mapping of frames, whose file has no name of its own, "[anon_shmem:NAME]": those may be named from Linux 6.2 on.</remarks>
    private void NameAgain(AssemblerRegister64 start, AssemblerRegister64 length)
    {
        Label none = c.CreateLabel(), plain = c.CreateLabel();
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.Named);
        c.jz(none);
        c.cmp(__dword_ptr[r12 + AgentLayout.Name], BitConverter.ToInt32("[ano"u8));
        c.jne(none);
        c.lea(r8, __[r12 + (AgentLayout.Name + "[anon:".Length)]);
        c.cmp(__byte_ptr[r12 + (AgentLayout.Name + "[anon".Length)], ':');
        c.je(plain);
        c.lea(r8, __[r12 + (AgentLayout.Name + "[anon_shmem:".Length)]);
        At(ref plain);
        c.mov(edi, PR_SET_VMA);
        c.xor(esi, esi); // PR_SET_VMA_ANON_NAME
        c.mov(rdx, start);
        c.mov(r10, length);
        Sys(SYS_prctl);
        At(ref none);
    }
}
