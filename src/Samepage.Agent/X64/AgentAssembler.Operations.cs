using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>The three operations. Each is entered with rbx at its record, and leaves what it did in Done and Error there.</summary>
/// <remarks>
/// <para>The daemon holds every thread of the program while a batch runs (see WorldStop), so no thread maps, unmaps, protects, discards or
/// forks in the middle of an operation. What still may reach the memory is the kernel on somebody's behalf: process_vm_readv and _writev,
/// /proc/PID/mem, io_uring workers, vhost, and devices. Against these:</para>
/// <list type="bullet">
/// <item>From UFFDIO_MOVE on, the range is empty and registered with MISSING: whoever reaches for it waits until it is whole again.</item>
/// <item>A page that a device or a registered buffer has pinned is not moved (EBUSY), and stays.</item>
/// <item>Who holds a page without a pin for the moment of a write (/proc/PID/mem) is waited for before what was moved is looked at (AwaitWriters).</item>
/// <item>What was moved lies where nobody else can reach it, so the comparison decides on what will be thrown away (D3).</item>
/// <item>The mapping of the frames comes into place whole, by one mmap over the empty range, and every page-table entry is filled before it is
/// watched: an entry that is missing later was discarded.</item>
/// </list>
/// <para>Should the daemon die in the middle, the threads wait at the gate until the batch has ended: see AgentAssembler.Gate.</para>
/// </remarks>
internal sealed partial class AgentAssembler
{
    private const int AddressAt = 8, LengthAt = 16, OffsetAt = 24, ErrorAt = 32, DoneAt = 40, OperationBytes = 48;

    private void RegisterOnT(AssemblerRegister64 start, AssemblerRegister64 length, ulong mode) =>
        Range(Word(OwnWord.T), LibC.UFFDIO_REGISTER, () =>
        {
            c.mov(rdx, start);
            c.mov(r10, length);
            c.mov(r8d, (int)mode);
        });

    private void OnRange(OwnWord descriptor, ulong request, AssemblerRegister64 start, AssemblerRegister64 length, int mode = 0) =>
        Range(Word(descriptor), request, () =>
        {
            c.mov(rdx, start);
            c.mov(r10, length);
            c.mov(r8d, mode);
        });

    /// <summary>Takes scratch for r14 bytes: r15 = its address. Empties X when it is full.</summary>
    private void TakeScratch()
    {
        Label fits = c.CreateLabel();
        c.mov(rax, Word(OwnWord.ScratchUsed));
        c.lea(rcx, __[rax + r14]);
        c.cmp(rcx, AgentLayout.ScratchBytes);
        c.jbe(fits);
        c.lea(rdi, __[r12 + (AgentLayout.ScratchOffset - AgentLayout.DataOffset)]);
        Discard(AgentLayout.ScratchBytes); // T delivers no events, so this waits for nobody
        c.xor(eax, eax);
        c.mov(rcx, r14);
        At(ref fits);
        c.mov(Word(OwnWord.ScratchUsed), rcx);
        c.lea(r15, __[r12 + rax + (AgentLayout.ScratchOffset - AgentLayout.DataOffset)]);
    }

    /// <summary>r13 = address, r14 = length, r15 = scratch: moves the range out. Leaves the bytes moved in rbp, an errno in Error.</summary>
    /// <remarks>EBUSY also stands for "not exclusive": fork shared the page once. A write fault without a write makes it exclusive (E1); it is
    /// tried on that one page, which is present, and once. Still EBUSY means pinned (D2).</remarks>
    private void MoveOut()
    {
        Label finished = c.CreateLabel();
        c.mov(rdi, r15);
        c.mov(rsi, r13);
        c.mov(rdx, r14);
        c.call(_moveAll);
        c.mov(rbp, rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rdx);
        c.cmp(rdx, Ebusy);
        c.jne(finished);
        c.lea(rdi, __[r13 + rbp]);
        c.mov(esi, 4096);
        c.mov(edx, 23); // MADV_POPULATE_WRITE
        Sys(SYS_madvise);
        c.test(rax, rax);
        c.jnz(finished);
        c.lea(rdi, __[r15 + rbp]);
        c.lea(rsi, __[r13 + rbp]);
        c.mov(rdx, r14);
        c.sub(rdx, rbp);
        c.call(_moveAll);
        c.add(rbp, rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rdx);
        At(ref finished);
        AwaitWriters();
    }

    /// <summary>Waits until nobody writes any more to a page that was moved out, by way of a reference that he took while it was in its place.</summary>
    /// <remarks>/proc/PID/mem and ptrace(2) look a page up, and write to it through the kernel's own mapping: such a page is not pinned, and the move does not see it. They hold the lock of
    /// the address space from before the one until behind the other, as readers; to hold it as a writer once, for nothing, is to wait for all who hold it. Who comes later finds the page missing.</remarks>
    private void AwaitWriters()
    {
        c.mov(rdi, r12);
        c.mov(esi, AgentLayout.WordsBytes);
        c.mov(edx, LibC.PROT_READ | LibC.PROT_WRITE); // which it has
        Sys(SYS_mprotect);
    }

    /// <summary>Puts bytes [from, rbp) of the range back out of scratch.</summary>
    private void PutBackFrom(AssemblerRegister64 from)
    {
        Label nothing = c.CreateLabel();
        c.mov(rdx, rbp);
        c.sub(rdx, from);
        c.jz(nothing);
        c.lea(rdi, __[r13 + from]);
        c.lea(rsi, __[r15 + from]);
        c.call(_putBack);
        At(ref nothing);
    }

    /// <summary>Takes MISSING off what is still the program's own memory: registering with fewer modes is a no-op, so off and on again.</summary>
    private void TrackAgain(AssemblerRegister64 start, AssemblerRegister64 length)
    {
        OnRange(OwnWord.T, LibC.UFFDIO_UNREGISTER, start, length);
        RegisterOnT(start, length, LibC.UFFDIO_REGISTER_MODE_WP);
    }

    private void WakeOnT() => OnRange(OwnWord.T, LibC.UFFDIO_WAKE, r13, r14);

    private void Enter()
    {
        c.push(rbp);
        c.push(r13);
        c.push(r14);
        c.push(r15);
        c.push(r9);
        c.mov(r13, __qword_ptr[rbx + AddressAt]);
        c.mov(r14, __qword_ptr[rbx + LengthAt]);
    }

    private void Leave()
    {
        c.pop(r9);
        c.pop(r15);
        c.pop(r14);
        c.pop(r13);
        c.pop(rbp);
        c.ret();
    }

    /// <remarks>Steps:
    /// 1. Register the run on T with MISSING and WP. Where its protection is in the way, lift that: see <see cref="Lift"/>.
    /// 2. Move it to X: rbp bytes of it, and wait for whoever has begun to write to them. Nobody can change them any more.
    /// 3. Compare X with the frames, page by page: r9 bytes are equal.
    /// 4. Move what is not equal back.
    /// 5. Map the frames privately in place of the equal part, which is empty; fill every page-table entry; register it on M.
    /// 6. Protect the run as before, and wake who waited.
    /// Any refusal on the way moves everything back; what is in X is dropped only behind step 5.
    /// Neither X nor the frames are touched through page tables, and no filled mapping is moved: each would be a fault or a flush a page, and both
    /// cost more than all the rest, in a virtual machine above all.
    /// Between its mapping and its registration the new mapping is an ordinary private mapping of what was there: who reads it then, reads right, and
    /// who writes it gets a copy. A discard could not be told from it, and comes from a thread of the program only; they are held.
    /// </remarks>
    private void Merge()
    {
        Label tail = c.CreateLabel(), wake = c.CreateLabel(), refused = c.CreateLabel();
        Label unmapped = c.CreateLabel(), unplace = c.CreateLabel(), place = c.CreateLabel(), register = c.CreateLabel(), whole = c.CreateLabel(), undo = c.CreateLabel(), alone = c.CreateLabel();
        Label back = c.CreateLabel(), behind = c.CreateLabel(), leave = c.CreateLabel(), untouched = c.CreateLabel();
        At(ref _merge);
        Enter();
        TakeForPlain();
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.BeginStretch);
        c.jnz(_beginStretch);
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.EndStretch);
        c.jnz(_endStretch);
        JumpUnlessMoved(alone);
        c.mov(rbp, r13);
        c.call(_giveBack);
        c.mov(r15, r13);
        c.add(r15, Word(OwnWord.StretchDelta));
        c.mov(rbp, r14);
        c.call(_compare);
        c.jmp(whole);

        At(ref alone);
        c.xor(r9d, r9d);
        JumpIfPolicy(untouched);
        LookAtArea(untouched);
        TakeScratch();
        RegisterOnT(r13, r14, LibC.UFFDIO_REGISTER_MODE_MISSING | LibC.UFFDIO_REGISTER_MODE_WP);
        JumpUnlessRegistered(untouched, refused);
        Lift(refused);
        MoveOut();
        c.lea(rax, __[r15 + rbp]);
        BeginCopies(rax);
        c.call(_compare);
        c.cmp(r9, rbp);
        c.je(whole);
        PutBackFrom(r9);
        At(ref whole);
        c.test(r9, r9);
        c.jz(tail);

        c.push(r9);
        c.mov(rdi, r13);
        c.mov(rsi, r9);
        LiftedProtection();
        c.mov(r10d, LibC.MAP_PRIVATE | LibC.MAP_FIXED);
        ReserveAsBefore();
        c.mov(r8, Word(OwnWord.PoolFd));
        c.mov(r9, __qword_ptr[rbx + OffsetAt]);
        Sys(SYS_mmap);
        c.pop(r9);
        c.cmp(rax, r13);
        c.jne(unmapped);
        Advise(r13, r9);
        NameAgain(r13, r9);
        c.mov(rdi, r13);
        c.mov(rsi, r9);
        c.mov(edx, MADV_POPULATE_READ);
        Sys(SYS_madvise);
        c.test(rax, rax);
        c.jnz(unplace);
        OnRange(OwnWord.M, LibC.UFFDIO_REGISTER, r13, r9, (int)(LibC.UFFDIO_REGISTER_MODE_WP | LibC.UFFDIO_REGISTER_MODE_MINOR | LibC.UFFDIO_REGISTER_MODE_MISSING));
        c.test(rax, rax);
        c.jnz(unplace);
        KeepInCoreDumps();
        c.jmp(tail);
        // Most refusals leave the range as it was, empty and registered, and to register it once more changes nothing. Where the kernel has come so far as to unmap it, there is nothing to put the pages back to.
        At(ref unmapped);
        c.push(rax);
        RegisterOnT(r13, r9, LibC.UFFDIO_REGISTER_MODE_MISSING | LibC.UFFDIO_REGISTER_MODE_WP);
        c.mov(rcx, rax);
        c.pop(rax);
        c.test(rcx, rcx);
        c.jz(undo);
        // Not watched, so it must not stay: fresh memory in its place, and the pages back. No thread runs meanwhile. Without memory either is tried until it is done, for all else would be wrong: in a mapping that is
        // not watched what is discarded would show its frame, and in one that is not registered no page could be put, which are here alone.
        At(ref unplace);
        c.push(rax);
        c.push(r9);
        At(ref place);
        c.mov(rdi, r13);
        c.mov(rsi, __qword_ptr[rsp]);
        LiftedProtection();
        c.mov(r10d, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_FIXED);
        ReserveAsBefore();
        c.mov(r8, -1);
        c.xor(r9d, r9d);
        Sys(SYS_mmap);
        c.cmp(rax, r13);
        c.jne(place);
        c.pop(r9);
        Advise(r13, r9);
        NameAgain(r13, r9);
        At(ref register);
        RegisterOnT(r13, r9, LibC.UFFDIO_REGISTER_MODE_MISSING | LibC.UFFDIO_REGISTER_MODE_WP);
        c.test(rax, rax);
        c.jnz(register);
        c.pop(rax);
        At(ref undo);
        c.neg(rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        c.mov(rbp, r9);
        c.xor(r9d, r9d);
        JumpUnlessMoved(back);
        c.jmp(tail);
        At(ref back);
        PutBackFrom(r9);

        At(ref tail);
        ProtectAsBefore();
        c.mov(__qword_ptr[rbx + DoneAt], r9);
        JumpUnlessMoved(behind);
        c.lea(rax, __[r13 + r9]);
        c.mov(Word(OwnWord.StretchWhole), rax);
        c.jmp(leave);
        At(ref behind);
        c.mov(rsi, r14);
        c.sub(rsi, r9);
        c.jz(wake);
        c.lea(rdi, __[r13 + r9]);
        c.push(rdi);
        c.push(rsi);
        OnStack(LibC.UFFDIO_UNREGISTER, 0);
        OnStack(LibC.UFFDIO_REGISTER, (int)LibC.UFFDIO_REGISTER_MODE_WP);
        c.add(rsp, 16);
        At(ref wake);
        WakeOnT();
        At(ref leave);
        Leave();

        At(ref refused);
        c.neg(rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        c.jmp(tail);
        At(ref untouched);
        c.neg(rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        Leave();
    }

    /// <summary>rax = what the registration on T has answered: goes on where that is done.</summary>
    /// <remarks>Kernels before 6.17 take a registration off whoever's userfaultfd it is for. What lies there may be somebody else's by now, frames above all, which must not be left unwatched: so T gives up only what it may have got.</remarks>
    /// <param name="untouched">It was refused before anything was changed.</param>
    /// <param name="refused">There was no memory, or room for a mapping more: a part may be done.</param>
    private void JumpUnlessRegistered(Label untouched, Label refused)
    {
        Label registered = c.CreateLabel();
        c.test(rax, rax);
        c.jz(registered);
        c.cmp(rax, -Enomem);
        c.je(refused);
        c.jmp(untouched);
        At(ref registered);
    }

    /// <summary>Makes the new mapping at r13 one that the kernel writes into core dumps, as it does with the memory that was there.</summary>
    /// <remarks>By default core(5) leaves private mappings of files out unless they have been written to, and "have been" means: have a reverse map for
    /// private pages (anon_vma). Filling a page by userfaultfd gives a private mapping one before it looks at the page: so one is filled that is there
    /// already. That answers EEXIST, and changes nothing else.</remarks>
    private void KeepInCoreDumps() => Range(Word(OwnWord.M), LibC.UFFDIO_CONTINUE, () =>
    {
        c.mov(rdx, r13);
        c.mov(r10d, 4096);
        c.xor(r8d, r8d);
    });

    /// <summary>Goes on unless the run is in a stretch that was moved out.</summary>
    private void JumpUnlessMoved(Label otherwise)
    {
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.InStretch);
        c.jz(otherwise);
        c.cmp(Word(OwnWord.StretchMoved), 0);
        c.je(otherwise);
    }

    /// <summary>Gives a range the advice that the record says.</summary>
    /// <remarks>What the kernel refuses is lost, but for one: a child must not have what fork does not copy. That is refused for want of memory alone (EAGAIN), and tried until it is done.</remarks>
    private void Advise(AssemblerRegister64 start, AssemblerRegister64 length)
    {
        foreach ((OperationFlags flag, int advice) in Advice)
        {
            Label without = c.CreateLabel(), again = c.CreateLabel();
            c.test(__dword_ptr[rbx + FlagsAt], (int)flag);
            c.jz(without);
            At(ref again);
            c.mov(rdi, start);
            c.mov(rsi, length);
            c.mov(edx, advice);
            Sys(SYS_madvise);
            if (flag == OperationFlags.DontFork)
            {
                c.cmp(rax, -Eagain);
                c.je(again);
            }

            At(ref without);
        }
    }

    /// <summary>By the names that madvise(2) has for it: MADV_MERGEABLE, …</summary>
    private static readonly (OperationFlags Flag, int Advice)[] Advice =
    [
        (OperationFlags.Mergeable, 12), (OperationFlags.HugePage, 14), (OperationFlags.NoHugePage, 15), (OperationFlags.DontFork, 10), (OperationFlags.DontDump, 16),
        (OperationFlags.Random, 1), (OperationFlags.Sequential, 2),
    ];

    /// <summary>r10d = flags for mmap(2): adds MAP_NORESERVE where the record says so.</summary>
    private void ReserveAsBefore()
    {
        Label reserved = c.CreateLabel();
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.NoReserve);
        c.jz(reserved);
        c.or(r10d, LibC.MAP_NORESERVE);
        At(ref reserved);
    }

    /// <summary>Jumps, with an errno in rax, where the memory at r13 has a policy of its own of where its pages lie, mbind(2).</summary>
    /// <remarks>/proc shows it only to who walks through all pages (numa_maps). A mapping of frames cannot have one, for it would be the pool's, and what is given back would not join
    /// its neighbours without it. A kernel without NUMA knows no such call, and no policies.</remarks>
    private void JumpIfPolicy(Label refused)
    {
        Label none = c.CreateLabel();
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct], 0);
        c.lea(rdi, __[r12 + AgentLayout.ExecutorStruct]);
        c.xor(esi, esi);
        c.xor(edx, edx);
        c.mov(r10, r13);
        c.mov(r8d, 2); // MPOL_F_ADDR: of the memory, not of the thread
        Sys(SYS_get_mempolicy);
        c.test(rax, rax);
        c.jnz(none);
        c.mov(rax, -Eopnotsupp);
        c.cmp(__dword_ptr[r12 + AgentLayout.ExecutorStruct], 0);
        c.jne(refused);
        At(ref none);
    }

    private static AssemblerRegisterXMM __xmm(int number) => number switch { 0 => xmm0, 1 => xmm1, 2 => xmm2, _ => xmm3 };

    /// <summary>A range request on T for the start and length pushed last.</summary>
    private void OnStack(ulong request, int mode) => Range(Word(OwnWord.T), request, () =>
    {
        c.mov(rdx, __qword_ptr[rsp + 8]);
        c.mov(r10, __qword_ptr[rsp]);
        c.mov(r8d, mode);
    });

    /// <remarks>As <see cref="Merge"/>, but what is all zero is simply not put back: the kernel's own zero page serves it, and no area is split.</remarks>
    private void Zero()
    {
        Label refused = c.CreateLabel(), next = c.CreateLabel(), tested = c.CreateLabel(), whole = c.CreateLabel(), done = c.CreateLabel(), untouched = c.CreateLabel();
        At(ref _zero);
        Enter();
        TakeForPlain();
        c.xor(r9d, r9d);
        LookAtArea(untouched);
        TakeScratch();
        RegisterOnT(r13, r14, LibC.UFFDIO_REGISTER_MODE_MISSING | LibC.UFFDIO_REGISTER_MODE_WP);
        JumpUnlessRegistered(untouched, refused);
        Lift(refused);
        MoveOut();
        c.xor(r9d, r9d);
        At(ref next);
        c.cmp(r9, rbp);
        c.je(whole);
        c.lea(rsi, __[r15 + r9]);
        c.call(_zeroTest);
        c.jne(tested);
        c.add(r9, 4096);
        c.jmp(next);
        At(ref tested);
        c.mov(__qword_ptr[rbx + ErrorAt], Eilseq);
        PutBackFrom(r9);
        At(ref whole);
        c.mov(__qword_ptr[rbx + DoneAt], r9);
        At(ref done);
        ProtectAsBefore();
        TrackAgain(r13, r14);
        WakeOnT();
        Leave();
        At(ref refused);
        c.neg(rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        c.jmp(done);
        At(ref untouched);
        c.neg(rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        Leave();
    }
}
