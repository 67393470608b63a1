using Samepage.Engine.Index;
using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine.Frames;

/// <summary>The frames of one trust domain: what is in them, how many pages use them, and where content is found (C1).</summary>
/// <remarks><code>
///   digest  u64   of the content, while held; else the next free frame plus one
///   users   u32   pages mapped to it; above them Held: it holds memory, Hidden: nobody is to find it any more, and Full: nobody finds it for now
/// </code>Frames are handed out by rising number, so that pages which are neighbours and are merged one after the other get frames that are
/// neighbours, and one mapping serves the run. A frame without a user is kept for <see cref="PassesBeforeFree"/> passes and found like any
/// other, unless it was hidden; then it is freed, and its number used again, if the machine says each time that nobody maps it: a child forked unseen may.
/// <para>A frame that as many pages use, or are planned to, as may share one is full, and out of the index until it loses one: the next page of its content makes
/// another frame of it. So a content may have a chain of frames.</para></remarks>
internal sealed partial class FrameTable(DomainId domain, EngineOptions options, MemoryBudget budget) : IDisposable
{
    private const int PassesBeforeFree = 3, FramesPerQuestion = 512;
    private const uint Held = 1U << 31, Hidden = 1U << 30, Full = 1U << 29, UsersMask = Full - 1;
    private readonly NativeColumn<ulong> _digests = new(budget);
    private readonly NativeColumn<uint> _users = new(budget);
    private readonly Dictionary<uint, int> _unused = [];
    private IDigestIndex? _index;

    /// <summary>The frames given back, as a chain through their digests; 0 is its end, so frames are named by their number plus one.</summary>
    private ulong _firstFree;
    private uint _next;

    /// <summary>Frames with a user.</summary>
    public long InUse { get; private set; }

    /// <summary>Pages mapped to them.</summary>
    public long Users { get; private set; }

    /// <summary>Frames that hold memory: those in use and those about to be freed.</summary>
    public long HeldCount => InUse + _unused.Count;

    /// <summary>One past the highest frame that was ever handed out.</summary>
    public uint End => _next;

    /// <summary>Bytes of records and of the index.</summary>
    public long Bytes => _digests.Bytes + _users.Bytes + (_index?.Bytes ?? 0);

    private IDigestIndex Index => _index ??= Domain.Make(options.Index, reference => _digests[reference], budget);

    /// <summary>Finds a frame of this digest that pages may join.</summary>
    public bool TryFind(ulong digest, out FrameId frame)
    {
        bool found = Index.TryFind(digest, out uint reference);
        frame = new FrameId(reference);
        return found && !IsGoing(reference);
    }

    /// <summary>Finds the frames of this digest: their contents may differ.</summary>
    /// <returns>How many were found: as many as there is room for at most.</returns>
    public int Find(ulong digest, Span<uint> found)
    {
        int count = 0;
        foreach (uint frame in found[..Index.Find(digest, found)])
        {
            if (!IsGoing(frame))
                found[count++] = frame;
        }

        return count;
    }

    /// <summary>Takes the next frame for content of this digest, and makes it findable. Without users it is soon free again.</summary>
    /// <returns>False when there is no memory for its record or its node: then there is no frame (C9).</returns>
    public bool TryAdd(ulong digest, out FrameId frame)
    {
        frame = new FrameId(_firstFree > 0 ? (uint)(_firstFree - 1) : NextNew());
        if (!TryMakeRoom(frame.Value))
            return false;
        ulong nextFree = _digests[frame.Value];
        _digests[frame.Value] = digest;
        if (!Index.TryAdd(digest, frame.Value))
        {
            _digests[frame.Value] = nextFree;
            return false;
        }

        if (_firstFree > 0)
            _firstFree = nextFree;
        else
            _next = frame.Value + 1;
        _users[frame.Value] = Held;
        _unused.Add(frame.Value, 0);
        return true;
    }

    /// <summary>Makes a frame unfindable: nobody is to join it any more. It is freed like any other.</summary>
    public void Hide(FrameId frame)
    {
        uint before = _users[frame.Value];
        if ((before & Hidden) != 0)
            return;
        _users[frame.Value] = (before | Hidden) & ~Full;
        if ((before & Full) != 0)
            CountFull(frame, -1);
        else if (!Index.Remove(_digests[frame.Value], frame.Value))
            throw new EngineInvariantException("stable index", $"frame {frame.Value} of domain {domain.Value} is not in it");
    }

    public uint UsersOf(FrameId frame) => _users[frame.Value] & UsersMask;

    /// <summary>Whether a frame holds memory that the engine knows of.</summary>
    public bool IsHeld(FrameId frame) => frame.Value < _users.Capacity && (_users[frame.Value] & Held) != 0;

    public ulong DigestOf(FrameId frame) => _digests[frame.Value];

    public void AddUser(FrameId frame)
    {
        if (!IsHeld(frame))
            throw new EngineInvariantException("frame users", $"a page joins frame {frame.Value} of domain {domain.Value}, which is free");
        if ((_users[frame.Value]++ & UsersMask) == 0)
        {
            _unused.Remove(frame.Value);
            InUse++;
        }

        Users++;
        CloseIfFull(frame);
    }

    public void RemoveUser(FrameId frame)
    {
        if (UsersOf(frame) == 0)
            throw new EngineInvariantException("frame users", $"frame {frame.Value} of domain {domain.Value} loses a user that it does not have");
        if ((--_users[frame.Value] & UsersMask) == 0)
        {
            _unused[frame.Value] = 0;
            InUse--;
        }

        Users--;
        OpenIfRoom(frame);
    }

    /// <summary>Frees what has been without a user for long enough (C11).</summary>
    public void Sweep(IMachine machine)
    {
        if (_unused.Count == 0)
            return;
        List<uint> free = [], unused = [.. _unused.Keys];
        EachWhetherUnmapped(unused, machine, (frame, isUnmapped) =>
        {
            int passes = _unused[frame] + 1;
            if (!isUnmapped && (options.Faults & EngineFaults.FreeMappedFrames) == 0)
                _unused[frame] = 0;
            else if (passes < PassesBeforeFree)
                _unused[frame] = passes;
            else
                free.Add(frame);
        });
        Free(free, machine);
    }

    /// <summary>Recounts the frames and looks at their index.</summary>
    /// <param name="usersOf">How many records name a frame.</param>
    /// <exception cref="EngineInvariantException">Something does not hold.</exception>
    public void Check(Func<uint, long> usersOf)
    {
        long inUse = 0, users = 0, held = 0, findable = 0;
        Span<uint> found = stackalloc uint[1];
        for (uint frame = 0; frame < _users.Capacity; frame++)
        {
            uint counted = _users[frame] & UsersMask;
            if (counted != usersOf(frame))
                throw new EngineInvariantException("frame users", $"frame {frame} of domain {domain.Value} is counted with {counted} users and has {usersOf(frame)}");
            if (counted > 0 == _unused.ContainsKey(frame) && IsHeld(new FrameId(frame)))
                throw new EngineInvariantException("frame users", $"frame {frame} of domain {domain.Value} has {counted} users, and is listed otherwise");
            inUse += counted > 0 ? 1 : 0;
            users += counted;
            held += IsHeld(new FrameId(frame)) ? 1 : 0;
            if ((_users[frame] & Full) != 0 && counted + Promised(frame) < SharersMax)
                throw new EngineInvariantException("full frames", $"frame {frame} of domain {domain.Value} has {counted} users and counts as full");
            if ((_users[frame] & (Held | Hidden | Full)) != Held)
                continue;
            findable++;
            if (Index.Find(_digests[frame], found) == 0)
                throw new EngineInvariantException("stable index", $"frame {frame} of domain {domain.Value} is not found by its digest");
        }

        if ((inUse, users, held) != (InUse, Users, HeldCount))
            throw new EngineInvariantException("G10 counters", $"domain {domain.Value} has {inUse} frames in use, {users} users, {held} held, counted as {InUse}, {Users}, {HeldCount}");
        if (findable != Index.Count)
            throw new EngineInvariantException("stable index", $"domain {domain.Value} has {findable} findable frames, and {Index.Count} in the index");
        Index.Check();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _digests.Dispose();
        _users.Dispose();
        _index?.Dispose();
    }

    /// <summary>Asks the machine of frames without a user, neighbours in one call.</summary>
    private void EachWhetherUnmapped(List<uint> frames, IMachine machine, Action<uint, bool> found)
    {
        frames.Sort();
        Span<bool> unmapped = stackalloc bool[FramesPerQuestion];
        for (int i = 0; i < frames.Count;)
        {
            int count = 1;
            while (count < FramesPerQuestion && i + count < frames.Count && frames[i + count] == frames[i] + (uint)count)
                count++;
            machine.FindUnmapped(domain, new FrameId(frames[i]), unmapped[..count]);
            for (int k = 0; k < count; k++)
                found(frames[i++], unmapped[k]);
        }
    }

    /// <summary>Gives frames back, runs of neighbours in one call each; they are handed out again by rising number, as far as they go.</summary>
    private void Free(List<uint> free, IMachine machine)
    {
        free.Sort();
        for (int i = 0; i < free.Count;)
        {
            int count = 1;
            while (i + count < free.Count && free[i + count] == free[i] + (uint)count)
                count++;
            for (int k = 0; k < count; k++)
                Forget(free[i + k]);
            machine.FreeFrames(domain, new FrameId(free[i]), count);
            i += count;
        }

        for (int i = free.Count - 1; i >= 0; i--)
            PushFree(free[i]);
    }

    private void Forget(uint frame)
    {
        if ((options.Faults & EngineFaults.KeepDeadNodes) == 0)
            Hide(new FrameId(frame));
        _users[frame] = 0;
        _unused.Remove(frame);
    }

    private void PushFree(uint frame)
    {
        if (IsGoing(frame))
            return;
        _digests[frame] = _firstFree;
        _firstFree = frame + 1UL;
    }

    private bool TryMakeRoom(uint frame)
    {
        if (frame < _digests.Capacity && frame < _users.Capacity)
            return true;
        long least = frame + 1L, room = Math.Max(256, least + least / 64);
        return (_digests.TryGrow(room) || _digests.TryGrow(least)) && (_users.TryGrow(room) || _users.TryGrow(least));
    }
}
