using Samepage.Engine;
using Samepage.Engine.Scan;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>Who takes part, and how one leaves.</summary>
public sealed class OptingTests
{
    [Theory]
    [InlineData(AreaTraits.Readable | AreaTraits.Writable, true)]
    [InlineData(AreaTraits.Readable, true)]
    [InlineData(AreaTraits.None, true)]
    [InlineData(AreaTraits.Readable | AreaTraits.Executable, true)]
    [InlineData(AreaTraits.Readable | AreaTraits.Writable | AreaTraits.Executable, false)]
    [InlineData(AreaTraits.Writable | AreaTraits.Executable, false)]
    [InlineData(AreaTraits.Readable | AreaTraits.Empty, false)]
    public void A2_MemoryIsMergedWhateverItsProtectionButNotCodeThatCanBeWritten(AreaTraits traits, bool mergeable) => Assert.Equal(mergeable, AreaEligibility.IsMergeable(traits));

    [Fact]
    public void A2_EveryTraitThatAReplacementWouldNotHaveStandsInTheWayAndSaysSo()
    {
        AreaTraits ordinary = AreaTraits.Readable | AreaTraits.Writable;
        Assert.Null(AreaEligibility.WhyNot(ordinary));
        HashSet<string?> reasons = [null];
        foreach (AreaTraits trait in Enum.GetValues<AreaTraits>().Where(trait => (trait & ~(ordinary | AreaTraits.Advised | AreaTraits.DontCopy)) != 0))
            Assert.True(reasons.Add(AreaEligibility.WhyNot(ordinary | trait)), $"{trait} has no reason of its own");
    }

    [Theory]
    [InlineData(AreaTraits.DontCopy, true)]
    [InlineData(AreaTraits.DontDump, true)]
    [InlineData(AreaTraits.WipeOnFork, false)]
    [InlineData(AreaTraits.Locked, false)]
    [InlineData(AreaTraits.Sealed, false)]
    [InlineData(AreaTraits.Keyed, false)]
    public void A2_WhatAProgramSetsApartIsMergedIfItAsksForIt(AreaTraits trait, bool mergeable) =>
        Assert.Equal(mergeable, AreaEligibility.IsMergeable(AreaTraits.Readable | AreaTraits.Writable | AreaTraits.Advised | trait));

    [Theory]
    [InlineData(AreaTraits.DontCopy, true)]
    [InlineData(AreaTraits.DontDump, false)]
    [InlineData(AreaTraits.WipeOnFork, false)]
    public void A2_WhatIsAMarkOfSecretsIsLeftAloneUnasked(AreaTraits trait, bool mergeable) =>
        Assert.Equal(mergeable, AreaEligibility.IsMergeable(AreaTraits.Readable | AreaTraits.Writable | trait));

    [Fact]
    public void A3_NewSlotGoesBehindTheCursor()
    {
        using Scanned scanned = new(tracksWrites: false);
        FakeSpace one = scanned.Space(1, 1, 2), other = scanned.Space(1, 3, 4);
        scanned.Engine.Scan(1);
        FakeSpace late = scanned.Space(1, 5, 6);
        scanned.Engine.Scan(2);
        FakeSpace later = scanned.Space(1, 7, 8);
        scanned.ScanPass();
        Assert.Equal([one.Id, one.Id, other.Id, other.Id], scanned.Machine.Looked.Select(look => look.Space));
        scanned.Machine.Looked.Clear();
        scanned.ScanPass();
        Assert.Equal([late.Id, one.Id, later.Id, other.Id], scanned.Machine.Looked.Select(look => look.Space).Distinct());
    }

    [Fact]
    public void A4_ThereIsWorkFromTheFirstSlotToTheLast()
    {
        using Scanned scanned = new();
        Assert.False(scanned.Engine.HasWork);
        FakeSpace space = scanned.Space(1, 1);
        Assert.True(scanned.Engine.HasWork);
        scanned.Remove(space);
        Assert.False(scanned.Engine.HasWork);
    }

    [Theory]
    [InlineData(PageOutcome.Refused, BreakOutcome.NoMemory)]
    [InlineData(PageOutcome.Deferred, BreakOutcome.Interrupted)]
    [InlineData(PageOutcome.Busy, BreakOutcome.Interrupted)]
    public void A5_OptingOutMayFailPartWayAndGoesOnWhenAskedAgain(PageOutcome met, BreakOutcome reported)
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2, 3, 4), other = scanned.Space(1, 1, 2, 3, 4);
        scanned.Pass(2);
        one.Force = (_, page) => page == one.First + 2 ? met : null;
        PageRun range = new(new PageNumber(one.First + 1), 3);
        Assert.Equal(reported, scanned.Engine.BreakRange(one.Id, range));
        scanned.Engine.CheckInvariants();
        Assert.Equal(2, one.InFrames);
        Assert.Equal((2, 6), (scanned.Counts(one).Merged, scanned.Domain(1).Users));
        one.Force = null;
        Assert.Equal(BreakOutcome.Done, scanned.Engine.BreakRange(one.Id, range));
        Assert.Equal((1, 4), (one.InFrames, other.InFrames));
        Assert.Equal(new byte[] { 1, 2, 3, 4 }, Enumerable.Range(0, 4).Select(i => scanned.Machine.See(one, one.First + (ulong)i)[0]));
    }

    [Fact]
    public void A5_OptingOutBreaksAlsoWhatCameByForkAndNobodyHasScanned()
    {
        using Scanned scanned = new();
        FakeSpace parent = scanned.Space(1, 1, 1);
        scanned.Pass(2);
        FakeSpace child = scanned.Take(scanned.Machine.Fork(parent));
        Assert.Equal(2, child.InFrames);
        Assert.Equal(BreakOutcome.Done, scanned.Engine.BreakRange(child.Id, new PageRun(new PageNumber(0), long.MaxValue)));
        Assert.Equal((0, 2), (child.InFrames, parent.InFrames));
        Assert.Equal(BreakOutcome.Gone, scanned.Engine.BreakRange(new SpaceId(77), new PageRun(new PageNumber(0), 1)));
    }

    [Fact]
    public void A6_RecordsAreCleanedUpByTheNextVisitAfterOptingOut()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2, 3), other = scanned.Space(1, 1, 2);
        scanned.Pass(2);
        Assert.Equal(BreakOutcome.Done, scanned.Engine.BreakRange(one.Id, new PageRun(new PageNumber(one.First + 1), 2)));
        scanned.Machine.OptOut(one, one.First + 1);
        scanned.Machine.OptOut(one, one.First + 2);
        Assert.Equal(3, scanned.Counts(one).Tracked);
        scanned.Pass(4);
        Assert.Equal((1, 1, 0), (scanned.Counts(one).Tracked, scanned.Counts(one).Merged, scanned.Counts(one).Unique));
        Assert.Equal((1, 2), (one.InFrames, other.InFrames));
    }

    [Fact]
    public void A6_APageWhoseAreaComesBackIsLookedAtAgainThoughNobodyWroteIt()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2, 3), other = scanned.Space(1, 4);
        scanned.Pass(2);
        scanned.Machine.OptOut(one, one.First + 1);
        scanned.Pass(2);
        Assert.Equal(2, scanned.Counts(one).Tracked);
        long read = scanned.Machine.PagesRead;
        scanned.Machine.OptOut(one, one.First + 1, isOut: false);
        scanned.Pass(3);
        Assert.Equal((3, 3, read + 1), (scanned.Counts(one).Tracked, scanned.Counts(one).Unique, scanned.Machine.PagesRead));
        scanned.Machine.Write(other, other.First, 2);
        scanned.Pass(2);
        Assert.Equal((1, 1), (one.InFrames, other.InFrames));
    }

    [Fact]
    public void B7_ASpaceThatEndsWhileItsNewAreasAreLookedAtLeavesNoPlanBehind()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2, 3, 4), other = scanned.Space(1, 1, 2, 3, 5);
        scanned.Machine.OptOut(one, one.First + 3);
        scanned.Pass(2);
        Assert.Equal(3, one.InFrames);
        scanned.Machine.Write(one, one.First, 8);
        scanned.Machine.Write(one, one.First + 1, 9);
        scanned.Machine.OptOut(one, one.First + 3, isOut: false);
        int collected = 0;
        scanned.Machine.Meanwhile = call => one.Gone |= call == nameof(IMachine.TryCollectWritten) && ++collected == 2;
        Assert.False(scanned.Engine.Visit(one.Id));
        Assert.Equal(2, collected);
        scanned.Engine.CheckInvariants();
        scanned.Machine.Meanwhile = null;
        scanned.Remove(one);
        scanned.Pass(2);
        Assert.Equal(new DomainFigures(3, 3, 3), scanned.Domain(1));
        Assert.Equal(4, scanned.Counts(other).Tracked);
    }

    [Fact]
    public void A6_GrowthIsWhatNoAreaWasAtBefore()
    {
        static Area At(ulong first, long count, AreaKind kind = AreaKind.Mergeable) => new(new PageRun(new PageNumber(first), count), kind);
        List<Area> grown = [];
        Areas.AddGrowth([At(10, 10), At(30, 5, AreaKind.Merged), At(40, 10)], [At(5, 30), At(38, 4), At(45, 1), At(48, 10), At(60, 5, AreaKind.Merged)], grown);
        Assert.Equal([At(5, 5), At(20, 10), At(38, 2), At(50, 8)], grown);
    }
}
