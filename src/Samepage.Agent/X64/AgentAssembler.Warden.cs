using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>The warden: reads the events of M, and of the Ms of forked children, and answers them. It needs nobody outside the target.</summary>
/// <remarks>
/// <para>A mapping of frames has every page-table entry when it comes into place, and the pool's pages are unevictable, so a missing entry
/// means one thing: the program discarded the page, which must read as zeros from now on. The answer to a MINOR fault is therefore always
/// a zero page; no event has to announce the discard, and no table of discarded pages can be wrong. Children get their parent's entries
/// copied, because their mappings are registered with WP, so the same holds for them.</para>
/// <para>It never waits for the executor, for a lock, or for memory of the target: mremap and fork in the program wait for this loop.</para>
/// </remarks>
internal sealed partial class AgentAssembler
{
    private const int Children = AgentLayout.PollTable + 16;

    private void WardenMain()
    {
        Label loop = c.CreateLabel(), events = c.CreateLabel(), slot = c.CreateLabel(), nextSlot = c.CreateLabel(), read = c.CreateLabel();
        Label orphan = c.CreateLabel(), closeChild = c.CreateLabel(), minor = c.CreateLabel(), wake = c.CreateLabel(), fork = c.CreateLabel();
        Label find = c.CreateLabel(), found = c.CreateLabel(), forever = c.CreateLabel(), poll = c.CreateLabel(), exit = c.CreateLabel(), sweep = c.CreateLabel();
        Label swept = c.CreateLabel(), sleep = c.CreateLabel(), notMinor = c.CreateLabel();

        At(ref _wardenMain);
        c.mov(r12, _base + AgentLayout.DataOffset);
        // While the executor unmerges, every operation waits for one event to be read: sleeping in between would cost more than all the rest.
        At(ref loop);
        c.cmp(Word(AgentLayout.Unmerging), 0);
        c.je(sleep);
        Sys(24); // sched_yield
        c.mov(__word_ptr[r12 + AgentLayout.PollTable + 6], 0);
        c.mov(__word_ptr[r12 + AgentLayout.PollTable + 14], LibC.POLLIN);
        c.jmp(events);
        At(ref sleep);
        c.lea(rdi, __[r12 + AgentLayout.PollTable]);
        c.mov(esi, AgentLayout.MaxChildren + 2);
        c.mov(edx, -1);
        c.cmp(Word(AgentLayout.Orphaned), 0);
        c.je(poll);
        c.mov(edx, 100);
        At(ref poll);
        Sys(SYS_poll);

        c.cmp(__word_ptr[r12 + AgentLayout.PollTable + 6], 0);
        c.je(events);
        c.mov(rdi, Word(AgentLayout.WardenNear));
        c.lea(rsi, __[r12 + AgentLayout.WardenDoorbell]);
        c.mov(edx, 8);
        Sys(SYS_read);
        c.cmp(rax, 8);
        c.jne(orphan);
        c.mov(rax, Word(AgentLayout.WardenDoorbell));
        c.cmp(eax, (int)AgentLayout.DoorbellLeave);
        c.je(exit);
        c.sub(eax, (int)AgentLayout.DoorbellCloseChild);
        c.jc(events);
        c.mov(ebx, eax);
        c.lea(rbx, __[r12 + rbx * 8 + Children]);
        c.call(closeChild);
        c.jmp(events);
        At(ref orphan);
        c.mov(__dword_ptr[r12 + AgentLayout.PollTable], -1);
        c.mov(Word(AgentLayout.Orphaned), 1);

        At(ref events);
        c.mov(ebp, AgentLayout.MaxChildren + 1);
        c.lea(rbx, __[r12 + AgentLayout.PollTable + 8]);
        At(ref slot);
        c.test(__word_ptr[rbx + 6], LibC.POLLIN);
        c.jz(nextSlot);
        At(ref read);
        c.movsxd(rdi, __dword_ptr[rbx]);
        c.lea(rsi, __[r12 + AgentLayout.WardenMessage]);
        c.mov(edx, 32);
        Sys(SYS_read);
        c.cmp(rax, 32);
        c.jne(nextSlot);
        c.movzx(eax, __byte_ptr[r12 + AgentLayout.WardenMessage]);
        c.cmp(eax, LibC.UFFD_EVENT_FORK);
        c.je(fork);
        c.cmp(eax, LibC.UFFD_EVENT_PAGEFAULT);
        c.jne(read); // REMAP: to have read it is all
        c.test(__qword_ptr[r12 + AgentLayout.WardenMessage + 8], (int)LibC.UFFD_PAGEFAULT_FLAG_MINOR);
        c.jz(notMinor);
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

        // MISSING or WP on M: an unmerge is under way, and its end wakes the thread. A child that was forked in the middle of one brought the
        // protection along, and nothing will end it there but this.
        At(ref notMinor);
        c.lea(rax, __[r12 + AgentLayout.PollTable + 8]);
        c.cmp(rbx, rax);
        c.je(read);
        WardenRange(LibC.UFFDIO_WRITEPROTECT);
        c.jmp(read);

        At(ref fork);
        c.lea(rdx, __[r12 + Children]);
        c.mov(ecx, AgentLayout.MaxChildren);
        At(ref find);
        c.cmp(__dword_ptr[rdx], 0);
        c.jl(found);
        c.add(rdx, 8);
        c.dec(ecx);
        c.jnz(find);
        c.jmp(read); // no room: the descriptor stays open and the child is not served; the daemon keeps the table from filling up
        At(ref found);
        c.mov(eax, __dword_ptr[r12 + AgentLayout.WardenMessage + 8]);
        c.mov(__dword_ptr[rdx], eax);
        // The daemon takes a copy at once: this process may end, and its warden with it, while the child lives on.
        c.mov(rdi, Word(AgentLayout.WardenNear));
        c.lea(rsi, __[r12 + AgentLayout.WardenDoorbell]);
        c.mov(edx, 8);
        c.mov(r10d, 0x4040); // MSG_NOSIGNAL | MSG_DONTWAIT: it waits for nobody
        c.xor(r8d, r8d);
        c.xor(r9d, r9d);
        Sys(44); // sendto
        c.jmp(read);

        At(ref nextSlot);
        c.add(rbx, 8);
        c.dec(ebp);
        c.jnz(slot);
        c.cmp(Word(AgentLayout.Orphaned), 0);
        c.je(loop);

        // Orphaned: nobody else closes what belongs to dead children.
        c.lea(rbx, __[r12 + Children]);
        c.mov(ebp, AgentLayout.MaxChildren);
        At(ref sweep);
        c.cmp(__dword_ptr[rbx], 0);
        c.jl(swept);
        c.mov(__qword_ptr[r12 + AgentLayout.WardenMessage + 16], 4096);
        WardenRange(LibC.UFFDIO_ZEROPAGE);
        c.cmp(rax, -Esrch);
        c.jne(swept);
        c.call(closeChild);
        At(ref swept);
        c.add(rbx, 8);
        c.dec(ebp);
        c.jnz(sweep);
        c.jmp(loop);
        At(ref exit);
        c.xor(edi, edi);
        Sys(SYS_exit);
        At(ref forever);
        c.jmp(forever);

        At(ref closeChild); // rbx = its entry
        c.movsxd(rdi, __dword_ptr[rbx]);
        c.mov(__dword_ptr[rbx], -1);
        Sys(3);
        c.ret();
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
