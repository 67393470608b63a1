using Samepage.Engine;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>Which pages become one, and when.</summary>
public sealed class MergingTests
{
    [Fact]
    public void C4_TwoEqualPagesShareAFrameAtTheSecondVisitAndNotAtTheFirst()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7), other = scanned.Space(1, 7);
        scanned.Pass();
        Assert.Equal(0, one.InFrames + other.InFrames);
        Assert.Equal(0, scanned.Machine.PagesRead);
        Assert.Equal(1, scanned.Counts(one).Volatile);
        scanned.Pass();
        Assert.Equal((1, 1), (one.InFrames, other.InFrames));
        Assert.Equal(one.Pages[0].Mapped, other.Pages[0].Mapped);
        Assert.Equal(new DomainFigures(Frames: 1, Users: 2, FramesHeld: 1), scanned.Domain(1));
        Assert.Equal((1, 1), (scanned.Counts(one).Merged, scanned.Counts(other).Merged));
    }

    [Fact]
    public void C4_PagesThatDoNotLetThemselvesBeReadInTimeAreReadLaterIntoOtherBuffers()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7, 8, 9), other = scanned.Space(1, 7, 9, 8);
        scanned.Machine.ReadsAreLate = true;
        scanned.Pass(4);
        Assert.Equal((0, 0), (one.InFrames, other.InFrames));
        scanned.Machine.ReadsAreLate = false;
        scanned.Pass(2);
        Assert.Equal((3, 3), (one.InFrames, other.InFrames));
    }

    [Fact]
    public void C5_TwoEqualPagesOfOneSpaceShareAFrame()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 7, 8, 7);
        scanned.Pass(2);
        Assert.Equal(space.Pages[0].Mapped, space.Pages[2].Mapped);
        Assert.Equal(2, space.InFrames);
        Assert.Equal(1, scanned.Counts(space).Unique);
    }

    [Fact]
    public void C3_AThirdPageJoinsTheFrame()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7, 7);
        scanned.Pass(2);
        FakeSpace third = scanned.Space(1, 7);
        scanned.Pass(2);
        Assert.Equal(one.Pages[0].Mapped, third.Pages[0].Mapped);
        Assert.Equal(new DomainFigures(1, 3, 1), scanned.Domain(1));
    }

    [Fact]
    public void C4_PagesWrittenBetweenVisitsStayAloneAndAreNotRead()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 7, 7);
        for (int i = 0; i < 5; i++)
        {
            scanned.Pass();
            scanned.Machine.Write(space, space.First, 7);
            scanned.Machine.Write(space, space.First + 1, 7);
        }

        Assert.Equal((0, 0), (space.InFrames, scanned.Machine.PagesRead));
        Assert.Equal(2, scanned.Counts(space).Volatile);
        scanned.Pass(2);
        Assert.Equal(2, space.InFrames);
    }

    [Fact]
    public void B9_IdlePassesReadNothing()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 1, 2, 3, 3);
        scanned.Pass(2);
        long read = scanned.Machine.PagesRead;
        scanned.Pass(3);
        Assert.Equal(read, scanned.Machine.PagesRead);
        Assert.Equal(5, scanned.Engine.FullScans);
        Assert.True(scanned.Engine.FiguresOf(space.Id).Settled);
    }

    [Fact]
    public void G9_PagesOfZerosAreLeftToTheZeroPage()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 0, 0, 5);
        scanned.Pass(2);
        Assert.Equal(2, scanned.Counts(space).Zeroed);
        Assert.Null(space.Pages[0].Own);
        Assert.Equal(default, scanned.Domain(1));
        scanned.Machine.Touch(space, space.First);
        scanned.Pass(2);
        Assert.Equal(2, scanned.Counts(space).Zeroed);
        scanned.Machine.Write(space, space.First, 5);
        scanned.Pass(2);
        Assert.Equal((1, 2), (scanned.Counts(space).Zeroed, scanned.Counts(space).Merged));
    }

    [Fact]
    public void B4_AZeroPageThatWasOnlyReadCostsNoRecord()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Take(scanned.Machine.NewSpace(1, 3));
        scanned.Machine.Touch(space, space.First);
        scanned.Pass(3);
        Assert.Equal(default, scanned.Counts(space));
        Assert.Equal(0, scanned.Machine.PagesRead);
    }

    [Fact]
    public void DomainsNeverShare()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7, 9), other = scanned.Space(2, 7, 9);
        scanned.Pass(6);
        Assert.Equal((0, 0), (one.InFrames, other.InFrames));
        Assert.Empty(scanned.Machine.Executed);
        FakeSpace friend = scanned.Space(1, 7, 9);
        scanned.Pass(6);
        Assert.Equal((2, 0, 2), (one.InFrames, other.InFrames, friend.InFrames));
        Assert.Equal((new DomainFigures(2, 4, 2), default), (scanned.Domain(1), scanned.Domain(2)));
        Assert.DoesNotContain(scanned.Machine.Executed, plan => plan.Space == other.Id);
    }

    [Fact]
    public void C6_PagesSharedByForkAreLeftUntilTheyAreWritten()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 7, 7);
        space.Pages[0].SharedByFork = true;
        scanned.Pass(4);
        Assert.Equal(0, space.InFrames);
        scanned.Machine.Write(space, space.First, 7);
        scanned.Pass(2);
        Assert.Equal(2, space.InFrames);
    }

    [Theory]
    [InlineData(PageOutcome.Busy)]
    [InlineData(PageOutcome.Refused)]
    [InlineData(PageOutcome.Deferred)]
    public void D2_APageThatIsHeldIsTriedAgain(PageOutcome held)
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7, 7), other = scanned.Space(1, 7);
        other.Force = (_, _) => held;
        scanned.Pass(5);
        Assert.Equal((2, 0), (one.InFrames, other.InFrames));
        Assert.Equal(1, scanned.Counts(other).Pending);
        Assert.Equal(held != PageOutcome.Deferred, scanned.Engine.FiguresOf(other.Id).Settled);
        other.Force = null;
        scanned.Pass();
        Assert.Equal(1, other.InFrames);
        Assert.Equal(new DomainFigures(1, 3, 1), scanned.Domain(1));
    }

    [Fact]
    public void D3_APageWhoseContentDiffersIsLookedAtOnceMoreAndLeftUntilItIsWritten()
    {
        using Scanned scanned = new();
        scanned.Space(1, 7, 7);
        FakeSpace other = scanned.Space(1, 7);
        other.Force = (_, _) => PageOutcome.Differs;
        scanned.Pass(3);
        int tried = scanned.Machine.Executed.Count;
        scanned.Pass(3);
        Assert.Equal(tried, scanned.Machine.Executed.Count);
        other.Force = null;
        scanned.Machine.Write(other, other.First, 7);
        scanned.Pass(2);
        Assert.Equal(1, other.InFrames);
    }

    [Fact]
    public void D4_APageThatIsGoneIsLeftAloneAndLosesItsRecordWithItsArea()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 7);
        scanned.Pass(2);
        scanned.Machine.Discard(space, space.First);
        FakeSpace other = scanned.Space(1, 7);
        scanned.Pass(2);
        Assert.Equal((1, 0), (scanned.Counts(space).Tracked, scanned.Counts(space).Unique));
        Assert.Equal(0, other.InFrames);
        scanned.Machine.Unmap(space, space.First);
        scanned.Pass();
        Assert.Equal(0, scanned.Counts(space).Tracked);
    }

    [Fact]
    public void NeighboursGetNeighbouringFrames()
    {
        const int Pages = 512;
        using Scanned scanned = new(options: new EngineOptions { PagesPerFlight = 1 << 20 });
        FakeSpace one = scanned.Machine.NewSpace(1, Pages), other = scanned.Machine.NewSpace(1, Pages, first: 0x5123);
        foreach (FakeSpace space in new[] { one, other })
        {
            for (int i = 0; i < Pages; i++)
            {
                byte[] content = scanned.Machine.Filled(0xEE);
                BitConverter.TryWriteBytes(content, i);
                scanned.Machine.Write(space, space.First + (ulong)i, content);
            }

            scanned.Take(space);
        }

        scanned.Pass(2);
        Assert.Equal(2, scanned.Machine.Executed.Count);
        foreach ((SpaceId space, PlannedRun[] runs) in scanned.Machine.Executed)
        {
            PlannedRun run = Assert.Single(runs);
            Assert.Equal((PlanKind.Merge, Pages), (run.Kind, run.Range.Count));
            Assert.Contains(run.Range.Start.Value, new[] { one.First, other.First });
        }

        Assert.Equal(new DomainFigures(Pages, 2 * Pages, Pages), scanned.Domain(1));
    }
}
