using Samepage.Engine;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>The figures, undoing everything, and want of memory.</summary>
public sealed class WholeTests
{
    [Fact]
    public void G4_G5_G6_G7_G8_TheFiguresOfTheWhole()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 1, 1, 1, 2, 3);
        scanned.Space(2, 1, 1);
        scanned.Pass();
        Assert.Equal(new EngineFigures(0, 0, 0, PagesVolatile: 7, FullScans: 1, PagesScanned: 0, PagesSkipped: 0), scanned.Engine.Figures);
        scanned.Pass();
        scanned.Machine.Write(space, space.First + 4, 4);
        scanned.Pass();
        Assert.Equal(new EngineFigures(PagesShared: 2, PagesSharing: 3, PagesUnshared: 1, PagesVolatile: 1, FullScans: 3, PagesScanned: 7, PagesSkipped: 0), scanned.Engine.Figures);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void E3_UnmergingAllBreaksEverythingFreesAllRecordsAndKeepsTheSlots(bool tracksWrites)
    {
        using Scanned scanned = new(tracksWrites);
        FakeSpace one = scanned.Space(1, 1, 2, 5), other = scanned.Space(1, 1, 2, 6);
        for (int i = 0; i < 3; i++)
            scanned.ScanPass(2);
        scanned.Engine.Scan(1);
        Assert.Equal(BreakOutcome.Done, scanned.Engine.UnmergeAll());
        scanned.Engine.CheckInvariants();
        Assert.Equal((0, 0), (one.InFrames, other.InFrames));
        Assert.Equal((0, 0, 0), (scanned.Counts(one).Tracked, scanned.Counts(other).Tracked, scanned.Engine.FullScans));
        Assert.True(scanned.Engine.Knows(one.Id) && scanned.Engine.Knows(other.Id));
        for (int i = 0; i < 3; i++)
            scanned.Engine.SweepFrames();
        Assert.Equal((0, 0), (scanned.Machine.FramesHeld(1), scanned.Engine.FullScans));
        for (int i = 0; i < 3; i++)
            scanned.ScanPass();
        Assert.Equal((2, 2), (one.InFrames, other.InFrames));
        Assert.Equal(2, scanned.Counts(one).Unique + scanned.Counts(other).Unique);
    }

    [Fact]
    public void E3_OnAnErrorUnmergingStopsAndReportsAndGoesOnWhenAskedAgain()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2), other = scanned.Space(1, 1, 2);
        scanned.Pass(2);
        other.Force = (_, _) => PageOutcome.Refused;
        Assert.Equal(BreakOutcome.NoMemory, scanned.Engine.UnmergeAll());
        scanned.Engine.CheckInvariants();
        Assert.Equal((0, 2, 2), (one.InFrames, other.InFrames, scanned.Engine.FullScans));
        other.Force = null;
        Assert.Equal(BreakOutcome.Done, scanned.Engine.UnmergeAll());
        Assert.Equal((0, 0), (other.InFrames, scanned.Engine.FullScans));
    }

    [Fact]
    public void E2_BreakingLeavesAloneWhatIsNotInAFrame()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2), other = scanned.Space(1, 1);
        scanned.Pass(2);
        scanned.Machine.Executed.Clear();
        Assert.Equal(BreakOutcome.Done, scanned.Engine.BreakRange(one.Id, new PageRun(new PageNumber(one.First), 2)));
        PlannedRun run = Assert.Single(Assert.Single(scanned.Machine.Executed).Runs);
        Assert.Equal((PlanKind.Unmerge, new PageRun(new PageNumber(one.First), 1)), (run.Kind, run.Range));
        Assert.Equal(1, other.InFrames);
    }

    [Fact]
    public void E1_AHealthyPageIsNotGivenBackAndMergedAgainAtEveryVisitBecauseItsNeighbourIsHeld()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2), other = scanned.Space(1, 1, 2);
        scanned.Pass(2);
        scanned.Machine.Write(one, one.First, 9);
        one.Force = (kind, page) => kind == PlanKind.Unmerge && page == one.First ? PageOutcome.Busy : null;
        scanned.Pass(8);
        Assert.True(scanned.Engine.FiguresOf(one.Id).Settled);
        Assert.Equal(1, scanned.Machine.Executed.Count(plan => plan.Runs.Any(run => run.Kind == PlanKind.Unmerge)));
        one.Force = null;
        scanned.Pass(20);
        Assert.Equal((0, 1, 1), (scanned.Counts(one).Broken, scanned.Counts(one).Unique, one.InFrames));
        Assert.Equal(2, other.InFrames);
    }

    [Fact]
    public void C8_BothPagesLeaveTheUnstableSideForTheNewFrameInOneStep()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 1, 2);
        scanned.Pass(2);
        Assert.Equal(2, scanned.Counts(space).Unique);
        FakeSpace other = scanned.Space(1, 1);
        scanned.Pass(2);
        Assert.Equal((1, 1, 0), (scanned.Counts(space).Unique, scanned.Counts(space).Merged, scanned.Counts(other).Unique));
        Assert.Equal(new DomainFigures(1, 2, 1), scanned.Domain(1));
    }

    [Fact]
    public void C9_WithoutMemoryForItsNodeThereIsNoFrameAndBothPagesStayTheirOwn()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1), other = scanned.Space(1, 2);
        scanned.Pass(2);
        scanned.Machine.Write(other, other.First, 1);
        scanned.Pass();
        scanned.Engine.Budget.BytesMax = scanned.Engine.Budget.BytesUsed;
        scanned.Pass(2);
        Assert.Equal((0, 0, 0), (one.InFrames, other.InFrames, scanned.Machine.FramesHeld(1)));
        Assert.Equal((1, 1), (scanned.Counts(one).Unique, scanned.Counts(other).Pending));
        scanned.Engine.Budget.BytesMax = long.MaxValue;
        scanned.Pass();
        Assert.Equal((1, 1), (one.InFrames, other.InFrames));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void H2_APageWithoutMemoryForItsRecordIsPassedOverThisTime(bool tracksWrites)
    {
        using Scanned scanned = new(tracksWrites);
        FakeSpace space = scanned.Space(1, 1, 2, 2);
        scanned.Engine.Budget.BytesMax = scanned.Engine.Budget.BytesUsed;
        scanned.Pass(3);
        Assert.Equal((0, 0), (scanned.Counts(space).Tracked, space.InFrames));
        scanned.Engine.Budget.BytesMax = long.MaxValue;
        scanned.Pass(3);
        Assert.Equal((3, 2), (scanned.Counts(space).Tracked, space.InFrames));
    }

    [Fact]
    public void H2_WithoutMemoryForASlotTakingInReportsIt()
    {
        using Scanned scanned = new(options: new EngineOptions { MetadataBytesMax = 700 });
        FakeSpace one = scanned.Space(1, 1), other = scanned.Machine.NewSpace(1, 1);
        Assert.False(scanned.Engine.Add(other.Id, other.Domain));
        Assert.False(scanned.Engine.Knows(other.Id));
        scanned.Remove(one);
        Assert.True(scanned.Engine.Add(other.Id, other.Domain));
    }

    [Fact]
    public void D6_APageThatIsHeldHoldsUpNobody()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 1, 1, 2, 2, 3, 3);
        space.Force = (_, page) => page == space.First + 2 ? PageOutcome.Busy : null;
        scanned.Pass(2);
        Assert.Equal(5, space.InFrames);
        space.Force = null;
        scanned.Pass();
        Assert.Equal(6, space.InFrames);
    }
}
