using Samepage.Linux.Kernels;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Tells of pages that were merged and written since whether somebody besides their program holds them: a device, a registered buffer of io_uring, a read that is under way, a pipe.</summary>
/// <remarks>
/// <para>What is given back is a copy. Who holds a page goes on to write to that page and not to the copy, or to read it: so it must stay. The kernel tells nobody which pages are held; but it counts
/// references, and whoever holds a page has one that is none of its mappings (<see cref="PageReferences"/>). Where the counts cannot be read, what a process has open decides (<see cref="Pins"/>): if that
/// does not rule it out that a page is held, it is.</para>
/// <para>Any thread.</para>
/// </remarks>
internal static class HeldPages
{
    private static readonly object s_asking = new();
    private static readonly Lazy<(PageReferences? Counts, string Why)> s_references = new(static () => (PageReferences.TryOpen(out string why), why));

    /// <summary>The references of pages can be counted.</summary>
    public static bool CanBeTold => s_references.Value.Counts is not null;

    /// <summary>Why they cannot; empty where they can.</summary>
    public static string WhyNot => s_references.Value.Why;

    /// <summary>Whether an operation that gives a range back must ask before it copies.</summary>
    /// <param name="mayBe">Something of the process may be pinned, by what it has open.</param>
    /// <param name="isBroken">A page of the range was written since it was merged.</param>
    public static bool MustAsk(bool mayBe, bool isBroken) => mayBe || (isBroken && CanBeTold);

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
        bool[] held = new bool[frames.Length];
        lock (s_asking)
        {
            if (s_references.Value.Counts?.TryFindHeld(frames, held, out _) != true)
                return false;
        }

        for (int i = 0; i < held.Length; i++)
        {
            if (held[i] && !IsZeroPage(frames[i]))
                return false;
        }

        return true;
    }

    private static bool IsZeroPage(ulong frame)
    {
        Span<ulong> flags = stackalloc ulong[1];
        return FrameFlags.Here?.Read(frame, flags) == 1 && (flags[0] & FrameFlags.ZeroPage) != 0;
    }
}
