using System.Diagnostics;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Children that have none of their parent's frames any more, for they have unmapped them all: they do not keep it from being given back.</summary>
/// <remarks>
/// <para>Which process has a descriptor is told by a page of a frame (<see cref="Offspring.Find"/>), so of such a child it cannot be told. But one that has frames is a process that maps them. So a parent's descriptors
/// are nobody's where no process maps frames of its pool but the parent, and such as have an agent of their own: those that came with such a descriptor have given it up. Another parent's child that cannot be taken in
/// is enough for nothing to be known; then it stays as it was, and the parent is tried again.</para>
/// <para>A child has its memory some time before it is a process, and one that moves its mappings may move them past who reads their list. So no child counts as bare in its first seconds, every list is read twice, and
/// the descriptor is not closed: the daemon watches over it when the parent has been given back, as over any other, until the child ends. Whoever has no frames gets none, but by a fork, and that of a bare child has none.</para>
/// </remarks>
internal static class BareChildren
{
    private static readonly TimeSpan Settled = TimeSpan.FromSeconds(2);

    /// <summary>Finds them. May wait for processes, for a moment each.</summary>
    /// <param name="space">The parent.</param>
    /// <param name="known">Processes that were taken in, with an agent of their own.</param>
    /// <param name="attendants">Look at processes that may be anybody's.</param>
    public static void Note(LiveSpace space, IReadOnlySet<int> known, Attendants attendants)
    {
        long since = Stopwatch.GetTimestamp();
        if (!Select(space, since))
            return;
        TimeSpan patience = Offspring.LookBound;
        foreach (int pid in Offspring.Descendants(space.Pid))
        {
            bool? maps = null;
            if (!known.Contains(pid) && (!Offspring.TryLookAt(attendants, pid, ref patience, () => maps = MapsFrames(pid, space)) || maps != false))
                return;
        }

        _ = Select(space, since, isBare: true);
    }

    /// <summary>Whether any counts that had settled at some time; and makes those bare.</summary>
    private static bool Select(LiveSpace space, long at, bool isBare = false)
    {
        lock (space.Inherited)
        {
            int[] slots = [.. space.Inherited.Where(one => !one.Value.IsBare && Stopwatch.GetElapsedTime(one.Value.Since, at) > Settled).Select(one => one.Key)];
            foreach (int slot in isBare ? slots : [])
                space.Inherited[slot] = space.Inherited[slot] with { IsBare = true };
            return slots.Length > 0;
        }
    }

    /// <summary>Whether a process maps frames of a space's pool; null where it cannot be looked at.</summary>
    private static bool? MapsFrames(int pid, LiveSpace space)
    {
        List<Mapping> mappings = [];
        for (int look = 0; look < 2; look++)
        {
            if (!Mapping.TryReadAll($"/proc/{LivingThread.Of(pid)}/maps", mappings))
                return Directory.Exists($"/proc/{pid}") && ProcessStatus.TryReadLiving(pid) is not { HasMemory: false } ? null : false;
            if (mappings.Exists(mapping => space.Pool.Has(mapping)))
                return true;
        }

        return false;
    }
}
