using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>Moves a whole stretch out at once, so that the merges in it need not: for short runs that are near each other.</summary>
/// <remarks>
/// <para>A move flushes page by page what is shorter than 34 pages, and whole what is longer; in a virtual machine the first costs twenty times the
/// second. So the daemon brackets short runs in one stretch of one area: a record that begins it, the runs by rising address, a record that ends it,
/// all in one batch, so that the threads are held from the first to the last.</para>
/// <list type="number">
/// <item>Begin: register the stretch on T with MISSING and WP, and move all of it to X. If a page of it cannot be moved, all goes back, and each run
/// is merged alone.</item>
/// <item>Each run first gives back what lies before it, and whatever of the run before was not merged, and takes MISSING off that; then it compares and
/// maps its frames as ever (see Merge). What differs, or is refused, stays in X.</item>
/// <item>End: what is left is given back; who waited is woken; the advice is renewed, for all runs at once.</item>
/// </list>
/// <para>What is given back counts as written, and is looked at once more: what the program wrote before is not forgotten.</para>
/// </remarks>
internal sealed partial class AgentAssembler
{
    private const int FlagsAt = 4;

    private void BeginStretch()
    {
        Label back = c.CreateLabel(), refused = c.CreateLabel();
        At(ref _beginStretch);
        c.mov(Word(OwnWord.StretchMoved), 0);
        JumpIfPolicy(refused);
        LookAtArea(refused);
        TakeScratch();
        RegisterOnT(r13, r14, LibC.UFFDIO_REGISTER_MODE_MISSING | LibC.UFFDIO_REGISTER_MODE_WP);
        c.test(rax, rax);
        c.jnz(refused);
        c.mov(rdi, r15);
        c.mov(rsi, r13);
        c.mov(rdx, r14);
        c.call(_moveAll);
        c.mov(rbp, rax);
        c.cmp(rbp, r14);
        c.jne(back);
        AwaitWriters();
        c.mov(rax, r15);
        c.sub(rax, r13);
        c.mov(Word(OwnWord.StretchDelta), rax);
        c.mov(Word(OwnWord.StretchWhole), r13);
        c.mov(Word(OwnWord.StretchMoved), 1);
        c.lea(rax, __[r15 + r14]);
        BeginCopies(rax);
        c.mov(__qword_ptr[rbx + DoneAt], r14);
        Leave();
        At(ref back);
        c.mov(__qword_ptr[rbx + ErrorAt], rdx);
        c.xor(r9d, r9d);
        PutBackFrom(r9);
        TrackAgain(r13, r14);
        WakeOnT();
        Leave();
        At(ref refused);
        c.neg(rax);
        c.mov(__qword_ptr[rbx + ErrorAt], rax);
        Leave();
    }

    private void EndStretch()
    {
        Label never = c.CreateLabel();
        At(ref _endStretch);
        c.cmp(Word(OwnWord.StretchMoved), 0);
        c.je(never);
        c.lea(rbp, __[r13 + r14]);
        c.call(_giveBack);
        c.mov(Word(OwnWord.StretchMoved), 0);
        WakeOnT();
        At(ref never);
        // Advice on memory that has it already changes nothing, so one call serves all mappings of the stretch.
        Advise(r13, r14);
        Leave();
    }

    /// <summary>giveBack: gives back out of scratch what of a stretch is not whole yet, up to rbp, and tracks it as before. Keeps r12–r15, rbx and rbp.</summary>
    /// <remarks>It is copied, some pages at a time: a move would flush each page. Zero pages are moved, because a copy would make memory of them;
    /// and so is all that cannot be copied for want of memory.</remarks>
    private void GiveBack()
    {
        Label more = c.CreateLabel(), part = c.CreateLabel(), test = c.CreateLabel(), move = c.CreateLabel(), next = c.CreateLabel();
        Label whole = c.CreateLabel(), nothing = c.CreateLabel(), copy = c.CreateLabel(), given = c.CreateLabel();
        At(ref _giveBack);
        c.cmp(rbp, Word(OwnWord.StretchWhole));
        c.je(nothing);
        c.push(rbx);
        c.push(r13);
        c.push(r14);
        c.push(r15);
        c.mov(r13, Word(OwnWord.StretchWhole));
        c.mov(rbx, r13);
        At(ref more);
        c.mov(r14, rbp);
        c.sub(r14, rbx);
        c.jz(whole);
        c.mov(rax, rbx);
        c.add(rax, Word(OwnWord.StretchDelta));
        c.call(_movedCopy);
        c.test(rdx, rdx);
        c.jz(move);
        c.cmp(r14, rdx);
        c.jbe(part);
        c.mov(r14, rdx);
        At(ref part);
        c.push(rsi);
        c.lea(r15, __[rsi + r14]);
        At(ref test);
        c.cmp(rsi, r15);
        c.je(copy);
        c.call(_zeroTest);
        c.jne(next);
        c.pop(rsi);
        c.jmp(move);
        // zeroTest has come to where the page differs, or nearly.
        At(ref next);
        c.and(rsi, -4096);
        c.add(rsi, 4096);
        c.jmp(test);
        At(ref copy);
        c.pop(rax);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct], rbx);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 8], rax);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 16], r14);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 24], 1); // UFFDIO_COPY_MODE_DONTWAKE: at the end all are woken
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 32], 0);
        c.mov(rdi, Word(OwnWord.T));
        c.mov(esi, unchecked((int)LibC.UFFDIO_COPY));
        c.lea(rdx, __[r12 + AgentLayout.ExecutorStruct]);
        Sys(SYS_ioctl);
        c.test(rax, rax);
        c.jz(given);
        // What was copied of it is done.
        c.mov(rax, __qword_ptr[r12 + AgentLayout.ExecutorStruct + 32]);
        c.test(rax, rax);
        c.jle(move);
        c.add(rbx, rax);
        c.sub(r14, rax);
        At(ref move);
        c.mov(rdi, rbx);
        c.mov(rsi, rbx);
        c.add(rsi, Word(OwnWord.StretchDelta));
        c.mov(rdx, r14);
        c.call(_putBack);
        At(ref given);
        c.add(rbx, r14);
        c.jmp(more);
        At(ref whole);
        c.mov(r14, rbp);
        c.sub(r14, r13);
        TrackAgain(r13, r14);
        c.mov(Word(OwnWord.StretchWhole), rbp);
        c.pop(r15);
        c.pop(r14);
        c.pop(r13);
        c.pop(rbx);
        At(ref nothing);
        c.ret();
    }
}
