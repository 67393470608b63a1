using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>Makes memory that was given back a part of the area before it, where the kernel did not join them by itself.</summary>
/// <remarks>
/// <para>The kernel joins areas that look the same only if their pages have one numbering and one reverse map (anon_vma). Fresh memory gets both from where it lies, and from its
/// neighbours. It gets them from no neighbour that was moved by mremap(2), which keeps the numbering of its old place, nor from one that was inherited by fork(2), whose reverse map the
/// kernel lends to nobody. Only what an area grows by mremap has its numbering and its reverse map.</para>
/// <para>So the last page of the area before is moved aside, grows there by as many pages as are to be joined, and is moved back with them over the place where these were.</para>
/// </remarks>
internal sealed partial class AgentAssembler
{
    private const int MREMAP_MAYMOVE = 1, MREMAP_FIXED = 2, MREMAP_DONTUNMAP = 4, UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES = 2;

    /// <remarks>Steps, for the range at r13, r14 and the page n before it; both must be borders of areas now:
    /// 0. If the area is locked, unlock n and the range; they are locked again at the end.
    /// 1. Register the range on T with MISSING, let n and the range be read and written, and move the range's pages to X. What is pinned, or shared after fork, stays, and nothing is done.
    /// 2. Register n on M with MISSING, and announce n and the range to the warden as unfilled: whoever touches either waits for the executor.
    /// 3. Move n aside, to A; its place stays mapped and empty. Let A grow by the range.
    /// 4. Move all of A over n and the range: one call, behind which n is as it was, and the range is empty memory of the same area, registered along.
    /// 5. Move the pages back from X, protect n and the range as they were, unregister everything, which joins it, and wake everybody.
    /// Should step 3 or 4 be refused, n goes back to its place; that is tried until it is done, for there is no other copy.
    /// Whatever is refused, n and the range get their protection back, see <see cref="ProtectAgain"/>: no thread of the program runs before that, for all wait at the gate until the batch has ended, whoever dies.
    /// </remarks>
    private void Join()
    {
        Label refused = c.CreateLabel(), stale = c.CreateLabel(), noAside = c.CreateLabel(), pinned = c.CreateLabel(), back = c.CreateLabel();
        Label putBack = c.CreateLabel(), place = c.CreateLabel(), done = c.CreateLabel(), placed = c.CreateLabel(), stillAside = c.CreateLabel();
        At(ref _join);
        Enter();
        c.mov(Word(OwnWord.LowNeighbour), 0); // 0 or an errno, negative: what became of it
        c.lea(rax, __[r13 - 4096]);
        QueryPlain(rax, stale);
        c.cmp(__qword_ptr[r12 + AgentLayout.QueryStruct + 32], r13);
        c.jne(stale);
        c.mov(Word(OwnWord.Protection), rcx);
        QueryPlain(r13, stale);
        c.cmp(rcx, Word(OwnWord.Protection));
        c.jne(stale);
        c.cmp(__qword_ptr[r12 + AgentLayout.QueryStruct + 24], r13);
        c.jne(stale);
        c.lea(rax, __[r13 + r14]);
        c.cmp(__qword_ptr[r12 + AgentLayout.QueryStruct + 32], rax);
        c.jb(stale);

        TakeScratch();
        LockFromN(SYS_munlock);
        RegisterOnT(r13, r14, LibC.UFFDIO_REGISTER_MODE_MISSING);
        c.test(rax, rax);
        c.jnz(refused);
        c.xor(ebp, ebp); // rbp = bytes in X
        LetBeMoved(noAside);
        c.mov(Word(OwnWord.MoveMode), UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES);
        c.mov(rdi, r15);
        c.mov(rsi, r13);
        c.mov(rdx, r14);
        c.call(_moveAll);
        c.mov(rbp, rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rdx);
        c.cmp(rbp, r14);
        c.jne(pinned);

        // r9 = where n goes: behind a guard page, so that it joins nothing there.
        c.add(r14, 3 * 4096);
        MapAnonymous(LibC.PROT_NONE);
        c.sub(r14, 3 * 4096);
        c.cmp(rax, -4096);
        c.ja(noAside);
        c.lea(r9, __[rax + 4096]);
        c.lea(rax, __[r13 - 4096]);
        c.mov(Shared(SharedWord.UnfilledStart), rax);
        c.lea(rax, __[r13 + r14]);
        c.mov(Shared(SharedWord.UnfilledEnd), rax);
        OnN(LibC.UFFDIO_REGISTER, (int)LibC.UFFDIO_REGISTER_MODE_MISSING);
        c.test(rax, rax);
        c.jnz(putBack);
        c.lea(rdi, __[r13 - 4096]);
        c.mov(esi, 4096);
        c.mov(edx, 4096);
        c.mov(r10d, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP);
        c.mov(r8, r9);
        Sys(SYS_mremap); // waits until the warden has read the event
        c.cmp(rax, r9);
        c.jne(putBack);
        c.lea(rdi, __[r9 + 4096]);
        c.mov(rsi, r14);
        Sys(SYS_munmap);
        c.mov(rdi, r9);
        c.mov(esi, 4096);
        c.lea(rdx, __[r14 + 4096]);
        c.xor(r10d, r10d);
        Sys(SYS_mremap);
        c.cmp(rax, r9);
        c.jne(back);
        c.lea(rsi, __[r14 + 4096]);
        MoveToN();
        c.je(placed);

        // Without what stands around n there are no more mappings than when it was moved aside: the kernel cannot refuse for their number.
        At(ref back);
        c.mov(Word(OwnWord.LowNeighbour), rax);
        c.lea(rdi, __[r9 - 4096]);
        c.mov(esi, 4096);
        Sys(SYS_munmap);
        c.lea(rdi, __[r9 + 4096]);
        c.lea(rsi, __[r14 + 4096]);
        Sys(SYS_munmap);
        At(ref stillAside);
        c.mov(esi, 4096);
        MoveToN();
        c.jne(stillAside);
        c.jmp(putBack);

        At(ref placed);
        c.mov(rax, Word(OwnWord.M));
        c.mov(Word(OwnWord.MovesOn), rax);
        c.xor(eax, eax);
        At(ref putBack);
        c.cmp(Word(OwnWord.LowNeighbour), 0);
        c.jne(place);
        c.mov(Word(OwnWord.LowNeighbour), rax);
        At(ref place);
        c.lea(rdi, __[r9 - 4096]);
        c.lea(rsi, __[r14 + 3 * 4096]);
        Sys(SYS_munmap);
        c.xor(r9d, r9d);
        PutBackFrom(r9);
        ProtectAgain();
        OnN(LibC.UFFDIO_UNREGISTER, 0, all: true);
        OnN(LibC.UFFDIO_UNREGISTER, 0); // where the range stayed T's, the kernel has refused both
        c.mov(Shared(SharedWord.UnfilledEnd), 0);
        OnN(LibC.UFFDIO_WAKE, 0, all: true);
        c.jmp(done);

        At(ref noAside);
        c.mov(Word(OwnWord.LowNeighbour), rax);
        At(ref pinned);
        c.xor(r9d, r9d);
        PutBackFrom(r9);
        ProtectAgain();
        At(ref done);
        // Where the range is on M by now, or on nothing, there is nothing of T's to end.
        OnRange(OwnWord.T, LibC.UFFDIO_UNREGISTER, r13, r14);
        WakeOnT();
        LockFromN(SYS_mlock2);
        c.mov(rax, Word(OwnWord.T));
        c.mov(Word(OwnWord.MovesOn), rax);
        c.mov(Word(OwnWord.MoveMode), 0);
        c.mov(rax, Word(OwnWord.LowNeighbour));
        c.neg(rax);
        c.jz(stale);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        Leave();
        At(ref refused);
        c.push(rax);
        LockFromN(SYS_mlock2);
        c.pop(rax);
        c.neg(rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        Leave();
        At(ref stale);
        // Done, or nothing to do any more, unless the move was refused.
        c.mov(rax, r14);
        c.xor(ecx, ecx);
        c.cmp(__qword_ptr[rbx + ErrorAt], 0);
        c.cmovne(rax, rcx);
        c.mov(__qword_ptr[rbx + DoneAt], rax);
        Leave();
    }

    /// <summary>Where the record says that the area is locked: unlocks the page before r13 and the range, or locks them again.</summary>
    /// <remarks>The kernel fills locked memory as it grows, by the executor, who would wait for itself. Nobody runs meanwhile, and what was never in swap hardly comes there.</remarks>
    private void LockFromN(int call)
    {
        Label not = c.CreateLabel();
        c.test(__dword_ptr[rbx + FlagsAt], (int)OperationFlags.Locked);
        c.jz(not);
        c.lea(rdi, __[r13 - 4096]);
        c.lea(rsi, __[r14 + 4096]);
        OnFaultOfRecord();
        Sys(call);
        At(ref not);
    }

    /// <summary>Asks for the mapping at an address, and jumps unless it is private memory without a file: rcx = its protection.</summary>
    private void QueryPlain(AssemblerRegister64 address, Label otherwise)
    {
        Query(address, 0);
        c.test(rax, rax);
        c.jnz(otherwise);
        c.cmp(__qword_ptr[r12 + AgentLayout.QueryStruct + 64], 0);
        c.jne(otherwise);
        c.mov(rcx, __qword_ptr[r12 + AgentLayout.QueryStruct + 40]); // PROCMAP's bits are PROT's; the fourth stands for shared memory
        c.and(ecx, 15);
        c.cmp(ecx, 7);
        c.ja(otherwise);
    }

    /// <summary>Has the page before r13, the range, and its place in X be read and written: the kernel moves pages only where it may write, and between areas of one protection. Jumps where that is refused,
    /// rax = an errno, negative.</summary>
    /// <remarks>What can be executed stays so meanwhile, and X becomes so: a program may be forbidden to make memory executable that is not (PR_SET_MDWE). The range is T's already, or it might
    /// become one with what lies behind, and have to be cut off again.</remarks>
    private void LetBeMoved(Label refused)
    {
        LiftedProtection();
        ProtectFromN();
        c.test(rax, rax);
        c.jnz(refused);
        LiftAt(r15, refused);
    }

    /// <summary>Protects what <see cref="LetBeMoved"/> changed, or a part of it, as it was. Before anything is unregistered: whatever changes is a mapping of its own then, and nothing is charged or cut for it.</summary>
    /// <remarks>Without memory it is tried until it is done: nobody may run with another protection.</remarks>
    private void ProtectAgain()
    {
        Label again = c.CreateLabel();
        At(ref again);
        c.mov(rdx, Word(OwnWord.Protection));
        ProtectFromN();
        c.cmp(rax, -Enomem);
        c.je(again);
        ProtectScratchAgain();
    }

    /// <summary>Protects the page before r13 and the range as edx says: rax = 0 or an errno, negative.</summary>
    private void ProtectFromN()
    {
        c.lea(rdi, __[r13 - 4096]);
        c.lea(rsi, __[r14 + 4096]);
        Sys(SYS_mprotect);
    }

    /// <summary>Moves rsi bytes at r9 to the page before r13, and on. ZF set when that is done; otherwise rax = an errno, negative.</summary>
    private void MoveToN()
    {
        c.mov(rdi, r9);
        c.mov(rdx, rsi);
        c.mov(r10d, MREMAP_MAYMOVE | MREMAP_FIXED);
        c.lea(r8, __[r13 - 4096]);
        Sys(SYS_mremap);
        c.lea(rcx, __[r13 - 4096]);
        c.cmp(rax, rcx);
    }

    /// <summary>A request on M for the page before r13, or for it and the range.</summary>
    private void OnN(ulong request, int mode, bool all = false) => Range(Word(OwnWord.M), request, () =>
    {
        c.lea(rdx, __[r13 - 4096]);
        if (all)
            c.lea(r10, __[r14 + 4096]);
        else
            c.mov(r10d, 4096);
        c.mov(r8d, mode);
    });
}
