using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <content>Carrying plans out, and settling what came of them.</content>
public sealed partial class ScanEngine
{
    private const int ScansBetweenTries = 16;

    private Flight? _flight;

    /// <summary>Carries out what is planned, and what comes of that.</summary>
    private void CarryOut()
    {
        do
        {
            BeginCarryOut();
            EndCarryOut();
        }
        while (_plans.Count > 0);
    }

    /// <summary>Has the machine begin with what is planned, and leaves it to it: more pages are looked up meanwhile. What was begun before is ended first.</summary>
    /// <remarks>Planned pages are in no index, are not looked up, and change their state only when they are settled: whoever looks pages up meanwhile finds
    /// what would be found before the first of them is carried out. A frame may be found that its first pages have not joined yet; its content is written, and
    /// it is not given up while anybody is promised to it.</remarks>
    private void BeginCarryOut()
    {
        EndCarryOut();
        WriteBuffered();
        if (_unwritten.Count > 0)
        {
            DropUnwritten();
            GiveUpLonelyFrames();
            _unwritten.Clear();
        }

        _flight = Begin([.. _plans.Spaces().Select(number => _spaces[number])]);
    }

    private void EndCarryOut()
    {
        if (_flight is not { } flight)
            return;
        _flight = null;
        _ = End(flight, busy: null);
        GiveUpLonelyFrames();
    }

    /// <summary>H2: nobody may map a frame that could not be written, whatever it reads as: it may be a hole, or not be kept in its place. The pages try again, ever more seldom: where a limit stands in the way it may do so for
    /// good, and a domain that is full must cost nothing.</summary>
    private void DropUnwritten()
    {
        foreach (int number in _plans.Spaces())
        {
            Space space = _spaces[number];
            foreach (Plans.Entry entry in _plans.Drop(number, entry => entry.Kind == PlanKind.Merge && _unwritten.Contains((space.Domain.Id, entry.Frame))))
            {
                Settle(space, entry, PageOutcome.Held);
                space.Domain.Frames.EndPromise(entry.Frame);
            }
        }
    }

    /// <summary>Begins to carry out what is planned for some spaces.</summary>
    private Flight Begin(Space[] spaces)
    {
        Flight flight = new(spaces, new Plans.Entry[spaces.Length][], new SpacePlan[spaces.Length]);
        List<SpacePlan> staying = [];
        for (int i = 0; i < spaces.Length; i++)
        {
            flight.Entries[i] = _plans.Take(spaces[i].Id.Value, out List<PlannedRun> runs);
            flight.Plans[i] = new SpacePlan(spaces[i].Id, runs, new PageOutcome[flight.Entries[i].Length]);
            flight.Plans[i].Outcomes.AsSpan().Fill(PageOutcome.Gone);
            if (!spaces[i].IsLeaving)
                staying.Add(flight.Plans[i]);
        }

        _machine.BeginExecute(staying);
        return flight;
    }

    /// <summary>Waits until what was begun has been carried out, and settles it.</summary>
    /// <param name="flight">What was begun.</param>
    /// <param name="busy">Receives what somebody holds at the moment.</param>
    /// <returns>The worst outcome that may be another when it is tried again; done when there is none.</returns>
    private PageOutcome End(Flight flight, List<Plans.Entry>? busy)
    {
        _machine.EndExecute();
        PageOutcome failure = PageOutcome.Done;
        for (int i = 0; i < flight.Spaces.Length; i++)
            failure = Worse(failure, Settle(flight.Spaces[i], flight.Entries[i], flight.Plans[i].Outcomes, busy));
        return failure;
    }

    private PageOutcome Settle(Space space, Plans.Entry[] entries, PageOutcome[] outcomes, List<Plans.Entry>? busy)
    {
        PageOutcome failure = PageOutcome.Done;
        for (int i = 0; i < entries.Length; i++)
        {
            Settle(space, entries[i], outcomes[i]);
            if (entries[i].Kind == PlanKind.Merge)
                space.Domain.Frames.EndPromise(entries[i].Frame);
            if (outcomes[i] is PageOutcome.Busy or PageOutcome.Deferred or PageOutcome.Refused)
                failure = Worse(failure, outcomes[i]);
            if (outcomes[i] == PageOutcome.Busy)
                busy?.Add(entries[i]);
        }

        return failure;
    }

    private static PageOutcome Worse(PageOutcome one, PageOutcome other) => one > other ? one : other;

    private void Settle(Space space, Plans.Entry entry, PageOutcome outcome)
    {
        if (outcome == PageOutcome.Differs && Has(EngineFaults.IgnoreDiffers))
            outcome = PageOutcome.Done;
        if (outcome == PageOutcome.Done)
        {
            SettleDone(space, entry);
            return;
        }

        // A page that was to be unmerged and could not be stays merged; it is noticed if that ever changes.
        if (entry.Kind == PlanKind.Unmerge)
        {
            if (outcome != PageOutcome.Gone)
                space.GiveBackAfter = space.Visits + VisitsBetweenSecondLooks;
            return;
        }

        space.Deferred |= outcome == PageOutcome.Deferred;
        uint state = outcome switch
        {
            PageOutcome.Differs => AfterDiffering(space, entry),
            PageOutcome.Gone => Gone,
            _ => PageState.Retry,
        };
        if (_machine.TracksWrites)
        {
            _records.Digest(entry.Record) = entry.History.Bits;
            // Who holds it may do so for ever, and each try stops a program; and there may never be room for its frame.
            if (outcome == PageOutcome.Held && SmartScan)
                state = RestLonger(space, entry.Record);
        }

        _records.SetState(entry.Record, state, space.Counts);
    }

    private void SettleDone(Space space, Plans.Entry entry)
    {
        switch (entry.Kind)
        {
            case PlanKind.Merge:
                space.Domain.Frames.AddUser(entry.Frame);
                _records.SetState(entry.Record, PageState.InFrame(entry.Frame), space.Counts);
                NoteMergedNow(entry.Record, entry.History);
                break;
            case PlanKind.MakeZero:
                _records.SetState(entry.Record, PageState.Zeroed, space.Counts);
                NoteMergedNow(entry.Record, entry.History);
                break;
            default:
                if (entry.Record == PageRef.None)
                    break;
                Leave(space, entry.Record);
                _records.SetState(entry.Record, PageState.WrittenNow, space.Counts);
                break;
        }
    }

    private void NoteMergedNow(PageRef record, PageHistory history)
    {
        if (_machine.TracksWrites)
            _records.Digest(record) = (history with { Since = Tick }).Bits;
    }

    /// <summary>A content that was not what it was thought to be was written meanwhile, or has another content's digest: it is looked at
    /// once more, with bytes compared. What differs even then is left alone until it is written.</summary>
    private uint AfterDiffering(Space space, Plans.Entry entry)
    {
        if (_suspects.Count == SuspectsMax)
            _suspects.Clear();
        _suspects.Add(_records.Digest(entry.Record));
        return entry.Compared ? PageState.Odd : PageState.Differed;
    }

    /// <summary>C10: a new frame that fewer than two pages could be merged into is given up, unless those that it was made for are only put off:
    /// they find the frame again, and it is looked at until they have. A page that cannot be given back is tried again now and then.</summary>
    private void GiveUpLonelyFrames()
    {
        int waiting = 0;
        for (int i = 0; i < _newFrames.Count; i++)
        {
            NewFrame made = _newFrames[i];
            uint users = made.Domain.Frames.UsersOf(made.Frame);
            if (users >= 2 || !made.Domain.Frames.IsHeld(made.Frame) || Has(EngineFaults.KeepLonelyFrames))
                continue;
            // Whoever is about to join it may yet be its second.
            bool isPromised = made.Domain.Frames.IsPromised(made.Frame) && !Has(EngineFaults.GiveUpPromisedFrames);
            if (isPromised || IsPutOff(made, users) || FullScans - made.TriedIn is >= 0 and < ScansBetweenTries)
            {
                _newFrames[waiting++] = made;
                continue;
            }

            // Nobody is to join it while it goes, or the page that is given back would be the first to.
            made.Domain.Frames.Hide(made.Frame);
            if (users == 0)
                continue;
            GiveBackUsers(made.Domain, made.Frame);
            _newFrames[waiting++] = made with { TriedIn = FullScans };
        }

        _newFrames.RemoveRange(waiting, _newFrames.Count - waiting);
    }

    private bool IsPutOff(in NewFrame made, uint users)
    {
        if (_unwritten.Contains((made.Domain.Id, made.Frame)))
            return false;
        bool first = IsWaiting(made.Space, made.Page), second = IsWaiting(made.Other, made.OtherPage);
        return users == 0 ? first && second : first || second;
    }

    private bool IsWaiting(SpaceId id, ulong page) =>
        _spaces.TryGetValue(id.Value, out Space? space) && !space.IsLeaving && FindRecord(space, page) is var record && record != PageRef.None &&
        _records.State(record) == PageState.Retry;

    private void GiveBackUsers(Domain domain, FrameId frame)
    {
        foreach (FrameUser user in UsersOf(domain.Id, frame))
            _plans.Add(user.Space, user.Page.Value, FindRecord(_spaces[user.Space.Value], user.Page.Value), PlanKind.Unmerge, frame);
    }

    /// <summary>What the machine was told to carry out: for each space its entries, and the plan that was made of them.</summary>
    private readonly record struct Flight(Space[] Spaces, Plans.Entry[][] Entries, SpacePlan[] Plans);
}
