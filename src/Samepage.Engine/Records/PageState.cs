namespace Samepage.Engine.Records;

/// <summary>What the engine knows of a page. Values from <see cref="FirstFrame"/> on name the frame that it is mapped to.</summary>
internal static class PageState
{
    public const uint None = 0;

    /// <summary>Written in the pass before; if not again in this one, it is looked up. Without write tracking: its checksum is the last scan's, and was another before.</summary>
    public const uint Written = 1;

    /// <summary>Written in this pass; without write tracking: it has no checksum yet.</summary>
    public const uint WrittenNow = 2;

    /// <summary>Physically shared already; left alone until it is written.</summary>
    public const uint SharedAlready = 3;

    /// <summary>Could not be merged this time; looked up again in the next pass.</summary>
    public const uint Retry = 4;

    /// <summary>Its content was not what its digest had promised: looked up once more, with bytes compared.</summary>
    public const uint Differed = 5;

    /// <summary>Cannot be merged for its content; left alone until it is written.</summary>
    public const uint Odd = 6;

    /// <summary>Given back to the kernel's zero page.</summary>
    public const uint Zeroed = 7;

    /// <summary>In a plan that is not carried out yet.</summary>
    public const uint Planned = 8;

    /// <summary>Was merged, and a write broke it: private memory inside a mapping of frames.</summary>
    public const uint Broken = 9;

    /// <summary>Was not there when it was looked at: swapped out, or discarded. What comes back from the swap is not written, and nothing announces it.</summary>
    public const uint Absent = 10;

    /// <summary>Was merged and written again and again, or is held by a device, or there was no room for its frame: left alone until its rest is over, see <see cref="PageHistory"/>.</summary>
    public const uint Resting = 11;

    /// <summary>Unchanged for a while and like no other: in the unstable index, put there in the scan of these low eight bits.</summary>
    public const uint FirstUnique = 0x100;

    public const uint FirstFrame = 0x200;

    public static uint UniqueSince(long scan) => FirstUnique | unchecked((byte)scan);

    public static bool IsUnique(uint state) => state is >= FirstUnique and < FirstFrame;

    /// <summary>Scans since a unique page was put into the unstable index, modulo 256 (C7).</summary>
    public static int AgeOf(uint state, long scan) => unchecked((byte)(scan - state));

    public static uint InFrame(FrameId frame) => FirstFrame + frame.Value;

    public static FrameId FrameOf(uint state) => new(state - FirstFrame);

    public static bool IsMerged(uint state) => state >= FirstFrame;

    /// <summary>What a state is to an observer.</summary>
    public static PageKind KindOf(uint state) => state switch
    {
        >= FirstFrame => PageKind.Merged,
        >= FirstUnique => PageKind.Unique,
        None => PageKind.Untracked,
        Zeroed => PageKind.Zero,
        Written or WrittenNow or Resting => PageKind.Volatile,
        SharedAlready => PageKind.SharedAlready,
        Broken => PageKind.Broken,
        Absent => PageKind.Absent,
        Odd => PageKind.Odd,
        _ => PageKind.Waiting,
    };

    /// <summary>Has a digest, on a machine that tracks writes; at all other times a <see cref="PageHistory"/> lies in its place.</summary>
    public static bool HasDigest(uint state) => state == Planned || IsUnique(state);

    /// <summary>Looked at again in the next pass.</summary>
    public static bool IsPending(uint state) => state is Written or WrittenNow or Retry or Differed;

    /// <summary>Read and looked up as soon as it has not been written for a pass.</summary>
    public static bool IsCandidate(uint state) => state is Written or Retry or Differed;

    /// <summary>On a machine without write tracking: the digest is the checksum of the last scan (C4).</summary>
    public static bool HasChecksum(uint state) => state is Written or Retry or Differed or Odd || IsUnique(state);
}
