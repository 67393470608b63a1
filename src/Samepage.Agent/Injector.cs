using System.Diagnostics;
using System.Runtime.InteropServices;
using Samepage.Agent.Seccomp;
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

/// <summary>What a process must be to be given frames, for what is only known once the agent is on its way.</summary>
/// <param name="Dumpable">It must be dumpable, PR_GET_DUMPABLE: the process itself is asked.</param>
/// <param name="Check">Called with the executor's thread id before the agent gets the pool's descriptor; throws <see cref="SyscallException"/> if it must not have it.</param>
public sealed record Entitlement(bool Dumpable, Action<int> Check);

/// <summary>Brings the agent into a running process, and removes its last mapping afterwards.</summary>
/// <remarks>All calls from the one OS thread that traces. The target's thread is held for well under a millisecond.</remarks>
internal static class Injector
{
    private const int SYS_prctl = 157, PR_GET_DUMPABLE = 3;
    private const int MapTries = 16;
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(5), ClearBound = TimeSpan.FromMilliseconds(500);

    /// <summary>Why such a process is not taken in.</summary>
    internal const string NotDumpable = "not dumpable (PR_SET_DUMPABLE, or ids that changed without exec): other programs of its user may not look into it, and they could into frames";

    /// <summary>Takes a process in.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="pidfd">The process: its number may be another's by now.</param>
    /// <param name="pool">The frames of its trust domain.</param>
    /// <param name="inheritedM">The M that came with fork, for a child of a process taken in; null otherwise.</param>
    /// <param name="planned">Called before anything is mapped, perhaps more than once: what it writes down finds the agent even if we die right then.</param>
    /// <param name="entitlement">What it must be.</param>
    /// <exception cref="AttachException">It cannot be taken in, and why. Nothing of ours is left in it.</exception>
    public static AgentSession Attach(int pid, FileDescriptor pidfd, FramePool pool, FileDescriptor? inheritedM, Action<AgentPlace> planned, Entitlement entitlement)
    {
        AgentPlace? place = null;
        AgentMemory? memory = null;
        DescriptorRoom? room = null;
        try
        {
            // It is not loosened for what it can do without. A forked child is (see Plant): its parent could not be given back before it has an agent of its own.
            if (inheritedM is null)
                MustHaveDescriptors(pid, pool);
            if (new MemorySharers().Find(pid, LivingThread.Of(pid)) is not 0 and var sharer)
                throw new AttachException($"it has its memory in common with process {sharer} (clone with CLONE_VM, vfork), whose threads are not its own");
            FilterBook filters = new(pid);
            if (FilterSurvey.WhyNot(pid, filters) is { } forbidden)
                throw new AttachException(forbidden);
            ulong cookie = RandomWord();
            memory = AgentMemory.Create(cookie);
            AgentMemory words = memory;
            place = Plant(pid, pidfd, pool, cookie, planned, entitlement.Dumpable, filters, planted =>
            {
                if (inheritedM is null)
                    return;
                room = new DescriptorRoom(pid, words, new AgentData(pid, planted.BaseAddress));
                MustHaveDescriptors(pid, pool);
            });
            AgentSession session = Connect(place, memory, pool, inheritedM, entitlement.Check, filters);
            memory = null;
            return session;
        }
        catch (SyscallException refused)
        {
            if (place is not null && (!HasLeft(new AgentData(pid, place.BaseAddress)) || !Uproot(pid, place.BaseAddress, place.Cookie)))
                throw new AttachException($"{refused.Message}; its agent is left in it for now, and does nothing: it is taken out as soon as the program lets us", agentLeft: true);
            throw new AttachException(refused.Message, refused.Errno is Errno.EPERM or Errno.EACCES);
        }
        finally
        {
            room?.Dispose();
            memory?.Dispose();
        }
    }

    /// <exception cref="AttachException">The process may not open as many as an agent needs, RLIMIT_NOFILE.</exception>
    private static void MustHaveDescriptors(int pid, FramePool pool)
    {
        ulong least = (ulong)AgentLayout.LeastDescriptors(pool.Guards.Count), few = DescriptorRoom.Of(pid);
        if (few < least)
            throw new AttachException($"it may open {few} descriptors (RLIMIT_NOFILE), and its agent needs {least}, in a table of its own: raise the limit");
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
        Errno errno = data.Read(OwnWord.State, out ulong state);
        if (errno == Errno.None)
            errno = data.Read(OwnWord.ExecutorTid, out executor);
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
    /// <param name="cookie">What stands in it: where that is not found, exec has put another address space in its place, and nothing is unmapped. Where nothing stands there yet, whoever mapped it
    /// died right then: it is known by its place and its form.</param>
    /// <param name="isDeserted">That no thread is in it is known: all of them were held, and stood elsewhere, and none was sent there since.</param>
    /// <returns>False when the process could not be held within some seconds, or a thread is there still; the mapping is then left, and harmless.</returns>
    public static bool Uproot(int pid, ulong baseAddress, ulong cookie, bool isDeserted = false)
    {
        RangeSearch search = new(pid, baseAddress);
        long since = Stopwatch.GetTimestamp();
        do
        {
            try
            {
                if (isDeserted || search.IsDeserted())
                {
                    UprootNow(pid, baseAddress, cookie);
                    return true;
                }
            }
            catch (Exception failed) when (failed is AttachException or SyscallException)
            {
                // Not now, or there is nothing any more, which is seen next.
            }

            // What cannot be read says nothing of a process that is there, and one thread that has just ended nothing of the others.
            if (!Directory.Exists($"/proc/{pid}") || (ProcessStatus.TryReadLiving(pid) is { HasMemory: false } && LivingThread.HasEnded(pid, LivingThread.Of(pid))))
                return true;
            WorldStop.LookAfterLingering();
            Thread.Sleep(1);
        }
        while (Stopwatch.GetElapsedTime(since) < Bound);
        return false;
    }

    /// <summary>Unmaps what is left of an agent of which nothing is known but that it is there, if it has no threads any more.</summary>
    /// <param name="pid">The process. No daemon that lives has it.</param>
    /// <param name="baseAddress">Where its mapping begins.</param>
    public static void TryClear(int pid, ulong baseAddress)
    {
        try
        {
            RangeSearch search = new(pid, baseAddress);
            for (long since = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(since) < ClearBound && !search.IsInhabited; Thread.Sleep(1))
            {
                if (!search.IsDeserted())
                    continue;
                UprootNow(pid, baseAddress, cookie: null);
                return;
            }
        }
        catch (Exception left) when (left is AttachException or SyscallException)
        {
            // It is there still, and whoever looks sees that.
        }
    }

    private static void UprootNow(int pid, ulong baseAddress, ulong? cookie)
    {
        using BorrowedThread thread = BorrowedThread.Borrow(pid);
        ulong found = new AgentData(thread.ThreadId, baseAddress).Word(OwnWord.Cookie);
        if (found != 0 && found != (cookie ?? found))
            return;
        List<Mapping> mappings = [];
        if (!Mapping.TryReadAll($"/proc/{thread.ThreadId}/maps", mappings))
            throw new AttachException($"/proc/{thread.ThreadId}/maps cannot be read");
        bool isWhole = AgentRange.IsOurs(mappings, baseAddress) || (found == 0 && AgentRange.IsFresh(mappings, baseAddress));
        // Where the program has put something of its own into the range, that stays, and what is left of ours with it; but for what no other agent could come beside.
        (ulong Start, ulong Length)[] ours = isWhole ? [(baseAddress, AgentLayout.Size)]
            : [.. mappings.Where(mapping => AgentRange.IsSharedPart(mapping, baseAddress)).Select(mapping => (mapping.Start, mapping.Length))];
        foreach ((ulong start, ulong length) in ours)
        {
            if (Call(thread, AgentCalls.Leave, AgentAssembler.SYS_munmap, start, length) is not 0 and var refused)
                throw new SyscallException("munmap", $"{length} bytes of the agent's at 0x{start:x} in process {pid}", (Errno)(-(long)refused));
        }
    }

    /// <summary>Makes one of the calls of which it is known that the filters of the thread allow them.</summary>
    private static ulong Call(BorrowedThread thread, AgentCall[] known, int number, ulong a, ulong b, ulong c = 0, ulong d = 0, ulong e = 0)
    {
        ulong[] arguments = [a, b, c, d, e, 0];
        return Array.Exists(known, call => call.Covers((ulong)number, arguments))
            ? thread.Call(number, a, b, c, d, e)
            : throw new InvalidOperationException($"call {number} is not among those that were looked for in seccomp filters");
    }

    private static AgentPlace Plant(int pid, FileDescriptor pidfd, FramePool pool, ulong cookie, Action<AgentPlace> planned, bool mustBeDumpable, FilterBook filters, Action<AgentPlace> planted)
    {
        using BorrowedThread thread = BorrowedThread.Borrow(pid, filters);
        // The thread is of whoever has the number now, and keeps it as long as it is held.
        if (PidFd.HasEnded(pidfd))
            throw new AttachException("no such process");
        AgentPlace placed = MapRange(thread, pid, cookie, planned);
        ulong place = placed.BaseAddress;
        try
        {
            if (mustBeDumpable && Call(thread, AgentCalls.Attach, SYS_prctl, PR_GET_DUMPABLE, 0) != 1)
                throw new AttachException(NotDumpable);
            ulong readWrite = Call(thread, AgentCalls.Attach, AgentAssembler.SYS_mprotect, place + AgentLayout.DataOffset, AgentLayout.Size - AgentLayout.DataOffset, LibC.PROT_READ | LibC.PROT_WRITE);
            if (readWrite != 0)
                throw new SyscallException("mprotect", $"the agent's mapping in process {pid}", (Errno)(-(long)readWrite));
            ulong device = ((pool.Device & 0xFFFFFFFF) << 32) | (pool.Device >> 32);
            Write(placed, AgentAssembler.Assemble(place, device, pool.Inode), thread);
            planted(placed);
            thread.SendTo(place);
            return placed;
        }
        catch
        {
            _ = Call(thread, AgentCalls.Attach, AgentAssembler.SYS_munmap, place, AgentLayout.Size);
            throw;
        }
    }

    /// <summary>Maps the range, where nothing is. The other threads run meanwhile: where one of them was faster, another place is tried.</summary>
    /// <remarks>Where it is to be is written down before: we may die right behind the call.</remarks>
    private static AgentPlace MapRange(BorrowedThread thread, int pid, ulong cookie, Action<AgentPlace> planned)
    {
        if (!ProcessStat.TryRead(pid, out ProcessStat stat))
            throw new AttachException($"/proc/{pid}/stat cannot be read");
        Errno errno = Errno.ENOMEM;
        List<Mapping> mappings = [];
        for (int tries = 0; tries < MapTries; tries++)
        {
            if (!Mapping.TryReadAll($"/proc/{thread.ThreadId}/maps", mappings) || AgentRange.Choose(mappings, RandomWord()) is not (> 0 and ulong wanted))
                break;
            AgentPlace plan = new(pid, stat.StartTime, wanted, cookie);
            planned(plan);
            ulong place = Call(thread, AgentCalls.Attach, AgentAssembler.SYS_mmap, wanted, AgentLayout.Size, LibC.PROT_READ | LibC.PROT_EXEC,
                LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_NORESERVE | LibC.MAP_FIXED_NOREPLACE, ulong.MaxValue);
            if (place == wanted)
                return plan;
            errno = (Errno)(-(long)place);
            if (errno != Errno.EEXIST)
                break;
        }

        throw new SyscallException("mmap", $"{AgentLayout.Size} bytes in process {pid}", errno);
    }

    /// <summary>Writes the agent's code, and the signal frame with which the borrowed thread goes back.</summary>
    private static void Write(AgentPlace place, byte[] code, BorrowedThread thread)
    {
        RemoteMemory memory = new(thread.ThreadId);
        byte[] frame = new byte[AgentLayout.FrameBytes];
        ulong at = place.BaseAddress + AgentLayout.HomeFrameOffset;
        if (!thread.TryFrame(frame, at))
            throw new AttachException($"thread {thread.ThreadId} has extended processor state (AMX tiles) that a signal frame cannot take");
        if (!new AgentData(place.Pid, place.BaseAddress).WriteWord(OwnWord.Cookie, place.Cookie) || memory.Write(at, frame) != frame.Length)
            throw new SyscallException("process_vm_writev", $"{frame.Length} bytes of process {place.Pid} at 0x{at:x}", Errno.EFAULT);
        memory.ForceWrite(place.BaseAddress, code);
        memory.ForceWrite(place.BaseAddress + AgentLayout.GateOffset, AgentAssembler.AssembleGate());
    }

    private static AgentSession Connect(AgentPlace place, AgentMemory memory, FramePool pool, FileDescriptor? inheritedM, Action<int> entitled, FilterBook filters)
    {
        int pid = place.Pid;
        AgentData data = new(pid, place.BaseAddress);
        AwaitState(data, AgentLayout.StateSocket);
        int executor = data.Thread(OwnWord.ExecutorTid);
        if (!PidFd.TryOpenThread(pid, executor, out FileDescriptor? thread, out Errno errno))
            throw new SyscallException("pidfd_open", $"thread {executor}", errno);
        FileDescriptor? first = null, executorSocket = null, wardenSocket = null, tracking = null, merged = null;
        try
        {
            first = PidFd.Take(thread!, (int)data.Word(OwnWord.ExecutorFar));
            (executorSocket, FileDescriptor executorEnd) = SocketPair.Create();
            using FileDescriptor theExecutors = executorEnd;
            (wardenSocket, FileDescriptor wardenEnd) = SocketPair.Create();
            using FileDescriptor theWardens = wardenEnd;
            using FileDescriptor device = Userfaultfd.OpenDevice();
            using FileDescriptor maps = FileDescriptor.Open($"/proc/{pid}/task/{executor}/maps"), stat = FileDescriptor.Open($"/proc/{pid}/stat");
            entitled(executor);
            // What was opened by number is not another's that has it by now.
            if (PidFd.HasEnded(thread!))
                throw new SyscallException("agent", $"setting up in process {pid}, whose agent has ended", Errno.ESRCH);
            List<int> handed = [executorEnd.Number, wardenEnd.Number, device.Number, pool.Readable.Number, maps.Number, pool.Guards[0].Number, memory.File.Number, stat.Number];
            ulong how = AgentLayout.Handed;
            if (pool.Guards.Count > 1)
            {
                handed.AddRange(Enumerable.Repeat(stat.Number, AgentLayout.Spares));
                how |= AgentLayout.HandedSpares;
            }

            if (inheritedM is not null)
            {
                handed.Add(inheritedM.Number);
                how |= AgentLayout.HandedInherited;
            }

            // These are named nowhere: the agent has them, and that is all.
            handed.AddRange(pool.Guards.Skip(1).Select(static guard => guard.Number));
            // Where the program lowers its bound (RLIMIT_NOFILE) meanwhile the kernel hands over as many as there is room for: the agent is told how many there were.
            DescriptorPassing.Send(first, how | ((ulong)handed.Count << 32), CollectionsMarshal.AsSpan(handed));
            // With it the pair that the executor made is at its end, and our death ends the others.
            executorEnd.Dispose();
            wardenEnd.Dispose();
            AgentSession.AwaitReady(executorSocket, pid);
            tracking = Userfaultfd.Take(thread!, (int)memory.Word(SharedWord.T));
            merged = Userfaultfd.Take(thread!, (int)memory.Word(SharedWord.M));
            Userfaultfd.Enable(tracking, Userfaultfd.TrackingFeatures);
            if (inheritedM is null)
                Userfaultfd.Enable(merged, Userfaultfd.MergedFeatures);
            AgentSession session = new(place, memory, executor, thread!, tracking, merged, executorSocket, wardenSocket, filters);
            session.Begin();
            return session;
        }
        catch (SyscallException)
        {
            // The executor waits at its socket, and leaves when that ends.
            if (first is not null)
                DescriptorPassing.End(first);
            thread!.Dispose();
            executorSocket?.Dispose();
            wardenSocket?.Dispose();
            tracking?.Dispose();
            merged?.Dispose();
            throw;
        }
        finally
        {
            first?.Dispose();
        }
    }

    private static void AwaitState(AgentData data, long wanted)
    {
        long since = Stopwatch.GetTimestamp();
        for (; ; )
        {
            Errno errno = data.Read(OwnWord.State, out ulong word);
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
}
