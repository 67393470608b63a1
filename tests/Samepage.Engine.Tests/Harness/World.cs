using Samepage.Engine;

namespace Samepage.EngineTests.Harness;

/// <summary>What may happen in a world.</summary>
internal enum Act
{
    Write, WriteAgain, WriteThird, Discard, Touch, Unmap, Map, Batch, BatchAgain, Pass, PassAgain, Force, Fork, OptOut, OptIn, UnmergeAll, Retire, Bring, Move, Starve, Surprise, Hold, Release, End,
}

/// <summary>One thing that happens.</summary>
/// <param name="Act">What.</param>
/// <param name="Space">Where.</param>
/// <param name="Page">To which page of it, counted from its first.</param>
/// <param name="Value">What is written, and what else has to be chosen.</param>
internal readonly record struct Step(Act Act, int Space, int Page, byte Value);

/// <summary>How a world is made.</summary>
/// <param name="TracksWrites">The machine tracks writes.</param>
/// <param name="Index">The engine's kind of index.</param>
/// <param name="DigestMask">The bits that digests have: with few, contents collide.</param>
/// <param name="Batches">Scanned in batches by the engine's cursor; otherwise visited in turn by the caller.</param>
internal readonly record struct Kind(bool TracksWrites, IndexKind Index, ulong DigestMask, bool Batches)
{
    public static readonly Kind[] All =
    [
        new(true, IndexKind.Hash, ulong.MaxValue, false),
        new(true, IndexKind.Tree, 1, true),
        new(false, IndexKind.Hash, 1, true),
        new(false, IndexKind.Tree, ulong.MaxValue, true),
        new(false, IndexKind.Tree, 1UL << 63, false),
    ];
}

/// <summary>Four spaces in two domains, in which anything happens, and what each page must show.</summary>
internal sealed class World : IDisposable
{
    public const int SpaceCount = 4, PageCount = 12;
    private readonly Scanned _scanned;
    private readonly Kind _kind;
    private readonly FakeSpace[] _spaces = new FakeSpace[SpaceCount];
    private readonly byte[,] _model = new byte[SpaceCount, PageCount];
    private readonly Dictionary<(SpaceId, ulong), PageOutcome> _forced = [];
    private readonly HashSet<(int Domain, uint First)> _retired = [];

    public World(Kind kind)
    {
        _kind = kind;
        _scanned = new Scanned(kind.TracksWrites, new EngineOptions { Index = kind.Index, DigestMask = kind.DigestMask, PagesPerRead = 3, PagesPerFlight = 2 });
        for (int i = 0; i < SpaceCount; i++)
            Begin(i);
    }

    private ScanEngine Engine => _scanned.Engine;

    public void Do(Step step)
    {
        FakeSpace space = _spaces[step.Space];
        ulong page = space.First + (ulong)step.Page;
        switch (step.Act)
        {
            case Act.Write or Act.WriteAgain or Act.WriteThird:
                Write(step.Space, step.Page, step.Value);
                break;
            case Act.Discard:
                _scanned.Machine.Discard(space, page);
                _model[step.Space, step.Page] = 0;
                break;
            case Act.Touch:
                _scanned.Machine.Touch(space, page);
                break;
            case Act.Unmap:
                _scanned.Machine.Unmap(space, page);
                _model[step.Space, step.Page] = 0;
                break;
            case Act.Map:
                _scanned.Machine.Map(space, page);
                OptIn(space);
                break;
            case Act.Batch or Act.BatchAgain:
                Batch(space, step.Page + 1);
                break;
            case Act.Pass or Act.PassAgain:
                Pass();
                break;
            case Act.Force:
                _forced[(space.Id, page)] = (PageOutcome)(1 + (step.Page + step.Value) % 5);
                break;
            case Act.Fork when space[page].Own != null:
                space[page].SharedByFork = true;
                break;
            case Act.OptOut when !_forced.ContainsKey((space.Id, page)) && Engine.BreakRange(space.Id, new PageRun(new PageNumber(page), 1)) == BreakOutcome.Done:
                Assert.Null(space[page].Mapped);
                _scanned.Machine.OptOut(space, page);
                break;
            case Act.OptIn:
                _scanned.Machine.OptOut(space, page, isOut: false);
                space[page].Written = space[page].Own != null || space[page].ShowsZeroPage;
                OptIn(space);
                break;
            case Act.UnmergeAll:
                UnmergeAll();
                break;
            case Act.Retire:
                Retire(space.Domain, (uint)step.Value * 2);
                break;
            case Act.Bring:
                BringBack(space.Domain, (uint)step.Value * 2);
                break;
            case Act.Move:
                Move(space.Domain, (uint)step.Page, 30 + (uint)(step.Page + step.Value));
                break;
            case Act.Starve:
                Starve(space, page, step.Value);
                break;
            case Act.Hold when _scanned.Machine.HasFrame(space.Domain.Value, step.Value):
                _scanned.Machine.MappedUnseen.Add((space.Domain.Value, step.Value));
                break;
            case Act.Release:
                _scanned.Machine.MappedUnseen.Remove((space.Domain.Value, step.Value));
                break;
            case Act.Surprise:
                Surprise(step);
                break;
            case Act.End:
                End(step.Space);
                Begin(step.Space);
                break;
            default:
                break;
        }
    }

    public void ComeToRest()
    {
        _forced.Clear();
        // Two second looks at what fork shared (every 16 visits), and time to settle behind them.
        for (int i = 0; i < 40; i++)
            Pass();
        Engine.CheckInvariants();
    }

    public void CheckInvariants() => Engine.CheckInvariants();

    public void CheckContents()
    {
        for (int i = 0; i < SpaceCount; i++)
        {
            for (int page = 0; page < PageCount; page++)
            {
                ReadOnlySpan<byte> seen = _scanned.Machine.See(_spaces[i], _spaces[i].First + (ulong)page);
                if (seen.ContainsAnyExcept(_model[i, page]))
                    Assert.Fail($"page {page} of space {i} shows {seen[0]} instead of {_model[i, page]}");
            }
        }
    }

    /// <summary>At rest: the engine's figures are the machine's.</summary>
    public void Recount()
    {
        foreach (FakeSpace space in _spaces.Where(space => Engine.Knows(space.Id)))
        {
            SpaceCountsView counts = _scanned.Counts(space);
            Assert.Equal(space.InFrames, counts.Merged);
            Assert.Equal(space.Pages.LongCount(page => page.Mapped != null && !page.InFrame), counts.Broken);
            Assert.Equal(0, counts.Pending);
            Assert.InRange(counts.Tracked, counts.Merged + counts.Broken + counts.Unique + counts.Zeroed, PageCount);
            Assert.True(Engine.FiguresOf(space.Id).Settled);
        }

        foreach (int domain in new[] { 1, 2 })
        {
            DomainFigures figures = _scanned.Domain(domain);
            Assert.Equal(_spaces.Where(space => space.Domain.Value == domain).Sum(space => space.InFrames), figures.Users);
            Assert.Equal(_scanned.Machine.FramesInUse(domain), figures.Frames);
            Assert.Equal(_scanned.Machine.FramesHeld(domain), figures.FramesHeld);
            Assert.True(_scanned.Machine.LonelyFrames(domain) == 0, "a frame has one user and never had two");
        }
    }

    /// <summary>At rest, where nothing stood in the way: no two equal pages of a domain are apart, and no frame has a single user that never had another.</summary>
    public void CheckNothingIsApart()
    {
        foreach (IGrouping<int, FakeSpace> domain in _spaces.GroupBy(space => space.Domain.Value))
        {
            byte[] alone = [.. domain.SelectMany(space => space.Pages).Where(page => page is { Own: not null, Mapped: null, OptedOut: false }).Select(page => page.Own![0])];
            Assert.DoesNotContain((byte)0, alone);
            Assert.Equal(alone.Distinct(), alone);
            IEnumerable<byte> inFrames = domain.SelectMany(space => Enumerable.Range(0, PageCount).Where(i => space.Pages[i].InFrame)
                .Select(i => _scanned.Machine.See(space, space.First + (ulong)i)[0]));
            Assert.Empty(alone.Intersect(inFrames));
        }
    }

    /// <summary>When all have ended nothing is left.</summary>
    public void EndAll()
    {
        _scanned.Machine.MappedUnseen.Clear();
        for (int i = 0; i < SpaceCount; i++)
            End(i);
        for (int i = 0; i < 3; i++)
        {
            Pass();
            Engine.SweepFrames();
        }

        Engine.CheckInvariants();
        foreach (int domain in new[] { 1, 2 })
            Assert.Equal((default, 0), (_scanned.Domain(domain), _scanned.Machine.FramesHeld(domain)));
    }

    public void Dispose() => _scanned.Dispose();

    private void Write(int i, int page, byte value)
    {
        FakeSpace space = _spaces[i];
        if (!space[space.First + (ulong)page].Exists || space.Gone)
            return;
        _scanned.Machine.Write(space, space.First + (ulong)page, value);
        _model[i, page] = value;
    }

    private void Batch(FakeSpace space, int pages)
    {
        if (_kind.Batches)
            Note(Engine.Scan(pages));
        else if (Engine.Knows(space.Id))
            Assert.True(Engine.Visit(space.Id) || !Engine.Knows(space.Id));
    }

    private void Pass()
    {
        if (_kind.Batches)
        {
            foreach (BatchReport batch in _scanned.ScanPass(7))
                Note(batch);
            return;
        }

        foreach (FakeSpace space in _scanned.Spaces.ToArray())
            Assert.True(!Engine.Knows(space.Id) || Engine.Visit(space.Id) || space.Gone);
        Engine.EndPass();
    }

    /// <summary>A space without areas loses its slot, one that is gone too.</summary>
    private void Note(BatchReport batch)
    {
        Assert.All(batch.Gone, gone => Assert.True(_spaces.All(space => space.Id != gone || space.Gone)));
        foreach (SpaceId lost in batch.WithoutAreas)
            Assert.All(_spaces.Single(space => space.Id == lost).Pages, page => Assert.True(!page.Exists || page.OptedOut));
    }

    private void OptIn(FakeSpace space)
    {
        if (Engine.Knows(space.Id))
            return;
        Assert.True(Engine.Add(space.Id, space.Domain));
        if (!_scanned.Spaces.Contains(space))
            _scanned.Spaces.Add(space);
    }

    private void UnmergeAll()
    {
        bool forced = _forced.Count > 0;
        if (Engine.UnmergeAll() != BreakOutcome.Done || forced)
            return;
        Assert.All(_spaces, space => Assert.Equal(0, space.InFrames));
        Assert.Equal((0, 0, 0, 0), (Engine.Figures.PagesShared, Engine.Figures.PagesSharing, Engine.Figures.PagesUnshared, Engine.Figures.PagesVolatile));
        Assert.Equal(0, Engine.FullScans);
    }

    private void Retire(DomainId domain, uint first)
    {
        _retired.Add((domain.Value, first));
        if (Engine.TryRetire(domain, new FrameId(first), 2))
            Assert.True(!_scanned.Machine.HasFrame(domain.Value, first) && !_scanned.Machine.HasFrame(domain.Value, first + 1));
    }

    private void BringBack(DomainId domain, uint first) =>
        Assert.Equal(_retired.Remove((domain.Value, first)), Engine.CancelRetire(domain, new FrameId(first), 2));

    private void Move(DomainId domain, uint from, uint to)
    {
        if (!_scanned.Machine.HasFrame(domain.Value, from) || _scanned.Machine.HasFrame(domain.Value, to))
            return;
        IReadOnlyList<FrameUser> users = Engine.UsersOf(domain, new FrameId(from));
        _scanned.Machine.MoveFrame(domain.Value, from, to);
        Assert.True(Engine.FrameMoved(domain, new FrameId(from), new FrameId(to)));
        Assert.Equal(users, Engine.UsersOf(domain, new FrameId(to)));
        Assert.Empty(Engine.UsersOf(domain, new FrameId(from)));
    }

    /// <summary>For one batch there is no memory for anything new.</summary>
    private void Starve(FakeSpace space, ulong page, byte value)
    {
        Engine.Budget.BytesMax = Engine.Budget.BytesUsed;
        _scanned.Machine.OutOfMemory = value == 0;
        Batch(space, (int)(page % 5) + 1);
        (Engine.Budget.BytesMax, _scanned.Machine.OutOfMemory) = (long.MaxValue, false);
    }

    /// <summary>In the middle of the machine's next answers something happens: a write, or the end of a space.</summary>
    private void Surprise(Step step)
    {
        int calls = step.Page % 4;
        _scanned.Machine.Meanwhile = _ =>
        {
            if (calls-- > 0)
                return;
            _scanned.Machine.Meanwhile = null;
            if (step.Value > 0)
            {
                Write(step.Space, step.Page, step.Value);
                return;
            }

            End(step.Space);
            Begin(step.Space);
        };
    }

    private void Begin(int i)
    {
        FakeSpace space = _scanned.Machine.NewSpace(1 + i / 3, PageCount, first: 506);
        // What is said to be gone is never mapped to a frame.
        space.Force = (kind, page) => _forced.Remove((space.Id, page), out PageOutcome outcome) && (kind, outcome) != (PlanKind.Unmerge, PageOutcome.Gone) ? outcome : null;
        _spaces[i] = space;
        if (Engine.Add(space.Id, space.Domain))
            _scanned.Spaces.Add(space);
        else
            Assert.NotEqual(long.MaxValue, Engine.Budget.BytesMax);
        for (int page = 0; page < PageCount; page++)
            _model[i, page] = 0;
    }

    private void End(int i)
    {
        _scanned.Machine.End(_spaces[i]);
        _scanned.Remove(_spaces[i]);
    }
}
