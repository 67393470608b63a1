namespace Samepage.Engine.Frames;

/// <content>Frames that move (F4), and stretches of the pool that are given up (F5).</content>
internal sealed partial class FrameTable
{
    private readonly List<(uint First, uint End)> _going = [];

    /// <summary>A held frame lies elsewhere now: its node and its users follow.</summary>
    /// <exception cref="ArgumentException">The frame is not held, or the other place is taken or given up.</exception>
    /// <returns>False when there is no memory for the record of the other place.</returns>
    public bool TryMove(FrameId from, FrameId to)
    {
        if (!IsHeld(from) || IsHeld(to) || IsGoing(to.Value))
            throw new ArgumentException($"frame {from.Value} cannot move to {to.Value}");
        if (!TryMakeRoom(to.Value))
            return false;
        bool hidden = (_users[from.Value] & Hidden) != 0;
        if (!hidden)
            Hide(from);
        Unchain(to.Value, to.Value + 1);
        for (; _next <= to.Value; _next++)
        {
            if (_next != to.Value)
                PushFree(_next);
        }

        ulong digest = _digests[from.Value];
        (_digests[to.Value], _users[to.Value]) = (digest, _users[from.Value] & ~(Hidden | Full));
        _users[from.Value] = 0;
        if (_unused.Remove(from.Value, out int passes))
            _unused.Add(to.Value, passes);
        PushFree(from.Value);
        // What was just taken out leaves room for what is put in; were there none, the frame would only be found no more.
        if (hidden || !Index.TryAdd(digest, to.Value))
            _users[to.Value] |= Hidden;
        CloseIfFull(to);
        return true;
    }

    /// <summary>Hands out no frame of a range any more, and lets no page join one.</summary>
    public void Close(FrameId first, int count)
    {
        uint end = first.Value + (uint)count;
        if (_going.Contains((first.Value, end)))
            return;
        _going.Add((first.Value, end));
        Unchain(first.Value, end);
    }

    /// <summary>Lets a range that was closed be used again. What is held in it is as it was.</summary>
    /// <returns>False when it was not closed.</returns>
    public bool Open(FrameId first, int count)
    {
        uint end = first.Value + (uint)count;
        if (!_going.Remove((first.Value, end)))
            return false;
        for (uint frame = Math.Min(end, _next); frame-- > first.Value;)
        {
            if (!IsHeld(new FrameId(frame)) && TryMakeRoom(frame))
                PushFree(frame);
        }

        return true;
    }

    /// <summary>The held frames of a range.</summary>
    public List<FrameId> HeldIn(FrameId first, int count)
    {
        List<FrameId> held = [];
        for (uint frame = first.Value; frame < Math.Min(first.Value + (uint)count, _users.Capacity); frame++)
        {
            if (IsHeld(new FrameId(frame)))
                held.Add(new FrameId(frame));
        }

        return held;
    }

    /// <summary>Frees the frames of a closed range that nobody uses and nobody maps, at once.</summary>
    public void FreeUnused(FrameId first, int count, IMachine machine)
    {
        List<uint> free = [], unused = [.. HeldIn(first, count).Where(frame => UsersOf(frame) == 0).Select(frame => frame.Value)];
        EachWhetherUnmapped(unused, machine, (frame, isUnmapped) =>
        {
            if (isUnmapped)
                free.Add(frame);
        });
        Free(free, machine);
    }

    private bool IsGoing(uint frame)
    {
        foreach ((uint first, uint end) in _going)
        {
            if (frame >= first && frame < end)
                return true;
        }

        return false;
    }

    /// <summary>The first frame never handed out, behind whatever was given up.</summary>
    private uint NextNew()
    {
        for (bool again = true; again;)
        {
            again = false;
            foreach ((uint first, uint end) in _going)
            {
                if (_next >= first && _next < end)
                    (_next, again) = (end, true);
            }
        }

        return _next;
    }

    /// <summary>Takes the frames of a range out of the chain of free ones.</summary>
    private void Unchain(uint first, uint end)
    {
        ulong before = 0;
        for (ulong free = _firstFree; free > 0;)
        {
            ulong next = _digests[(long)free - 1];
            if (free - 1 < first || free - 1 >= end)
                before = free;
            else if (before == 0)
                _firstFree = next;
            else
                _digests[(long)before - 1] = next;
            free = next;
        }
    }
}
