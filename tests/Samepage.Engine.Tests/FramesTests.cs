using Samepage.Engine;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>Frames as places: who uses them, how they move, and how they are given up.</summary>
public sealed class FramesTests
{
    private static readonly DomainId One = new(1);

    [Fact]
    public void F1_RecordsOfAForkedChildAppearWhenTheScannerReachesIt()
    {
        using Scanned scanned = new();
        FakeSpace parent = scanned.Space(1, 1, 1, 2);
        scanned.Pass(2);
        FakeSpace child = scanned.Take(scanned.Machine.Fork(parent));
        Assert.Equal((2, 0), (scanned.Domain(1).Users, scanned.Counts(child).Tracked));
        scanned.Pass();
        Assert.Equal((4, 2), (scanned.Domain(1).Users, scanned.Counts(child).Merged));
        scanned.Machine.End(parent);
        scanned.Remove(parent);
        scanned.Pass(8);
        Assert.Equal(new DomainFigures(1, 2, 1), scanned.Domain(1));
        Assert.Equal(1, scanned.Machine.See(child, child.First)[0]);
    }

    [Fact]
    public void F1_MergedPagesThatWereRemappedGetTheirRecordsAtTheirNewPlace()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 1, 2, 9, 8), other = scanned.Space(1, 1, 2);
        scanned.Pass(2);
        (space.Pages[0], space.Pages[1], space.Pages[2]) = (new FakePage(), space.Pages[0], space.Pages[1]);
        space.Changed = true;
        scanned.Pass();
        Assert.Equal((2, 4), (scanned.Counts(space).Merged, scanned.Domain(1).Users));
        Assert.Equal(
            [new FrameUser(space.Id, new PageNumber(space.First + 1)), new FrameUser(other.Id, new PageNumber(other.First))],
            scanned.Engine.UsersOf(One, new FrameId(other.Pages[0].Mapped!.Value)));
    }

    [Fact]
    public void ADomainIsForgottenWhenNobodyIsInItAndNoneOfItsFramesIsHeld()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1), two = scanned.Space(1, 1);
        scanned.Space(2, 5);
        scanned.Pass(3);
        Assert.Equal(new DomainFigures(1, 2, 1), scanned.Domain(1));
        Assert.False(scanned.Engine.TryForget(One));
        foreach (FakeSpace space in (FakeSpace[])[one, two])
        {
            scanned.Machine.End(space);
            scanned.Remove(space);
        }

        Assert.False(scanned.Engine.TryForget(One), "its frame holds memory still");
        scanned.Pass(8);
        Assert.True(scanned.Engine.TryForget(One));
        Assert.False(scanned.Engine.TryForget(new DomainId(2)), "somebody is in it");
        Assert.True(scanned.Engine.TryForget(new DomainId(77)), "it was never known");
        scanned.Space(1, 1);
        scanned.Space(1, 1);
        scanned.Pass(3);
        Assert.Equal(new DomainFigures(1, 2, 1), scanned.Domain(1));
    }

    [Fact]
    public void F2_APageThatWasSwappedOutWhenItWasLookedAtIsLookedAtAgain()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7), other = scanned.Space(1, 7);
        scanned.Pass();
        (byte[]? content, one.Pages[0].Own) = (one.Pages[0].Own, null);
        scanned.Pass(3);
        Assert.Equal((0, 1), (one.InFrames + other.InFrames, scanned.Counts(one).Tracked));
        Assert.True(scanned.Engine.FiguresOf(one.Id).Settled);
        one.Pages[0].Own = content;
        scanned.Pass(20);
        Assert.Equal((1, 1), (one.InFrames, other.InFrames));
    }

    [Fact]
    public void F3_FromAFrameEveryMappingThatIsKnownIsFound()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2, 1), other = scanned.Space(1, 2, 1), stranger = scanned.Space(2, 1, 1);
        scanned.Pass(2);
        FrameId frame = new(one.Pages[0].Mapped!.Value);
        Assert.Equal(
            [
                new FrameUser(one.Id, new PageNumber(one.First)), new FrameUser(one.Id, new PageNumber(one.First + 2)),
                new FrameUser(other.Id, new PageNumber(other.First + 1)),
            ],
            scanned.Engine.UsersOf(One, frame));
        Assert.Equal(2, scanned.Engine.UsersOf(new DomainId(2), new FrameId(stranger.Pages[0].Mapped!.Value)).Count);
        Assert.Empty(scanned.Engine.UsersOf(One, new FrameId(1000)));
    }

    [Theory]
    [InlineData(IndexKind.Hash)]
    [InlineData(IndexKind.Tree)]
    public void F4_AFrameThatMovesIsFoundByContentAndByPlace(IndexKind index)
    {
        using Scanned scanned = new(options: new EngineOptions { Index = index });
        FakeSpace one = scanned.Space(1, 1, 2, 2), other = scanned.Space(1, 1);
        scanned.Pass(2);
        uint from = one.Pages[0].Mapped!.Value, to = 40;
        scanned.Machine.MoveFrame(1, from, to);
        Assert.True(scanned.Engine.FrameMoved(One, new FrameId(from), new FrameId(to)));
        scanned.Engine.CheckInvariants();
        Assert.Equal(2, scanned.Engine.UsersOf(One, new FrameId(to)).Count);
        FakeSpace late = scanned.Space(1, 1);
        scanned.Pass(2);
        Assert.Equal((to, 3), (late.Pages[0].Mapped, scanned.Engine.UsersOf(One, new FrameId(to)).Count));
        Assert.Equal((2, 3), (scanned.Domain(1).Frames, scanned.Engine.UsersOf(One, new FrameId(to)).Count));
        Assert.Equal(1, scanned.Machine.See(other, other.First)[0]);
        Assert.Throws<ArgumentException>(() => scanned.Engine.FrameMoved(One, new FrameId(from), new FrameId(to)));
        FakeSpace next = scanned.Space(1, 5, 5);
        scanned.Pass(2);
        Assert.Equal(from, next.Pages[0].Mapped);
    }

    [Fact]
    public void F5_ARetiredStretchIsEmptiedAndHandsOutNothing()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2, 3, 4), other = scanned.Space(1, 1, 2, 3, 4);
        scanned.Pass(2);
        Assert.True(scanned.Engine.TryRetire(One, new FrameId(1), 2));
        scanned.Engine.CheckInvariants();
        Assert.Equal((2, 2), (one.InFrames, other.InFrames));
        Assert.Equal(2, scanned.Machine.FramesHeld(1));
        scanned.Pass(3);
        Assert.Equal((4, 4), (one.InFrames, other.InFrames));
        Assert.Equal([0u, 3u, 4u, 5u], one.Pages.Select(page => page.Mapped!.Value).Order());
        Assert.True(scanned.Engine.CancelRetire(One, new FrameId(1), 2));
        FakeSpace late = scanned.Space(1, 8, 8, 9, 9);
        scanned.Pass(2);
        Assert.Equal([1u, 2u], late.Pages.Select(page => page.Mapped!.Value).Distinct().Order());
    }

    [Fact]
    public void F5_ACancelledRetirementChangesNothing()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2), other = scanned.Space(1, 1, 2);
        scanned.Pass(2);
        one.Force = (kind, _) => kind == PlanKind.Unmerge ? PageOutcome.Busy : null;
        other.Force = one.Force;
        Assert.False(scanned.Engine.TryRetire(One, new FrameId(0), 2));
        FakeSpace kept = scanned.Space(1, 1);
        scanned.Pass(2);
        Assert.Equal((2, 2, 0), (one.InFrames, other.InFrames, kept.InFrames));
        Assert.True(scanned.Engine.CancelRetire(One, new FrameId(0), 2));
        Assert.False(scanned.Engine.CancelRetire(One, new FrameId(0), 2));
        scanned.Pass(2);
        Assert.Equal((2, 2, 1), (one.InFrames, other.InFrames, kept.InFrames));
        Assert.Equal(new DomainFigures(2, 5, 2), scanned.Domain(1));
    }

    [Fact]
    public void F5_AFrameThatSomebodyUnseenMapsKeepsItsStretchFromBeingGivenUp()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 1, 1);
        scanned.Pass(2);
        scanned.Machine.MappedUnseen.Add((1, 0));
        Assert.False(scanned.Engine.TryRetire(One, new FrameId(0), 1));
        Assert.Equal((0, 1), (space.InFrames, scanned.Machine.FramesHeld(1)));
        scanned.Machine.MappedUnseen.Clear();
        Assert.True(scanned.Engine.TryRetire(One, new FrameId(0), 1));
        Assert.Equal(0, scanned.Machine.FramesHeld(1));
    }

    [Fact]
    public void C10_AFrameThatOnlyAThirdPageJoinedIsGivenUpToo()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7), other = scanned.Space(1, 7), third = scanned.Space(1, 7);
        scanned.Pass();
        one.Force = (_, _) => PageOutcome.Differs;
        other.Force = one.Force;
        long pages = long.MaxValue;
        scanned.Pass();
        Assert.Equal(0, scanned.Domain(1).Frames);
        Assert.Equal(0, one.InFrames + other.InFrames + third.InFrames);
        Assert.Equal(VisitOutcome.Ended, scanned.Engine.Visit(third.Id, ref pages));
    }
}
