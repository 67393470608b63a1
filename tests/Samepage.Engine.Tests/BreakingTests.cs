using Samepage.Engine;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>What becomes of frames when pages leave them.</summary>
public sealed class BreakingTests
{
    [Fact]
    public void D8_AWriteGivesOnePageItsOwnCopyAndTheFrameLosesAUser()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7), other = scanned.Space(1, 7), third = scanned.Space(1, 7);
        scanned.Pass(2);
        Assert.Equal(3, scanned.Domain(1).Users);
        scanned.Machine.Write(one, one.First, 8);
        scanned.Pass();
        Assert.Equal(new DomainFigures(1, 2, 1), scanned.Domain(1));
        Assert.Equal(0, scanned.Counts(one).Merged);
        Assert.Equal((8, 7, 7), (scanned.Machine.See(one, one.First)[0], scanned.Machine.See(other, other.First)[0], scanned.Machine.See(third, third.First)[0]));
    }

    [Fact]
    public void E1_AMappingOfWhichAFewPagesAreBrokenIsKeptAndOneOfWhichHalfAreIsGivenBack()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2, 3, 4), other = scanned.Space(1, 1, 2, 3, 4);
        scanned.Pass(2);
        Assert.Equal((4, 4), (one.InFrames, other.InFrames));
        scanned.Machine.Write(one, one.First, 9);
        scanned.Pass(3);
        Assert.Equal((3, 1), (scanned.Counts(one).Merged, scanned.Counts(one).Broken));
        Assert.Equal(7, scanned.Domain(1).Users);
        scanned.Machine.Discard(one, one.First + 1);
        scanned.Engine.Visit(one.Id);
        Assert.Equal((0, 0), (scanned.Counts(one).Merged, scanned.Counts(one).Broken));
        Assert.Equal(4, scanned.Domain(1).Users);
        Assert.All(one.Pages, page => Assert.Null(page.Mapped));
        scanned.Pass(3);
        Assert.Equal((2, 1), (scanned.Counts(one).Merged, scanned.Counts(one).Unique));
        Assert.Equal(new byte[] { 9, 0, 3, 4 }, Enumerable.Range(0, 4).Select(i => scanned.Machine.See(one, one.First + (ulong)i)[0]));
    }

    [Fact]
    public void C10_AFrameWhoseTwinLooksWrittenByTheAttemptThatWasPutOffIsKeptForIt()
    {
        using Scanned scanned = new();
        FakeSpace held = scanned.Space(1, 7), other = scanned.Space(1, 7);
        held.Force = (_, page) =>
        {
            held[page].Written = true;
            return PageOutcome.Busy;
        };
        scanned.Pass(9);
        Assert.DoesNotContain(scanned.Machine.Executed, plan => plan.Runs.Any(run => run.Kind == PlanKind.Unmerge));
        Assert.Equal((0, 1, true), (held.InFrames, other.InFrames, scanned.Engine.FiguresOf(other.Id).Settled));
        held.Force = null;
        scanned.Pass(2);
        Assert.Equal((1, 1), (held.InFrames, other.InFrames));
    }

    [Fact]
    public void C10_ALonelyFrameIsGivenBack()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7), other = scanned.Space(1, 7);
        one.Force = (_, _) => PageOutcome.Differs;
        scanned.Pass(2);
        Assert.Equal((0, 0), (one.InFrames, other.InFrames));
        Assert.Contains(scanned.Machine.Executed, plan => plan.Space == other.Id && plan.Runs[0].Kind == PlanKind.Unmerge);
        Assert.Equal((0, 0), (scanned.Domain(1).Frames, scanned.Domain(1).Users));
        Assert.Equal(7, scanned.Machine.See(other, other.First)[0]);
    }

    [Fact]
    public void C10_AFrameWhoseTwinIsPutOffIsKeptForIt()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7), other = scanned.Space(1, 7);
        one.Force = (_, _) => PageOutcome.Deferred;
        scanned.Pass(2);
        Assert.Equal((0, 1), (one.InFrames, other.InFrames));
        Assert.DoesNotContain(scanned.Machine.Executed, plan => plan.Runs.Any(run => run.Kind == PlanKind.Unmerge));
        one.Force = null;
        scanned.Pass();
        Assert.Equal(new DomainFigures(1, 2, 1), scanned.Domain(1));
    }

    [Fact]
    public void C11_AFrameWithoutUsersIsFreedAfterThreePasses()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7), other = scanned.Space(1, 7);
        scanned.Pass(2);
        uint frame = one.Pages[0].Mapped!.Value;
        scanned.Machine.Write(one, one.First, 1);
        scanned.Machine.Write(other, other.First, 2);
        scanned.Pass(2);
        Assert.Equal(new DomainFigures(0, 0, 1), scanned.Domain(1));
        Assert.Empty(scanned.Machine.Freed);
        scanned.Pass();
        Assert.Equal([(new DomainId(1), new FrameId(frame), 1)], scanned.Machine.Freed);
        Assert.Equal((default, 0), (scanned.Domain(1), scanned.Machine.FramesHeld(1)));
    }

    [Fact]
    public void C11_AFrameThatSomebodyUnseenMapsIsNotFreedBeforeThreePassesInARowSaySo()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 7, 7);
        scanned.Pass(2);
        (int, uint) frame = (1, space.Pages[0].Mapped!.Value);
        scanned.Machine.MappedUnseen.Add(frame);
        scanned.Machine.Write(space, space.First, 1);
        scanned.Machine.Write(space, space.First + 1, 2);
        scanned.Pass(6);
        scanned.Machine.MappedUnseen.Remove(frame);
        scanned.Pass(2);
        scanned.Machine.MappedUnseen.Add(frame);
        scanned.Pass();
        scanned.Machine.MappedUnseen.Remove(frame);
        scanned.Pass(2);
        Assert.Empty(scanned.Machine.Freed);
        scanned.Pass();
        Assert.Single(scanned.Machine.Freed);
    }

    [Fact]
    public void C11_AFrameWithoutUsersIsFoundUntilItIsFreed()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 7, 7);
        scanned.Pass(2);
        uint frame = space.Pages[0].Mapped!.Value;
        FakeSpace late = scanned.Space(1, 7);
        scanned.Machine.Write(space, space.First, 1);
        scanned.Machine.Write(space, space.First + 1, 2);
        scanned.Pass(2);
        Assert.Equal(frame, late.Pages[0].Mapped);
        scanned.Pass(5);
        Assert.Empty(scanned.Machine.Freed);
    }

    [Fact]
    public void B5_RecordsOfUnmappedPagesAreDropped()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 7, 7, 8);
        scanned.Pass(2);
        scanned.Machine.Unmap(space, space.First + 1);
        scanned.Machine.Unmap(space, space.First + 2);
        scanned.Pass();
        Assert.Equal((1, 1, 0), (scanned.Counts(space).Tracked, scanned.Counts(space).Merged, scanned.Counts(space).Unique));
        Assert.Equal(1, scanned.Domain(1).Users);
        scanned.Machine.Map(space, space.First + 1);
        scanned.Machine.Write(space, space.First + 1, 7);
        scanned.Pass(2);
        Assert.Equal(new DomainFigures(1, 2, 1), scanned.Domain(1));
    }

    [Fact]
    public void B7_ASpaceThatEndsIsAnOrdinaryAnswerAndItsRecordsGo()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7, 8), other = scanned.Space(1, 7, 8);
        scanned.Pass(2);
        scanned.Machine.End(one);
        Assert.False(scanned.Engine.Visit(one.Id));
        scanned.Remove(one);
        Assert.Equal(new DomainFigures(2, 2, 2), scanned.Domain(1));
        scanned.Machine.End(other);
        scanned.Remove(other);
        Assert.Equal(new DomainFigures(0, 0, 2), scanned.Domain(1));
        scanned.Pass(3);
        Assert.Equal((default, 0), (scanned.Domain(1), scanned.Machine.FramesHeld(1)));
    }

    [Fact]
    public void B7_RecordsOfARemovedSpaceAreUsedAgain()
    {
        using Scanned scanned = new();
        long bytes = 0;
        for (int i = 0; i < 20; i++)
        {
            FakeSpace space = scanned.Machine.NewSpace(1, 3000);
            for (int page = 0; page < 3000; page++)
                scanned.Machine.Write(space, space.First + (ulong)page, [.. BitConverter.GetBytes(page + 1), .. new byte[scanned.Machine.PageSize - sizeof(int)]]);
            scanned.Take(space);
            scanned.Pass(2);
            Assert.Equal((3000, 3000), (scanned.Counts(space).Tracked, scanned.Counts(space).Unique));
            if (i == 0)
                bytes = scanned.Engine.MetadataBytes;
            Assert.Equal(bytes, scanned.Engine.MetadataBytes);
            scanned.Machine.End(space);
            scanned.Remove(space);
        }
    }
}
