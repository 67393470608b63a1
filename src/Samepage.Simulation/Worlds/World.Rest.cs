using Samepage.Engine;
using Samepage.Simulation.Memory;

namespace Samepage.Simulation.Worlds;

/// <content>What must hold at rest.</content>
internal sealed partial class World
{
    /// <summary>Passes after which all that was put off has been tried again: a page that fork shared is looked at again every 16 visits, and what is given
    /// back then takes some more.</summary>
    private const int CalmPasses = 40;

    /// <summary>Passes after which a frame without users is gone (C11), one for the processes that ended, and one to be sure.</summary>
    private const int PassesToFree = 5;

    /// <summary>Pages of a batch where a whole pass is wanted.</summary>
    private const int PagesPerBatch = 1000;

    private bool _engineStarved;

    private void CheckRest()
    {
        CheckFrames();
        CheckCounters();
        // A page that found no memory for a record or a node was passed over (H2), and need not have been come back to.
        if (!_engineStarved)
            CheckNothingIsApart();
    }

    /// <remarks>Pages that a device holds are tried again in every pass, so a space with such pages may never settle.</remarks>
    private void CheckCounters()
    {
        Dictionary<int, long> users = [];
        foreach (SimulatedProcess process in _taken)
        {
            long merged = 0, broken = 0, pinned = 0, areas = 0;
            for (int page = 0; page < Machine.Tables.Window; page++)
            {
                PageEntry entry = Machine.Tables[Machine.PlaceOf(process, page)];
                areas += Machine.KindOf(process, entry) is null ? 0 : 1;
                if (Machine.IsPinned(Machine.PlaceOf(process, page)))
                    pinned++;
                if (entry.Backing != 0 && Machine.IsFrame(entry))
                    merged++;
                else if (entry.Backing != 0)
                    broken++;
            }

            users[process.Domain] = users.GetValueOrDefault(process.Domain) + merged;
            SpaceFigures figures = Engine.FiguresOf(process.Space!.Value);
            if (figures.Counts.Tracked > areas)
                throw new BrokenInvariantException(Invariant.CountersEqualARecount, $"there are {figures.Counts.Tracked} records for {areas} pages of areas in slot {process.Slot}");
            if (figures.Counts.Merged != merged || (pinned == 0 && (figures.Counts.Pending > 0 || !figures.Settled)))
                throw new BrokenInvariantException(Invariant.CountersEqualARecount,
                    $"the engine counts {figures.Counts.Merged} merged and {figures.Counts.Pending} pending pages in slot {process.Slot} (settled: {figures.Settled}), the machine {merged} merged and {broken} broken{Unrecorded(process)}");
        }

        for (int domain = 0; domain < _options.Domains; domain++)
        {
            DomainFigures figures = Engine.FiguresOf(new DomainId(domain));
            if (figures.Users != users.GetValueOrDefault(domain))
                throw new BrokenInvariantException(Invariant.CountersEqualARecount, $"the engine counts {figures.Users} users in domain {domain}, the machine {users.GetValueOrDefault(domain)}");
        }
    }

    /// <summary>A page that shows a frame of which the engine does not know it.</summary>
    private string Unrecorded(SimulatedProcess process)
    {
        for (int page = 0; page < Machine.Tables.Window; page++)
        {
            PageEntry entry = Machine.Tables[Machine.PlaceOf(process, page)];
            FrameUser user = new(process.Space!.Value, new PageNumber(process.FirstPage + (ulong)page));
            if (entry.Backing != 0 && Machine.IsFrame(entry) && !Engine.UsersOf(new DomainId(process.Domain), new FrameId(entry.Backing - 1)).Contains(user))
                return $"; page {page} shows frame {entry.Backing - 1}, which has {UsersOf(Machine.Tables.Pools[process.Domain, entry.Backing - 1])} users, and is not recorded there";
        }

        return "";
    }

    /// <summary>A frame that nobody maps is gone. One that a single page maps was joined by two, of which one was written since, or its second page was put
    /// off when it was to join: it is kept for the one, and found by every equal page that comes.</summary>
    /// <remarks>Not asked where a device holds a broken page: the rest of that mapping is given back and merged again by turns, and a page of it may just have left
    /// the frame that it is to join again.</remarks>
    private void CheckFrames()
    {
        foreach (int domain in Machine.Tables.Pools.Domains.Where(domain => !_taken.Exists(process => process.Domain == domain && HoldsBrokenPages(process))))
        {
            for (uint number = 0; number < Machine.Tables.Pools.LimitOf(domain); number++)
            {
                PoolFrame frame = Machine.Tables.Pools[domain, number];
                if (!frame.Held)
                    continue;
                int users = UsersOf(frame);
                if (!frame.PutOff && (users == 0 || (users == 1 && frame.Joined < 2)))
                    throw new BrokenInvariantException(Invariant.NoFrameIsLonely, $"frame {number} of domain {domain} is kept for {users} users, and {frame.Joined} pages ever joined it");
            }
        }
    }

    /// <summary>Of all pages of a domain that could share, no two are equal, and none is equal to a frame, or zero.</summary>
    /// <remarks>Could share: in an area that may be merged, in memory, its owner's alone, held by no device. Not asked of: pages that a device wrote past
    /// the page tables, which no tracking of writes sees; private pages in the middle of a mapping of frames, which is not given back for few; and
    /// processes of which a device holds such a page: the rest of that mapping is given back and merged again by turns.</remarks>
    private void CheckNothingIsApart()
    {
        Dictionary<(int Domain, ulong Content), int> alone = FramesInUse();
        foreach (SimulatedProcess process in _taken.Where(process => !HoldsBrokenPages(process)))
        {
            for (int page = 0; page < Machine.Tables.Window; page++)
            {
                int place = Machine.PlaceOf(process, page);
                PageEntry entry = Machine.Tables[place];
                if (entry.State != EntryState.Present || Machine.KindOf(process, entry) != AreaKind.Mergeable)
                    continue;
                PhysicalPage held = Machine.Tables.Physical[entry.Target];
                if (held.Mappings != 1 || Machine.IsPinned(place) || Programs.WrittenByDevices.Contains(place))
                    continue;
                if (held.Content == Content.Zero || !alone.TryAdd((process.Domain, held.Content), place))
                    throw new BrokenInvariantException(Invariant.NothingEqualIsApart, $"places {place} and {alone.GetValueOrDefault((process.Domain, held.Content), -1)} hold {held.Content:x16}");
            }
        }
    }

    /// <summary>What is in frames that processes map which the engine knows, under a place that is none.</summary>
    /// <remarks>A frame that only one page was ever merged into is given up (C10) and found no more; a child forked before it went may keep it.</remarks>
    private Dictionary<(int Domain, ulong Content), int> FramesInUse()
    {
        Dictionary<(int, ulong), int> contents = [];
        foreach (SimulatedProcess process in _taken)
        {
            for (int page = 0; page < Machine.Tables.Window; page++)
            {
                PageEntry entry = Machine.Tables[Machine.PlaceOf(process, page)];
                if (entry.Backing != 0 && Machine.IsFrame(entry) && Machine.Tables.Pools[process.Domain, entry.Backing - 1].Merges > 1)
                    contents.TryAdd((process.Domain, Machine.ContentOf(process.Domain, entry.Backing - 1)), -1);
            }
        }

        return contents;
    }

    private bool HoldsBrokenPages(SimulatedProcess process) =>
        Enumerable.Range(Machine.PlaceOf(process, 0), Machine.Tables.Window).Any(place => Machine.Tables[place].Backing != 0 && Machine.IsPinned(place));

    private int UsersOf(PoolFrame frame) =>
        (frame.Physical == 0 ? 0 : Machine.Tables.Physical[frame.Physical - 1].Mappings) + (frame.Slot == 0 ? 0 : Machine.Tables.Swap[frame.Slot - 1].Mappings);

    private void CheckTrace(SimulatedProcess process)
    {
        for (int page = 0; page < Machine.Tables.Window && process.Alive; page++)
        {
            PageEntry entry = Machine.Tables[Machine.PlaceOf(process, page)];
            if (entry.Backing != 0 || (entry.Flags & (EntryFlags.Missing | EntryFlags.Protected | EntryFlags.Tracked)) != 0)
                throw new BrokenInvariantException(Invariant.NoTraceIsLeft, $"page {page} of slot {process.Slot} was given back, and is {entry.Flags} with frame {(long)entry.Backing - 1}");
        }
    }
}
