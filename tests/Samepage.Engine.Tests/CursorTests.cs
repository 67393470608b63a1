using Samepage.Engine;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>Batches, the cursor and the slots.</summary>
public sealed class CursorTests
{
    [Fact]
    public void B1_WithoutASlotNothingIsAskedAndNoScanIsCounted()
    {
        using Scanned scanned = new();
        scanned.Machine.Meanwhile = call => Assert.Fail($"the machine was asked for {call}");
        Assert.Equal((0, 0), (scanned.Engine.Scan(100).PagesLookedAt, scanned.Engine.Scan(100).PassesCompleted));
        Assert.Equal(0, scanned.Engine.FullScans);
    }

    [Theory]
    [InlineData(true, 1)]
    [InlineData(true, 3)]
    [InlineData(false, 1)]
    [InlineData(false, 3)]
    public void B2_ABatchEndsAnywhereAndTheNextGoesOnExactlyThere(bool tracksWrites, int pages)
    {
        using Scanned scanned = new(tracksWrites);
        FakeSpace one = scanned.Space(1, 1, 2, 3, 4, 5), other = scanned.Space(1, 6, 7, 8);
        if (tracksWrites)
            scanned.ScanPass();
        scanned.Machine.Looked.Clear();
        List<BatchReport> batches = scanned.ScanPass(pages);
        Assert.Equal(
            [.. Enumerable.Range(0, 5).Select(i => (one.Id, one.First + (ulong)i)), .. Enumerable.Range(0, 3).Select(i => (other.Id, other.First + (ulong)i))],
            scanned.Machine.Looked);
        Assert.All(batches.SkipLast(1), batch => Assert.Equal((pages, 0), (batch.PagesLookedAt, batch.PassesCompleted)));
        Assert.Equal(8, batches.Sum(batch => batch.PagesLookedAt));
        Assert.Throws<ArgumentOutOfRangeException>(() => scanned.Engine.Scan(0));
    }

    [Fact]
    public void B2_SmallBatchesComeToTheSameAsLargeOnes()
    {
        using Scanned small = new(), large = new();
        foreach (Scanned scanned in new[] { small, large })
        {
            scanned.Space(1, 1, 2, 3, 3, 4);
            scanned.Space(1, 4, 9, 1);
            for (int i = 0; i < 4; i++)
                scanned.ScanPass(scanned == small ? 1 : 1000);
        }

        Assert.Equal(large.Domain(1), small.Domain(1));
        Assert.Equal(new DomainFigures(3, 6, 3), small.Domain(1));
    }

    [Fact]
    public void B3_AFullScanIsCompleteWhenTheCursorPassesTheLastSlot()
    {
        using Scanned scanned = new(tracksWrites: false);
        scanned.Space(1, 1, 2);
        scanned.Space(1, 3);
        Assert.Equal((2, 0, 0), (scanned.Engine.Scan(2).PagesLookedAt, scanned.Engine.FullScans, scanned.Domain(1).Frames));
        Assert.Equal((1, 1), (scanned.Engine.Scan(1).PassesCompleted, scanned.Engine.FullScans));
        Assert.Equal((0, 1), (scanned.Engine.Scan(1).PassesCompleted, scanned.Engine.FullScans));
    }

    [Fact]
    public void B4_OnlyPresentPagesAreVisitedAndASpaceThatNeverFaultedIsPassedOverWhole()
    {
        using Scanned scanned = new(tracksWrites: false);
        FakeSpace empty = scanned.Take(scanned.Machine.NewSpace(1, 100)), sparse = scanned.Take(scanned.Machine.NewSpace(1, 100));
        scanned.Machine.Write(sparse, sparse.First + 50, 1);
        scanned.ScanPass();
        Assert.Equal([(sparse.Id, sparse.First + 50)], scanned.Machine.Looked);
        Assert.Equal((0, 1), (scanned.Counts(empty).Tracked, scanned.Counts(sparse).Tracked));
    }

    [Fact]
    public void B5_RecordsOfPagesThatAreNotPresentAnyMoreAreDroppedOnTheWay()
    {
        using Scanned scanned = new(tracksWrites: false);
        FakeSpace space = scanned.Space(1, 1, 2, 3, 4);
        scanned.ScanPass();
        scanned.ScanPass();
        Assert.Equal((4, 4), (scanned.Counts(space).Tracked, scanned.Counts(space).Unique));
        scanned.Machine.Discard(space, space.First + 1);
        scanned.Machine.Discard(space, space.First + 3);
        scanned.ScanPass();
        Assert.Equal((2, 2), (scanned.Counts(space).Tracked, scanned.Counts(space).Unique));
    }

    [Fact]
    public void B6_ASpaceWithoutAreasLosesItsSlotAtTheEndOfItsVisit()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1), other = scanned.Space(1, 2);
        scanned.ScanPass();
        scanned.Machine.OptOut(one, one.First);
        BatchReport batch = scanned.ScanPass().Single();
        Assert.Equal((0, one.Id), (batch.Gone.Count, Assert.Single(batch.WithoutAreas)));
        Assert.Equal((false, true), (scanned.Engine.Knows(one.Id), scanned.Engine.Knows(other.Id)));
        Assert.True(scanned.Engine.Add(one.Id, one.Domain));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void B7_ASpaceThatEndsAtTheCursorIsFreedByTheScanner(bool tracksWrites)
    {
        using Scanned scanned = new(tracksWrites);
        FakeSpace one = scanned.Space(1, 1, 2, 3), other = scanned.Space(1, 1, 2, 3);
        for (int i = 0; i < 3; i++)
            scanned.ScanPass(2);
        Assert.Equal(3, one.InFrames);
        scanned.Machine.Write(other, other.First, 4);
        scanned.Machine.End(one);
        Assert.Equal(one.Id, Assert.Single(scanned.ScanPass().SelectMany(batch => batch.Gone)));
        Assert.False(scanned.Engine.Knows(one.Id));
        scanned.ScanPass();
        Assert.Equal(2, scanned.Domain(1).Users);
    }

    [Theory]
    [InlineData(nameof(IMachine.TryListAreas))]
    [InlineData(nameof(IMachine.TryCollectWritten))]
    [InlineData(nameof(IMachine.TryCollectMerged))]
    [InlineData(nameof(IMachine.Read))]
    [InlineData(nameof(IMachine.Execute))]
    public void B7_ASpaceMayEndWhileTheMachineAnswers(string call)
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2, 2), other = scanned.Space(1, 1, 5);
        scanned.Pass();
        FakeSpace? late = null;
        scanned.Machine.Meanwhile = asked =>
        {
            if (asked != call)
                return;
            scanned.Machine.Meanwhile = null;
            scanned.Machine.End(one);
            scanned.Engine.Remove(one.Id);
            scanned.Spaces.Remove(one);
            late = scanned.Space(1, 1, 5);
        };
        scanned.ScanPass(2);
        Assert.Null(scanned.Machine.Meanwhile);
        Assert.False(scanned.Engine.Knows(one.Id));
        scanned.Pass(4);
        Assert.Equal((2, 2), (other.InFrames, late!.InFrames));
        Assert.Equal(new DomainFigures(2, 4, 2), scanned.Domain(1));
    }

    [Fact]
    public void B7_NothingButAddingAndRemovingIsAllowedWhileTheMachineAnswers()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 1);
        scanned.Machine.Meanwhile = _ => scanned.Engine.EndPass();
        Assert.Throws<InvalidOperationException>(() => scanned.Engine.Visit(space.Id));
        scanned.Machine.Meanwhile = null;
        scanned.Pass(2);
        Assert.Equal(1, scanned.Counts(space).Unique);
    }

    [Fact]
    public void B9_APageThatIsInItsFrameIsNotReadWithoutWriteTrackingEither()
    {
        using Scanned scanned = new(tracksWrites: false);
        FakeSpace space = scanned.Space(1, 1, 1, 2);
        scanned.ScanPass();
        scanned.ScanPass();
        Assert.Equal(2, space.InFrames);
        scanned.Machine.Looked.Clear();
        scanned.ScanPass();
        Assert.Equal([(space.Id, space.First + 2)], scanned.Machine.Looked);
    }
}
