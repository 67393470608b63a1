using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>What the parts of the agent's code have in common: system calls, words, and loops that every part needs.</summary>
/// <remarks>
/// Registers: r12 holds the data base throughout; a system call destroys rax, rcx and r11; subroutines keep rbx, rbp, r12–r15.
/// The code uses SSE2 alone, in threads of its own: no program's vector state is ever touched.
/// </remarks>
internal sealed partial class AgentAssembler
{
    public const int SYS_read = 0, SYS_write = 1, SYS_poll = 7, SYS_mmap = 9, SYS_mprotect = 10, SYS_munmap = 11, SYS_rt_sigprocmask = 14,
        SYS_ioctl = 16, SYS_mremap = 25, SYS_madvise = 28, SYS_recvmsg = 47, SYS_socketpair = 53, SYS_clone = 56, SYS_exit = 60,
        SYS_mlock = 149, SYS_munlock = 150, SYS_personality = 135, SYS_gettid = 186, SYS_epoll_wait = 232, SYS_epoll_ctl = 233, SYS_sched_setscheduler = 144,
        SYS_get_mempolicy = 239, SYS_epoll_create1 = 291, SYS_mlock2 = 325, SYS_close = 3, SYS_close_range = 436;

    private const int Enoent = 2, Esrch = 3, Eintr = 4, Eagain = 11, Enomem = 12, Enfile = 23, Emfile = 24, Efault = 14, Ebusy = 16, Eexist = 17, Eilseq = 84, Eopnotsupp = 95;
    private const int SharedFromData = AgentLayout.SharedOffset - AgentLayout.DataOffset;
    private readonly Assembler c = new(64);
    private readonly ulong _base;
    private int _labelled = -1;
    private Label _moveAll, _putBack, _rangeCall, _zeroTest, _merge, _zero, _unmerge, _join, _executorMain, _wardenMain;
    private Label _compare, _movedCopy, _frameCopy, _samePage, _beginStretch, _endStretch, _giveBack;

    private AgentAssembler(ulong baseAddress)
    {
        _base = baseAddress;
        _moveAll = c.CreateLabel();
        _putBack = c.CreateLabel();
        _rangeCall = c.CreateLabel();
        _zeroTest = c.CreateLabel();
        _merge = c.CreateLabel();
        _zero = c.CreateLabel();
        _unmerge = c.CreateLabel();
        _join = c.CreateLabel();
        _compare = c.CreateLabel();
        _movedCopy = c.CreateLabel();
        _frameCopy = c.CreateLabel();
        _samePage = c.CreateLabel();
        _beginStretch = c.CreateLabel();
        _endStretch = c.CreateLabel();
        _giveBack = c.CreateLabel();
        _executorMain = c.CreateLabel();
        _wardenMain = c.CreateLabel();
    }

    /// <summary>Places a label. Two may stand at one place here, which Iced does not permit: a nop separates them.</summary>
    private void At(ref Label label)
    {
        if (_labelled == c.Instructions.Count)
            c.nop();
        c.Label(ref label);
        _labelled = c.Instructions.Count;
    }

    private static AssemblerMemoryOperand Word(OwnWord word) => __qword_ptr[r12 + (int)word];

    /// <summary>A word that the daemon sees.</summary>
    private static AssemblerMemoryOperand Shared(SharedWord word) => __qword_ptr[r12 + (SharedFromData + (int)word)];

    private static AssemblerMemoryOperand BatchWord => __dword_ptr[r12 + (SharedFromData + (int)SharedWord.Batch)];

    private void Sys(int number)
    {
        c.mov(eax, number);
        c.syscall();
    }

    /// <summary>Calls ioctl with a range structure of up to four words: rdi = descriptor, esi = request, rdx, r10, r8 = words; rax = result.</summary>
    private void Range(AssemblerMemoryOperand descriptor, ulong request, Action words)
    {
        words();
        c.mov(rdi, descriptor);
        c.mov(esi, unchecked((int)request));
        c.call(_rangeCall);
    }

    /// <summary>What is called, and what operations have in common.</summary>
    private void Subroutines()
    {
        // rangeCall: see Range.
        At(ref _rangeCall);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct], rdx);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 8], r10);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 16], r8);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 24], 0);
        c.lea(rdx, __[r12 + AgentLayout.ExecutorStruct]);
        Sys(SYS_ioctl);
        c.ret();

        MoveAll();
        PutBack();
        MovedCopy();
        FrameCopy();
        SamePage();
        Compare();
        BeginStretch();
        EndStretch();
        GiveBack();

        // zeroTest: rsi = a page; ZF set when it is all zero. Destroys rsi, rcx, xmm0–3.
        Label next = c.CreateLabel(), end = c.CreateLabel();
        At(ref _zeroTest);
        c.mov(ecx, 64);
        At(ref next);
        c.movdqa(xmm0, __xmmword_ptr[rsi]);
        c.por(xmm0, __xmmword_ptr[rsi + 16]);
        c.por(xmm0, __xmmword_ptr[rsi + 32]);
        c.por(xmm0, __xmmword_ptr[rsi + 48]);
        c.pxor(xmm1, xmm1);
        c.pcmpeqb(xmm0, xmm1);
        c.pmovmskb(eax, xmm0);
        c.cmp(eax, 0xFFFF);
        c.jne(end);
        c.add(rsi, 64);
        c.dec(ecx);
        c.jnz(next);
        At(ref end);
        c.ret();
    }

    /// <summary>rdi = destination, rsi = source, rdx = length, on the userfaultfd that word MovesOn says: T, but for a join. Returns rax = bytes moved, rdx = errno, 0 when all were.</summary>
    /// <remarks>A move that answers EAGAIN may have moved a part: go on behind it. Without progress it is tried 4,096 times.</remarks>
    private void MoveAll()
    {
        Label again = c.CreateLabel(), part = c.CreateLabel(), whole = c.CreateLabel(), refused = c.CreateLabel(), leave = c.CreateLabel();
        const int Structure = AgentLayout.ExecutorStruct;
        At(ref _moveAll);
        c.push(rbx);
        c.push(rbp);
        c.mov(__qword_ptr[r12 + Structure], rdi);
        c.mov(__qword_ptr[r12 + Structure + 8], rsi);
        c.mov(__qword_ptr[r12 + Structure + 16], rdx);
        c.xor(ebx, ebx);
        c.mov(ebp, 4096);
        At(ref again);
        c.mov(rax, Word(OwnWord.MoveMode));
        c.mov(__qword_ptr[r12 + Structure + 24], rax);
        c.mov(__qword_ptr[r12 + Structure + 32], 0);
        c.mov(rdi, Word(OwnWord.MovesOn));
        c.mov(esi, unchecked((int)LibC.UFFDIO_MOVE));
        c.lea(rdx, __[r12 + Structure]);
        Sys(SYS_ioctl);
        c.test(rax, rax);
        c.jz(whole);
        c.mov(rcx, __qword_ptr[r12 + Structure + 32]);
        c.test(rcx, rcx);
        c.jg(part);
        c.cmp(rax, -Eagain);
        c.jne(refused);
        c.pause();
        c.dec(ebp);
        c.jnz(again);
        At(ref refused);
        c.mov(rdx, rax);
        c.neg(rdx);
        c.jmp(leave);
        At(ref part);
        c.add(rbx, rcx);
        c.add(__qword_ptr[r12 + Structure], rcx);
        c.add(__qword_ptr[r12 + Structure + 8], rcx);
        c.sub(__qword_ptr[r12 + Structure + 16], rcx);
        c.mov(ebp, 4096);
        c.cmp(__qword_ptr[r12 + Structure + 16], 0);
        c.jne(again);
        c.xor(edx, edx);
        c.jmp(leave);
        At(ref whole);
        c.add(rbx, __qword_ptr[r12 + Structure + 16]);
        c.xor(edx, edx);
        At(ref leave);
        c.mov(rax, rbx);
        c.pop(rbp);
        c.pop(rbx);
        c.ret();
    }

    /// <summary>Throws what is at rdi away: rax = 0 or an errno, negative.</summary>
    private void Discard(int bytes)
    {
        c.mov(esi, bytes);
        c.mov(edx, MADV_DONTNEED);
        Sys(SYS_madvise);
    }

    /// <summary>rdi = destination, rsi = source in scratch, rdx = length: gives pages back, by whatever way works.</summary>
    /// <remarks>
    /// The only copy of the pages is in scratch, so this does not end before they are back: it moves, and copies the page that cannot be
    /// moved. ENOENT: the program unmapped the place meanwhile, and nobody misses the page. EEXIST: somebody has filled the place who took the page for discarded, and answered late (see LiveSpace.IsHandedOver);
    /// what is there is thrown away.
    /// </remarks>
    private void PutBack()
    {
        Label again = c.CreateLabel(), done = c.CreateLabel(), copied = c.CreateLabel(), stray = c.CreateLabel();
        At(ref _putBack);
        c.push(rbx);
        c.push(rbp);
        c.push(r13);
        c.mov(rbx, rdi);
        c.mov(rbp, rsi);
        c.mov(r13, rdx);
        At(ref again);
        c.test(r13, r13);
        c.jz(done);
        c.mov(rdi, rbx);
        c.mov(rsi, rbp);
        c.mov(rdx, r13);
        c.call(_moveAll);
        c.add(rbx, rax);
        c.add(rbp, rax);
        c.sub(r13, rax);
        c.jz(done);
        c.cmp(rdx, Eexist);
        c.je(stray);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct], rbx);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 8], rbp);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 16], 4096);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 24], 0);
        c.mov(__qword_ptr[r12 + AgentLayout.ExecutorStruct + 32], 0);
        c.mov(rdi, Word(OwnWord.MovesOn));
        c.mov(esi, unchecked((int)LibC.UFFDIO_COPY));
        c.lea(rdx, __[r12 + AgentLayout.ExecutorStruct]);
        Sys(SYS_ioctl);
        c.test(rax, rax);
        c.jz(copied);
        c.cmp(rax, -Eexist);
        c.je(stray);
        c.cmp(rax, -Enoent);
        c.jne(again);
        c.jmp(copied);
        At(ref stray);
        c.mov(rdi, rbx);
        Discard(4096);
        c.test(rax, rax);
        c.jz(again);
        At(ref copied);
        c.add(rbx, 4096);
        c.add(rbp, 4096);
        c.sub(r13, 4096);
        c.jmp(again);
        At(ref done);
        c.pop(r13);
        c.pop(rbp);
        c.pop(rbx);
        c.ret();
    }
}
