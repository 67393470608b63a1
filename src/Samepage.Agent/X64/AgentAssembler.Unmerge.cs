using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>Gives a mapping of frames its own memory back, so that it joins its neighbours as the one area that it was.</summary>
internal sealed partial class AgentAssembler
{
    /// <remarks>Steps, for the part of the range that one mapping of the pool covers; its protection is asked of the kernel now:
    /// 1. Write-protect it on M: whoever writes waits.
    ///    Who has pinned a page before may write still: so the daemon was asked (AskWhatMayGoOn). Nobody can pin one from there on, for that takes a write fault.
    /// 2. Copy its pages to D. A page that the program discarded is missing; the warden answers that fault with zeros.
    /// 3. Make V, fresh memory of the same advice, and of the same protection or one that becomes the same when it is filled, register it on M with MISSING, and mremap it over the range:
    ///    the registration goes along, so whoever touches the range waits. From here to step 5 the range is announced to the warden as unfilled.
    /// 4. Fill in the pages that are not all zero, and make guard pages again of those that the program has made such.
    /// 5. Unregister, which lets the memory join its neighbours as one area again; lock it if it was locked; wake everybody; drop D.
    /// V must never be touched before step 3: only memory without pages takes its new place as its own, and joins its neighbours there.
    /// A batch that takes longer than a second lets the program's threads go (see AgentSession.Run): so step 3 asks once more right before.
    /// </remarks>
    private void Unmerge()
    {
        Label fail = c.CreateLabel(), next = c.CreateLabel(), copied = c.CreateLabel(), zero = c.CreateLabel();
        Label fill = c.CreateLabel(), skip = c.CreateLabel(), filled = c.CreateLabel(), retry = c.CreateLabel(), readable = c.CreateLabel(), fits = c.CreateLabel();
        Label dropV = c.CreateLabel(), done = c.CreateLabel(), whole = c.CreateLabel();
        Label asItWas = c.CreateLabel(), asWanted = c.CreateLabel(), charged = c.CreateLabel(), asBefore = c.CreateLabel(), made = c.CreateLabel();
        At(ref _unmerge);
        Enter();
        c.mov(Word(OwnWord.LowNeighbour), 0);
        c.mov(Word(OwnWord.HighNeighbour), 0);
        QueryFrames(fits);
        ClipToQueried();
        c.mov(r15, __qword_ptr[r12 + AgentLayout.QueryStruct + 40]); // r15 = protection: PROCMAP's bits are PROT's
        c.and(r15d, 7);
        QueriedIdentity();
        c.mov(Word(OwnWord.Identity), rax);

        ProtectOnM(1);
        c.test(rax, rax);
        c.jnz(fits);
        // Also waits for whoever holds the lock of the address space since before the range was protected, and writes to a page of it: /proc/PID/mem.
        MapAnonymous(LibC.PROT_READ | LibC.PROT_WRITE);
        c.cmp(rax, -4096);
        c.ja(fits);
        c.mov(rbp, rax); // rbp = D
        c.test(r15d, LibC.PROT_READ);
        c.jnz(readable);
        c.mov(rdi, r13);
        c.mov(rsi, r14);
        c.mov(edx, LibC.PROT_READ);
        Sys(SYS_mprotect);
        At(ref readable);

        CopyToD(fail);
        for (int word = 0; word < 8; word++)
            c.mov(__qword_ptr[r12 + AgentLayout.NonZero + 8 * word], 0);
        c.xor(r9d, r9d);
        At(ref next);
        c.cmp(r9, r14);
        c.je(copied);
        c.lea(rsi, __[rbp + r9]);
        c.call(_zeroTest);
        c.je(zero);
        c.mov(rax, r9);
        c.shr(rax, 12);
        c.bts(__qword_ptr[r12 + AgentLayout.NonZero], rax);
        At(ref zero);
        c.add(r9, 4096);
        c.jmp(next);

        At(ref copied);
        // V stands between two guard pages, so that it joins nothing where it is made: an area that has joined another keeps its old place's numbering.
        c.add(r14, 8192);
        MapAnonymous(LibC.PROT_NONE, asBefore: true);
        c.sub(r14, 8192);
        c.cmp(rax, -4096);
        c.ja(fail);
        c.lea(r9, __[rax + 4096]); // r9 = V
        // Where the program locks what it maps (MCL_FUTURE), the kernel would touch V as soon as it can be written.
        c.mov(rdi, r9);
        c.mov(rsi, r14);
        Sys(SYS_munlock);
        // Memory that could be written once is charged for, whatever its protection is by now, and V would not be if it lost that before it has pages. So it can be written until it is filled. What can be
        // executed can be from here on, for that might be refused then.
        c.mov(rdi, r9);
        c.mov(rsi, r14);
        c.mov(rdx, r15);
        c.or(edx, LibC.PROT_READ | LibC.PROT_WRITE);
        Sys(SYS_mprotect);
        c.test(rax, rax);
        c.jz(made);
        MapCodeAtOnce(dropV);
        At(ref made);
        Advise(r9, r14);
        LookAtName();
        NameAgain(r9, r14);
        OnRange(OwnWord.M, LibC.UFFDIO_REGISTER, r9, r14, (int)LibC.UFFDIO_REGISTER_MODE_MISSING);
        c.test(rax, rax);
        c.jnz(dropV);
        RegisterNeighbours();
        QueryFrames(dropV);
        c.mov(rcx, __qword_ptr[r12 + AgentLayout.QueryStruct + 40]);
        c.and(ecx, 7);
        c.mov(edx, r15d);
        c.test(r15d, LibC.PROT_READ);
        c.jnz(asItWas);
        c.mov(edx, LibC.PROT_READ); // made so above
        At(ref asItWas);
        c.cmp(ecx, edx);
        c.mov(eax, -Enoent);
        c.movsxd(rax, eax);
        c.jne(dropV);
        QueriedIdentity();
        c.cmp(rax, Word(OwnWord.Identity));
        c.mov(eax, -Enoent);
        c.movsxd(rax, eax);
        c.jne(dropV);
        c.mov(Shared(SharedWord.UnfilledStart), r13);
        c.lea(rax, __[r13 + r14]);
        c.mov(Shared(SharedWord.UnfilledEnd), rax);
        c.mov(rdi, r9);
        c.mov(rsi, r14);
        c.mov(rdx, r14);
        c.mov(r10d, 3);
        c.mov(r8, r13);
        Sys(SYS_mremap); // waits until the warden has read the event
        c.cmp(rax, r13);
        c.jne(dropV);
        c.lea(rdi, __[r9 - 4096]);
        c.mov(esi, 4096);
        Sys(SYS_munmap);
        c.lea(rdi, __[r9 + r14]);
        c.mov(esi, 4096);
        Sys(SYS_munmap);

        c.xor(r9d, r9d);
        At(ref fill);
        c.cmp(r9, r14);
        c.je(filled);
        c.mov(rax, r9);
        c.shr(rax, 12);
        c.bt(__qword_ptr[r12 + AgentLayout.NonZero], rax);
        c.jnc(skip);
        At(ref retry);
        c.lea(rax, __[r13 + r9]);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct], rax);
        c.lea(rax, __[rbp + r9]);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 8], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 16], 4096);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 24], 0);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 32], 0);
        c.mov(rdi, Word(OwnWord.M));
        c.mov(esi, unchecked((int)LibC.UFFDIO_COPY));
        c.lea(rdx, __[r12 + AgentLayout.ExecutorStruct]);
        Sys(SYS_ioctl);
        // EAGAIN: an event is pending, and the warden is about to read it. ENOMEM: there is no other place for this page; wait for memory.
        c.cmp(rax, -Eagain);
        c.je(retry);
        c.cmp(rax, -12);
        c.je(retry);
        // EEXIST: somebody has filled it who took it for discarded, and answered late (see LiveSpace.IsHandedOver). What is there is not the page: away with it.
        c.cmp(rax, -Eexist);
        c.jne(skip);
        c.lea(rdi, __[r13 + r9]);
        Discard(4096);
        c.test(rax, rax);
        c.jz(retry);
        At(ref skip);
        c.add(r9, 4096);
        c.jmp(fill);

        At(ref filled);
        c.cmp(r15d, LibC.PROT_READ | LibC.PROT_WRITE);
        c.je(asWanted);
        c.test(r15d, LibC.PROT_WRITE);
        c.jnz(charged);
        KeepCharge();
        At(ref charged);
        c.mov(rdi, r13);
        c.mov(rsi, r14);
        c.mov(rdx, r15);
        Sys(SYS_mprotect);
        c.cmp(rax, -Enomem); // it is one mapping, so it can want memory only: nobody may run before it is protected
        c.je(charged);
        At(ref asWanted);
        GuardAgain();
        UnregisterWithNeighbours();
        LockAgain();
        c.mov(__qword_ptr[rbx + DoneAt], r14);
        c.xor(eax, eax);
        c.jmp(done);
        At(ref dropV);
        c.push(rax);
        UnregisterNeighbour(OwnWord.LowNeighbour);
        UnregisterNeighbour(OwnWord.HighNeighbour);
        c.lea(rdi, __[r9 - 4096]);
        c.lea(rsi, __[r14 + 8192]);
        Sys(SYS_munmap);
        c.pop(rax);
        At(ref fail);
        c.push(rax);
        c.test(r15d, LibC.PROT_READ);
        c.jnz(asBefore);
        ProtectFramesAgain(asBefore);
        At(ref asBefore);
        c.pop(rax);
        At(ref done);
        c.push(rax);
        c.mov(Shared(SharedWord.UnfilledEnd), 0);
        OnRange(OwnWord.M, LibC.UFFDIO_WAKE, r13, r14);
        c.mov(rdi, rbp);
        c.mov(rsi, r14);
        Sys(SYS_munmap);
        c.pop(rax);
        At(ref fits);
        c.neg(rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        // What is not given back is protected no more: all of it, or what the program has parted since it was protected.
        c.mov(rcx, __qword_ptr[rbx + DoneAt]);
        c.mov(r14, __qword_ptr[rbx + LengthAt]);
        c.sub(r14, rcx);
        c.jbe(whole);
        c.add(r13, rcx);
        EndProtection();
        At(ref whole);
        Leave();
    }

    /// <summary>Has the memory at r13 stay charged when it can be written no more, also where all of its pages were discarded and none was filled in.</summary>
    /// <remarks>The kernel ends the charge where memory has no reverse map for pages of its own (anon_vma), which it has had where it was written before it was merged. It gets one with a page of zeros, which takes no memory and stays:
    /// thrown away again it might be a page by then that somebody has written by force (/proc/PID/mem). Whoever waits for it is woken at the end. A page that is there already stays (EEXIST), and has brought one.</remarks>
    private void KeepCharge()
    {
        Label again = c.CreateLabel();
        At(ref again);
        Range(Word(OwnWord.M), LibC.UFFDIO_ZEROPAGE, () =>
        {
            c.mov(rdx, r13);
            c.mov(r10d, 4096);
            c.mov(r8d, 1); // UFFDIO_ZEROPAGE_MODE_DONTWAKE
        });
        c.cmp(rax, -Eagain);
        c.je(again);
        c.cmp(rax, -Enomem);
        c.je(again);
    }

    /// <summary>Before the first of ebp operations: write-protects what those with <see cref="OperationFlags.Ask"/> give back, asks the daemon once which of them may go on, and takes the protection off the others. Keeps
    /// ebp.</summary>
    /// <remarks>The daemon may be gone, or not answer in time: then none goes on (EBUSY). An operation that cannot be protected does not either.</remarks>
    private void AskWhatMayGoOn()
    {
        Label protect = c.CreateLabel(), protectNext = c.CreateLabel(), cannot = c.CreateLabel(), ask = c.CreateLabel();
        Label again = c.CreateLabel(), answered = c.CreateLabel(), look = c.CreateLabel(), lookNext = c.CreateLabel(), mayNot = c.CreateLabel(), none = c.CreateLabel();
        c.push(rbp);
        c.xor(r15d, r15d); // r15 = how many ask
        c.lea(rbx, __[r12 + (SharedFromData + AgentLayout.OperationsAtShared)]);
        At(ref protect);
        c.test(ebp, ebp);
        c.jz(ask);
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.Ask);
        c.jz(protectNext);
        c.inc(r15d);
        c.mov(r13, __qword_ptr[rbx + AddressAt]);
        c.mov(r14, __qword_ptr[rbx + LengthAt]);
        QueryFrames(cannot);
        // An operation is for one mapping: what the program has parted since is done in part.
        ClipToQueried();
        c.mov(__qword_ptr[rbx + LengthAt], r14);
        ProtectOnM(1);
        c.test(rax, rax);
        c.jnz(cannot);
        // What is in swap is brought back: only what is present can be asked about. What cannot be read stays away.
        c.mov(rdi, r13);
        c.mov(rsi, r14);
        c.mov(edx, MADV_POPULATE_READ);
        Sys(SYS_madvise);
        c.jmp(protectNext);
        At(ref cannot);
        c.neg(rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        c.mov(__dword_ptr[rbx], (int)OperationKind.None);
        At(ref protectNext);
        c.add(rbx, OperationBytes);
        c.dec(ebp);
        c.jmp(protect);

        At(ref ask);
        c.test(r15d, r15d);
        c.jz(none);
        c.inc(Word(OwnWord.Questions));
        c.mov(r13d, __dword_ptr[r12 + (int)OwnWord.Questions]); // r13 = its number: an answer that comes too late must not be taken for another's
        c.mov(rax, r13);
        c.shl(rax, 32);
        c.or(rax, (int)AgentLayout.Asks);
        c.mov(Word(OwnWord.Doorbell), rax);
        Answer();
        c.xor(r15d, r15d); // r15 = 1: what is left as it was may go on
        BoundReads(AgentLayout.QuestionMilliseconds);
        At(ref again);
        ReadDoorbell();
        c.cmp(rax, -Eintr); // a read that has a bound does not begin again by itself
        c.je(again);
        c.cmp(rax, 8);
        c.jne(answered);
        c.cmp(__dword_ptr[r12 + (int)OwnWord.Doorbell + 4], r13d);
        c.jne(again);
        c.cmp(__dword_ptr[r12 + (int)OwnWord.Doorbell], (int)AgentLayout.MayGoOn);
        c.jne(answered);
        c.inc(r15d);
        At(ref answered);
        BoundReads(0);
        c.mov(Word(OwnWord.Doorbell), 0);
        c.mov(rbp, __qword_ptr[rsp]);
        c.lea(rbx, __[r12 + (SharedFromData + AgentLayout.OperationsAtShared)]);
        At(ref look);
        c.test(ebp, ebp);
        c.jz(none);
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.Ask);
        c.jz(lookNext);
        c.cmp(__dword_ptr[rbx], (int)OperationKind.None);
        c.je(mayNot);
        c.test(r15d, r15d);
        c.jnz(lookNext);
        c.mov(__dword_ptr[rbx], (int)OperationKind.None);
        c.mov(__qword_ptr[rbx + ErrorAt], Ebusy);
        At(ref mayNot);
        c.mov(r13, __qword_ptr[rbx + AddressAt]);
        c.mov(r14, __qword_ptr[rbx + LengthAt]);
        EndProtection();
        At(ref lookNext);
        c.add(rbx, OperationBytes);
        c.dec(ebp);
        c.jmp(look);
        At(ref none);
        c.pop(rbp);
    }

    /// <summary>A read of the doorbell waits for so long at most from here on; 0 for ever.</summary>
    /// <remarks>Not by poll(2): that refuses one descriptor more than a program has left itself by RLIMIT_NOFILE, which may be none.</remarks>
    private void BoundReads(int milliseconds)
    {
        const int SYS_setsockopt = 54, SOL_SOCKET = 1, SO_RCVTIMEO = 20, Timeval = 16;
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct], milliseconds / 1000);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 8], milliseconds % 1000 * 1000);
        c.mov(rdi, Word(OwnWord.ExecutorNear));
        c.mov(esi, SOL_SOCKET);
        c.mov(edx, SO_RCVTIMEO);
        c.lea(r10, __[r12 + AgentLayout.ExecutorStruct]);
        c.mov(r8d, Timeval);
        Sys(SYS_setsockopt);
    }

    /// <summary>Write-protects r14 bytes at r13, mappings of frames, or ends that: rax = 0 or an errno, negative.</summary>
    /// <param name="mode">1 to protect, 0 to end it.</param>
    private void ProtectOnM(int mode)
    {
        Label again = c.CreateLabel();
        At(ref again);
        OnRange(OwnWord.M, LibC.UFFDIO_WRITEPROTECT, r13, r14, mode);
        c.cmp(rax, -Eagain); // an event is pending, and the warden is about to read it
        c.je(again);
    }

    /// <summary>Ends the protection of r14 bytes at r13, and wakes who waits for that.</summary>
    private void EndProtection()
    {
        ProtectOnM(0);
        OnRange(OwnWord.M, LibC.UFFDIO_WAKE, r13, r14);
    }

    /// <summary>Asks for the mapping at r13, and jumps, with an errno in rax, unless it is one of frames.</summary>
    private void QueryFrames(Label otherwise)
    {
        Query(r13, 0);
        c.test(rax, rax);
        c.jnz(otherwise);
        CompareQueriedInode();
        c.mov(rax, -Enoent);
        c.jne(otherwise);
    }

    /// <summary>r14 = as many of its bytes at r13 as the mapping last asked for has.</summary>
    private void ClipToQueried()
    {
        c.mov(rcx, __qword_ptr[r12 + AgentLayout.QueryStruct + 32]);
        c.sub(rcx, r13);
        c.cmp(r14, rcx);
        c.cmova(r14, rcx);
    }

    /// <summary>rax = where the file of the mapping last asked for would begin: the same for all parts of one mapping, however it is split.</summary>
    private void QueriedIdentity()
    {
        c.mov(rax, __qword_ptr[r12 + AgentLayout.QueryStruct + 56]);
        c.sub(rax, __qword_ptr[r12 + AgentLayout.QueryStruct + 24]);
    }

    /// <summary>Registers one page of plain memory on either side like V.</summary>
    /// <remarks>Areas join only if they look the same when the first page is filled in: from then on they share one reverse map (anon_vma). So the
    /// page next door is made to look like V for that moment, V joins it, and when both are unregistered they join what lies behind.</remarks>
    private void RegisterNeighbours()
    {
        c.lea(rax, __[r13 - 4096]);
        c.mov(Word(OwnWord.LowNeighbour), rax);
        RegisterNeighbour(OwnWord.LowNeighbour);
        c.lea(rax, __[r13 + r14]);
        c.mov(Word(OwnWord.HighNeighbour), rax);
        RegisterNeighbour(OwnWord.HighNeighbour);
    }

    private void RegisterNeighbour(OwnWord word)
    {
        Label not = c.CreateLabel(), registered = c.CreateLabel();
        c.mov(rax, Word(word));
        c.push(rax);
        Query(rax, 0);
        c.test(rax, rax);
        c.pop(rax);
        c.jnz(not);
        c.cmp(__qword_ptr[r12 + AgentLayout.QueryStruct + 64], 0); // a file's, or a frame's
        c.jne(not);
        c.mov(rcx, __qword_ptr[r12 + AgentLayout.QueryStruct + 40]);
        c.and(ecx, 15);
        c.cmp(ecx, r15d);
        c.jne(not);
        Range(Word(OwnWord.M), LibC.UFFDIO_REGISTER, () =>
        {
            c.mov(rdx, Word(word));
            c.mov(r10d, 4096);
            c.mov(r8d, (int)LibC.UFFDIO_REGISTER_MODE_MISSING);
        });
        c.test(rax, rax);
        c.jz(registered);
        At(ref not);
        c.mov(Word(word), 0);
        At(ref registered);
    }

    private void UnregisterNeighbour(OwnWord word)
    {
        Label none = c.CreateLabel();
        c.cmp(Word(word), 0);
        c.je(none);
        Range(Word(OwnWord.M), LibC.UFFDIO_UNREGISTER, () =>
        {
            c.mov(rdx, Word(word));
            c.mov(r10d, 4096);
            c.xor(r8d, r8d);
        });
        At(ref none);
    }

    /// <summary>Unregisters the range at r13, r14, and its neighbours with it, as one: they join.</summary>
    private void UnregisterWithNeighbours()
    {
        Label low = c.CreateLabel(), high = c.CreateLabel();
        Range(Word(OwnWord.M), LibC.UFFDIO_UNREGISTER, () =>
        {
            c.mov(rdx, r13);
            c.lea(r10, __[r13 + r14]);
            c.cmp(Word(OwnWord.LowNeighbour), 0);
            c.je(low);
            c.sub(rdx, 4096);
            At(ref low);
            c.cmp(Word(OwnWord.HighNeighbour), 0);
            c.je(high);
            c.add(r10, 4096);
            At(ref high);
            c.sub(r10, rdx);
            c.xor(r8d, r8d);
        });
    }

    /// <summary>Maps r14 bytes of fresh memory wherever there is room. rax = address.</summary>
    /// <param name="protection">Its protection.</param>
    /// <param name="asBefore">Without reservation where the record at rbx says so.</param>
    private void MapAnonymous(int protection, bool asBefore = false)
    {
        c.xor(edi, edi);
        c.mov(rsi, r14);
        c.mov(edx, protection);
        c.mov(r10d, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS);
        if (asBefore)
            ReserveAsBefore();
        c.mov(r8, -1);
        c.xor(r9d, r9d);
        Sys(SYS_mmap);
    }
}
