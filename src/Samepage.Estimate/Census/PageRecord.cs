using System.Runtime.InteropServices;

namespace Samepage.Estimate.Census;

/// <summary>What is known of a page besides its content.</summary>
[Flags]
internal enum PageFlags : byte
{
    None = 0,

    /// <summary>Merging can reach it: its area is eligible, its process can be served, it is nobody else's, and in no huge page that is left whole.</summary>
    Reach = 1,

    /// <summary>It is held in a huge page.</summary>
    Huge = 2,

    /// <summary>Others map the same frame already. Its key is that frame, and its content was not read.</summary>
    Frame = 4,

    /// <summary>Its content has changed since the first sample, or was not there then.</summary>
    Changed = 8,

    /// <summary>Met in the sample that is being taken.</summary>
    Met = 16,
}

/// <summary>One page that was met: 16 bytes.</summary>
/// <remarks><code>
///   Digest  64 bits: XxHash3 of the content; with Frame, what the frame number comes to by Key
///   Tag     [source 16][page number 36][kind 4][flags 8]
/// </code>Sorted by digest and tag, copies of a content lie together, those of a source within them, by rising address.
/// Sorted by tag alone, pages lie as in memory. 36 bits of page number are the 48 bits of address that programs get.</remarks>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct PageRecord(ulong digest, ulong tag) : IComparable<PageRecord>
{
    public const int SourcesMax = 1 << 16;
    private const int PageBits = 36, SourceShift = 48, PageShift = 12, KindShift = 8;
    private const ulong PageMask = (1UL << PageBits) - 1;

    /// <summary>Tells two kinds of keys apart: no page's number is changed by it, only mixed.</summary>
    private const ulong FrameMix = 0x9e37_79b9_7f4a_7c15;

    public readonly ulong Digest = digest;
    public readonly ulong Tag = tag;

    public PageRecord(ulong digest, int source, ulong page, MemoryKind kind, PageFlags flags)
        : this(digest, ((ulong)source << SourceShift) | ((page & PageMask) << PageShift) | ((ulong)kind << KindShift) | (ulong)flags)
    {
    }

    public int Source => (int)(Tag >> SourceShift);

    public ulong Page => (Tag >> PageShift) & PageMask;

    public MemoryKind Kind => (MemoryKind)((Tag >> KindShift) & 15);

    public PageFlags Flags => (PageFlags)(byte)Tag;

    /// <summary>Source and page number as one word; neighbours differ by one.</summary>
    public ulong Place => Tag >> PageShift;

    public bool Has(PageFlags flag) => (Flags & flag) != 0;

    public PageRecord With(PageFlags flags) => new(Digest, (Tag & ~0xffUL) | (ulong)flags);

    /// <summary>The key of a frame: an odd factor loses nothing, and spreads neighbours.</summary>
    public static ulong Key(ulong frame) => frame * FrameMix;

    /// <summary>The lowest tag that a page of a source can have.</summary>
    public static ulong TagOf(int source, ulong page) => ((ulong)source << SourceShift) | ((page & PageMask) << PageShift);

    public int CompareTo(PageRecord other) => Digest != other.Digest ? Digest.CompareTo(other.Digest) : Tag.CompareTo(other.Tag);
}
