namespace Samepage.Engine.Scan;

/// <summary>The list of slots and the cursor in it (B2).</summary>
/// <remarks>Within a pass the cursor is at the slot to go on with, or behind the last one. Between passes it is nowhere.</remarks>
internal sealed class Slots
{
    private Space? _last;

    public int Count { get; private set; }

    public Space? First { get; private set; }

    /// <summary>A pass has begun and not ended.</summary>
    public bool InPass { get; private set; }

    /// <summary>The slot to go on with; null behind the last one, and between passes.</summary>
    public Space? Cursor { get; private set; }

    /// <summary>Adds a slot just behind the cursor: the pass that is under way reaches it last, or not at all (A3).</summary>
    public void Add(Space space) => InsertBefore(Cursor, space);

    /// <summary>Adds a slot where the cursor comes next.</summary>
    public void AddBeforeCursor(Space space) => InsertBefore(Cursor?.Next, space);

    /// <summary>Removes a slot; a cursor that was at it goes on to the next.</summary>
    public void Remove(Space space)
    {
        if (Cursor == space)
            Cursor = space.Next;
        if (space.Previous is null)
            First = space.Next;
        else
            space.Previous.Next = space.Next;
        if (space.Next is null)
            _last = space.Previous;
        else
            space.Next.Previous = space.Previous;
        (space.Previous, space.Next) = (null, null);
        Count--;
    }

    /// <summary>Begins a pass at the first slot, if none is under way.</summary>
    public void BeginPass()
    {
        if (!InPass)
            (InPass, Cursor) = (true, First);
    }

    /// <summary>Moves the cursor on to the next slot.</summary>
    public void Advance() => Cursor = Cursor?.Next;

    /// <summary>Ends the pass, wherever the cursor is.</summary>
    public void EndPass() => (InPass, Cursor) = (false, null);

    private void InsertBefore(Space? next, Space space)
    {
        Space? previous = next is null ? _last : next.Previous;
        (space.Previous, space.Next) = (previous, next);
        if (previous is null)
            First = space;
        else
            previous.Next = space;
        if (next is null)
            _last = space;
        else
            next.Previous = space;
        Count++;
    }
}
