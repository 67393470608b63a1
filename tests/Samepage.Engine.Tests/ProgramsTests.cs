using CsCheck;
using Samepage.Engine;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>Random programs in several spaces of two domains: nobody ever sees anything but what he wrote, and the counters are exact.</summary>
public sealed class ProgramsTests
{
    private const int SpaceCount = 4, PageCount = 12;

    private enum Act
    {
        Write, WriteAgain, Discard, Touch, Unmap, Map, Visit, VisitAgain, Pass, Force, Fork, Remove,
    }

    private readonly record struct Step(Act Act, int Space, int Page, byte Value);

    private static readonly Gen<Step> AnyStep =
        Gen.Select(Gen.Int[0, (int)Act.Remove], Gen.Int[0, SpaceCount - 1], Gen.Int[0, PageCount - 1], Gen.Int[0, 3])
            .Select((act, space, page, value) => new Step((Act)act, space, page, (byte)value));

    [Fact]
    public void D8_G10_EveryPageShowsWhatWasWrittenAndTheCountersEqualARecount() =>
        AnyStep.Array[1, 150].Sample(
            program =>
            {
                using World world = new();
                foreach (Step step in program)
                {
                    world.Do(step);
                    world.CheckContents();
                }

                world.ComeToRest();
                world.CheckContents();
                world.Recount();
                world.End();
            }, iter: 1500, threads: 1, print: program => string.Join('\n', program));

    [Fact]
    public void C3_C5_AtRestNoTwoEqualPagesOfADomainAreApart() =>
        AnyStep.Where(step => step.Act is not (Act.Force or Act.Fork or Act.Remove)).Array[1, 100].Sample(
            program =>
            {
                using World world = new();
                foreach (Step step in program)
                    world.Do(step);
                world.ComeToRest();
                world.CheckContents();
                world.CheckNothingIsApart();
            }, iter: 500, threads: 1, print: program => string.Join('\n', program));

    private sealed class World : IDisposable
    {
        private readonly Scanned _scanned = new();
        private readonly FakeSpace?[] _spaces = new FakeSpace?[SpaceCount];
        private readonly byte[,] _model = new byte[SpaceCount, PageCount];
        private readonly Dictionary<(SpaceId, ulong), PageOutcome> _forced = [];

        public World()
        {
            for (int i = 0; i < SpaceCount; i++)
                Begin(i);
        }

        public void Do(Step step)
        {
            FakeSpace space = _spaces[step.Space]!;
            ulong page = space.First + (ulong)step.Page;
            switch (step.Act)
            {
                case Act.Write or Act.WriteAgain when space[page].Exists:
                    _scanned.Machine.Write(space, page, step.Value);
                    _model[step.Space, step.Page] = step.Value;
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
                    break;
                case Act.Visit or Act.VisitAgain:
                    Assert.True(_scanned.Engine.Visit(space.Id));
                    break;
                case Act.Pass:
                    _scanned.Pass();
                    break;
                case Act.Force:
                    _forced[(space.Id, page)] = (PageOutcome)(1 + (step.Page + step.Value) % 5);
                    break;
                case Act.Fork when space[page].Own != null:
                    space[page].SharedByFork = true;
                    break;
                case Act.Remove:
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
            _scanned.Pass(40);
        }

        public void CheckContents()
        {
            for (int i = 0; i < SpaceCount; i++)
            {
                for (int page = 0; page < PageCount; page++)
                {
                    ReadOnlySpan<byte> seen = _scanned.Machine.See(_spaces[i]!, _spaces[i]!.First + (ulong)page);
                    if (seen.ContainsAnyExcept(_model[i, page]))
                        Assert.Fail($"page {page} of space {i} shows {seen[0]} instead of {_model[i, page]}");
                }
            }
        }

        public void Recount()
        {
            foreach (FakeSpace space in _spaces!)
            {
                SpaceCountsView counts = _scanned.Counts(space);
                Assert.Equal(space.InFrames, counts.Merged);
                Assert.Equal(space.Pages.LongCount(page => page.Mapped != null && !page.InFrame), counts.Broken);
                Assert.Equal(0, counts.Pending);
                Assert.InRange(counts.Tracked, counts.Merged + counts.Broken + counts.Unique + counts.Zeroed, PageCount);
                Assert.True(_scanned.Engine.FiguresOf(space.Id).Settled);
            }

            foreach (int domain in new[] { 1, 2 })
            {
                DomainFigures figures = _scanned.Domain(domain);
                Assert.Equal(_spaces.Where(space => space!.Domain.Value == domain).Sum(space => space!.InFrames), figures.Users);
                Assert.Equal(_scanned.Machine.FramesInUse(domain), figures.Frames);
                Assert.Equal(_scanned.Machine.FramesHeld(domain), figures.FramesHeld);
            }
        }

        public void CheckNothingIsApart()
        {
            foreach (IGrouping<int, FakeSpace> domain in _scanned.Spaces.GroupBy(space => space.Domain.Value))
            {
                byte[] alone = [.. domain.SelectMany(space => space.Pages).Where(page => page is { Own: not null, Mapped: null }).Select(page => page.Own![0])];
                Assert.DoesNotContain((byte)0, alone);
                Assert.Equal(alone.Distinct(), alone);
                IEnumerable<byte> inFrames = domain.SelectMany(space => Enumerable.Range(0, PageCount).Where(i => space.Pages[i].InFrame)
                    .Select(i => _scanned.Machine.See(space, space.First + (ulong)i)[0]));
                Assert.Empty(alone.Intersect(inFrames));
            }
        }

        public void End()
        {
            for (int i = 0; i < SpaceCount; i++)
                End(i);
            _scanned.Pass(3);
            foreach (int domain in new[] { 1, 2 })
                Assert.Equal((default, 0), (_scanned.Domain(domain), _scanned.Machine.FramesHeld(domain)));
        }

        public void Dispose() => _scanned.Dispose();

        private void Begin(int i)
        {
            FakeSpace space = _scanned.Machine.NewSpace(1 + i / 3, PageCount, first: 506);
            space.Force = (_, page) => _forced.Remove((space.Id, page), out PageOutcome outcome) ? outcome : null;
            _spaces[i] = _scanned.Take(space);
            for (int page = 0; page < PageCount; page++)
                _model[i, page] = 0;
        }

        private void End(int i)
        {
            _scanned.Machine.End(_spaces[i]!);
            _scanned.Remove(_spaces[i]!);
        }
    }
}
