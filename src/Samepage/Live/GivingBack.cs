using System.Runtime.InteropServices;
using Samepage.Agent;
using Samepage.Engine;
using Samepage.Linux;
using Samepage.Linux.Kernels;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Userfault;

namespace Samepage.Live;

/// <summary>Gives a process its own memory back: all that is merged in it becomes private again, and joins what it was a part of.</summary>
/// <remarks>The scanner's thread, as all of <see cref="LiveMachine"/>.</remarks>
internal static class GivingBack
{
    /// <summary>Times that the mappings are read, and worked on, until all is given back, or joined.</summary>
    private const int TurnsMost = 200;

    /// <summary>Rounds of joins in which all was tried, and something was joined.</summary>
    private const int JoinRounds = 6;

    /// <summary>Times in a row that joining is begun in vain: because the program's threads cannot be held; or they can, and the kernel refuses, which is mostly for good.</summary>
    private const int UnheldMost = 40, RefusedMost = 4;

    /// <summary>Times in a row that all that is left to be given back is held by somebody, and the milliseconds of the first pause between: twice as long each time, two seconds in all. A read that is under way ends meanwhile, mostly.</summary>
    private const int HeldMost = 6, HeldPause = 32;

    /// <summary>Operations that are planned at a time: twice as many as a program has mappings, mostly. One that has mapped frames itself may have any number of bytes of them.</summary>
    private const int OperationsMost = 1 << 17;

    private const string Held = "pages that were merged and written since are pinned, or may be: a device, a registered buffer of io_uring, a read that is under way or a pipe holds them, and would go on with what is there now; "
        + "they stay as they are, and right; detach it again when nothing holds them";

    /// <summary>Mappings that must be left for a join, which makes some for a moment.</summary>
    private const int RoomForJoin = 64;

    /// <summary>Gives a process its own copy of everything back.</summary>
    /// <returns>False when it could not be done; why stands in the space's obstacle.</returns>
    public static bool UnmergeAll(LiveSpace space)
    {
        space.Hear();
        if (space.HasParted)
            return true;
        for (int turn = 0, refused = 0, held = 0; turn < TurnsMost && refused < 40 && held < HeldMost && space.Unanswered < 3; turn++)
        {
            if (PidFd.HasEnded(space.PidFd))
                return true;
            if (!LiveMachine.Refresh(space))
            {
                if (!space.HasFrames())
                    return true;
                Thread.Sleep(25);
                continue;
            }

            StopTracking(space);
            space.Footprint.Expect(space.Map.Segments);
            List<AgentOperation> operations = UnmergeOperations(space.Map.Segments);
            if (operations.Count == 0)
            {
                if (!space.Map.Segments.Exists(segment => segment.IsFixed))
                {
                    Join(space);
                    return true;
                }

                space.Obstacle = "it has sealed memory that was merged before (mseal), or given it a protection key: nothing can be put in its place; it stays as it is, and right, until the program ends";
                break;
            }

            if (!HasRoom(space))
                break;
            MindPins(space, operations);
            int tried = space.Run(CollectionsMarshal.AsSpan(operations));
            bool isHeld = operations.Take(tried).Any(operation => operation.Error == (long)Errno.EBUSY);
            if (operations.Take(tried).Any(operation => operation.Done > 0))
            {
                held = 0;
                continue;
            }

            if (isHeld)
            {
                space.Obstacle = Held;
                Thread.Sleep(HeldPause << held++);
                continue;
            }

            if (tried > 0)
            {
                refused++;
                Errno errno = (Errno)operations[0].Error;
                space.Obstacle = errno == Errno.ENOMEM
                    ? "ENOMEM: the process has no room for a mapping more (vm.max_map_count, RLIMIT_AS, RLIMIT_DATA), or there is no memory; what is merged stays as it is, and right; detach it again when there is"
                    : $"the kernel refused to put memory in the place of frames: {errno}";
            }

            Thread.Sleep(25);
        }

        if (space.Session.HasExecutorEnded)
            space.Obstacle = LiveSpace.WithoutExecutor;
        else if (space.Unanswered > 0)
            space.Obstacle = "the agent in it does not answer, or is gone: something was done to it; what is merged stays so until the program ends";
        space.ForgetLook(); // its memory is to be tracked again
        return false;
    }

    /// <summary>Gives a process its own copy of what is merged back where it is not advised to be any more; what is there besides stays as it is, merged and tracked.</summary>
    /// <param name="space">The process.</param>
    /// <param name="which">Says of a mapping of frames whether it is one of these.</param>
    /// <returns>False when not all could be done; why stands in the space's obstacle.</returns>
    public static bool UnmergeUnadvised(LiveSpace space, Predicate<Segment> which)
    {
        space.Hear();
        for (int turn = 0, refused = 0; turn < TurnsMost && refused < UnheldMost && space.Unanswered < 3; turn++)
        {
            if (PidFd.HasEnded(space.PidFd) || !LiveMachine.Refresh(space))
                return true;
            // What is tracked still looks different to the kernel, and would keep each page that comes back in a mapping of its own.
            StopTracking(space, static mapping => !mapping.Has("mg"));
            List<AgentOperation> operations = UnmergeOperations(space.Map.Segments, which);
            if (operations.Count == 0)
                return true;
            if (!HasRoom(space, which))
                return false;
            MindPins(space, operations);
            int tried = space.Run(CollectionsMarshal.AsSpan(operations)), given = 0;
            foreach (AgentOperation operation in CollectionsMarshal.AsSpan(operations)[..tried])
            {
                if (operation.Done == 0)
                    continue;
                space.Footprint.NoteGiven(operation.Address, operation.Address + operation.Done);
                given++;
            }

            if (given > 0)
                continue;
            // Threads that cannot be held now can be in a moment; what the kernel refuses, or somebody holds, is mostly so for longer.
            refused += tried == 0 ? 1 : UnheldMost / RefusedMost;
            Thread.Sleep(25);
        }

        return false;
    }

    /// <summary>What is given back is memory that the process, or the machine, must have. Where it has not, somebody would be killed for it (by the kernel, that is, but for our doing), and
    /// what is merged can as well stay so.</summary>
    private static bool HasRoom(LiveSpace space, Predicate<Segment>? which = null)
    {
        const long Slack = 2 << 20; // what an unmerge takes for itself
        List<PageRegion> regions = [];
        foreach (Segment segment in space.Map.Segments.Where(segment => segment.Kind == AreaKind.Merged && which?.Invoke(segment) != false))
            _ = space.Pagemap.CollectFilePages(segment.Start, segment.End, regions);
        long needed = regions.Sum(region => (long)(region.End - region.Start));
        if (needed == 0 || needed + Slack <= MemoryRoom.Left(space.OwnThread, out string where))
            return true;
        space.Obstacle = $"{where}: {needed >> 20} MiB of merged pages would each become memory of its own, and the kernel would have to kill somebody for it; they stay as they are, and right; detach it again when there is room";
        return false;
    }

    /// <summary>Has operations ask before they copy what somebody may hold. (What is moved out to be merged is safe: the move refuses pinned pages. Frames are, too: nobody writes them.)</summary>
    private static void MindPins(LiveSpace space, List<AgentOperation> operations)
    {
        if (!HeldPages.MayBeIn(space))
            return;
        foreach (ref AgentOperation operation in CollectionsMarshal.AsSpan(operations))
            operation.Flags |= OperationFlags.Ask;
    }

    /// <summary>The operations that give all mappings of frames back, in an order in which areas join again.</summary>
    /// <remarks>Memory joins only one neighbour whose pages it shares a reverse map with. Where plain memory lies behind a stretch of merged
    /// mappings, the stretch is worked through from its end, so that all of it joins that memory; otherwise from its beginning.</remarks>
    private static List<AgentOperation> UnmergeOperations(List<Segment> segments, Predicate<Segment>? which = null)
    {
        List<AgentOperation> operations = [];
        for (int first = 0; first < segments.Count;)
        {
            int end = first;
            int start = operations.Count;
            while (end < segments.Count && segments[end].Kind == AreaKind.Merged && (end == first || segments[end].Start == segments[end - 1].End))
            {
                Segment segment = segments[end++];
                bool isWanted = !segment.IsFixed && which?.Invoke(segment) != false;
                for (ulong at = segment.Start; isWanted && at < segment.End && operations.Count < OperationsMost; at += AgentSession.MaxRunBytes)
                {
                    ulong length = Math.Min(AgentSession.MaxRunBytes, segment.End - at);
                    operations.Add(new AgentOperation { Kind = OperationKind.Unmerge, Flags = segment.Advice, Address = at, Length = length });
                }
            }

            if (end > first && end < segments.Count && segments[end].Start == segments[end - 1].End)
                operations.Reverse(start, operations.Count - start);
            first = Math.Max(end, first + 1);
        }

        return operations;
    }

    /// <summary>Ends all tracking of writes: memory that is tracked looks different to the kernel, and what is given back could not join it. Also where nothing could be merged any
    /// more, for its program has locked it since, say, or set it apart.</summary>
    private static void StopTracking(LiveSpace space, Predicate<Mapping>? which = null)
    {
        foreach (Mapping mapping in space.Map.Mappings)
        {
            // The agent's own is watched for its own sake: pages are moved there when areas are joined.
            bool isAgents = mapping.Start >= space.Session.BaseAddress && mapping.End <= space.Session.EndAddress;
            if (mapping.Has("uw") && !space.Pool.Has(mapping) && !isAgents && which?.Invoke(mapping) != false)
                Userfaultfd.StopTracking(space.Session.T, mapping.Start, mapping.Length);
        }
    }

    /// <summary>Joins what was given back to the areas that it was cut from, where the kernel has not done that by itself: see AgentAssembler.Join.</summary>
    private static void Join(LiveSpace space)
    {
        List<AgentOperation> operations = [];
        int rounds = 0, unheld = 0, refused = 0;
        for (int turn = 0; turn < TurnsMost && rounds < JoinRounds && unheld < UnheldMost && refused < RefusedMost && space.Unanswered < 3 && LiveMachine.Refresh(space); turn++)
        {
            operations.Clear();
            // What cannot be joined for the time being stays in mappings of its own, which differ in nothing else; the footprint tells of them.
            if (space.Map.MappingCount + RoomForJoin > MappingLimit.Read() || !KernelRestraints.Here.MayMoveNow())
                return;
            foreach (Mapping mapping in space.Footprint.ToBeJoined(space.Map.Mappings))
            {
                for (ulong at = mapping.Start; at < mapping.End; at += AgentSession.MaxRunBytes)
                {
                    ulong length = Math.Min(AgentSession.MaxRunBytes, mapping.End - at);
                    operations.Add(new AgentOperation { Kind = OperationKind.Join, Flags = AddressSpaceMap.AdviceOf(mapping), Address = at, Length = length });
                }
            }

            if (operations.Count == 0)
                return;
            int tried = space.Run(CollectionsMarshal.AsSpan(operations));
            if (operations.Take(tried).Any(operation => operation.Done > 0))
            {
                // Where the threads could not be held for all of it, the rest is still to be tried.
                (rounds, unheld, refused) = (tried == operations.Count ? rounds + 1 : rounds, 0, 0);
                continue;
            }

            (unheld, refused) = tried == 0 ? (unheld + 1, refused) : (unheld, refused + 1);
            Thread.Sleep(25);
        }
    }
}
