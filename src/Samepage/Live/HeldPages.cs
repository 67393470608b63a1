using Samepage.Agent;
using Samepage.Linux.Kernels;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Tells of pages whether somebody besides their program holds them: a device, a registered buffer of io_uring, a read that is under way, a pipe.</summary>
/// <remarks>
/// <para>What is merged, or given back, is another page with the same content. Who holds a page goes on to write to that page and not to the other, or to read it: so it must stay. The kernel tells nobody which pages
/// are held; but it counts references, and whoever holds a page has one that is none of its mappings (<see cref="PageReferences"/>). Where the counts cannot be read, what a process has open decides of what is to be
/// given back (<see cref="Pins"/>): if that does not rule it out that a page is held, every page is that was written since it was merged.</para>
/// <para>Any thread.</para>
/// </remarks>
internal static class HeldPages
{
    private static readonly object s_asking = new();

    /// <summary>The references of pages can be counted.</summary>
    public static bool CanBeTold => PageReferences.Here.Counts is not null;

    /// <summary>Whether what is given back of a process is to be asked about: references can be counted, or something of it may be pinned.</summary>
    public static bool MayBeIn(LiveSpace space) => CanBeTold || Pins.MayBe(space.OwnThread, space.Map.Mappings);

    /// <summary>Which of some operations give a page back that somebody may hold. It stays so where nobody can write to their ranges any more: a page that is held then was held before.</summary>
    /// <param name="pagemap">The process's.</param>
    /// <param name="operations">The operations; those without <see cref="OperationFlags.Ask"/> do not count.</param>
    /// <returns>Their places, each once. Where references cannot be counted, those that give a page back which was written since it was merged: frames themselves nobody writes to.</returns>
    public static List<int> Among(Pagemap pagemap, ReadOnlySpan<AgentOperation> operations)
    {
        List<int> held = [];
        List<ulong> frames = [];
        List<int> owners = [];
        for (int i = 0; i < operations.Length; i++)
        {
            if ((operations[i].Flags & OperationFlags.Ask) == 0)
                continue;
            ulong[] words = new ulong[operations[i].Length / 4096];
            int known = pagemap.ReadWords(operations[i].Address, words);
            int before = frames.Count;
            bool isKnown = known == words.Length;
            foreach (ulong word in words.AsSpan(0, known))
            {
                // On its way to another physical page, or somewhere else that cannot be asked about: nobody knows. What was in swap has been brought back.
                isKnown &= (word & Pagemap.Swapped) == 0 || (word & Pagemap.SwapTypeMask) is < Pagemap.FirstOtherType or Pagemap.Marker;
                if ((word & (Pagemap.Present | Pagemap.FilePage)) != Pagemap.Present)
                    continue;
                frames.Add(word & Pagemap.FrameMask);
                owners.Add(i);
            }

            if (isKnown && (CanBeTold || frames.Count == before))
                continue;
            held.Add(i);
            frames.RemoveRange(before, frames.Count - before);
            owners.RemoveRange(before, owners.Count - before);
        }

        ulong[] asked = [.. frames];
        Find(asked, index =>
        {
            if (!IsZeroPage(asked[index]) && !held.Contains(owners[index]))
                held.Add(owners[index]);
        });
        return held;
    }

    /// <summary>Finds those of some physical pages that somebody holds, or of which that cannot be told.</summary>
    /// <param name="frames">Their numbers; 0 is none that can be told.</param>
    /// <param name="found">Is called with the place of each, by rising place.</param>
    public static void Find(ulong[] frames, Action<int> found)
    {
        if (frames.Length == 0)
            return;
        bool[] held = new bool[frames.Length];
        lock (s_asking)
        {
            if (PageReferences.Here.Counts?.TryFindHeld(frames, held, out _) != true)
                held.AsSpan().Fill(true);
        }

        for (int i = 0; i < held.Length; i++)
        {
            if (held[i] || frames[i] == 0)
                found(i);
        }
    }

    private static bool IsZeroPage(ulong frame) => ((FrameFlags.Here?.Of(frame) ?? 0) & FrameFlags.ZeroPage) != 0;
}
