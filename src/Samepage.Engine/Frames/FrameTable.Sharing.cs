using System.Runtime.InteropServices;

namespace Samepage.Engine.Frames;

/// <content>How many pages may share one frame, and the chains of frames of one content that come of it (G9).</content>
internal sealed partial class FrameTable
{
    /// <summary>Pages that are planned to join a frame.</summary>
    private readonly Dictionary<uint, uint> _promised = [];

    /// <summary>Full frames by their digest.</summary>
    private readonly Dictionary<ulong, uint> _full = [];

    /// <summary>The most pages that may share a frame. Changed only while nobody uses any.</summary>
    public int SharersMax { get; set; } = int.MaxValue;

    /// <summary>Contents that have more than one frame, and those frames.</summary>
    public (long Chains, long Frames) Chains
    {
        get
        {
            (long Chains, long Frames) sum = default;
            Span<uint> found = stackalloc uint[16];
            foreach ((ulong digest, uint full) in _full)
            {
                long frames = full;
                foreach (uint open in found[..Index.Find(digest, found)])
                    frames += (_users[open] & UsersMask) > 0 ? 1 : 0;
                sum = frames > 1 ? (sum.Chains + 1, sum.Frames + frames) : sum;
            }

            return sum;
        }
    }

    /// <summary>A page is planned to join a frame.</summary>
    public void Promise(FrameId frame)
    {
        CollectionsMarshal.GetValueRefOrAddDefault(_promised, frame.Value, out _)++;
        CloseIfFull(frame);
    }

    /// <summary>A page that was planned to join a frame has done so, or does not.</summary>
    public void EndPromise(FrameId frame)
    {
        if (!_promised.TryGetValue(frame.Value, out uint promised))
            return;
        if (promised > 1)
            _promised[frame.Value] = promised - 1;
        else
            _promised.Remove(frame.Value);
        OpenIfRoom(frame);
    }

    /// <summary>Whether any page is planned to join a frame.</summary>
    public bool IsPromised(FrameId frame) => _promised.ContainsKey(frame.Value);

    private uint Promised(uint frame) => _promised.GetValueOrDefault(frame);

    private void CloseIfFull(FrameId frame)
    {
        if (SharersMax == int.MaxValue || (_users[frame.Value] & (Full | Hidden)) != 0 || UsersOf(frame) + Promised(frame.Value) < SharersMax)
            return;
        if (!Index.Remove(_digests[frame.Value], frame.Value))
            throw new EngineInvariantException("stable index", $"frame {frame.Value} of domain {domain.Value} is not in it");
        _users[frame.Value] |= Full;
        CountFull(frame, 1);
    }

    /// <summary>Where there is no memory for its node, a frame is found no more: pages of its content make another.</summary>
    private void OpenIfRoom(FrameId frame)
    {
        if ((_users[frame.Value] & Full) == 0 || UsersOf(frame) + Promised(frame.Value) >= SharersMax)
            return;
        _users[frame.Value] &= ~Full;
        CountFull(frame, -1);
        if (!Index.TryAdd(_digests[frame.Value], frame.Value))
            _users[frame.Value] |= Hidden;
    }

    private void CountFull(FrameId frame, int by)
    {
        ref uint full = ref CollectionsMarshal.GetValueRefOrAddDefault(_full, _digests[frame.Value], out _);
        full += (uint)by;
        if (full == 0)
            _full.Remove(_digests[frame.Value]);
    }
}
