namespace Samepage.Engine;

/// <summary>A range of an address space, in whole pages.</summary>
/// <param name="Start">The first page.</param>
/// <param name="Count">How many.</param>
public readonly record struct PageRun(PageNumber Start, long Count)
{
    /// <summary>One past the last page.</summary>
    public ulong End => Start.Value + (ulong)Count;
}

/// <summary>What lies over pages of an address space.</summary>
public interface IRanged
{
    /// <summary>The pages.</summary>
    PageRun Range { get; }
}

/// <summary>Searches in what is listed by rising address without overlaps.</summary>
public static class Ranges
{
    /// <summary>The place of the first that ends behind a page: the one that holds it, if any does. The count where none does.</summary>
    public static int FirstEndingBehind<T>(List<T> ranges, ulong page)
        where T : struct, IRanged
    {
        int low = 0, high = ranges.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (ranges[middle].Range.End <= page)
                low = middle + 1;
            else
                high = middle;
        }

        return low;
    }
}

/// <summary>What an area holds.</summary>
public enum AreaKind
{
    /// <summary>The program's own memory, tracked for writes, that may be merged.</summary>
    Mergeable,

    /// <summary>A mapping of frames.</summary>
    Merged,
}

/// <summary>A range of which every page may be treated alike.</summary>
/// <param name="Range">The pages; areas of a space do not overlap, and come by rising address.</param>
/// <param name="Kind">What it holds.</param>
public readonly record struct Area(PageRun Range, AreaKind Kind) : IRanged;

/// <summary>Pages that were written since they were last asked about.</summary>
/// <param name="Range">The pages.</param>
/// <param name="IsZeroPage">They are the kernel's zero page: nothing to gain.</param>
public readonly record struct WrittenRun(PageRun Range, bool IsZeroPage) : IRanged;

/// <summary>Pages that are mapped to frames.</summary>
/// <param name="Range">The pages.</param>
/// <param name="FirstFrame">The frame of the first page; those behind follow one by one.</param>
public readonly record struct MergedRun(PageRun Range, FrameId FirstFrame);

/// <summary>What a page was found to be when it was read.</summary>
public enum PageFact : byte
{
    /// <summary>It is not there, or could not be read.</summary>
    Absent,

    /// <summary>The address space alone maps it: it can be merged.</summary>
    Own,

    /// <summary>Another address space maps the same physical page already, after fork: nothing to gain (C6).</summary>
    SharedAlready,

    /// <summary>The address space did not let itself be read in time: it is tried again at the next visit.</summary>
    Unread,
}

/// <summary>What to do with a run.</summary>
public enum PlanKind
{
    /// <summary>Map each page to the frame that corresponds.</summary>
    Merge,

    /// <summary>Leave pages that are zero to the kernel's zero page.</summary>
    MakeZero,

    /// <summary>Give pages their own copy again.</summary>
    Unmerge,
}

/// <summary>A run of pages to be treated alike.</summary>
/// <param name="Kind">What to do.</param>
/// <param name="Range">The pages.</param>
/// <param name="FirstFrame">The frame of the first page; those behind follow one by one. Meaningless but for merging.</param>
public readonly record struct PlannedRun(PlanKind Kind, PageRun Range, FrameId FirstFrame) : IRanged;

/// <summary>What is to be done in one space.</summary>
/// <param name="Space">The space.</param>
/// <param name="Runs">Runs by rising address that do not overlap.</param>
/// <param name="Outcomes">Receives one for each page of the runs, in their order.</param>
public readonly record struct SpacePlan(SpaceId Space, List<PlannedRun> Runs, PageOutcome[] Outcomes);

/// <summary>What became of a page in a plan.</summary>
public enum PageOutcome : byte
{
    /// <summary>It is as planned.</summary>
    Done,

    /// <summary>Its content was not what the plan thought: it was left alone (D3, D4).</summary>
    Differs,

    /// <summary>Somebody holds it for the moment, a device or a child of its process: left alone, to be tried again (D2).</summary>
    Busy,

    /// <summary>It is not there any more (D4).</summary>
    Gone,

    /// <summary>The address space could not be worked on at this moment: nothing was tried, or what was tried may yet come about. What it comes to is noticed at the next visit that can be made.</summary>
    Deferred,

    /// <summary>A limit stands in the way: mappings of the process, memory.</summary>
    Refused,

    /// <summary>Somebody holds it, a device, a registered buffer or a pipe, and perhaps for long: left alone, to be tried again ever more seldom (D2). Of merging only.</summary>
    Held,
}

/// <summary>The machine as the engine sees it. Everything is in batches; nothing here is ever a single page's call.</summary>
/// <remarks>One thread. A space that is gone is an ordinary answer, never an exception. While a call is being answered, spaces may be added to the
/// engine and removed from it (<see cref="ScanEngine.Add"/>, <see cref="ScanEngine.Remove"/>); nothing else of the engine may be called.
/// The engine calls nothing for a space that was removed.</remarks>
public interface IMachine
{
    /// <summary>Bytes per page.</summary>
    int PageSize { get; }

    /// <summary>Writes are tracked exactly: <see cref="TryCollectWritten"/> lists what was written, and what it does not list has not changed.
    /// Without, it lists every present page of the mergeable areas, and the engine compares checksums (C4). Never changes.</summary>
    bool TracksWrites { get; }

    /// <summary>Lists the areas of a space as they are now, and sees to it that the mergeable ones are tracked.</summary>
    /// <param name="space">The space.</param>
    /// <param name="areas">Cleared, then filled by rising address.</param>
    /// <param name="changed">The list may differ from the last one.</param>
    /// <returns>False when the space is gone or must be left.</returns>
    bool TryListAreas(SpaceId space, List<Area> areas, out bool changed);

    /// <summary>Collects the present pages of mergeable areas that were written since the last collection, and watches them anew, atomically.
    /// A machine that does not track writes collects all that are present.</summary>
    /// <param name="space">The space.</param>
    /// <param name="areas">Its areas; with <paramref name="everything"/> these may be a part of them: ranges that have come, or come back.</param>
    /// <param name="everything">Collect all that hold something there, present or in swap, written or not: the engine has lost sight of some. They need not be
    /// watched anew: what was written before may be listed again the next time.</param>
    /// <param name="written">Cleared, then filled by rising address.</param>
    /// <returns>False when the space is gone.</returns>
    bool TryCollectWritten(SpaceId space, List<Area> areas, bool everything, List<WrittenRun> written);

    /// <summary>Collects the pages of merged areas that are still mapped to their frames.</summary>
    /// <param name="space">The space.</param>
    /// <param name="areas">Its areas.</param>
    /// <param name="everything">List them also if they are what they were.</param>
    /// <param name="merged">Cleared, then filled by rising address.</param>
    /// <param name="unchanged">They are what they were at the last collection; nothing is listed then.</param>
    /// <inheritdoc cref="TryCollectWritten" path="/returns"/>
    bool TryCollectMerged(SpaceId space, List<Area> areas, bool everything, List<MergedRun> merged, out bool unchanged);

    /// <summary>Reads neighbouring pages and says what each is. A page may change meanwhile: what was read is a hint, never a proof.</summary>
    /// <param name="space">The space.</param>
    /// <param name="range">At most as many pages as the buffers hold.</param>
    /// <param name="content">One page after the other.</param>
    /// <param name="facts">One for each page.</param>
    void Read(SpaceId space, PageRun range, Span<byte> content, Span<PageFact> facts);

    /// <summary>Begins to read, and may go on with it when this has returned; see <see cref="Read"/>. What is in the buffers means nothing before <see cref="EndRead"/> has returned, which every
    /// call of this is followed by; until then anything may be called but this.</summary>
    void BeginRead(SpaceId space, PageRun range, Memory<byte> content, Memory<PageFact> facts) => Read(space, range, content.Span, facts.Span);

    /// <summary>Returns when what was begun has been read, or is waited for no longer.</summary>
    /// <returns>False when it was not read in time. The buffers are the machine's from then on: something may still be written into them, and the caller uses others.</returns>
    bool EndRead() => true;

    /// <summary>Begins to write frames that nobody maps, and may go on with it when this has returned. Every call of this is followed by one of <see cref="EndWriteFrames"/>; until then
    /// anything may be called but this.</summary>
    /// <param name="domain">Whose.</param>
    /// <param name="first">The first.</param>
    /// <param name="content">Stays as it is until then.</param>
    void BeginWriteFrames(DomainId domain, FrameId first, ReadOnlyMemory<byte> content);

    /// <summary>Returns when the frames are written.</summary>
    /// <returns>False when there is no memory, or no room for more frames: nothing is merged into these then.</returns>
    bool EndWriteFrames();

    /// <summary>Reads what is in a frame.</summary>
    /// <returns>False when it cannot be read now.</returns>
    bool TryReadFrame(DomainId domain, FrameId frame, Span<byte> content);

    /// <summary>Carries a plan out. Contents are compared, byte for byte, when nobody can change them any more.</summary>
    /// <param name="space">The space.</param>
    /// <param name="plan">Runs by rising address that do not overlap.</param>
    /// <param name="outcomes">One for each page of the plan, in its order.</param>
    void Execute(SpaceId space, List<PlannedRun> plan, Span<PageOutcome> outcomes);

    /// <summary>Begins to carry out the plans of several spaces. A machine may work on several at a time, and go on with them when this has returned.</summary>
    /// <remarks>Until <see cref="EndExecute"/> is called, which every call of this is followed by, the engine only reads and writes pages and frames, and looks at no
    /// outcome. What a page is that a plan names means nothing to it meanwhile.</remarks>
    /// <param name="plans">One for each space.</param>
    void BeginExecute(List<SpacePlan> plans)
    {
        foreach (SpacePlan plan in plans)
            Execute(plan.Space, plan.Runs, plan.Outcomes);
    }

    /// <summary>Returns when the plans begun have been carried out: their outcomes are there.</summary>
    void EndExecute()
    {
    }

    /// <summary>Says of neighbouring frames whether nobody at all maps them, known or unknown to the engine. May err towards no.</summary>
    /// <param name="domain">Whose.</param>
    /// <param name="first">The first.</param>
    /// <param name="unmapped">Receives one for each.</param>
    void FindUnmapped(DomainId domain, FrameId first, Span<bool> unmapped);

    /// <summary>Gives the memory of neighbouring frames back.</summary>
    void FreeFrames(DomainId domain, FrameId first, int count);
}
