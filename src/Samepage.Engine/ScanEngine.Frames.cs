using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <summary>A page that is mapped to a frame.</summary>
/// <param name="Space">Where.</param>
/// <param name="Page">Which.</param>
public readonly record struct FrameUser(SpaceId Space, PageNumber Page);

/// <content>Frames as places: who uses them, how they move, and how they are given up.</content>
public sealed partial class ScanEngine
{
    /// <summary>Every page that the records know to be mapped to a frame, by space in the order of slots and by rising address (F3).</summary>
    /// <remarks>Walks the records of the domain on demand, 4 bytes a page: chains that were kept would cost each page as much at rest.
    /// Pages of children that the scanner has not reached yet are not known; the machine says whether there are any (<see cref="IMachine.FindUnmapped"/>).</remarks>
    public IReadOnlyList<FrameUser> UsersOf(DomainId domain, FrameId frame)
    {
        List<FrameUser> users = [];
        if (!_domains.TryGetValue(domain, out Domain? known) || !known.Frames.IsHeld(frame))
            return users;
        uint merged = PageState.InFrame(frame), left = known.Frames.UsersOf(frame);
        for (Space? space = _slots.First; space is not null && left > 0; space = space.Next)
        {
            for (int i = 0; space.Domain == known && i < space.Slabs.Count && left > 0; i++)
            {
                if (_records.Owner(space.Slabs.Slab(i)).Merged == 0)
                    continue;
                ReadOnlySpan<uint> states = _records.StatesOf(space.Slabs.Slab(i));
                ulong first = space.Slabs.Chunk(i) * PageRecords.PagesPerSlab;
                for (int at = states.IndexOf(merged), place = 0; at >= 0; at = states[place..].IndexOf(merged))
                {
                    place += at;
                    users.Add(new FrameUser(space.Id, new PageNumber(first + (ulong)place++)));
                    left--;
                }
            }
        }

        return users;
    }

    /// <summary>A frame lies elsewhere now: its content and its mappings have moved already, and its node and its records follow (F4).</summary>
    /// <remarks>Only between two calls: plans name frames by their place.</remarks>
    /// <exception cref="ArgumentException">The frame is not held, or the other place is taken or given up.</exception>
    /// <returns>False when there is no memory for the record of the other place: the frame must be moved back.</returns>
    public bool FrameMoved(DomainId domain, FrameId from, FrameId to)
    {
        if (_isBusy)
            throw new InvalidOperationException("frames are moved between two calls");
        if (!_domains.TryGetValue(domain, out Domain? known))
            throw new ArgumentException($"domain {domain.Value} has no frames");
        IReadOnlyList<FrameUser> users = UsersOf(domain, from);
        if (!known.Frames.TryMove(from, to))
            return false;
        for (int i = 0; i < _newFrames.Count; i++)
        {
            if (_newFrames[i].Domain == known && _newFrames[i].Frame == from)
                _newFrames[i] = _newFrames[i] with { Frame = to };
        }

        foreach (FrameUser user in users)
        {
            Space space = _spaces[user.Space.Value];
            _records.SetState(FindRecord(space, user.Page.Value), PageState.InFrame(to), space.Counts);
        }

        return true;
    }

    /// <summary>Gives a stretch of a domain's frames up (F5): no frame is handed out of it and no page joins one any more, pages that use its frames get their
    /// own copies, and the frames are freed. The pages may merge again elsewhere.</summary>
    /// <remarks>Asking again goes on; <see cref="CancelRetire"/> lets the stretch be used again, with what is still in it.</remarks>
    /// <returns>False when frames are left that somebody maps, or that could not be broken now.</returns>
    public bool TryRetire(DomainId domain, FrameId first, int count)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        Begin();
        try
        {
            Domain known = DomainOf(domain);
            known.Frames.Close(first, count);
            foreach (FrameId frame in known.Frames.HeldIn(first, count))
            {
                GiveBackUsers(known, frame);
                if (_plans.Count >= PlanLimit)
                    CarryOut();
            }

            CarryOut();
            known.Frames.FreeUnused(first, count, _machine);
            return known.Frames.HeldIn(first, count).Count == 0;
        }
        finally
        {
            End();
        }
    }

    /// <summary>Lets a stretch be used again that was to be given up, or was.</summary>
    /// <returns>False when it was not.</returns>
    public bool CancelRetire(DomainId domain, FrameId first, int count)
    {
        if (_isBusy)
            throw new InvalidOperationException("frames are given up between two calls");
        if (!_domains.TryGetValue(domain, out Domain? known) || !known.Frames.Open(first, count))
            return false;
        foreach (FrameId frame in known.Frames.HeldIn(first, count))
            LookAgain(known, known.Frames.DigestOf(frame));
        return true;
    }

    /// <summary>Forgets a domain, with all that was counted in it, if nobody is in it and none of its frames holds memory. Its number may be used again.</summary>
    /// <returns>False when somebody is, or one does: it stays as it is.</returns>
    public bool TryForget(DomainId domain)
    {
        if (_isBusy)
            throw new InvalidOperationException("domains are forgotten between two calls");
        if (!_domains.TryGetValue(domain, out Domain? known))
            return true;
        if (known.Frames.HeldCount > 0 || _spaces.Values.Any(space => space.Domain == known))
            return false;
        _newFrames.RemoveAll(made => made.Domain == known);
        _domains.Remove(domain);
        known.Dispose();
        return true;
    }

    /// <summary>Pages that were found to be unique while a frame of their digest was not to be joined.</summary>
    private void LookAgain(Domain domain, ulong digest)
    {
        Span<uint> found = stackalloc uint[CollisionsMax];
        foreach (uint reference in found[..(_machine.TracksWrites ? domain.Unstable.Find(digest, found) : 0)])
        {
            PageRef record = new(reference);
            Space space = SpaceOf(record, out _);
            Leave(space, record);
            _records.SetState(record, PageState.Retry, space.Counts);
        }
    }

    private Domain DomainOf(DomainId id)
    {
        if (!_domains.TryGetValue(id, out Domain? domain))
            _domains.Add(id, domain = new Domain(id, _records, _options, Budget) { Frames = { SharersMax = MaxPageSharing } });
        return domain;
    }
}
