using Samepage.Agent;
using Samepage.Linux.Kernels;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Tells of pages whether somebody besides their program holds them: a device, a registered buffer of io_uring, a read that is under way, a pipe.</summary>
/// <remarks>
/// <para>What is merged, or given back, is another page with the same content. Who holds a page goes on to write to that page and not to the other, or to read it: so it must stay. The kernel tells nobody which pages
/// are held; but it counts references, and whoever holds a page has one that is none of its mappings (<see cref="PageReferences"/>). Where the counts cannot be read, what a process has open decides of what is to be
/// given back (<see cref="Pins"/>): if that does not rule it out that a page is held, it is.</para>
/// <para>Any thread.</para>
/// </remarks>
internal static class HeldPages
{
    private static readonly object s_asking = new();

    /// <summary>The references of pages can be counted.</summary>
    public static bool CanBeTold => PageReferences.Here.Counts is not null;

    /// <summary>Has an operation that gives a range back ask before it copies, where somebody may hold a page of it.</summary>
    /// <param name="space">The process.</param>
    /// <param name="mayBe">Something of it may be pinned, by what it has open.</param>
    /// <param name="operation">The operation.</param>
    /// <returns>False where a page that was written since it was merged may be held, and nobody could answer: the range must stay as it is.</returns>
    public static bool TryMind(LiveSpace space, bool mayBe, ref AgentOperation operation)
    {
        if (!mayBe && !CanBeTold)
            return true;
        bool isBroken = space.HasBroken(operation.Address, operation.Length);
        if (isBroken && !CanBeTold)
            return false;
        if (mayBe || isBroken)
            operation.Flags |= OperationFlags.Ask;
        return true;
    }

    /// <summary>Whether nobody holds any of the private pages in a range of mappings of frames. It stays so where nobody can write to the range any more.</summary>
    /// <param name="pagemap">The process's.</param>
    /// <param name="start">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <returns>False also where it cannot be told.</returns>
    public static bool AreNone(Pagemap pagemap, ulong start, ulong length)
    {
        ulong[] words = new ulong[length / 4096];
        if (pagemap.ReadWords(start, words) < words.Length)
            return false;
        ulong[] frames = [.. words.Where(static word => (word & (Pagemap.Present | Pagemap.FilePage)) == Pagemap.Present).Select(static word => word & Pagemap.FrameMask)];
        if (frames.Length == 0)
            return true;
        bool areNone = true;
        Find(frames, index => areNone &= IsZeroPage(frames[index]));
        return areNone;
    }

    /// <summary>Finds those of some physical pages that somebody holds, or of which that cannot be told.</summary>
    /// <param name="frames">Their numbers; 0 is none that can be told.</param>
    /// <param name="found">Is called with the place of each, by rising place.</param>
    public static void Find(ulong[] frames, Action<int> found)
    {
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
