using System.Diagnostics;
using System.Globalization;
using Samepage.Agent.Seccomp;
using Samepage.Agent.Tracing;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Userfault;

namespace Samepage.Agent;

/// <summary>What came of taking an agent over.</summary>
public enum AdoptionOutcome
{
    /// <summary>It answers to us now.</summary>
    Adopted,

    /// <summary>There is nothing of ours in the process, or there is no such process.</summary>
    NothingLeft,

    /// <summary>Not at the moment; try again.</summary>
    NotYet,
}

/// <summary>Takes over agents whose daemon has died.</summary>
/// <remarks>An orphaned executor has made new sockets, and waits at them (see the executor's steps). One that was not set up to the end is told to
/// leave. All calls from the one OS thread that traces.</remarks>
public static class Adoption
{
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(2);

    /// <summary>Takes one over.</summary>
    /// <param name="place">Where it lies.</param>
    /// <param name="poolDevice">The device of its frame pool, as it was written down.</param>
    /// <param name="poolInode">The pool's inode.</param>
    /// <param name="session">The session, when adopted.</param>
    /// <param name="pool">The frames that it maps, when adopted: they can be handed on, and not written. The caller owns them.</param>
    /// <param name="why">What stood in the way.</param>
    public static AdoptionOutcome TryAdopt(AgentPlace place, ulong poolDevice, ulong poolInode, out AgentSession? session, out FramePool? pool, out string why)
    {
        (session, pool, why) = (null, null, "");
        if (!ProcessStat.TryRead(place.Pid, out ProcessStat stat))
        {
            // What cannot be read may be there all the same, where no descriptor is left to read it with.
            why = $"/proc/{place.Pid}/stat cannot be read";
            return Directory.Exists($"/proc/{place.Pid}") ? AdoptionOutcome.NotYet : AdoptionOutcome.NothingLeft;
        }

        if (stat.StartTime != place.StartTime)
            return AdoptionOutcome.NothingLeft;
        AgentMemory? memory = null;
        try
        {
            AdoptionOutcome outcome = AgentMemory.TryFind(place, out memory, out why)
                ? TryAdopt(place, memory!, poolDevice, poolInode, out session, out pool, out why)
                : SendAway(place, ref why);
            if (outcome == AdoptionOutcome.Adopted)
                memory = null;
            return outcome;
        }
        catch (SyscallException failed)
        {
            pool?.Dispose();
            (session, pool, why) = (null, null, failed.Message);
            return AdoptionOutcome.NotYet;
        }
        finally
        {
            memory?.Dispose();
        }
    }

    /// <summary>Takes an agent out that was left in a process because that kept us waiting: nothing was ever merged by it. May wait for as long as the program likes.</summary>
    /// <returns>False when it cannot be yet; to be tried again.</returns>
    /// <inheritdoc cref="TryAdopt(AgentPlace, ulong, ulong, out AgentSession?, out FramePool?, out string)"/>
    public static bool TryTakeOut(AgentPlace place, ulong poolDevice, ulong poolInode)
    {
        AdoptionOutcome outcome = TryAdopt(place, poolDevice, poolInode, out AgentSession? session, out FramePool? pool, out _);
        using (session)
        using (pool)
            return outcome == AdoptionOutcome.Adopted ? session!.Leave() : outcome == AdoptionOutcome.NothingLeft;
    }

    /// <summary>It shares memory with its daemons: it was set up, but perhaps for its warden.</summary>
    private static AdoptionOutcome TryAdopt(AgentPlace place, AgentMemory memory, ulong poolDevice, ulong poolInode, out AgentSession? session, out FramePool? pool, out string why)
    {
        (session, pool, why) = (null, null, "");
        int Thread(SharedWord word) => Threads.FindByOwnId(place.Pid, (int)memory.Word(word));
        ulong cookie = memory.Word(SharedWord.Cookie);
        if (cookie == 0)
        {
            why = "the program has emptied the memory that its agent shares with us";
            return AdoptionOutcome.NotYet;
        }

        if (cookie != place.Cookie)
            return AdoptionOutcome.NothingLeft;
        DescriptorRoom.PutBack(place.Pid, memory.Word(SharedWord.RoomSoft), memory.Word(SharedWord.RoomHard));
        using DescriptorRoom room = new(place.Pid, memory);
        long state = AwaitOrphan(place.Pid, Thread(SharedWord.WardenTid), () => ((long)memory.Word(SharedWord.State), (int)memory.Word(SharedWord.ExecutorTid)));
        int executor = Thread(SharedWord.ExecutorTid);
        if (executor == 0)
            return Uproot(place, ref why);
        if (state != AgentLayout.StateOrphaned)
        {
            if (state == AgentLayout.StateReady)
                CutOff(place.Pid, executor);
            why = $"the agent has not noticed yet that its daemon is gone (state {state})";
            return AdoptionOutcome.NotYet;
        }

        if (!PidFd.TryOpenThread(place.Pid, executor, out FileDescriptor? thread, out Errno refused))
        {
            why = $"the agent's thread {executor} cannot be opened: pidfd_open {refused}";
            return AdoptionOutcome.NotYet;
        }

        List<IDisposable> taken = [thread!];
        FileDescriptor Keep(FileDescriptor descriptor)
        {
            taken.Add(descriptor);
            return descriptor;
        }

        try
        {
            FileDescriptor tracking = Keep(Userfaultfd.Take(thread!, (int)memory.Word(SharedWord.T))), merged = Keep(Userfaultfd.Take(thread!, (int)memory.Word(SharedWord.M)));
            FileDescriptor frames = Keep(PidFd.Take(thread!, (int)memory.Word(SharedWord.PoolFd)));
            int named = (int)memory.Word(SharedWord.GuardFd);
            List<FileDescriptor> guards = [Keep(PidFd.Take(thread!, named))];
            TakeOtherGuards(place.Pid, executor, thread!, named, guards, Keep);
            pool = FramePool.Adopt(frames, guards, poolDevice, poolInode);
            (FileDescriptor executorSocket, FileDescriptor wardenSocket) = Connect(thread!, (int)memory.Word(SharedWord.ExecutorFar), Keep);
            // What filters of its threads allow is looked at before anything is done: see AgentSession.Shield.
            FilterBook filters = new(place.Pid) { AgentAbilities = ProcessStatus.TryRead($"/proc/{place.Pid}/task/{executor}/status") is { Seccomp: 0 } ? AgentAbilities.All : AgentAbilities.None };
            session = new AgentSession(place, memory, executor, thread!, tracking, merged, executorSocket, wardenSocket, filters);
            using (AgentThreads.KeepAwake(place.Pid, executor, Thread(SharedWord.WardenTid)))
                session.Resume();
            taken.Clear();
            return AdoptionOutcome.Adopted;
        }
        finally
        {
            taken.ForEach(descriptor => descriptor.Dispose());
        }
    }

    /// <summary>The pipes in an agent's table: all that it has are guards, and which of them is named is the program's to say.</summary>
    private static void TakeOtherGuards(int pid, int executor, FileDescriptor thread, int named, List<FileDescriptor> guards, Func<FileDescriptor, FileDescriptor> keep)
    {
        string folder = $"/proc/{pid}/task/{executor}/fd";
        List<string> numbers = ProcLinks.NamesIn(folder);
        // It was there just now: what cannot be listed (no descriptor is left) must not pass for a table with one pipe.
        if (!numbers.Contains(named.ToString(CultureInfo.InvariantCulture)))
            throw new SyscallException("opendir", folder, Errno.EMFILE);
        foreach (string number in numbers)
        {
            if (guards.Count >= FrameGuards.PipesMost || !int.TryParse(number, CultureInfo.InvariantCulture, out int other) || other == named || ProcLinks.TargetOf($"{folder}/{number}")?.StartsWith("pipe:", StringComparison.Ordinal) == false)
                continue;
            FileDescriptor taken = PidFd.Take(thread, other);
            if (FramePool.IsGuard(taken))
                guards.Add(keep(taken));
            else
                taken.Dispose();
        }
    }

    /// <summary>Ends the connections of an agent to the daemon that it had.</summary>
    /// <remarks>A daemon that was killed keeps its descriptors until the last of its threads has ended, and one of these may wait in the kernel for as long as some other program likes. Until then no agent
    /// is told that it is gone. The executor has a table of its own by now: its sockets are the two that lead to that daemon.</remarks>
    private static void CutOff(int pid, int executor)
    {
        if (!PidFd.TryOpenThread(pid, executor, out FileDescriptor? thread, out _))
            return;
        using (thread)
        {
            string folder = $"/proc/{pid}/task/{executor}/fd";
            foreach (string number in ProcLinks.NamesIn(folder))
            {
                if (ProcLinks.TargetOf($"{folder}/{number}")?.StartsWith("socket:", StringComparison.Ordinal) != true)
                    continue;
                using FileDescriptor socket = PidFd.Take(thread!, int.Parse(number, CultureInfo.InvariantCulture));
                DescriptorPassing.End(socket);
            }
        }
    }

    /// <summary>Hands new sockets to an orphaned executor.</summary>
    private static (FileDescriptor Executor, FileDescriptor Warden) Connect(FileDescriptor thread, int number, Func<FileDescriptor, FileDescriptor> keep)
    {
        (FileDescriptor Ours, FileDescriptor Theirs) executor = SocketPair.Create(), warden = SocketPair.Create();
        _ = (keep(executor.Ours), keep(warden.Ours));
        using (executor.Theirs)
        using (warden.Theirs)
        using (FileDescriptor first = PidFd.Take(thread, number))
            DescriptorPassing.Send(first, 1, [executor.Theirs.Number, warden.Theirs.Number]);
        return (executor.Ours, warden.Ours);
    }

    /// <summary>It shares no memory with anybody: it waits for descriptors that its daemon did not come to send, and ends when there is nobody to wait for. Or there is none.</summary>
    private static AdoptionOutcome SendAway(AgentPlace place, ref string why)
    {
        AgentData data = new(place.Pid, place.BaseAddress);
        Errno errno = data.Read(OwnWord.Cookie, out ulong cookie);
        // ESRCH alone may be said of a thread that has ended just now.
        if (errno == Errno.EFAULT || (errno == Errno.ESRCH && !Directory.Exists($"/proc/{place.Pid}")) || (errno == Errno.None && cookie != place.Cookie && cookie != 0))
            return AdoptionOutcome.NothingLeft;
        if (errno == Errno.None && cookie == 0)
            return Uproot(place, ref why); // mapped, and nothing more
        if (errno != Errno.None)
            return AdoptionOutcome.NotYet;
        // What it shares with its daemons is there, and could only not be looked at, for want of a descriptor, say.
        if ((long)data.Word(OwnWord.State) >= AgentLayout.StateReady)
            return AdoptionOutcome.NotYet;
        DescriptorRoom.PutBack(place.Pid, data.Word(OwnWord.RoomSoft), data.Word(OwnWord.RoomHard));
        long state = AwaitOrphan(place.Pid, warden: 0, () => ((long)data.Word(OwnWord.State), (int)data.Word(OwnWord.ExecutorTid)));
        int executor = data.Thread(OwnWord.ExecutorTid);
        if (executor == 0)
            return Uproot(place, ref why);
        why = $"the agent was not set up to the end, and leaves (state {state})";
        if (!PidFd.TryOpenThread(place.Pid, executor, out FileDescriptor? thread, out _))
            return AdoptionOutcome.NotYet;
        using (thread)
        using (FileDescriptor executorSocket = PidFd.Take(thread!, (int)data.Word(OwnWord.ExecutorFar)))
            DescriptorPassing.End(executorSocket);
        return AdoptionOutcome.NotYet;
    }

    private static AdoptionOutcome Uproot(AgentPlace place, ref string why)
    {
        why = "what is left of the agent cannot be unmapped: no thread of the process could be held";
        return Injector.Uproot(place.Pid, place.BaseAddress, place.Cookie) ? AdoptionOutcome.NothingLeft : AdoptionOutcome.NotYet;
    }

    /// <summary>Waits until the executor has noticed that it is an orphan, or is no more.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="warden">The warden's thread; 0 where there is none.</param>
    /// <param name="look">Its state, and the executor's thread by its own id.</param>
    /// <returns>Its state.</returns>
    private static long AwaitOrphan(int pid, int warden, Func<(long State, int Executor)> look)
    {
        (long state, int executor) = look();
        using var threads = AgentThreads.KeepAwake(pid, Threads.FindByOwnId(pid, executor), warden);
        for (long since = Stopwatch.GetTimestamp(); state != AgentLayout.StateOrphaned && Stopwatch.GetElapsedTime(since) < Bound; (state, executor) = look())
        {
            if (state < 0 || (executor != 0 && Threads.FindByOwnId(pid, executor) == 0))
                break;
            Thread.Sleep(1);
        }

        return state;
    }
}
