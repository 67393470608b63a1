using Samepage.Engine;

namespace Samepage.EngineTests.Harness;

/// <summary>A machine in plain arrays, deterministic: what the engine asks for is done to simulated pages, and every step that would harm a real
/// program, such as writing a frame that somebody maps, throws.</summary>
internal sealed class FakeMachine : IMachine
{
    private readonly Dictionary<int, FakeSpace> _spaces = [];
    private readonly Dictionary<(int Domain, uint Frame), byte[]> _frames = [];
    private readonly Dictionary<(int Domain, uint Frame), int> _users = [];
    private readonly HashSet<(int Domain, uint Frame)> _everWritten = [];
    private readonly HashSet<(int Domain, uint Frame)> _joined = [];
    private readonly HashSet<(int Domain, uint Frame)> _shared = [];
    private (DomainId Domain, FrameId First, ReadOnlyMemory<byte> Content) _writing;
    private readonly List<(Memory<byte> Content, Memory<PageFact> Facts)> _late = [];
    private int _next;

    public int PageSize => 64;

    public bool TracksWrites { get; init; } = true;

    /// <summary>Called at the beginning of each call that the engine makes for a space: what happens to the machine in between.</summary>
    public Action<string>? Meanwhile { get; set; }

    /// <summary>The plans carried out, a space with its runs each.</summary>
    public List<(SpaceId Space, PlannedRun[] Runs)> Executed { get; } = [];

    /// <summary>The frames given back.</summary>
    public List<(DomainId Domain, FrameId First, int Count)> Freed { get; } = [];

    /// <summary>Frames that a child forked unseen maps.</summary>
    public HashSet<(int Domain, uint Frame)> MappedUnseen { get; } = [];

    /// <summary>There is no memory for frames.</summary>
    public bool OutOfMemory { get; set; }

    /// <summary>No space lets itself be read in time.</summary>
    public bool ReadsAreLate { get; set; }

    /// <summary>The pages read by the engine, in order.</summary>
    public List<(SpaceId Space, ulong Page)> Looked { get; } = [];

    /// <summary>Pages read by the engine.</summary>
    public long PagesRead { get; private set; }

    public FakeSpace NewSpace(int domain, int pages, ulong first = 0x1000)
    {
        FakeSpace space = new(new SpaceId(++_next), new DomainId(domain), first, pages);
        _spaces.Add(space.Id.Value, space);
        return space;
    }

    public long FramesHeld(int domain) => _frames.Keys.Count(key => key.Domain == domain);

    public long FramesInUse(int domain) => _users.Count(pair => pair.Key.Domain == domain && pair.Value > 0);

    /// <summary>Frames with one user that no other page ever joined.</summary>
    public int LonelyFrames(int domain) => _users.Count(pair => pair.Key.Domain == domain && pair.Value == 1 && !_shared.Contains(pair.Key));

    public bool HasFrame(int domain, uint frame) => _frames.ContainsKey((domain, frame));

    public int UsersOf(int domain, uint frame) => _users.GetValueOrDefault((domain, frame));

    /// <summary>The program writes: it gets its own copy, whatever it saw before.</summary>
    public void Write(FakeSpace space, ulong page, byte value) => Write(space, page, Filled(value));

    /// <inheritdoc cref="Write(FakeSpace, ulong, byte)"/>
    public void Write(FakeSpace space, ulong page, byte[] content)
    {
        ref FakePage target = ref space[page];
        if (!target.Exists)
            throw new InvalidOperationException("the program has no page there");
        LetGo(space, ref target);
        (target.Own, target.ShowsZeroPage, target.SharedByFork, target.Written) = ((byte[])content.Clone(), false, false, true);
    }

    /// <summary>The program discards a page: it reads as zeros.</summary>
    public void Discard(FakeSpace space, ulong page)
    {
        ref FakePage target = ref space[page];
        LetGo(space, ref target);
        (target.Own, target.ShowsZeroPage, target.SharedByFork, target.Written) = (null, false, false, false);
    }

    /// <summary>The program reads a page: one that is not there becomes the kernel's zero page.</summary>
    public void Touch(FakeSpace space, ulong page)
    {
        ref FakePage target = ref space[page];
        if (target.Exists && target.Own == null && !target.InFrame && !target.ShowsZeroPage)
            (target.ShowsZeroPage, target.Written) = (true, true);
    }

    /// <summary>The program unmaps a page.</summary>
    public void Unmap(FakeSpace space, ulong page)
    {
        Discard(space, page);
        (space[page].Exists, space[page].Mapped, space.Changed) = (false, null, true);
    }

    /// <summary>The program maps a page where there was none.</summary>
    public void Map(FakeSpace space, ulong page)
    {
        if (!space[page].Exists)
            (space[page], space.Changed) = (new FakePage { Exists = true }, true);
    }

    /// <summary>The program forks: the child maps what its parent maps, its own pages are shared by both.</summary>
    public FakeSpace Fork(FakeSpace parent)
    {
        FakeSpace child = NewSpace(parent.Domain.Value, parent.Pages.Length, parent.First);
        for (int i = 0; i < parent.Pages.Length; i++)
        {
            ref FakePage page = ref parent.Pages[i];
            page.SharedByFork = page.Own != null;
            child.Pages[i] = page with { Written = page.Own != null };
            if (page.InFrame)
                _users[(parent.Domain.Value, page.Mapped!.Value)]++;
        }

        return child;
    }

    /// <summary>The daemon has moved a frame: all who map it see it at its new place.</summary>
    public void MoveFrame(int domain, uint from, uint to)
    {
        _frames.Remove((domain, from), out byte[]? content);
        _users.Remove((domain, from), out int users);
        _everWritten.Remove((domain, from));
        if (_joined.Remove((domain, from)))
            _joined.Add((domain, to));
        if (_shared.Remove((domain, from)))
            _shared.Add((domain, to));
        if (MappedUnseen.Remove((domain, from)))
            MappedUnseen.Add((domain, to));
        _everWritten.Add((domain, to));
        (_frames[(domain, to)], _users[(domain, to)]) = (content!, users);
        foreach (FakeSpace space in _spaces.Values.Where(space => space.Domain.Value == domain))
        {
            for (int i = 0; i < space.Pages.Length; i++)
            {
                if (space.Pages[i].Mapped == from)
                    (space.Pages[i].Mapped, space.Changed) = (to, true);
            }
        }
    }

    /// <summary>The program takes its advice back, or gives it again.</summary>
    public void OptOut(FakeSpace space, ulong page, bool isOut = true) => (space[page].OptedOut, space.Changed) = (isOut, true);

    /// <summary>The program ends.</summary>
    public void End(FakeSpace space)
    {
        for (ulong page = space.First; page < space.First + (ulong)space.Pages.Length; page++)
            Unmap(space, page);
        space.Gone = true;
    }

    /// <summary>What the program sees in a page.</summary>
    public ReadOnlySpan<byte> See(FakeSpace space, ulong page)
    {
        FakePage seen = space[page];
        return seen.InFrame ? Frame(space.Domain, seen.Mapped!.Value) : seen.Own ?? new byte[PageSize];
    }

    public byte[] Filled(byte value)
    {
        byte[] content = new byte[PageSize];
        content.AsSpan().Fill(value);
        return content;
    }

    public bool TryListAreas(SpaceId space, List<Area> areas, out bool changed)
    {
        Meanwhile?.Invoke(nameof(TryListAreas));
        FakeSpace listed = _spaces[space.Value];
        (changed, listed.Changed) = (listed.Changed, false);
        areas.Clear();
        for (int i = 0; i < listed.Pages.Length;)
        {
            FakePage page = listed.Pages[i];
            int count = 1;
            while (i + count < listed.Pages.Length && listed.Pages[i + count].Exists == page.Exists && listed.Pages[i + count].OptedOut == page.OptedOut &&
                listed.Pages[i + count].Mapped == (page.Mapped is uint frame ? frame + (uint)count : null))
            {
                count++;
            }

            if (page.Exists && !page.OptedOut)
                areas.Add(new Area(new PageRun(new PageNumber(listed.First + (ulong)i), count), page.Mapped == null ? AreaKind.Mergeable : AreaKind.Merged));
            i += count;
        }

        return !listed.Gone;
    }

    public bool TryCollectWritten(SpaceId space, List<Area> areas, bool everything, List<WrittenRun> written)
    {
        Meanwhile?.Invoke(nameof(TryCollectWritten));
        FakeSpace collected = _spaces[space.Value];
        written.Clear();
        foreach (ulong page in PagesOf(areas, AreaKind.Mergeable))
        {
            ref FakePage candidate = ref collected[page];
            if ((TracksWrites && !everything && !candidate.Written) || (candidate.Own == null && !candidate.ShowsZeroPage))
                continue;
            candidate.Written = false;
            if (written.Count > 0 && written[^1].Range.End == page && written[^1].IsZeroPage == candidate.ShowsZeroPage)
                written[^1] = written[^1] with { Range = written[^1].Range with { Count = written[^1].Range.Count + 1 } };
            else
                written.Add(new WrittenRun(new PageRun(new PageNumber(page), 1), candidate.ShowsZeroPage));
        }

        return !collected.Gone;
    }

    public bool TryCollectMerged(SpaceId space, List<Area> areas, bool everything, List<MergedRun> merged, out bool unchanged)
    {
        Meanwhile?.Invoke(nameof(TryCollectMerged));
        unchanged = false;
        FakeSpace collected = _spaces[space.Value];
        merged.Clear();
        foreach (ulong page in PagesOf(areas, AreaKind.Merged))
        {
            if (!collected[page].InFrame)
                continue;
            uint frame = collected[page].Mapped!.Value;
            if (merged.Count > 0 && merged[^1].Range.End == page && merged[^1].FirstFrame.Value + merged[^1].Range.Count == frame)
                merged[^1] = merged[^1] with { Range = merged[^1].Range with { Count = merged[^1].Range.Count + 1 } };
            else
                merged.Add(new MergedRun(new PageRun(new PageNumber(page), 1), new FrameId(frame)));
        }

        return !collected.Gone;
    }

    public void Read(SpaceId space, PageRun range, Span<byte> content, Span<PageFact> facts)
    {
        Meanwhile?.Invoke(nameof(Read));
        FakeSpace read = _spaces[space.Value];
        Looked.AddRange(Enumerable.Range(0, (int)range.Count).Select(i => (space, range.Start.Value + (ulong)i)));
        PagesRead += range.Count;
        for (int i = 0; i < (int)range.Count; i++)
        {
            FakePage page = read[range.Start.Value + (ulong)i];
            See(read, range.Start.Value + (ulong)i).CopyTo(content[(i * PageSize)..]);
            facts[i] = page switch
            {
                _ when read.Gone => PageFact.Absent,
                { InFrame: true } => PageFact.SharedAlready,
                { Own: null } => PageFact.Absent,
                { SharedByFork: true } => PageFact.SharedAlready,
                _ => PageFact.Own,
            };
        }
    }

    public bool EndRead()
    {
        foreach ((Memory<byte> content, Memory<PageFact> facts) in _late)
        {
            content.Span.Fill(0xEE);
            facts.Span.Fill(PageFact.Own);
        }

        return !ReadsAreLate;
    }

    public void BeginRead(SpaceId space, PageRun range, Memory<byte> content, Memory<PageFact> facts)
    {
        if (_late.Exists(lent => lent.Content.Equals(content)))
            throw new InvalidOperationException("the buffers of a late read are used again");
        if (ReadsAreLate)
            _late.Add((content, facts));
        else
            Read(space, range, content.Span, facts.Span);
    }

    public bool TryReadFrame(DomainId domain, FrameId frame, Span<byte> content)
    {
        Frame(domain, frame.Value).CopyTo(content);
        return true;
    }

    public void BeginWriteFrames(DomainId domain, FrameId first, ReadOnlyMemory<byte> content) => _writing = (domain, first, content);

    /// <summary>Writes them, as late as it may.</summary>
    public bool EndWriteFrames()
    {
        if (OutOfMemory)
            return false;
        (DomainId domain, FrameId first, ReadOnlyMemory<byte> memory) = _writing;
        ReadOnlySpan<byte> content = memory.Span;
        for (int i = 0; i < content.Length / PageSize; i++)
        {
            (int, uint) key = (domain.Value, first.Value + (uint)i);
            if (!_everWritten.Add(key))
                throw new InvalidOperationException($"frame {key} is written twice without having been freed");
            if (_users.GetValueOrDefault(key) > 0)
                throw new InvalidOperationException($"frame {key} is written while mapped");
            _frames[key] = content.Slice(i * PageSize, PageSize).ToArray();
        }

        return true;
    }

    public void Execute(SpaceId space, List<PlannedRun> plan, Span<PageOutcome> outcomes)
    {
        Meanwhile?.Invoke(nameof(Execute));
        FakeSpace worked = _spaces[space.Value];
        Executed.Add((space, [.. plan]));
        int at = 0;
        ulong end = 0;
        foreach (PlannedRun run in plan)
        {
            if (run.Range.Start.Value < end)
                throw new InvalidOperationException($"runs overlap, or do not rise: {string.Join(", ", plan)}");
            end = run.Range.End;
            for (uint i = 0; i < run.Range.Count; i++)
                outcomes[at++] = CarryOut(worked, run.Kind, run.Range.Start.Value + i, run.FirstFrame.Value + i);
        }

        if (at != outcomes.Length)
            throw new InvalidOperationException($"a plan of {at} pages has room for {outcomes.Length} outcomes");
    }

    public void FindUnmapped(DomainId domain, FrameId first, Span<bool> unmapped)
    {
        for (int i = 0; i < unmapped.Length; i++)
            unmapped[i] = IsUnmapped(domain, new FrameId(first.Value + (uint)i));
    }

    private bool IsUnmapped(DomainId domain, FrameId frame) =>
        UsersOf(domain.Value, frame.Value) == 0 && !MappedUnseen.Contains((domain.Value, frame.Value));

    public void FreeFrames(DomainId domain, FrameId first, int count)
    {
        Freed.Add((domain, first, count));
        for (uint i = 0; i < count; i++)
        {
            if (!IsUnmapped(domain, new FrameId(first.Value + i)))
                throw new InvalidOperationException($"frame {first.Value + i} of domain {domain.Value} is freed while mapped");
            _frames.Remove((domain.Value, first.Value + i));
            _everWritten.Remove((domain.Value, first.Value + i));
            _joined.Remove((domain.Value, first.Value + i));
            _shared.Remove((domain.Value, first.Value + i));
        }
    }

    private static IEnumerable<ulong> PagesOf(List<Area> areas, AreaKind kind)
    {
        foreach (Area area in areas)
        {
            for (ulong page = area.Range.Start.Value; area.Kind == kind && page < area.Range.End; page++)
                yield return page;
        }
    }

    private PageOutcome CarryOut(FakeSpace space, PlanKind kind, ulong page, uint frame)
    {
        if (space.Force?.Invoke(kind, page) is { } forced)
            return forced;
        ref FakePage target = ref space[page];
        if (kind == PlanKind.Unmerge)
        {
            if (target.Mapped == null)
                return PageOutcome.Gone;
            byte[]? content = target.InFrame ? See(space, page).ToArray() : target.Own;
            LetGo(space, ref target);
            (target.Own, target.Mapped, target.Written, space.Changed) = (content, null, content != null, true);
            return PageOutcome.Done;
        }

        if (!target.Exists || target.OptedOut || target.Own == null || target.Mapped != null)
            return PageOutcome.Gone;
        if (kind == PlanKind.MakeZero)
        {
            if (target.Own.AsSpan().ContainsAnyExcept((byte)0))
                return PageOutcome.Differs;
            (target.Own, target.Written) = (null, false);
            return PageOutcome.Done;
        }

        if (!_frames.ContainsKey((space.Domain.Value, frame)))
            throw new InvalidOperationException($"a page is to join frame {frame} of domain {space.Domain.Value}, which was never written");
        if (!target.Own.AsSpan().SequenceEqual(Frame(space.Domain, frame)))
            return PageOutcome.Differs;
        (target.Own, target.Mapped, target.InFrame, target.Written, space.Changed) = (null, frame, true, false, true);
        _users[(space.Domain.Value, frame)] = UsersOf(space.Domain.Value, frame) + 1;
        if (!_joined.Add((space.Domain.Value, frame)))
            _shared.Add((space.Domain.Value, frame));
        return PageOutcome.Done;
    }

    private byte[] Frame(DomainId domain, uint frame) => _frames.GetValueOrDefault((domain.Value, frame)) ?? new byte[PageSize];

    private void LetGo(FakeSpace space, ref FakePage page)
    {
        if (page.InFrame)
            _users[(space.Domain.Value, page.Mapped!.Value)]--;
        page.InFrame = false;
    }
}
