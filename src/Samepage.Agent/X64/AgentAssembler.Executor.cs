using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>The executor: sets the agent up, then carries out batches of operations for a daemon, and waits for another when that is gone.</summary>
internal sealed partial class AgentAssembler
{
    /// <remarks>Steps:
    /// 1. Close every inherited descriptor: the table is a copy of the program's, and from here on the agent's own.
    /// 2. Make a socket pair and say so; the daemon takes an end with pidfd_getfd(2).
    /// 3. Receive over the other: a socket for each of our threads, of pairs that the daemon made, so that nobody here ever has its ends; the userfaultfd device,
    ///    the pool, /proc/PID/maps, what guards the pool's frames for as long as it is open (see FrameGuards), the memory that the daemon shares, /proc/PID/stat
    ///    (see Alone), and for a forked child the M that it inherited.
    /// 4. Make T, and M where none was inherited; close the device. Map the memory, and publish there what the daemon is to know. Answer: the daemon takes
    ///    copies of T and M, and shakes hands on them. What fails is answered too, as an errno, negative.
    /// 5. On the daemon's word, clone the warden, which shares this descriptor table.
    /// 6. Wait for a doorbell; end of file means that the daemon is gone.
    ///    A batch that those before the gate have called off (see Gate) is answered, and not carried out.
    /// 7. Then open the gate, and make a socket pair for whoever takes over, who sends two sockets: 6 again. Nothing is given back meanwhile, because that
    ///    wants the program's threads held, and nothing need be: the warden answers every fault, so all is as right as before.
    /// </remarks>
    private void ExecutorMain()
    {
        Label wait = c.CreateLabel(), orphaned = c.CreateLabel(), failed = c.CreateLabel(), exit = c.CreateLabel(), haveM = c.CreateLabel();
        Label run = c.CreateLabel(), locked = c.CreateLabel(), next = c.CreateLabel(), answer = c.CreateLabel(), merge = c.CreateLabel(), zero = c.CreateLabel(), join = c.CreateLabel(), counted = c.CreateLabel();
        Label warden = c.CreateLabel(), unnoticed = c.CreateLabel(), socket = c.CreateLabel(), made = c.CreateLabel(), later = c.CreateLabel();
        Label answered = c.CreateLabel(), unhurried = c.CreateLabel(), noticed = c.CreateLabel(), cut = c.CreateLabel();

        At(ref _executorMain);
        c.cld();
        c.mov(r12, _base + AgentLayout.DataOffset);
        Sys(SYS_gettid);
        c.mov(Word(OwnWord.ExecutorTid), rax);
        MapAsAsked();
        c.xor(edi, edi);
        c.mov(esi, -1);
        c.xor(edx, edx);
        Sys(SYS_close_range);
        SocketPair(OwnWord.ExecutorFar, OwnWord.ExecutorNear, failed);
        c.mov(__qword_ptr[r12 + (int)OwnWord.State], (int)AgentLayout.StateSocket);
        Receive(exit);
        TakeSockets();
        TakeDescriptors(exit);
        NewUserfaultfd(OwnWord.T, failed);
        c.mov(rax, Word(OwnWord.T));
        c.mov(Word(OwnWord.MovesOn), rax);
        c.cmp(Word(OwnWord.InheritedM), 0);
        c.jne(haveM);
        NewUserfaultfd(OwnWord.M, failed);
        At(ref haveM);
        Close(OwnWord.DeviceFd);
        MapShared(failed);
        Publish(SharedWord.ExecutorTid, SharedWord.T, SharedWord.M, SharedWord.PoolFd, SharedWord.GuardFd);
        c.mov(Shared(SharedWord.State), (int)AgentLayout.StateReady);
        c.mov(Word(OwnWord.State), (int)AgentLayout.StateReady);
        c.mov(Word(OwnWord.Doorbell), 0);
        Answer();
        ReadDoorbell();
        c.cmp(rax, 8);
        c.jne(exit);
        // X belongs to T, or nothing could be moved there. Not with MISSING: a page that the program has said it does not need (MADV_FREE) may be dropped there, too, before it was
        // compared or given back. Then it reads as zeros, as it might where it came from, and the executor does not wait for itself.
        Range(Word(OwnWord.T), LibC.UFFDIO_REGISTER, () =>
        {
            c.lea(rdx, __[r12 + (AgentLayout.ScratchOffset - AgentLayout.DataOffset)]);
            c.mov(r10d, AgentLayout.ScratchBytes);
            c.mov(r8d, (int)LibC.UFFDIO_REGISTER_MODE_WP);
        });
        c.test(rax, rax);
        c.jnz(failed);
        PrepareWarden(failed);
        CloneThread(CLONE_FILES, AgentLayout.WardenStackTop);
        c.test(rax, rax);
        c.jz(warden);
        c.js(failed); // nothing fails behind this: a warden would be left alone
        c.mov(Shared(SharedWord.WardenTid), rax);
        Answer();

        At(ref wait);
        ReadDoorbell();
        c.cmp(rax, 8);
        c.jne(orphaned);
        c.mov(rax, Word(OwnWord.Doorbell));
        c.cmp(eax, (int)AgentLayout.DoorbellLeave);
        c.je(exit);
        c.cmp(eax, (int)AgentLayout.DoorbellRun);
        c.jne(wait); // an answer that comes too late

        // The doorbell's upper half says how many operations wait.
        At(ref run);
        c.mov(rbp, rax);
        c.shr(rbp, 32);
        c.mov(eax, AgentLayout.BatchAsked);
        c.mov(ecx, AgentLayout.BatchRunning);
        c.@lock.cmpxchg(BatchWord, ecx);
        c.jne(answered); // those who stood before the gate have gone on without it
        LookForLocks();
        AskWhatMayGoOn();
        c.lea(rbx, __[r12 + (SharedFromData + AgentLayout.OperationsAtShared)]);
        At(ref next);
        c.test(ebp, ebp);
        c.jz(answer);
        c.mov(eax, __dword_ptr[rbx]);
        c.test(eax, eax); // OperationKind.None
        c.jz(counted);
        c.mov(__qword_ptr[rbx + ErrorAt], 0);
        c.mov(__qword_ptr[rbx + DoneAt], 0);
        c.cmp(eax, (int)OperationKind.Merge);
        c.je(merge);
        c.cmp(eax, (int)OperationKind.Zero);
        c.je(zero);
        c.mov(Word(OwnWord.Unmerging), 1);
        c.cmp(eax, (int)OperationKind.Join);
        c.je(join);
        c.call(_unmerge);
        c.jmp(counted);
        At(ref join);
        c.call(_join);
        c.jmp(counted);
        At(ref merge);
        c.cmp(Shared(SharedWord.LocksFuture), 0);
        c.jne(locked);
        c.call(_merge);
        c.jmp(counted);
        At(ref locked);
        c.mov(__qword_ptr[rbx + ErrorAt], Enomem);
        c.jmp(counted);
        At(ref zero);
        c.call(_zero);
        At(ref counted);
        c.add(rbx, OperationBytes);
        c.dec(ebp);
        c.jmp(next);
        At(ref answer);
        c.mov(Word(OwnWord.Unmerging), 0);
        c.xor(eax, eax);
        c.xchg(BatchWord, eax);
        c.cmp(eax, AgentLayout.BatchAwaited);
        c.jne(answered);
        OpenGate();
        At(ref answered);
        Answer();
        // What was merged is thrown away behind the answer, when the program runs again already.
        c.cmp(Word(OwnWord.ScratchUsed), 0);
        c.je(wait);
        c.mov(Word(OwnWord.ScratchUsed), 0);
        c.lea(rdi, __[r12 + (AgentLayout.ScratchOffset - AgentLayout.DataOffset)]);
        Discard(AgentLayout.ScratchBytes);
        c.jmp(wait);

        // The daemon is gone. Its socket to the warden ended in the same moment; both must have noticed before there can be new ones.
        At(ref orphaned);
        c.mov(Shared(SharedWord.Batch), AgentLayout.BatchNone);
        OpenGate();
        c.cmp(Shared(SharedWord.Hurried), 0);
        c.je(unhurried);
        c.mov(Shared(SharedWord.Hurried), 0);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct], 0);
        c.xor(edi, edi);
        c.mov(esi, LibC.SCHED_OTHER | LibC.SCHED_RESET_ON_FORK); // without CAP_SYS_NICE the flag cannot be taken back
        c.lea(rdx, __[r12 + AgentLayout.ExecutorStruct]);
        Sys(SYS_sched_setscheduler);
        At(ref unhurried);
        At(ref unnoticed);
        Pause(1);
        c.cmp(Word(OwnWord.Orphaned), 0);
        c.je(unnoticed);
        Close(OwnWord.ExecutorNear);
        Close(OwnWord.WardenNear);
        c.jmp(socket);
        At(ref later); // no memory at the moment
        Pause(100);
        At(ref socket);
        SocketPair(OwnWord.ExecutorFar, OwnWord.ExecutorNear, later);
        Publish(SharedWord.ExecutorFar);
        c.mov(Shared(SharedWord.State), (int)AgentLayout.StateOrphaned);
        // The far end is in this table too, so the wait ends only by a message from whoever has taken a copy of it.
        At(ref made);
        Receive(cut);
        c.cmp(__qword_ptr[r12 + AgentLayout.MessageControl], 16 + 4 * AgentLayout.Sockets);
        c.jne(made);
        TakeSockets();
        // Before the warden looks at its socket, which may be at its end again. One that has left notices nothing any more.
        c.cmp(Word(OwnWord.Orphaned), 1);
        c.jne(noticed);
        c.mov(Word(OwnWord.Orphaned), 0);
        At(ref noticed);
        WatchDoorbell();
        c.mov(Shared(SharedWord.State), (int)AgentLayout.StateReady);
        Answer();
        c.jmp(wait);
        // Somebody has ended the pair: nobody can send anything over it any more.
        At(ref cut);
        c.test(rax, rax);
        c.jnz(made);
        Close(OwnWord.ExecutorFar);
        Close(OwnWord.ExecutorNear);
        c.jmp(later);

        At(ref exit);
        c.mov(Word(OwnWord.ExecutorLeft), 1);
        c.xor(edi, edi);
        Sys(SYS_exit);
        At(ref failed);
        c.mov(Word(OwnWord.State), rax);
        c.mov(Word(OwnWord.Doorbell), rax);
        Answer();
        c.jmp(exit);
        At(ref warden);
        c.jmp(_wardenMain);
    }

    /// <summary>Ends READ_IMPLIES_EXEC for the agent's threads, where the program has set it, personality(2): what they map is then what they ask for, and so is what the borrowed
    /// thread mapped for them. A personality is a thread's own.</summary>
    /// <remarks>X could be executed otherwise, and the kernel moves pages only between areas of one protection.</remarks>
    private void MapAsAsked()
    {
        const int ReadImpliesExec = 0x0400000;
        Label exact = c.CreateLabel();
        c.mov(edi, -1);
        Sys(SYS_personality);
        c.test(eax, ReadImpliesExec);
        c.jz(exact);
        c.and(eax, ~ReadImpliesExec);
        c.mov(edi, eax);
        Sys(SYS_personality);
        c.mov(rdi, r12);
        c.mov(esi, AgentLayout.Size - AgentLayout.DataOffset);
        c.mov(edx, LibC.PROT_READ | LibC.PROT_WRITE);
        Sys(SYS_mprotect);
        At(ref exact);
    }

    /// <summary>Sees whether the program has asked that all that is mapped from now on be locked, mlockall(2) with MCL_FUTURE: then what we put in its place would be, and its
    /// own MADV_DONTNEED would fail there. Nothing shows that but a mapping.</summary>
    private void LookForLocks()
    {
        Label none = c.CreateLabel();
        c.mov(r14d, 4096);
        MapAnonymous(LibC.PROT_NONE);
        c.mov(Shared(SharedWord.LocksFuture), 0);
        c.cmp(rax, -4096);
        c.ja(none);
        c.mov(r13, rax);
        c.mov(rdi, r13);
        c.mov(rsi, r14);
        c.mov(edx, MADV_DONTNEED); // EINVAL on locked memory
        Sys(SYS_madvise);
        c.mov(Shared(SharedWord.LocksFuture), rax);
        c.mov(rdi, r13);
        c.mov(rsi, r14);
        Sys(SYS_munmap);
        At(ref none);
    }

    /// <summary>Fills the warden's table before there is a warden: from the first moment on its entries mean what they say to whoever reads them.</summary>
    private void PrepareWarden(Label failed)
    {
        Label clear = c.CreateLabel();
        c.xor(ecx, ecx);
        At(ref clear);
        c.mov(__dword_ptr[r12 + rcx * 8 + (SharedFromData + AgentLayout.Children)], -1);
        c.inc(ecx);
        c.cmp(ecx, AgentLayout.MaxChildren);
        c.jb(clear);
        c.mov(__qword_ptr[r12 + (int)OwnWord.FreeSlots], AgentLayout.MaxChildren);
        c.mov(rax, Word(OwnWord.M));
        c.mov(__dword_ptr[r12 + (SharedFromData + AgentLayout.WardenTable)], eax);
        c.mov(edi, LibC.O_CLOEXEC);
        Sys(SYS_epoll_create1);
        c.test(rax, rax);
        c.js(failed);
        c.mov(Word(OwnWord.EpollFd), rax);
        c.lea(rdx, __[r12 + (SharedFromData + AgentLayout.WardenTable)]);
        c.mov(rsi, Word(OwnWord.M));
        Watch();
        c.test(rax, rax);
        c.js(failed);
        WatchDoorbell();
        c.test(rax, rax);
        c.js(failed);
    }

    /// <summary>The warden hears of whatever comes over descriptor esi; rdx = its entry in the table, 0 for the doorbell. rax = 0 or an errno, negative.</summary>
    private void Watch()
    {
        c.mov(__dword_ptr[r12 + AgentLayout.EpollEvent], LibC.POLLIN);
        c.mov(__qword_ptr[r12 + AgentLayout.EpollEvent + 4], rdx);
        c.mov(edx, esi);
        c.mov(esi, 1); // EPOLL_CTL_ADD
        c.mov(rdi, Word(OwnWord.EpollFd));
        c.lea(r10, __[r12 + AgentLayout.EpollEvent]);
        Sys(SYS_epoll_ctl);
    }

    private void WatchDoorbell()
    {
        c.xor(edx, edx);
        c.mov(rsi, Word(OwnWord.WardenNear));
        Watch();
    }

    private void SocketPair(OwnWord far, OwnWord near, Label failed)
    {
        c.mov(edi, 1); // AF_UNIX
        c.mov(esi, 5 | LibC.O_CLOEXEC); // SOCK_SEQPACKET
        c.xor(edx, edx);
        c.lea(r10, __[r12 + AgentLayout.SocketPair]);
        Sys(SYS_socketpair);
        c.test(rax, rax);
        c.js(failed);
        c.mov(eax, __dword_ptr[r12 + AgentLayout.SocketPair]);
        c.mov(Word(far), rax);
        c.mov(eax, __dword_ptr[r12 + AgentLayout.SocketPair + 4]);
        c.mov(Word(near), rax);
    }

    private void Close(OwnWord word)
    {
        c.mov(rdi, Word(word));
        Sys(SYS_close);
    }

    private void Pause(int milliseconds)
    {
        c.xor(edi, edi);
        c.xor(esi, esi);
        c.mov(edx, milliseconds);
        Sys(SYS_poll);
    }

    /// <summary>Puts the shared memory in its place, and lets no child have it and no core dump. Its descriptor is not needed any more then.</summary>
    private void MapShared(Label failed)
    {
        Label mapped = c.CreateLabel();
        c.mov(rdi, _base + AgentLayout.SharedOffset);
        c.mov(esi, AgentLayout.SharedBytes);
        c.mov(edx, LibC.PROT_READ | LibC.PROT_WRITE);
        c.mov(r10d, LibC.MAP_SHARED | LibC.MAP_FIXED);
        c.mov(r8, Word(OwnWord.WordsFd));
        c.xor(r9d, r9d);
        Sys(SYS_mmap);
        c.cmp(rax, -4096);
        c.jbe(mapped);
        c.jmp(failed);
        At(ref mapped);
        Madvise(_base + AgentLayout.SharedOffset, AgentLayout.SharedBytes, 10); // MADV_DONTFORK
        Madvise(_base + AgentLayout.SharedOffset, AgentLayout.SharedBytes, 16); // MADV_DONTDUMP
        Close(OwnWord.WordsFd);
    }

    private void Publish(params ReadOnlySpan<SharedWord> words)
    {
        foreach (SharedWord word in words)
        {
            c.mov(rax, Word((OwnWord)word));
            c.mov(Shared(word), rax);
        }
    }

    /// <summary>recvmsg(2): goes on with a word and descriptors in MessageControl.</summary>
    private void Receive(Label otherwise)
    {
        c.lea(rax, __[r12 + AgentLayout.MessagePayload]);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageVector], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageVector + 8], 8);
        c.mov(__qword_ptr[r12 + AgentLayout.Message], 0);
        c.mov(__qword_ptr[r12 + AgentLayout.Message + 8], 0);
        c.lea(rax, __[r12 + AgentLayout.MessageVector]);
        c.mov(__qword_ptr[r12 + AgentLayout.Message + 16], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.Message + 24], 1);
        c.lea(rax, __[r12 + AgentLayout.MessageControl]);
        c.mov(__qword_ptr[r12 + AgentLayout.Message + 32], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.Message + 40], AgentLayout.MessageControlBytes);
        c.mov(__qword_ptr[r12 + AgentLayout.Message + 48], 0);
        c.mov(__qword_ptr[r12 + AgentLayout.MessageControl], 0);
        c.mov(rdi, Word(OwnWord.ExecutorNear));
        c.lea(rsi, __[r12 + AgentLayout.Message]);
        c.mov(edx, 0x40000000); // MSG_CMSG_CLOEXEC
        Sys(SYS_recvmsg);
        c.cmp(rax, 8);
        c.jne(otherwise);
    }

    /// <summary>The first two descriptors take the place of the pair over which they came.</summary>
    private void TakeSockets()
    {
        Close(OwnWord.ExecutorFar);
        Close(OwnWord.ExecutorNear);
        TakeDescriptor(0, OwnWord.ExecutorNear);
        TakeDescriptor(1, OwnWord.WardenNear);
    }

    /// <summary>The descriptors behind the sockets. Spares are closed at once: what is made later must not need a number that the program's bound (RLIMIT_NOFILE) may forbid by then, because low ones are taken for good.</summary>
    private void TakeDescriptors(Label otherwise)
    {
        Label own = c.CreateLabel(), noSpares = c.CreateLabel();
        int taken = AgentLayout.Sockets;
        // All that were sent, or the agent goes: without the last of them it would not guard frames, or would take another descriptor for its M.
        c.mov(eax, __dword_ptr[r12 + AgentLayout.MessagePayload + 4]);
        c.lea(rax, __[rax * 4 + 16]);
        c.cmp(__qword_ptr[r12 + AgentLayout.MessageControl], rax);
        c.jne(otherwise);
        foreach (OwnWord word in (ReadOnlySpan<OwnWord>)[OwnWord.DeviceFd, OwnWord.PoolFd, OwnWord.MapsFd, OwnWord.GuardFd, OwnWord.WordsFd, OwnWord.StatFd])
            TakeDescriptor(taken++, word);
        c.mov(ebp, taken);
        c.test(__dword_ptr[r12 + AgentLayout.MessagePayload], (int)AgentLayout.HandedSpares);
        c.jz(noSpares);
        for (int spare = 0; spare < AgentLayout.Spares; spare++)
        {
            c.mov(edi, __dword_ptr[r12 + AgentLayout.MessageControl + 16 + 4 * taken++]);
            Sys(SYS_close);
        }

        c.mov(ebp, taken);
        At(ref noSpares);
        c.test(__dword_ptr[r12 + AgentLayout.MessagePayload], (int)AgentLayout.HandedInherited);
        c.jz(own);
        c.mov(ecx, __dword_ptr[r12 + rbp * 4 + AgentLayout.MessageControl + 16]);
        c.mov(Word(OwnWord.M), rcx);
        c.mov(Word(OwnWord.InheritedM), 1);
        At(ref own);
    }

    private void TakeDescriptor(int index, OwnWord word)
    {
        c.mov(ecx, __dword_ptr[r12 + AgentLayout.MessageControl + 16 + 4 * index]);
        c.mov(Word(word), rcx);
    }

    private void NewUserfaultfd(OwnWord word, Label failed)
    {
        c.mov(rdi, Word(OwnWord.DeviceFd));
        c.mov(esi, (int)LibC.USERFAULTFD_IOC_NEW);
        c.mov(edx, LibC.O_CLOEXEC | LibC.O_NONBLOCK);
        Sys(SYS_ioctl);
        c.test(rax, rax);
        c.js(failed);
        c.mov(Word(word), rax);
    }

    private void ReadDoorbell()
    {
        c.mov(rdi, Word(OwnWord.ExecutorNear));
        c.lea(rsi, __[r12 + (int)OwnWord.Doorbell]);
        c.mov(edx, 8);
        Sys(SYS_read);
    }

    private void Answer()
    {
        c.mov(rdi, Word(OwnWord.ExecutorNear));
        c.lea(rsi, __[r12 + (int)OwnWord.Doorbell]);
        c.mov(edx, 8);
        c.mov(r10d, 0x4000); // MSG_NOSIGNAL: a dead daemon is an error here, never a signal
        c.xor(r8d, r8d);
        c.xor(r9d, r9d);
        Sys(44); // sendto
    }

    /// <summary>PROCMAP_QUERY at <paramref name="address"/>; rax = 0 or an errno, negative. Destroys rdi, rsi, rdx, r10, r8.</summary>
    /// <param name="address">An address in it.</param>
    /// <param name="flags">Of the query.</param>
    /// <param name="named">Ask for its name, too: see <see cref="AgentLayout.Name"/>.</param>
    private void Query(AssemblerRegister64 address, int flags, bool named = false)
    {
        c.lea(rdx, __[r12 + AgentLayout.QueryStruct]);
        for (int word = 0; word < 13; word++)
            c.mov(__qword_ptr[rdx + 8 * word], 0);
        c.mov(__qword_ptr[rdx], 104);
        c.mov(__qword_ptr[rdx + 8], flags);
        c.mov(__qword_ptr[rdx + 16], address);
        if (named)
        {
            c.mov(__dword_ptr[rdx + 80], AgentLayout.NameBytes);
            c.lea(rdi, __[r12 + AgentLayout.Name]);
            c.mov(__qword_ptr[rdx + 88], rdi);
        }

        c.mov(rdi, Word(OwnWord.MapsFd));
        c.mov(esi, unchecked((int)LibC.PROCMAP_QUERY));
        Sys(SYS_ioctl);
    }

    /// <summary>ZF set when the mapping last asked for is the pool's.</summary>
    private void CompareQueriedInode()
    {
        Label different = c.CreateLabel();
        c.mov(rax, __qword_ptr[r12 + AgentLayout.QueryStruct + 64]);
        c.cmp(rax, Word(OwnWord.PoolInode));
        c.jne(different);
        c.mov(rax, __qword_ptr[r12 + AgentLayout.QueryStruct + 72]);
        c.cmp(rax, Word(OwnWord.PoolDevice));
        At(ref different);
    }
}
