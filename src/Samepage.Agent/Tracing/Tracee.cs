using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Samepage.Agent.Seccomp;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent.Tracing;

/// <summary>How a thread was found when it came to a stop.</summary>
internal enum StopKind
{
    /// <summary>It has not stopped yet.</summary>
    Running,

    /// <summary>It stands still for us.</summary>
    Held,

    /// <summary>It stands still for us, and its process is stopped by SIGSTOP or its like besides.</summary>
    Suspended,

    /// <summary>It ended.</summary>
    Gone,
}

/// <summary>One thread of a target, seized: ptrace(2). All calls must come from the OS thread that seized it.</summary>
internal struct Tracee(int processId, int threadId)
{
    private static readonly bool s_hasShadowStacks = X86Base.IsSupported && (X86Base.CpuId(7, 0).Ecx & 1 << 7) != 0;
    private int _signal;
    private bool _hasOptions;

    /// <summary>The process whose thread it is.</summary>
    public readonly int ProcessId => processId;

    /// <summary>The thread's id.</summary>
    public readonly int ThreadId => threadId;

    /// <summary>How it stands, as far as <see cref="Poll"/> has seen.</summary>
    public StopKind Kind { get; private set; }

    /// <summary>No seccomp filter is to look at its calls while it is seized.</summary>
    public bool IsFiltered { get; init; }

    /// <summary>Nor is one that comes later, as far as the kernel lets us: it is to make calls of ours.</summary>
    public bool IsToBeUnfiltered { get; init; }

    /// <summary>What is known of the filters of its process. Where they forbid restart_syscall(2), with which the kernel goes on with a sleep, but not the sleep itself, the sleep begins anew instead. Null: of that nothing
    /// is known, and it does so where it is <see cref="IsFiltered"/>.</summary>
    public FilterBook? Filters { get; init; }

    /// <summary>Seizes a thread; it goes on as before. Where it is filtered no filter looks at its calls any more from its first stop on, for as long as it is seized.</summary>
    /// <remarks>A number may be another's by now, anybody's, who must not be held for this process, and let alone lose his filter. It is his alone as long as he is traced: so whether the thread is this process's is looked at
    /// when it is seized, and whoever else it is is let go at once. Who must rule out that the process's own number is another's by now sees behind this that one of its threads, or it, has not ended.</remarks>
    /// <returns>ESRCH: it ended. EPERM: somebody else traces it, or it may not be traced, or it is a zombie.</returns>
    public readonly Errno Seize()
    {
        Errno errno = Call(LibC.PTRACE_SEIZE, threadId, 0, LibC.PTRACE_O_TRACESYSGOOD);
        if (errno != Errno.None || Threads.IsThere(processId, threadId))
            return errno;
        _ = Interrupt();
        Release();
        return Errno.ESRCH;
    }

    /// <summary>Asks it to stop.</summary>
    public readonly Errno Interrupt() => Call(LibC.PTRACE_INTERRUPT, threadId, 0, 0);

    /// <summary>Looks whether it has stopped. A call of it that the interruption has ended is begun again then: see <see cref="Restarts"/>.</summary>
    public StopKind Poll()
    {
        if (Kind != StopKind.Running || Look() is not (StopKind.Held or StopKind.Suspended))
            return Kind;
        Restarts.Begin(this, processId);
        return Kind;
    }

    /// <summary>Waits until it has stopped, or ended, for so long at most.</summary>
    /// <remarks>Who waits may have got no processor himself: it is looked at once more when the time is over.</remarks>
    public StopKind Await(TimeSpan bound)
    {
        long since = Stopwatch.GetTimestamp();
        for (bool isOver = false; ; Scheduling.Pause(since))
        {
            if (Poll() != StopKind.Running || isOver)
                return Kind;
            isOver = Stopwatch.GetElapsedTime(since) > bound;
        }
    }

    /// <summary>As <see cref="Poll"/>, for a thread that is in a call of ours: its registers are left as they are.</summary>
    public unsafe StopKind Look()
    {
        int status;
        int waited = LibC.waitpid(threadId, &status, LibC.__WALL | LibC.WNOHANG);
        if (waited == 0)
            return Kind = StopKind.Running;
        if (waited < 0)
            return Kind = (Errno)Marshal.GetLastPInvokeError() == Errno.EINTR ? StopKind.Running : StopKind.Gone;
        if ((status & 0xff) != 0x7f)
            return Kind = StopKind.Gone;
        int signal = (status >> 8) & 0xff;
        if ((IsFiltered || IsToBeUnfiltered) && !_hasOptions)
            _hasOptions = Call(LibC.PTRACE_SETOPTIONS, threadId, 0, (nuint)(LibC.PTRACE_O_TRACESYSGOOD | LibC.PTRACE_O_SUSPEND_SECCOMP)) == Errno.None;
        bool isEvent = status >> 16 == LibC.PTRACE_EVENT_STOP;
        IsAtCall = signal == (LibC.SIGTRAP | 0x80);
        _signal = status >> 16 != 0 || IsAtCall ? 0 : signal;
        return Kind = isEvent && signal is LibC.SIGSTOP or LibC.SIGTSTP or LibC.SIGTTIN or LibC.SIGTTOU && isEvent ? StopKind.Suspended : StopKind.Held;
    }

    /// <summary>It stands at the entry of a call, or at its exit.</summary>
    public bool IsAtCall { get; private set; }

    /// <summary>A signal is about to be delivered to it. It must be let go from this very stop, or the signal loses what it carries (siginfo).</summary>
    public readonly bool HasSignal => _signal != 0;

    /// <summary>It has ended, though nobody reports that yet: a first thread is not reported before all others have ended.</summary>
    public void TakeForEnded()
    {
        Kind = StopKind.Gone;
        Lingering.AddEnded(this with { Kind = StopKind.Running });
    }

    /// <summary>Lets it run while still seized.</summary>
    public Errno Continue() => Continue(LibC.PTRACE_CONT);

    /// <summary>Lets it run to the entry of its next call, or to the exit of the one that it is in. Not by a single step: should its tracer die, the kernel leaves the step's trap in place,
    /// and SIGTRAP kills the program.</summary>
    public Errno ContinueToCall() => Continue(LibC.PTRACE_SYSCALL);

    /// <summary>Lets go of it, with the signal that it was about to get. What died meanwhile, or has not stopped yet, is let go as soon as it can be.</summary>
    public readonly void Release()
    {
        if (Kind != StopKind.Gone && (Kind == StopKind.Running || !TryDetach()))
            Lingering.Add(this with { Kind = StopKind.Running });
    }

    /// <summary>Ends the tracing of a thread that stands still.</summary>
    public readonly bool TryDetach() => Call(LibC.PTRACE_DETACH, threadId, 0, (nuint)_signal) == Errno.None;

    /// <summary>Drops the signal that it is about to get, if its own instruction has caused it just now: what was run there was ours.</summary>
    /// <returns>False when somebody has sent it.</returns>
    public unsafe bool TryDropFault()
    {
        LibC.siginfo_t info;
        if (!HasFaulted || Call(LibC.PTRACE_GETSIGINFO, threadId, 0, (nuint)(&info)) != Errno.None || info.si_code <= 0)
            return false;
        _signal = 0;
        return true;
    }

    /// <summary>Its registers; it must stand still.</summary>
    /// <exception cref="SyscallException">It ended.</exception>
    public readonly unsafe LibC.user_regs_struct Registers()
    {
        LibC.user_regs_struct registers;
        Check("PTRACE_GETREGS", Call(LibC.PTRACE_GETREGS, threadId, 0, (nuint)(&registers)));
        return registers;
    }

    /// <inheritdoc cref="Registers()"/>
    public readonly unsafe void SetRegisters(in LibC.user_regs_struct value)
    {
        fixed (LibC.user_regs_struct* registers = &value)
            Check("PTRACE_SETREGS", Call(LibC.PTRACE_SETREGS, threadId, 0, (nuint)registers));
    }

    /// <summary>Its signal mask; it must stand still.</summary>
    public readonly unsafe ulong SignalMask()
    {
        ulong mask;
        Check("PTRACE_GETSIGMASK", Call(LibC.PTRACE_GETSIGMASK, threadId, 8, (nuint)(&mask)));
        return mask;
    }

    /// <inheritdoc cref="SignalMask()"/>
    public readonly unsafe void SetSignalMask(ulong mask) => Check("PTRACE_SETSIGMASK", Call(LibC.PTRACE_SETSIGMASK, threadId, 8, (nuint)(&mask)));

    /// <summary>Its registers.</summary>
    /// <returns>False when it has ended.</returns>
    public readonly unsafe bool TryRegisters(out LibC.user_regs_struct registers)
    {
        fixed (LibC.user_regs_struct* pointer = &registers)
            return Call(LibC.PTRACE_GETREGS, threadId, 0, (nuint)pointer) == Errno.None;
    }

    /// <summary>It is about to get a signal that its own instruction caused.</summary>
    public readonly bool HasFaulted => _signal is LibC.SIGILL or LibC.SIGTRAP or LibC.SIGBUS or LibC.SIGFPE or LibC.SIGSEGV or LibC.SIGSYS;

    /// <summary>Its vector and other extended registers, as XSAVE lays them out; it must stand still.</summary>
    /// <param name="buffer">Room for them.</param>
    /// <returns>The part of the buffer that they take.</returns>
    /// <exception cref="SyscallException">It ended, or the processor has none.</exception>
    public readonly unsafe ReadOnlySpan<byte> ExtendedState(Span<byte> buffer)
    {
        fixed (byte* bytes = buffer)
        {
            LibC.iovec place = new() { iov_base = (nuint)bytes, iov_len = (nuint)buffer.Length };
            Check("PTRACE_GETREGSET", Call(LibC.PTRACE_GETREGSET, threadId, LibC.NT_X86_XSTATE, (nuint)(&place)));
            return buffer[..(int)place.iov_len];
        }
    }

    /// <summary>Why it can neither be borrowed nor held as it stands: code of ours that it ran, or registers of ours, would not leave it as it was.</summary>
    /// <param name="registers">Its registers.</param>
    /// <returns>Empty when nothing stands in the way.</returns>
    public readonly unsafe string Oddity(in LibC.user_regs_struct registers)
    {
        const ulong Native = 0x33;
        if (IsFiltered && !_hasOptions)
            return $"thread {threadId} has a seccomp filter that cannot be taken off: the daemon has one itself, or the kernel lacks CONFIG_CHECKPOINT_RESTORE";
        if (registers.cs != Native)
            return $"thread {threadId} runs 32-bit code";
        LibC.ptrace_syscall_info call;
        if ((long)registers.orig_rax >= 0 && Call(LibC.PTRACE_GET_SYSCALL_INFO, threadId, (nuint)sizeof(LibC.ptrace_syscall_info), (nuint)(&call)) == Errno.None && call.arch != LibC.AUDIT_ARCH_X86_64)
            return $"thread {threadId} is in a system call of the 32-bit kind";
        LibC.ptrace_sud_config dispatch;
        if (Call(LibC.PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, threadId, (nuint)sizeof(LibC.ptrace_sud_config), (nuint)(&dispatch)) == Errno.None && dispatch.mode != 0)
            return $"thread {threadId} has its system calls sent to itself (syscall user dispatch), ours too";
        ulong shadow;
        LibC.iovec place = new() { iov_base = (nuint)(&shadow), iov_len = sizeof(ulong) };
        return s_hasShadowStacks && Call(LibC.PTRACE_GETREGSET, threadId, LibC.NT_X86_SHSTK, (nuint)(&place)) == Errno.None ? $"thread {threadId} has a shadow stack (CET)" : "";
    }

    /// <summary>Where it goes on if it is set free with registers that the kernel does not know for its own: an interrupted call begins again, as
    /// the kernel would have it, and a restartable sequence, rseq(2), goes to its abort, as after any preemption.</summary>
    /// <remarks>A call that a signal is to end with EINTR begins again behind the signal's handler: as if the signal had come right before the call. To be asked before anything has
    /// run in the thread since it stopped: on the way back from a call of ours the kernel forgets the sequence.</remarks>
    /// <exception cref="SyscallException">It ended, or its restartable sequence cannot be read.</exception>
    public readonly LibC.user_regs_struct Resumption(LibC.user_regs_struct registers)
    {
        const ulong RestartSyscall = 219; // knows what is left of the time
        if ((long)registers.orig_rax < 0)
        {
            registers.rip = OutOfSequence(registers.rip);
            return registers;
        }

        switch ((long)registers.rax)
        {
            case -512 or -513 or -514: // ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND
                registers.rax = registers.orig_rax;
                registers.rip -= 2;
                break;
            case Restarts.RestartBlock:
                registers.rax = RestartSyscall;
                registers.rip -= 2;
                break;
            default:
                break;
        }

        registers.orig_rax = ulong.MaxValue;
        return registers;
    }

    /// <summary>The abort handler where the thread stands inside a restartable sequence; the instruction itself otherwise.</summary>
    private readonly unsafe ulong OutOfSequence(ulong instruction)
    {
        LibC.ptrace_rseq_configuration configuration;
        RemoteMemory memory = new(threadId);
        if (LibC.ptrace(LibC.PTRACE_GET_RSEQ_CONFIGURATION, threadId, (void*)sizeof(LibC.ptrace_rseq_configuration), &configuration) <= 0 || configuration.rseq_abi_pointer == 0)
            return instruction;
        // struct rseq_cs: version and flags, start, length, abort.
        ulong length = 0, abort = 0, start = 0;
        if (!memory.TryReadWord(configuration.rseq_abi_pointer + 8, out ulong sequence) ||
            (sequence != 0 && !(memory.TryReadWord(sequence + 8, out start) && memory.TryReadWord(sequence + 16, out length) && memory.TryReadWord(sequence + 24, out abort))))
        {
            throw new SyscallException("process_vm_readv", $"the restartable sequence of thread {threadId}", Errno.EFAULT);
        }

        return sequence != 0 && instruction - start < length ? abort : instruction;
    }

    private readonly void Check(string request, Errno errno)
    {
        if (errno != Errno.None)
            throw new SyscallException("ptrace", $"{request}, thread {threadId} of {processId}", errno);
    }

    private Errno Continue(int request)
    {
        (Kind, IsAtCall) = (StopKind.Running, false);
        return Call(request, threadId, 0, (nuint)Interlocked.Exchange(ref _signal, 0));
    }

    private static unsafe Errno Call(nint request, int tid, nuint address, nuint data) =>
        LibC.ptrace(request, tid, (void*)address, (void*)data) == -1 ? (Errno)Marshal.GetLastPInvokeError() : Errno.None;
}
