using Samepage.Engine;
using Samepage.Engine.Records;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>Machines that do not track writes.</summary>
public sealed class ChecksumTests
{
    [Fact]
    public void C4_WithoutTrackingAPageWhoseChecksumChangedIsVolatile()
    {
        using Scanned scanned = new(tracksWrites: false);
        FakeSpace space = scanned.Space(1, 7, 7);
        for (byte i = 0; i < 4; i++)
        {
            scanned.Machine.Write(space, space.First, (byte)(10 + i));
            scanned.Machine.Write(space, space.First + 1, (byte)(10 + i));
            scanned.ScanPass();
            Assert.Equal((2, 0), (scanned.Counts(space).Volatile, space.InFrames));
        }

        scanned.ScanPass();
        Assert.Equal((0, 2), (scanned.Counts(space).Volatile, space.InFrames));
    }

    [Fact]
    public void C3_WithoutTrackingAFrameIsJoinedWhateverTheChecksumWas()
    {
        using Scanned scanned = new(tracksWrites: false);
        FakeSpace one = scanned.Space(1, 7, 7);
        scanned.ScanPass();
        scanned.ScanPass();
        FakeSpace late = scanned.Space(1, 7);
        scanned.ScanPass();
        Assert.Equal((2, 1), (one.InFrames, late.InFrames));
    }

    [Fact]
    public void C7_TheUnstableSideIsEmptiedAtEveryFullScanAndFilledAgain()
    {
        using Scanned scanned = new(tracksWrites: false);
        FakeSpace one = scanned.Space(1, 1, 2, 3), other = scanned.Space(1, 4);
        for (int i = 0; i < 600; i++)
        {
            scanned.ScanPass(2);
            Assert.Equal(i == 0 ? 0 : 4, scanned.Counts(one).Unique + scanned.Counts(other).Unique);
        }

        Assert.Equal(600, scanned.Engine.FullScans);
        scanned.Machine.Write(other, other.First, 3);
        scanned.ScanPass();
        scanned.ScanPass();
        Assert.Equal((1, 1), (one.InFrames, other.InFrames));
    }

    [Fact]
    public void C7_AnAgeOverOneIsABugAndAsserted()
    {
        using Scanned scanned = new(tracksWrites: false);
        FakeSpace visited = scanned.Space(1, 1);
        scanned.ScanPass();
        scanned.ScanPass();
        Assert.Equal(1, scanned.Counts(visited).Unique);
        scanned.Engine.EndPass();
        scanned.Engine.EndPass();
        EngineInvariantException bug = Assert.Throws<EngineInvariantException>(() => scanned.Engine.Visit(visited.Id));
        Assert.Equal("C7 age", bug.Invariant);
    }

    [Theory]
    [InlineData(0, 0, 0)]
    [InlineData(255, 256, 1)]
    [InlineData(256, 256, 0)]
    [InlineData(511, 513, 2)]
    public void C7_AnAgeIsCountedByTheLowBitsOfTheScanNumber(long since, long now, int age)
    {
        uint state = PageState.UniqueSince(since);
        Assert.True(PageState.IsUnique(state) && !PageState.IsMerged(state));
        Assert.Equal(age, PageState.AgeOf(state, now));
    }

    [Theory]
    [InlineData(true, IndexKind.Hash)]
    [InlineData(true, IndexKind.Tree)]
    [InlineData(false, IndexKind.Hash)]
    [InlineData(false, IndexKind.Tree)]
    public void C1_C2_ContentsOfOneDigestAreToldApartByTheirBytes(bool tracksWrites, IndexKind index)
    {
        using Scanned scanned = new(tracksWrites, new EngineOptions { Index = index, DigestMask = 0 });
        FakeSpace one = scanned.Space(1, 1, 2, 3, 4, 5), other = scanned.Space(1, 5, 4, 6, 2, 1);
        for (int i = 0; i < 30; i++)
            scanned.ScanPass();
        Assert.Equal((4, 4), (one.InFrames, other.InFrames));
        Assert.Equal(new DomainFigures(4, 8, 4), scanned.Domain(1));
        Assert.True(scanned.Engine.FiguresOf(one.Id).Settled && scanned.Engine.FiguresOf(other.Id).Settled);
        int executed = scanned.Machine.Executed.Count;
        scanned.ScanPass();
        Assert.Equal(executed, scanned.Machine.Executed.Count);
    }

    [Fact]
    public void C2_WhoeverCraftsVeryManyContentsOfOneDigestHasThemPassedOver()
    {
        using Scanned scanned = new(tracksWrites: false, new EngineOptions { DigestMask = 0 });
        FakeSpace space = scanned.Space(1, [.. Enumerable.Range(1, 100).Select(i => (byte)i)]);
        for (int i = 0; i < 5; i++)
            scanned.ScanPass();
        Assert.Equal((16, 84), (scanned.Counts(space).Unique, scanned.Counts(space).Pending));
    }

    [Fact]
    public void C1_TheStableSideIsNeverEmptied()
    {
        using Scanned scanned = new(tracksWrites: false);
        scanned.Space(1, 7, 7);
        for (int i = 0; i < 10; i++)
            scanned.ScanPass();
        FakeSpace late = scanned.Space(1, 7);
        scanned.ScanPass();
        Assert.Equal(1, late.InFrames);
    }
}
