using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>The gate: where a held thread goes if whoever holds it dies, or lets it go before the batch has ended.</summary>
/// <remarks>
/// <para>The kernel lets every held thread go when its tracer dies, also in the middle of a batch of exchanges, which must not be seen half done.
/// So each held thread is put before the gate (see <see cref="Tracing.Gate"/>): set free, it waits there until the executor has ended the batch.
/// Where the holder lives, and the batch ends in time, it puts the thread back itself, and no instruction here is ever run.</para>
/// <para>Whoever comes here knows that nobody holds him, and needs nobody to tell him when to go on: the word Batch says how far the executor is. One daemon that was killed keeps its sockets for as
/// long as one of its threads waits in the kernel, so their end may come late, or never. A batch that was asked for and not begun is called off: both sides take that step by one locked
/// exchange, so it is either called off or begun. One that is under way is waited for, and its executor told of it. There is none: the gate is opened.</para>
/// <para>No thread is before the gate while another hold goes on, because all threads of the program are held for that, and one that stands in this code makes the hold fail. So a batch never begins
/// with a thread here that is about to call it off, or to open the gate.</para>
/// <para>On entry r12 is the data base, r13d the generation at which the thread was held, r14 its signal frame, and rsp the program's own. The gate is
/// open as soon as the word Gate differs from r13d. A thread leaves by rt_sigreturn(2), as from a signal's handler: general, vector and mask
/// registers and the signal mask are its own again in one step, so a signal that waited finds it as it was, and on the right stack.</para>
/// <para>rt_sigreturn(2) makes the kernel forget what restart_syscall(2) would go on with, so a thread that slept in poll, nanosleep or a timed futex
/// loads its registers here. It is in a system call, so rcx and r11 are nobody's. A signal that waits, and has a handler, is to end the call: then there is nothing to go on with, and the thread leaves as
/// any other, with EINTR. Its handler must not find it here: it may take long, or never come back, and this code be gone by then.</para>
/// </remarks>
internal sealed partial class AgentAssembler
{
    private const int SIG_SETMASK = 2, SYS_rt_sigreturn = 15, SYS_sigaltstack = 131, SYS_futex = 202, FUTEX_WAIT_PRIVATE = 128, FUTEX_WAKE_PRIVATE = 129;

    /// <summary>Assembles the gate's code, for <see cref="AgentLayout.GateOffset"/>; it is the same wherever it lies.</summary>
    public static byte[] AssembleGate()
    {
        AgentAssembler assembler = new(0);
        assembler.GateCode();
        using MemoryStream stream = new();
        assembler.c.Assemble(new StreamCodeWriter(stream), 0);
        return stream.Length <= AgentLayout.GateBytes
            ? stream.ToArray()
            : throw new InvalidOperationException($"the gate's code has {stream.Length} bytes, its place {AgentLayout.GateBytes}");
    }

    private void GateCode()
    {
        Label wait = c.CreateLabel(), open = c.CreateLabel(), sleeper = c.CreateLabel(), leave = c.CreateLabel(), go = c.CreateLabel(), running = c.CreateLabel(), sleep = c.CreateLabel();
        BlockSignals();
        At(ref wait);
        c.mov(eax, __dword_ptr[r12 + (SharedFromData + (int)SharedWord.Gate)]);
        c.cmp(eax, r13d);
        c.jne(open);
        c.mov(eax, BatchWord);
        c.cmp(eax, AgentLayout.BatchRunning);
        c.je(running);
        c.ja(sleep);
        c.test(eax, eax);
        c.jz(go);
        c.xor(ecx, ecx);
        c.@lock.cmpxchg(BatchWord, ecx);
        c.jne(wait);
        At(ref go);
        OpenGate();
        c.jmp(wait);
        At(ref running);
        c.mov(ecx, AgentLayout.BatchAwaited);
        c.@lock.cmpxchg(BatchWord, ecx);
        c.jne(wait);
        At(ref sleep);
        c.lea(rdi, __[r12 + (SharedFromData + (int)SharedWord.Gate)]);
        c.mov(esi, FUTEX_WAIT_PRIVATE);
        c.mov(edx, r13d);
        c.xor(r10d, r10d);
        Sys(SYS_futex);
        c.jmp(wait);

        At(ref open);
        EndCallIfDue(leave);
        c.cmp(__qword_ptr[r14 + SignalFrame.SleeperAt], 0);
        c.jne(sleeper);
        At(ref leave);
        // The frame says which alternate stack the thread has from here on: the one that it has.
        c.xor(edi, edi);
        c.lea(rsi, __[r14 + SignalFrame.AlternateStackAt]);
        Sys(SYS_sigaltstack);
        c.lea(rsp, __[r14 + 8]); // as behind the handler's return
        Sys(SYS_rt_sigreturn);

        At(ref sleeper);
        foreach ((AssemblerRegister64 register, int at) in ((AssemblerRegister64, int)[])[(r8, 0), (r9, 8), (r12, 32), (r13, 40), (r15, 56), (rbp, 80), (rbx, 88), (rsp, 120)])
            c.mov(register, __qword_ptr[r14 + SignalFrame.ContextAt + at]);
        c.mov(edi, SIG_SETMASK);
        c.lea(rsi, __[r14 + SignalFrame.MaskAt]);
        c.xor(edx, edx);
        c.mov(r10d, 8);
        Sys(SYS_rt_sigprocmask);
        c.mov(rcx, r14);
        foreach ((AssemblerRegister64 register, int at) in ((AssemblerRegister64, int)[])[(r10, 16), (r14, 48), (rdi, 64), (rsi, 72), (rdx, 96), (rax, 104), (r11, 128)])
            c.mov(register, __qword_ptr[rcx + SignalFrame.ContextAt + at]);
        c.jmp(r11);
    }

    /// <summary>Where a signal waits that is to end the call which the frame at r14 begins again: it ends with EINTR.</summary>
    /// <remarks>One that comes from here on comes as if right before the call; where the thread slept it finds it in the few instructions with which that loads its registers, and must come back there.</remarks>
    /// <param name="ended">It does.</param>
    private void EndCallIfDue(Label ended)
    {
        const int Rax = SignalFrame.ContextAt + 104, Rip = SignalFrame.ContextAt + 128, SYS_rt_sigpending = 127, CallLength = 2;
        Label not = c.CreateLabel();
        c.mov(r15, __qword_ptr[r14 + SignalFrame.EndingAt]);
        c.test(r15, r15);
        c.jz(not);
        c.lea(rdi, __[r14 + SignalFrame.EndingAt]);
        c.mov(esi, 8);
        Sys(SYS_rt_sigpending);
        c.test(__qword_ptr[r14 + SignalFrame.EndingAt], r15);
        c.jz(not);
        c.mov(__qword_ptr[r14 + Rax], -4); // EINTR
        c.add(__qword_ptr[r14 + Rip], CallLength);
        c.jmp(ended);
        At(ref not);
    }

    /// <summary>Opens the gate for all who were held so far.</summary>
    private void OpenGate()
    {
        c.@lock.inc(__dword_ptr[r12 + (SharedFromData + (int)SharedWord.Gate)]);
        c.lea(rdi, __[r12 + (SharedFromData + (int)SharedWord.Gate)]);
        c.mov(esi, FUTEX_WAKE_PRIVATE);
        c.mov(edx, int.MaxValue);
        Sys(SYS_futex);
    }
}
