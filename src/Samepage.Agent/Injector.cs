using System.Diagnostics;
using System.Runtime.InteropServices;
using Samepage.Agent.Tracing;
using Samepage.Agent.X64;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Userfault;

namespace Samepage.Agent;

/// <summary>Where an agent lies, for whoever is to find it when its daemon has died.</summary>
/// <param name="Pid">The process.</param>
/// <param name="StartTime">When the process started, as <see cref="StartTime"/> reads it: with the pid it names one process.</param>
/// <param name="BaseAddress">The agent's mapping.</param>
/// <param name="Cookie">A random word that stands in the mapping: an address space that exec put in its place does not have it.</param>
public sealed record AgentPlace(int Pid, ulong StartTime, ulong BaseAddress, ulong Cookie);

/// <summary>Brings the agent into a running process, and removes its last mapping afterwards.</summary>
/// <remarks>All calls from the one OS thread that traces. The target's thread is held for well under a millisecond.</remarks>
internal static class Injector
{
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(5);

    /// <summary>Takes a process in.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="pool">The frames of its trust domain.</param>
    /// <param name="inheritedM">The M that came with fork, for a child of a process taken in; null otherwise.</param>
    /// <param name="planted">Called before the agent first runs: what it writes down finds the agent even if we die right then.</param>
    /// <exception cref="AttachException">It cannot be taken in, and why. Nothing of ours is left in it.</exception>
    public static AgentSession Attach(int pid, FramePool pool, FileDescriptor? inheritedM, Action<AgentPlace> planted)
    {
        AgentPlace? place = null;
        AgentMemory? memory = null;
        try
        {
            ulong cookie = RandomWord();
            memory = AgentMemory.Create(cookie);
            place = Plant(pid, pool, cookie, planted);
            AgentSession session = Connect(place, memory, pool, inheritedM);
            memory = null;
            return session;
        }
        catch (SyscallException refused)
        {
            if (place is not null && (!HasLeft(new AgentData(pid, place.BaseAddress)) || !Uproot(pid, place.BaseAddress, place.Cookie)))
                throw new AttachException($"{refused.Message}; its agent is left in it, and does nothing: run samepage recover when this daemon has ended", agentLeft: true);
            throw new AttachException(refused.Message, refused.Errno is Errno.EPERM or Errno.EACCES);
        }
        finally
        {
            memory?.Dispose();
        }
    }

    /// <summary>From the kernel itself: the runtime's generator would load OpenSSL's library for it.</summary>
    private static unsafe ulong RandomWord()
    {
        ulong word;
        return LibC.getrandom(&word, sizeof(ulong), 0) == sizeof(ulong) ? word : throw new SyscallException("getrandom", "a word of 8 bytes", (Errno)Marshal.GetLastPInvokeError());
    }

    /// <summary>Waits until the agent has left after what stood in its way: what it runs on must not be unmapped before.</summary>
    private static bool HasLeft(AgentData data)
    {
        ulong executor = 0;
        Errno errno = data.Read(AgentLayout.State, out ulong state);
        if (errno == Errno.None)
            errno = data.Read(AgentLayout.ExecutorTid, out executor);
        if (errno != Errno.None)
            return errno is Errno.EFAULT or Errno.ESRCH; // exec has put another program there, or it has ended
        if (state == 0 && executor == 0)
            return false; // the borrowed thread has not come back yet: it was stopped on its way
        for (long since = Stopwatch.GetTimestamp(); Threads.FindByOwnId(data.Pid, (int)executor) != 0; Thread.Sleep(1))
        {
            if (Stopwatch.GetElapsedTime(since) > Bound)
                return false;
        }

        return true;
    }

    /// <summary>Unmaps the agent's mapping once its threads are gone.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="baseAddress">The mapping.</param>
    /// <param name="cookie">What stands in it: where that is not found, exec has put another address space in its place, and nothing is unmapped.</param>
    /// <returns>False when the process could not be held within some seconds; the mapping is then left, and harmless.</returns>
    public static bool Uproot(int pid, ulong baseAddress, ulong cookie)
    {
        long since = Stopwatch.GetTimestamp();
        do
        {
            try
            {
                Tracee thread = Borrow(pid);
                try
                {
                    if (new AgentData(pid, baseAddress).Word(AgentLayout.Cookie) != cookie)
                        return true;
                    _ = Call(ref thread, pid, thread.Registers(), thread.SignalMask(), AgentAssembler.SYS_munmap, baseAddress, AgentLayout.Size);
                    return true;
                }
                finally
                {
                    Return(thread);
                }
            }
            catch (Exception failed) when (failed is AttachException or SyscallException)
            {
                if (ProcessStatus.TryRead($"/proc/{pid}/status") is not { HasMemory: true })
                    return true;
                Thread.Sleep(1);
            }
        }
        while (Stopwatch.GetElapsedTime(since) < Bound);
        return false;
    }

    private static AgentPlace Plant(int pid, FramePool pool, ulong cookie, Action<AgentPlace> planted)
    {
        Tracee thread = Borrow(pid);
        try
        {
            LibC.user_regs_struct saved = thread.Registers();
            if (saved.cs != 0x33)
                throw new AttachException("a 32-bit program; only 64-bit ones can be served");
            ulong mask = thread.SignalMask();
            ulong place = 0;
            try
            {
                place = Call(ref thread, pid, saved, mask, AgentAssembler.SYS_mmap, 0, AgentLayout.Size,
                    LibC.PROT_READ | LibC.PROT_EXEC, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_NORESERVE, ulong.MaxValue, 0);
                if ((long)place is < 0 and > -4096)
                    throw new SyscallException("mmap", $"{AgentLayout.Size} bytes in process {pid}", (Errno)(-(long)place));
                ulong readWrite = Call(ref thread, pid, saved, mask, AgentAssembler.SYS_mprotect, place + AgentLayout.DataOffset,
                    AgentLayout.Size - AgentLayout.DataOffset, LibC.PROT_READ | LibC.PROT_WRITE);
                if (readWrite != 0)
                    throw new SyscallException("mprotect", $"the agent's mapping in process {pid}", (Errno)(-(long)readWrite));
                ulong device = ((pool.Device & 0xFFFFFFFF) << 32) | (pool.Device >> 32);
                AgentPlace planned = new(pid, ProcessStat.TryRead(pid, out ProcessStat stat) ? stat.StartTime : 0, place, cookie);
                Write(planned, AgentAssembler.Assemble(place, device, pool.Inode), thread, saved, mask);
                planted(planned);
                // A signal that comes from here on finds the thread as it was, not in our code: the frame holds its mask.
                thread.SetRegisters(saved with { rip = place, orig_rax = ulong.MaxValue });
                thread.SetSignalMask(ulong.MaxValue);
                return planned;
            }
            catch
            {
                if ((long)place is > 0 or < -4096)
                    _ = Call(ref thread, pid, saved, mask, AgentAssembler.SYS_munmap, place, AgentLayout.Size);
                throw;
            }
        }
        finally
        {
            Return(thread);
        }
    }

    /// <summary>Writes the agent's code, and the signal frame with which the borrowed thread goes back.</summary>
    private static void Write(AgentPlace place, byte[] code, in Tracee thread, LibC.user_regs_struct saved, ulong mask)
    {
        RemoteMemory memory = new(place.Pid);
        byte[] frame = new byte[AgentLayout.FrameBytes];
        ulong at = place.BaseAddress + AgentLayout.HomeFrameOffset;
        if (!SignalFrame.TryWrite(frame, at, thread.Resumption(saved), (long)saved.orig_rax >= 0, mask, thread.ExtendedState(new byte[16384])))
            throw new AttachException($"thread {thread.ThreadId} has extended processor state (AMX tiles) that a signal frame cannot take");
        if (!new AgentData(place.Pid, place.BaseAddress).WriteWord(AgentLayout.Cookie, place.Cookie) || memory.Write(at, frame) != frame.Length)
            throw new SyscallException("process_vm_writev", $"{frame.Length} bytes of process {place.Pid} at 0x{at:x}", Errno.EFAULT);
        memory.ForceWrite(place.BaseAddress, code);
        memory.ForceWrite(place.BaseAddress + AgentLayout.GateOffset, AgentAssembler.AssembleGate());
    }

    private static AgentSession Connect(AgentPlace place, AgentMemory memory, FramePool pool, FileDescriptor? inheritedM)
    {
        int pid = place.Pid;
        AgentData data = new(pid, place.BaseAddress);
        AwaitState(data, AgentLayout.StateSocket);
        int executor = data.Thread(AgentLayout.ExecutorTid);
        if (!PidFd.TryOpenThread(executor, out FileDescriptor? thread, out Errno errno))
            throw new SyscallException("pidfd_open", $"thread {executor}", errno);
        using (thread)
        {
            using FileDescriptor first = PidFd.Take(thread!, (int)data.Word(AgentLayout.ExecutorFar));
            FileDescriptor? executorSocket = null, wardenSocket = null, tracking = null, merged = null;
            try
            {
                (executorSocket, FileDescriptor executorEnd) = SocketPair.Create();
                using FileDescriptor theExecutors = executorEnd;
                (wardenSocket, FileDescriptor wardenEnd) = SocketPair.Create();
                using FileDescriptor theWardens = wardenEnd;
                using FileDescriptor device = Userfaultfd.OpenDevice();
                using FileDescriptor maps = FileDescriptor.Open($"/proc/{pid}/maps");
                ReadOnlySpan<int> handed = [executorEnd.Number, wardenEnd.Number, device.Number, pool.Readable.Number, maps.Number, pool.Guard.Number, memory.File.Number, inheritedM?.Number ?? 0];
                DescriptorPassing.Send(first, 1, inheritedM is null ? handed[..^1] : handed);
                // With it the pair that the executor made is at its end, and our death ends the others.
                executorEnd.Dispose();
                wardenEnd.Dispose();
                AgentSession.AwaitReady(executorSocket, pid);
                tracking = Userfaultfd.Take(thread!, (int)memory.Word(AgentLayout.T));
                merged = Userfaultfd.Take(thread!, (int)memory.Word(AgentLayout.M));
                Userfaultfd.Enable(tracking, Userfaultfd.TrackingFeatures);
                if (inheritedM is null)
                    Userfaultfd.Enable(merged, Userfaultfd.MergedFeatures);
                AgentSession session = new(place, memory, executor, tracking, merged, executorSocket, wardenSocket);
                session.Begin();
                return session;
            }
            catch (SyscallException)
            {
                // The executor waits at its socket, and leaves when that ends.
                DescriptorPassing.End(first);
                executorSocket?.Dispose();
                wardenSocket?.Dispose();
                tracking?.Dispose();
                merged?.Dispose();
                throw;
            }
        }
    }

    private static void AwaitState(AgentData data, long wanted)
    {
        long since = Stopwatch.GetTimestamp();
        for (; ; )
        {
            Errno errno = data.Read(AgentLayout.State, out ulong word);
            if (errno is Errno.EFAULT or Errno.ESRCH)
                throw new SyscallException("agent", $"setting up in process {data.Pid}, which ended or called exec meanwhile", errno);
            long state = (long)word;
            if (state >= wanted)
                return;
            if (state < 0)
                throw new SyscallException("agent", $"setting up in process {data.Pid}", (Errno)(-state));
            if (Stopwatch.GetElapsedTime(since) > Bound)
                throw new SyscallException("agent", $"no sign of life in process {data.Pid} within {Bound.TotalSeconds} s", Errno.ETIMEDOUT);
            Thread.Sleep(0);
        }
    }

    /// <summary>Holds one thread, preferably one whose call the kernel begins again by itself.</summary>
    private static Tracee Borrow(int pid)
    {
        List<int> threads = [];
        if (!Threads.TryList(pid, threads))
            throw new AttachException("no such process");
        int chosen = 0;
        foreach (int tid in threads)
        {
            ThreadCall call = Threads.Look(pid, tid);
            if (call.Blocked && CallTable.MayReturnHalfDone(call.Number, call.Arguments))
                continue;
            if (ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status") is not { State: 'R' or 'S' })
                continue;
            if (chosen == 0 || (call.Blocked && CallTable.RestartsByItself(call.Number)))
                chosen = tid;
            if (call.Blocked && CallTable.RestartsByItself(call.Number))
                break;
        }

        if (chosen == 0)
            throw new AttachException("no thread can be held at the moment: each is stopped, or waits in a call that must not be interrupted");
        if (!HoldBoard.MayHold)
            throw new AttachException("samepage is about to be stopped, and begins nothing; try again");
        HoldBoard.Begin();
        Tracee thread = new(pid, chosen) { IsFiltered = ProcessStatus.TryRead($"/proc/{pid}/task/{chosen}/status") is { Seccomp: not 0 } };
        Errno errno = thread.Seize();
        if (errno != Errno.None)
            HoldBoard.End();
        if (errno != Errno.None)
            throw new AttachException($"ptrace(PTRACE_SEIZE, {chosen}): {errno}", errno == Errno.EPERM);
        _ = thread.Interrupt();
        long since = Stopwatch.GetTimestamp();
        StopKind kind;
        while ((kind = thread.Poll()) == StopKind.Running)
        {
            if (Stopwatch.GetElapsedTime(since) > Bound)
            {
                Return(thread);
                throw new AttachException($"thread {chosen} does not stop: it is in a call that cannot be interrupted");
            }

            Thread.SpinWait(20);
        }

        if (kind == StopKind.Held && !thread.HasFaulted)
            return thread;
        Return(thread);
        throw new AttachException(kind == StopKind.Held ? $"thread {chosen} is about to get a signal of its own doing; try again" : kind == StopKind.Gone ? "no such process" : "the process is stopped (SIGSTOP)");
    }

    private static void Return(in Tracee thread)
    {
        thread.Release();
        HoldBoard.End();
    }

    /// <summary>Makes one system call in the held thread, at a system call instruction that the program itself has, and puts the thread back at once.</summary>
    /// <remarks>Signals are blocked meanwhile: one that is pending would be delivered in place of the call. Our death in these some ten microseconds
    /// is the one thing that would leave a thread with wrong registers.</remarks>
    private static ulong Call(
        ref Tracee thread, int pid, LibC.user_regs_struct saved, ulong mask, int number, ulong a, ulong b, ulong c = 0, ulong d = 0, ulong e = 0, ulong f = 0)
    {
        LibC.user_regs_struct registers = saved;
        registers.rip = FindSystemCall(pid, registers);
        (registers.rax, registers.orig_rax) = ((ulong)number, ulong.MaxValue);
        (registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9) = (a, b, c, d, e, f);
        try
        {
            thread.SetSignalMask(ulong.MaxValue);
            thread.SetRegisters(registers);
            thread.RunCall();
            return thread.Registers().rax;
        }
        finally
        {
            thread.SetRegisters(thread.Resumption(saved));
            thread.SetSignalMask(mask);
        }
    }

    private static ulong FindSystemCall(int pid, in LibC.user_regs_struct registers)
    {
        RemoteMemory memory = new(pid);
        Span<byte> two = stackalloc byte[2];
        if (memory.Read(registers.rip - 2, two) == 2 && two is [0x0f, 0x05])
            return registers.rip - 2;
        List<Mapping> mappings = [];
        _ = Mapping.TryReadAll($"/proc/{pid}/maps", mappings);
        byte[] code = new byte[1 << 20];
        foreach (Mapping mapping in mappings.Where(m => m is { Executable: true, Readable: true }).OrderByDescending(m => m.Name == "[vdso]"))
        {
            for (ulong at = mapping.Start; at < mapping.End; at += (ulong)code.Length - 1)
            {
                int read = memory.Read(at, code.AsSpan(0, (int)Math.Min((ulong)code.Length, mapping.End - at)));
                int found = code.AsSpan(0, read).IndexOf([(byte)0x0f, (byte)0x05]);
                if (found >= 0)
                    return at + (ulong)found;
            }
        }

        throw new AttachException("the program has no system call instruction to borrow");
    }
}
