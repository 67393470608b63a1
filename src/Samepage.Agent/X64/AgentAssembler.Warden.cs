using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>The warden: reads the events of M, and of the Ms of forked children, and answers them. It needs nobody outside the target.</summary>
/// <remarks>
/// <para>A mapping of frames has every page-table entry when it comes into place, the pool's pages are unevictable, and no huge page can be made of them, so a
/// missing entry means one of two things: the program discarded the page, or it made the mapping grow (mremap), over frames that are somebody else's or
/// that nobody has written yet. Either must read as zeros from now on. So the answer to a MINOR fault, and to a MISSING one, is always
/// a zero page; no event has to announce the discard, and no table of discarded pages can be wrong. Children get their parent's entries
/// copied, because their mappings are registered with WP, so the same holds for them.</para>
/// <para>It never waits for the executor, for a lock, or for memory of the target: mremap and fork in the program wait for this loop.</para>
/// <para>It waits by epoll(7), because poll(2) refuses more entries than RLIMIT_NOFILE, which the program may have lowered to nothing. To read the event of a fork wants
/// a descriptor, and a slot in the table. Where it has neither it leaves the event where it is, and asks the daemon, which reads it over its own copy of the
/// descriptor and watches that child itself; the fork waits as long.</para>
/// </remarks>
internal sealed partial class AgentAssembler
{
    private void WardenMain()
    {
        Label loop = c.CreateLabel(), wait = c.CreateLabel(), next = c.CreateLabel(), events = c.CreateLabel(), doorbell = c.CreateLabel();
        Label orphan = c.CreateLabel(), closeChild = c.CreateLabel(), serve = c.CreateLabel(), exit = c.CreateLabel();
        Label sweep = c.CreateLabel(), swept = c.CreateLabel(), some = c.CreateLabel();
        Label last = c.CreateLabel(), look = c.CreateLabel(), looked = c.CreateLabel(), yield = c.CreateLabel(), alone = c.CreateLabel();

        At(ref _wardenMain);
        c.mov(r12, _base + AgentLayout.DataOffset);
        // While the executor unmerges, every operation waits for one event to be read: sleeping in between would cost more than all the rest.
        At(ref loop);
        c.xor(r10d, r10d);
        c.cmp(Word(OwnWord.Unmerging), 0);
        c.jne(wait);
        c.mov(r10d, AgentLayout.LeaderlessMilliseconds);
        c.cmp(Word(OwnWord.Leaderless), 0);
        c.jne(wait);
        c.mov(r10d, AgentLayout.OrphanedMilliseconds);
        c.cmp(Word(OwnWord.Orphaned), 0);
        c.jne(wait);
        c.mov(r10d, AgentLayout.RestMilliseconds);
        At(ref wait);
        c.mov(rdi, Word(OwnWord.EpollFd));
        c.lea(rsi, __[r12 + AgentLayout.EpollEvents]);
        c.mov(edx, AgentLayout.MaxEpollEvents);
        Sys(SYS_epoll_wait);
        c.mov(r13, rax);
        c.test(rax, rax);
        c.jg(some);
        c.cmp(Word(OwnWord.Unmerging), 0);
        c.jne(yield);
        c.mov(Word(OwnWord.LookAlone), 1);
        At(ref yield);
        Sys(24); // sched_yield
        At(ref some);
        c.lea(r14, __[r12 + AgentLayout.EpollEvents]);
        At(ref next);
        c.test(r13, r13);
        c.jle(events);
        c.mov(rbx, __qword_ptr[r14 + 4]);
        c.add(r14, 12);
        c.dec(r13);
        c.test(rbx, rbx);
        c.jz(doorbell);
        c.cmp(rbx, AgentLayout.LastThreadEntry);
        c.je(last);
        c.call(serve);
        c.jmp(next);

        At(ref doorbell);
        c.mov(rdi, Word(OwnWord.WardenNear));
        c.lea(rsi, __[r12 + (int)OwnWord.WardenDoorbell]);
        c.mov(edx, 8);
        Sys(SYS_read);
        c.cmp(rax, 8);
        c.jne(orphan);
        c.mov(rax, Word(OwnWord.WardenDoorbell));
        c.cmp(eax, (int)AgentLayout.DoorbellLeave);
        c.je(exit);
        c.cmp(eax, (int)AgentLayout.DoorbellLook);
        c.je(look);
        c.mov(rcx, rax);
        c.shr(rcx, 32);
        c.sub(eax, (int)AgentLayout.DoorbellCloseChild);
        c.jc(next);
        c.mov(ebx, eax);
        c.lea(rbx, __[r12 + rbx * 8 + (SharedFromData + AgentLayout.Children)]);
        // The slot may be another child's by now: what was asked for twice is done once.
        c.cmp(ecx, __dword_ptr[rbx + 4]);
        c.jne(next);
        c.call(closeChild);
        c.jmp(next);
        At(ref orphan);
        c.mov(rdx, Word(OwnWord.WardenNear));
        Unwatch();
        c.mov(Word(OwnWord.Orphaned), 1);
        c.jmp(next);

        At(ref last);
        c.mov(rdx, Word(OwnWord.LastFd));
        Unwatch();
        c.mov(Word(OwnWord.LastEnded), 1);
        At(ref look);
        c.mov(Word(OwnWord.LookAlone), 1);
        c.jmp(next);

        At(ref events);
        c.cmp(Word(OwnWord.LookAlone), 0);
        c.je(looked);
        c.mov(Word(OwnWord.LookAlone), 0);
        c.call(alone);
        At(ref looked);
        c.cmp(Word(OwnWord.Orphaned), 0);
        c.je(loop);
        // Orphaned: nobody else closes what belongs to dead children.
        c.lea(rbx, __[r12 + (SharedFromData + AgentLayout.Children)]);
        c.mov(ebp, AgentLayout.MaxChildren);
        At(ref sweep);
        c.cmp(__dword_ptr[rbx], 0);
        c.jl(swept);
        c.mov(rax, Samepage.Linux.Userfault.Userfaultfd.NothingThere);
        c.mov(__qword_ptr[r12 + AgentLayout.WardenMessage + 16], rax);
        WardenRange(LibC.UFFDIO_ZEROPAGE);
        c.cmp(rax, -Esrch);
        c.jne(swept);
        c.call(closeChild);
        At(ref swept);
        c.add(rbx, 8);
        c.dec(ebp);
        c.jnz(sweep);
        c.jmp(loop);
        // An executor whose daemon dies now, or any later one, waits for nobody.
        At(ref exit);
        c.mov(Word(OwnWord.Orphaned), 2);
        c.xor(edi, edi);
        Sys(SYS_exit);

        Alone(alone);
        CloseChild(closeChild);
        Serve(serve);
    }

    /// <summary>closeChild: rbx = its entry. The descriptor has copies elsewhere, so it does not stop being watched by being closed here.</summary>
    private void CloseChild(Label closeChild)
    {
        Label closed = c.CreateLabel();
        At(ref closeChild);
        c.movsxd(rdx, __dword_ptr[rbx]);
        c.test(edx, edx);
        c.js(closed);
        c.push(rdx);
        Unwatch();
        c.pop(rdi);
        Sys(SYS_close);
        c.mov(__dword_ptr[rbx], -1);
        c.inc(Word(OwnWord.FreeSlots));
        At(ref closed);
        c.ret();
    }

    /// <summary>The warden hears no more of descriptor edx.</summary>
    private void Unwatch()
    {
        c.mov(rdi, Word(OwnWord.EpollFd));
        c.mov(esi, 2); // EPOLL_CTL_DEL
        c.xor(r10d, r10d);
        Sys(SYS_epoll_ctl);
    }

    /// <summary>serve: rbx = an entry of the table: reads what has come over its descriptor, and answers. Keeps r12–r14.</summary>
    private void Serve(Label serve)
    {
        Label read = c.CreateLabel(), minor = c.CreateLabel(), wake = c.CreateLabel(), fork = c.CreateLabel(), find = c.CreateLabel(), found = c.CreateLabel();
        Label protectedPage = c.CreateLabel(), help = c.CreateLabel(), got = c.CreateLabel(), done = c.CreateLabel();
        At(ref serve);
        At(ref read);
        c.cmp(Word(OwnWord.FreeSlots), 0);
        c.je(help);
        c.movsxd(rdi, __dword_ptr[rbx]);
        c.lea(rsi, __[r12 + AgentLayout.WardenMessage]);
        c.mov(edx, 32);
        Sys(SYS_read);
        c.cmp(rax, 32);
        c.je(got);
        c.cmp(rax, -Emfile);
        c.je(help);
        c.cmp(rax, -Enfile);
        c.je(help);
        c.cmp(rax, -Enomem);
        c.je(help);
        At(ref done);
        c.ret();

        At(ref help);
        c.mov(Shared(SharedWord.WantsHelp), 1);
        TellDaemon();
        Pause(1);
        c.ret();

        At(ref got);
        c.movzx(eax, __byte_ptr[r12 + AgentLayout.WardenMessage]);
        c.cmp(eax, LibC.UFFD_EVENT_FORK);
        c.je(fork);
        c.cmp(eax, LibC.UFFD_EVENT_PAGEFAULT);
        c.jne(read); // REMAP: to have read it is all
        c.test(__qword_ptr[r12 + AgentLayout.WardenMessage + 8], (int)LibC.UFFD_PAGEFAULT_FLAG_WP);
        c.jnz(protectedPage);
        c.test(__qword_ptr[r12 + AgentLayout.WardenMessage + 8], (int)LibC.UFFD_PAGEFAULT_FLAG_MINOR);
        c.jnz(minor);
        // MISSING, where an unmerge has put fresh memory and not filled it yet: it fills it, and wakes the thread.
        c.mov(rax, __qword_ptr[r12 + AgentLayout.WardenMessage + 16]);
        c.cmp(rax, Shared(SharedWord.UnfilledStart));
        c.jb(minor);
        c.cmp(rax, Shared(SharedWord.UnfilledEnd));
        c.jae(minor);
        c.lea(rax, __[r12 + (SharedFromData + AgentLayout.WardenTable)]);
        c.cmp(rbx, rax);
        c.je(read);
        At(ref minor);
        WardenRange(LibC.UFFDIO_ZEROPAGE);
        c.test(rax, rax);
        c.jz(read);
        // EEXIST: a page is there by now; or a marker is, which says that a page not there is write-protected (an unmerge is under way). A copy of
        // zeros may take a marker's place, a zero page may not; it comes write-protected, as the marker says.
        c.cmp(rax, -17);
        c.jne(wake);
        c.mov(rax, __qword_ptr[r12 + AgentLayout.WardenMessage + 16]);
        c.and(rax, -4096);
        c.mov(__qword_ptr[r12 + AgentLayout.WardenStruct], rax);
        c.lea(rax, __[r12 + AgentLayout.ZeroPageOffset]);
        c.mov(__qword_ptr[r12 + AgentLayout.WardenStruct + 8], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.WardenStruct + 16], 4096);
        c.mov(__qword_ptr[r12 + AgentLayout.WardenStruct + 24], 2); // UFFDIO_COPY_MODE_WP
        c.mov(__qword_ptr[r12 + AgentLayout.WardenStruct + 32], 0);
        c.movsxd(rdi, __dword_ptr[rbx]);
        c.mov(esi, unchecked((int)LibC.UFFDIO_COPY));
        c.lea(rdx, __[r12 + AgentLayout.WardenStruct]);
        Sys(SYS_ioctl);
        // Otherwise, and for EAGAIN (an event is pending: read it first) and ENOENT: the thread tries again, and faults again if it must.
        At(ref wake);
        WardenRange(LibC.UFFDIO_WAKE);
        c.jmp(read);

        // WP: an unmerge is under way, and its end wakes the thread. A child that was forked in the middle of one brought the
        // protection along, and nothing will end it there but this.
        At(ref protectedPage);
        c.lea(rax, __[r12 + (SharedFromData + AgentLayout.WardenTable)]);
        c.cmp(rbx, rax);
        c.je(read);
        WardenRange(LibC.UFFDIO_WRITEPROTECT);
        c.jmp(wake);

        At(ref fork);
        c.lea(rdx, __[r12 + (SharedFromData + AgentLayout.Children)]);
        At(ref find);
        c.cmp(__dword_ptr[rdx], 0);
        c.jl(found);
        c.add(rdx, 8);
        c.jmp(find); // there is one: FreeSlots said so
        At(ref found);
        c.dec(Word(OwnWord.FreeSlots));
        c.mov(esi, __dword_ptr[r12 + AgentLayout.WardenMessage + 8]);
        c.inc(Word(OwnWord.Tickets));
        c.mov(rax, Word(OwnWord.Tickets));
        c.shl(rax, 32);
        c.or(rax, rsi);
        c.mov(__qword_ptr[rdx], rax);
        Watch();
        // The daemon takes a copy at once: this process may end, and its warden with it, while the child lives on.
        TellDaemon();
        c.jmp(read);
    }

    /// <summary>Rings at the daemon, and waits for nobody.</summary>
    private void TellDaemon()
    {
        c.mov(rdi, Word(OwnWord.WardenNear));
        c.lea(rsi, __[r12 + (int)OwnWord.WardenDoorbell]);
        c.mov(edx, 8);
        c.mov(r10d, 0x4040); // MSG_NOSIGNAL | MSG_DONTWAIT
        c.xor(r8d, r8d);
        c.xor(r9d, r9d);
        Sys(44); // sendto
    }

    /// <summary>A request of the warden's for the page of the fault last read, on the descriptor of entry rbx.</summary>
    private void WardenRange(ulong request)
    {
        c.mov(rax, __qword_ptr[r12 + AgentLayout.WardenMessage + 16]);
        c.and(rax, -4096);
        c.mov(__qword_ptr[r12 + AgentLayout.WardenStruct], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.WardenStruct + 8], 4096);
        c.mov(__qword_ptr[r12 + AgentLayout.WardenStruct + 16], 0);
        c.mov(__qword_ptr[r12 + AgentLayout.WardenStruct + 24], 0);
        c.movsxd(rdi, __dword_ptr[rbx]);
        c.mov(esi, unchecked((int)request));
        c.lea(rdx, __[r12 + AgentLayout.WardenStruct]);
        Sys(SYS_ioctl);
    }
}
