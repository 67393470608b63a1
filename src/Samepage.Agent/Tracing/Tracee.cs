using System.Runtime.InteropServices;
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
    private const long RestartBlock = -516; // ERESTART_RESTARTBLOCK
    private int _signal;

    /// <summary>The thread's id.</summary>
    public readonly int ThreadId => threadId;

    /// <summary>How it stands, as far as <see cref="Poll"/> has seen.</summary>
    public StopKind Kind { get; private set; }

    /// <summary>A seccomp filter looks at its calls. Then restart_syscall(2), with which the kernel goes on with a sleep, might be forbidden to it where the sleep itself
    /// is not: the sleep begins anew instead.</summary>
    public bool IsFiltered { get; init; }

    /// <summary>Seizes a thread; it goes on as before. No filter looks at its calls for as long as it is seized, if it is filtered.</summary>
    /// <returns>ESRCH: it ended. EPERM: somebody else traces it, or it may not be traced.</returns>
    public readonly Errno Seize() => Call(LibC.PTRACE_SEIZE, threadId, 0, IsFiltered ? (nuint)LibC.PTRACE_O_SUSPEND_SECCOMP : 0);

    /// <summary>Asks it to stop.</summary>
    public readonly Errno Interrupt() => Call(LibC.PTRACE_INTERRUPT, threadId, 0, 0);

    /// <summary>Looks whether it has stopped.</summary>
    /// <remarks>epoll_wait, semop, sigtimedwait and their like come out of an interruption with EINTR, which the program would see. Nothing has
    /// happened in such a call, so it is begun again by hand, at once, so that our death from here on could not change that. With a signal
    /// pending the EINTR is the program's own.</remarks>
    public unsafe StopKind Poll()
    {
        if (Kind != StopKind.Running)
            return Kind;
        int status;
        int waited = LibC.waitpid(threadId, &status, LibC.__WALL | LibC.WNOHANG);
        if (waited == 0)
            return StopKind.Running;
        if (waited < 0)
            return Kind = (Errno)Marshal.GetLastPInvokeError() == Errno.EINTR ? StopKind.Running : StopKind.Gone;
        if ((status & 0xff) != 0x7f)
            return Kind = StopKind.Gone;
        int signal = (status >> 8) & 0xff;
        bool isEvent = status >> 16 == LibC.PTRACE_EVENT_STOP;
        _signal = isEvent || status >> 16 != 0 ? 0 : signal;
        Kind = isEvent && signal is LibC.SIGSTOP or LibC.SIGTSTP or LibC.SIGTTIN or LibC.SIGTTOU && isEvent ? StopKind.Suspended : StopKind.Held;
        if (_signal == 0)
            BeginAgain();
        return Kind;
    }

    /// <summary>Lets it run while still seized.</summary>
    public Errno Continue()
    {
        Kind = StopKind.Running;
        return Call(LibC.PTRACE_CONT, threadId, 0, (nuint)Interlocked.Exchange(ref _signal, 0));
    }

    /// <summary>Lets go of it, with the signal that it was about to get. What died meanwhile, or has not stopped yet, is let go as soon as it can be.</summary>
    public readonly void Release()
    {
        if (Kind != StopKind.Gone && (Kind == StopKind.Running || Call(LibC.PTRACE_DETACH, threadId, 0, (nuint)_signal) != Errno.None))
            Lingering.Add(threadId);
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

    /// <summary>Runs the system call at which its registers stand: it stops again right behind it.</summary>
    /// <remarks>Not by a single step: should its tracer die, the kernel leaves the step's trap in place, and SIGTRAP kills the program. From here on
    /// the kernel begins no interrupted call again by itself: see <see cref="Resumption"/>. A signal that comes meanwhile is kept for later.</remarks>
    /// <exception cref="SyscallException">It ended.</exception>
    public unsafe void RunCall()
    {
        for (int stops = 0; stops < 2;)
        {
            Check("PTRACE_SYSCALL", Call(LibC.PTRACE_SYSCALL, threadId, 0, 0));
            int status;
            while (LibC.waitpid(threadId, &status, LibC.__WALL) < 0)
            {
                if ((Errno)Marshal.GetLastPInvokeError() != Errno.EINTR)
                    throw new SyscallException("waitpid", $"thread {threadId}", (Errno)Marshal.GetLastPInvokeError());
            }

            if ((status & 0xff) != 0x7f)
                throw new SyscallException("waitpid", $"thread {threadId} ended", Errno.ESRCH);
            if (status >> 8 == LibC.SIGTRAP)
                stops++; // at the call's entry, then at its exit
            else if (status >> 16 == 0)
                _signal = (status >> 8) & 0xff;
        }
    }

    private readonly unsafe void BeginAgain()
    {
        if (!TryRegisters(out LibC.user_regs_struct registers) || (long)registers.orig_rax < 0)
            return;
        bool sleeps = IsFiltered && (long)registers.rax == RestartBlock;
        if ((long)registers.rax != -(long)Errno.EINTR && !sleeps)
            return;
        if (!sleeps && ProcessStatus.TryRead($"/proc/{processId}/task/{threadId}/status") is not { PendingUnblocked: false })
            return;
        registers.rax = registers.orig_rax;
        registers.rip -= 2;
        registers.orig_rax = ulong.MaxValue;
        _ = Call(LibC.PTRACE_SETREGS, threadId, 0, (nuint)(&registers)); // ESRCH: it was killed meanwhile
    }

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

    /// <summary>Where it goes on if it is set free with registers that the kernel does not know for its own: an interrupted call begins again, as
    /// the kernel would have it, and a restartable sequence, rseq(2), goes to its abort, as after any preemption.</summary>
    /// <remarks>A call that a signal is to end with EINTR begins again behind the signal's handler: as if the signal had come right before the call.</remarks>
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
            case RestartBlock:
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
        RemoteMemory memory = new(processId);
        if (LibC.ptrace(LibC.PTRACE_GET_RSEQ_CONFIGURATION, threadId, (void*)sizeof(LibC.ptrace_rseq_configuration), &configuration) <= 0 ||
            configuration.rseq_abi_pointer == 0 || !memory.TryReadWord(configuration.rseq_abi_pointer + 8, out ulong sequence) || sequence == 0)
        {
            return instruction;
        }

        // struct rseq_cs: version and flags, start, length, abort.
        return memory.TryReadWord(sequence + 8, out ulong start) && memory.TryReadWord(sequence + 16, out ulong length) &&
            memory.TryReadWord(sequence + 24, out ulong abort) && instruction - start < length ? abort : instruction;
    }

    private readonly void Check(string request, Errno errno)
    {
        if (errno != Errno.None)
            throw new SyscallException("ptrace", $"{request}, thread {threadId} of {processId}", errno);
    }

    private static unsafe Errno Call(nint request, int tid, nuint address, nuint data) =>
        LibC.ptrace(request, tid, (void*)address, (void*)data) == -1 ? (Errno)Marshal.GetLastPInvokeError() : Errno.None;
}
