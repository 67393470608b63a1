using Samepage.Engine;
using Samepage.Estimate.Census;
using Samepage.Estimate.Figures;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Estimate.Sources;

/// <summary>A live process. It is read, and nothing else: not stopped, not traced, not written, not injected.</summary>
/// <remarks>Only pages are read that the page tables say are there. One that is discarded or swapped out in the microseconds between that and the reading is
/// faulted in by the kernel on our account: the zero page for an anonymous one, which costs nothing. Memory that a userfaultfd serves is not read at all, for such a fault
/// would wait for the program. What waits all the same (a userfaultfd that was registered since, a file system of the program's own) is left behind after a bound: the process is then left out, and
/// named. See docs/estimate.md for what reading leaves behind in the kernel (the frame's mark of having been referenced).</remarks>
public sealed class LiveSource : PageSource
{
    private const int ThreadsMax = 1000;
    private static readonly string Remedy = Environment.IsPrivilegedProcess
        ? "not even root may read it here (another user namespace, or a rule of a security module)" : "run it as the process's user, or as root";

    private const int RegionsAtATime = 8192, MappingsAtATime = 512;
    /// <summary>What is said of a process whose reading was given up.</summary>
    public const string Late = "it did not let itself be read: a read of its memory had not ended in time, and was left behind";
    private static readonly Attendants s_readers = new();
    private static int s_lanes;

    /// <summary>The number under which this thread's reads are done, one at a time; another after one that was late.</summary>
    [ThreadStatic]
    private static int t_lane;

    private Pagemap? _pagemap;
    private volatile bool _late;

    /// <param name="description">The process.</param>
    public LiveSource(SourceDescription description)
        : base(description) => ExpectedPages = ProcessStat.TryRead(Pid, out ProcessStat stat) ? stat.Resident : 0;

    /// <summary>How long a read may take that is of half a mebibyte, or of a process's mappings: in milliseconds it has ended, on a busy machine in seconds.</summary>
    public static TimeSpan ReadBound { get; internal set; } = TimeSpan.FromSeconds(10);

    /// <inheritdoc/>
    internal override long ExpectedPages { get; }

    private int Pid => Description.Pid;

    /// <inheritdoc/>
    internal override IEnumerable<Batch> List(Ledger ledger)
    {
        if (_late)
            yield break;
        List<Mapping> mappings = [];
        Errno errno = Errno.None;
        bool listed = false;
        ulong[] stacks = [];
        Pagemap? opened = null;
        if (!InTime(() =>
        {
            opened = Pagemap.TryOpen(Pid, out errno);
            listed = opened is not null && Mapping.TryReadAll($"/proc/{LivingThread.Of(Pid)}/smaps", mappings);
            stacks = listed ? StackPointers() : [];
        }))
        {
            yield break;
        }

        if (_pagemap is null)
            _pagemap = opened;
        else
            opened?.Dispose();
        if (opened is null)
        {
            IsGone = errno is Errno.ENOENT or Errno.ESRCH;
            Refusal = IsGone ? "it ended" : $"open(/proc/{Pid}/pagemap): {errno}; {Remedy}";
            yield break;
        }

        if (!listed)
        {
            (IsGone, Refusal) = (true, "it ended");
            yield break;
        }

        Mappings = mappings.Count;
        bool reservesAll = Overcommit.ReservesAll;
        Batch batch = new(this);
        foreach ((Mapping mapping, List<PageRegion> regions) in Surveyed(mappings))
        {
            MemoryKind kind = KindOf(mapping, stacks);
            AreaTraits traits = MappingTraits.Of(mapping, reservesAll);
            string? barred = WhyNotRead(mapping, traits);
            string? reason = barred ?? AreaEligibility.WhyNot(traits);
            bool reach = reason is null && Description.Obstacle.Length == 0;
            PageFigures found = new();
            long left = 0;
            foreach (PageRegion region in regions)
            {
                long pages = (long)((region.End - region.Start) / PageBytes);
                if ((region.Categories & Pagemap.SwappedOut) != 0)
                    found.SwappedOut += pages;
                else if ((region.Categories & Pagemap.ZeroPage) != 0)
                    found.ZeroAlready += pages;
                else
                    found.Resident += pages;
                if ((region.Categories & (Pagemap.SwappedOut | Pagemap.ZeroPage)) != 0)
                    continue;
                if ((region.Categories & Pagemap.OfFile) != 0)
                {
                    found.OfFiles += pages;
                    continue;
                }

                left += pages;
                bool huge = (region.Categories & Pagemap.InHugePage) != 0;
                // As the daemon has it: huge pages are split where the program asked for merging, and left whole elsewhere.
                bool reached = reach && (!huge || (traits & AreaTraits.Advised) != 0);
                found.Huge += huge && !reached ? pages : 0;
                found.HugeReached += huge && reached ? pages : 0;
                if (barred is not null)
                {
                    found.Unread += pages;
                    continue;
                }

                PageFlags flags = (huge ? PageFlags.Huge : PageFlags.None) | (reached ? PageFlags.Reach : PageFlags.None);
                Piece rest = new(region.Start / PageBytes, (int)pages, kind, flags);
                while (rest.Count > 0)
                {
                    int taken = batch.Take(rest);
                    rest = rest with { Start = rest.Start + (ulong)taken, Count = rest.Count - taken };
                    if (batch.Pages < Batch.PagesMax)
                        continue;
                    yield return batch;
                    batch = new Batch(this);
                }
            }

            ledger.Enter(Index, kind, found);
            if (left > 0 && reason is not null)
                ledger.EnterLeft(Index, reason, left);
        }

        if (batch.Pages > 0)
            yield return batch;
    }

    /// <inheritdoc/>
    internal override bool TryRead(Batch batch, PageFound[] pages, byte[] content)
    {
        if (!_late)
            return InTime(() => ReadNow(batch, pages, content));
        pages.AsSpan(0, batch.Pages).Fill(new PageFound(PageFind.Unread, 0));
        return true;
    }

    /// <inheritdoc/>
    internal override bool TryReadPage(ulong page, Span<byte> content)
    {
        byte[] found = new byte[content.Length];
        bool whole = false;
        if (_late || !InTime(() => whole = TryReadPageNow(page, found)) || !whole)
            return false;
        found.CopyTo(content);
        return true;
    }

    /// <summary>Does what could wait for the process, and waits only so long for it. Work that is late goes on with what it was lent, and the process is not read any more.</summary>
    private bool InTime(Action work)
    {
        if (t_lane == 0)
            t_lane = Interlocked.Decrement(ref s_lanes);
        if (s_readers.TryDo(t_lane, work, ReadBound, out _))
            return true;
        (t_lane, _late, Refusal) = (0, true, Late);
        return false;
    }

    /// <summary>What the page tables say of the mappings, many at a time; of one that takes long, as much at a time as is a matter of milliseconds.</summary>
    private IEnumerable<(Mapping Mapping, List<PageRegion> Regions)> Surveyed(List<Mapping> mappings)
    {
        PageSurvey survey = new(_pagemap!, PageSurvey.WordsAreAskedFor);
        List<PageRegion> here = [];
        ulong from = 0;
        for (int next = 0; next < mappings.Count;)
        {
            List<(Mapping, List<PageRegion>)> found = [];
            Errno errno = Errno.None;
            if (!InTime(() =>
            {
                int regions = 0;
                for (int steps = 0; next < mappings.Count && steps < MappingsAtATime && regions < RegionsAtATime; steps++)
                {
                    Mapping mapping = mappings[next];
                    ulong reached = mapping.End;
                    bool isMemory = mapping.Name is not ("[vvar]" or "[vvar_vclock]" or "[vdso]" or "[vsyscall]");
                    if (isMemory && (errno = survey.Take(mapping, Math.Max(from, mapping.Start), here, out reached)) != Errno.None)
                        return;
                    from = reached;
                    if (reached < mapping.End)
                        continue;
                    if (isMemory)
                        found.Add((mapping, here));
                    regions += here.Count;
                    (next, here) = (next + 1, []);
                }
            }))
            {
                yield break;
            }

            foreach ((Mapping, List<PageRegion>) one in found)
                yield return one;
            if (errno == Errno.None)
                continue;
            IsGone = errno == Errno.ESRCH;
            Refusal = IsGone ? "it ended" : $"read(/proc/{Pid}/pagemap): {errno}; {Remedy}";
            yield break;
        }
    }

    private void ReadNow(Batch batch, Span<PageFound> pages, Span<byte> content)
    {
        Span<ulong> words = stackalloc ulong[Batch.PagesMax];
        Span<(ulong Start, int Length)> ranges = stackalloc (ulong, int)[Batch.PagesMax];
        Span<int> places = stackalloc int[Batch.PagesMax];
        int at = 0, own = 0;
        foreach (Piece piece in batch.Pieces)
        {
            int known = _pagemap!.ReadWords(piece.Start * PageBytes, words[..piece.Count]);
            for (int i = 0; i < piece.Count; i++, at++)
            {
                ulong word = i < known ? words[i] : 0;
                pages[at] = Classify(word);
                if (pages[at].Find != PageFind.Own)
                    continue;
                ranges[own] = ((piece.Start + (ulong)i) * PageBytes, PageBytes);
                places[own++] = at;
            }
        }

        ReadOwn(ranges[..own], places[..own], pages, content);
    }

    private bool TryReadPageNow(ulong page, Span<byte> content)
    {
        // A page that is not there would be faulted in.
        Span<ulong> word = stackalloc ulong[1];
        return _pagemap is not null && _pagemap.ReadWords(page * PageBytes, word) == 1 && Classify(word[0]).Find == PageFind.Own
            && (new RemoteMemory(Pid).Read(page * PageBytes, content) == content.Length || new RemoteMemory(Pid).ForceRead(page * PageBytes, content) == content.Length);
    }

    private static PageFound Classify(ulong word) =>
        (word & Pagemap.Present) == 0 || (word & Pagemap.FilePage) != 0 ? default
        : new PageFound((word & Pagemap.Exclusive) != 0 ? PageFind.Own : PageFind.Shared, word & Pagemap.FrameMask);

    /// <summary>Reads pages by as few calls as can be: behind one that could not be read the kernel read none.</summary>
    private void ReadOwn(Span<(ulong Start, int Length)> ranges, Span<int> places, Span<PageFound> pages, Span<byte> content)
    {
        Span<(ulong Start, int Length)> joined = stackalloc (ulong, int)[Batch.PagesMax];
        int done = 0;
        while (done < places.Length)
        {
            // Neighbours in the buffer and in memory are one piece; the buffer's places are dense where the pages' are.
            int first = places[done], end = done + 1, count = 1;
            joined[0] = ranges[done];
            for (; end < places.Length && places[end] == places[end - 1] + 1; end++)
            {
                if (ranges[end].Start == joined[count - 1].Start + (ulong)joined[count - 1].Length)
                    joined[count - 1].Length += PageBytes;
                else
                    joined[count++] = ranges[end];
            }

            int read = new RemoteMemory(Pid).Gather(joined[..count], content.Slice(first * PageBytes, (end - done) * PageBytes), out Errno errno) / PageBytes;
            done += read;
            if (done == end)
                continue;
            // Memory that its program cannot read itself.
            int alike = 1;
            while (done + alike < end && ranges[done + alike].Start == ranges[done].Start + (ulong)(alike * PageBytes))
                alike++;
            int forced = errno is Errno.ESRCH or Errno.EPERM or Errno.EACCES ? 0 : new RemoteMemory(Pid).ForceRead(ranges[done].Start, content.Slice(places[done] * PageBytes, alike * PageBytes)) / PageBytes;
            done += forced;
            if (forced > 0)
                continue;
            IsGone |= errno == Errno.ESRCH;
            if (errno is Errno.EPERM or Errno.EACCES)
                Refusal = $"process_vm_readv(process {Pid}): {errno}; {Remedy}";
            pages[places[done++]] = new PageFound(PageFind.Unread, 0);
        }
    }

    private static MemoryKind KindOf(in Mapping mapping, ulong[] stacks)
    {
        if (mapping.Inode != 0)
            return MemoryKind.FileData;
        if (mapping.Name == "[heap]")
            return MemoryKind.Heap;
        if (mapping.Name.StartsWith("[stack", StringComparison.Ordinal))
            return MemoryKind.MainStack;
        if (mapping.Name.StartsWith("[anon", StringComparison.Ordinal))
            return MemoryKind.Named;
        int above = Array.BinarySearch(stacks, mapping.Start);
        above = above < 0 ? ~above : above;
        return above < stacks.Length && stacks[above] < mapping.End ? MemoryKind.ThreadStack : MemoryKind.Anonymous;
    }

    private static string? WhyNotRead(in Mapping mapping, AreaTraits traits)
    {
        if ((traits & (AreaTraits.Device | AreaTraits.RawFrames | AreaTraits.HugeTlb)) != 0)
            return AreaEligibility.WhyNot(traits);
        if (mapping.Has("um") || mapping.Has("ui"))
            return "memory whose faults a userfaultfd answers: reading could wait for the program";
        return null;
    }

    /// <summary>Where the stacks of threads stand that wait in a system call, by rising address.</summary>
    private ulong[] StackPointers()
    {
        List<int> threads = [];
        _ = Threads.TryList(Pid, threads);
        ulong[] pointers = [.. threads.Take(ThreadsMax).Select(thread => Threads.Look(Pid, thread).StackPointer).Where(pointer => pointer != 0)];
        Array.Sort(pointers);
        return pointers;
    }
}
