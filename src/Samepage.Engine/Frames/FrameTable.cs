using Samepage.Engine.Index;
using Samepage.Engine.Records;

namespace Samepage.Engine.Frames;

/// <summary>The frames of one trust domain: what is in them, how many pages use them, and where content is found (C1).</summary>
/// <remarks>Frames are handed out by rising number, so that pages which are neighbours and are merged one after the other get frames that are
/// neighbours, and one mapping serves the run. A frame without a user is kept for <see cref="PassesBeforeFree"/> passes and found like any
/// other, unless it was forgotten; then it is freed, and its number used again, if the machine says each time that nobody maps it: a child forked unseen may.</remarks>
internal sealed class FrameTable(DomainId domain) : IDisposable
{
    private const int PassesBeforeFree = 3;
    private readonly NativeColumn<ulong> _digests = new();
    private readonly NativeColumn<uint> _users = new();
    private readonly Dictionary<uint, int> _unused = [];
    private DigestIndex? _index;
    private readonly Stack<uint> _free = [];
    private uint _next;

    /// <summary>Frames with a user.</summary>
    public long InUse { get; private set; }

    /// <summary>Pages mapped to them.</summary>
    public long Users { get; private set; }

    /// <summary>Frames that hold memory: those in use and those about to be freed.</summary>
    public long Held => InUse + _unused.Count;

    /// <summary>Bytes of records and of the index.</summary>
    public long Bytes => _digests.Bytes + _users.Bytes + (_index?.Bytes ?? 0);

    private DigestIndex Index => _index ??= new DigestIndex(reference => _digests[reference]);

    public bool TryFind(ulong digest, out FrameId frame)
    {
        bool found = Index.TryFind(digest, out uint reference);
        frame = new FrameId(reference);
        return found;
    }

    /// <summary>Takes the next frame for content of this digest, and makes it findable. Without users it is soon free again.</summary>
    public FrameId Add(ulong digest)
    {
        uint frame = _free.Count > 0 ? _free.Pop() : _next++;
        if (frame >= _digests.Capacity)
        {
            long capacity = Math.Max(1024, _digests.Capacity + _digests.Capacity / 32);
            _digests.Grow(capacity);
            _users.Grow(capacity);
        }

        _digests[frame] = digest;
        _users[frame] = 0;
        _unused.Add(frame, 0);
        Index.Add(digest, frame);
        return new FrameId(frame);
    }

    /// <summary>Makes a frame unfindable: nobody is to join it any more. It is freed like any other.</summary>
    public void Forget(FrameId frame) => Index.Remove(_digests[frame.Value], frame.Value);

    public uint UsersOf(FrameId frame) => _users[frame.Value];

    public void AddUser(FrameId frame)
    {
        if (_users[frame.Value]++ == 0)
        {
            _unused.Remove(frame.Value);
            InUse++;
        }

        Users++;
    }

    public void RemoveUser(FrameId frame)
    {
        if (_users[frame.Value] == 0)
            throw new InvalidOperationException($"frame {frame.Value} of domain {domain.Value} loses a user that it does not have");
        if (--_users[frame.Value] == 0)
        {
            _unused[frame.Value] = 0;
            InUse--;
        }

        Users--;
    }

    /// <summary>Frees what has been without a user for long enough (C11).</summary>
    public void Sweep(IMachine machine)
    {
        if (_unused.Count == 0)
            return;
        List<uint> free = [];
        foreach ((uint frame, int passes) in _unused.ToArray())
        {
            if (!machine.IsUnmapped(domain, new FrameId(frame)))
                _unused[frame] = 0;
            else if (passes + 1 < PassesBeforeFree)
                _unused[frame] = passes + 1;
            else
                free.Add(frame);
        }

        free.Sort();
        for (int i = 0; i < free.Count;)
        {
            int count = 1;
            while (i + count < free.Count && free[i + count] == free[i] + (uint)count)
                count++;
            for (int k = 0; k < count; k++)
            {
                Index.Remove(_digests[free[i + k]], free[i + k]);
                _unused.Remove(free[i + k]);
            }

            machine.FreeFrames(domain, new FrameId(free[i]), count);
            i += count;
        }

        // Handed out again by rising number, as far as they go.
        for (int i = free.Count - 1; i >= 0; i--)
            _free.Push(free[i]);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _digests.Dispose();
        _users.Dispose();
        _index?.Dispose();
    }
}
