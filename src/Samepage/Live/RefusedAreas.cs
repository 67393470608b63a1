using System.Diagnostics;
using Samepage.Linux;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Areas of one process in which the kernel refused an exchange as a whole, for what they are: they are left alone as long as they look the same.</summary>
/// <remarks>One thread at a time, whoever works on the process; <see cref="Reason"/> any. To try again is to hold the program for nothing. The kernel does not say why it refuses,
/// and it may be over without a sign, so it is tried again after a minute, and after twice as long each time. There are at most <see cref="Most"/>; one more puts the oldest out of mind, which costs one try.</remarks>
internal sealed class RefusedAreas
{
    private const int Most = 1024;
    private static readonly TimeSpan FirstRest = TimeSpan.FromMinutes(1), LongestRest = TimeSpan.FromHours(8);
    private readonly Dictionary<ulong, Refusal> _areas = [];
    private readonly HashSet<ulong> _seen = [];

    /// <summary>What is left alone, and why; empty when nothing is.</summary>
    public string Reason { get; private set; } = "";

    /// <summary>Leaves an area alone.</summary>
    /// <param name="area">As it looked when it was refused.</param>
    /// <param name="errno">What the kernel said.</param>
    public void Add(in Segment area, Errno errno)
    {
        TimeSpan rest = FirstRest;
        if (_areas.Remove(area.Start, out Refusal before) && before.End == area.End && before.Flags == area.Flags)
            rest = before.Rest < LongestRest ? 2 * before.Rest : LongestRest;
        if (_areas.Count == Most)
            _areas.Remove(_areas.MinBy(pair => pair.Value.Since).Key);
        _areas.Add(area.Start, new Refusal(area.End, area.Flags, Stopwatch.GetTimestamp(), rest, errno));
    }

    /// <summary>Whether a mapping is to be left alone now. Asked between <see cref="BeginLook"/> and <see cref="EndLook"/> of all that could be merged.</summary>
    public bool Has(in Mapping mapping)
    {
        if (_areas.Count == 0 || !_areas.TryGetValue(mapping.Start, out Refusal refusal) || refusal.End != mapping.End || refusal.Flags != mapping.Flags)
            return false;
        _seen.Add(mapping.Start);
        if (Stopwatch.GetElapsedTime(refusal.Since) > refusal.Rest)
            return false;
        Reason = $"memory at 0x{mapping.Start:x} is left alone: "
            + (refusal.Errno == Errno.EOPNOTSUPP ? "its program says where it lies (mbind)" : $"the kernel refuses to move it ({refusal.Errno})");
        return true;
    }

    /// <summary>The mappings are about to be looked at.</summary>
    public void BeginLook()
    {
        _seen.Clear();
        Reason = "";
    }

    /// <summary>They have been: what is not there any more, or looks different, is forgotten.</summary>
    public void EndLook()
    {
        if (_areas.Count == _seen.Count)
            return;
        foreach (ulong start in _areas.Keys.Except(_seen).ToArray())
            _areas.Remove(start);
    }

    private readonly record struct Refusal(ulong End, string Flags, long Since, TimeSpan Rest, Errno Errno);
}
