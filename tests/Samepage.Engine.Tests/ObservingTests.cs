using Samepage.Engine;
using Samepage.Engine.Records;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>What observers are told: pages by kind, the most shared frames, and how often writes took pages from theirs.</summary>
public sealed class ObservingTests
{
    private static readonly DomainId One = new(1);

    [Fact]
    public void PagesAreTheKindsThatTheCountsCount()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, [0, 2, 3, 4, 5, 6, .. Enumerable.Range(10, 60).Select(value => (byte)value)]);
        scanned.Space(1, 2, 3, 4, 5, 6);
        scanned.Pass(3);
        scanned.Machine.Write(space, space.First + 3, 99);
        scanned.Machine.Write(space, space.First + 7, 98);
        scanned.Pass();

        PageKind[] kinds = new PageKind[700];
        PageNumber from = new(space.First - 300);
        scanned.Engine.ReadKinds(space.Id, from, kinds);
        Assert.Equal(
            [PageKind.Zero, PageKind.Merged, PageKind.Merged, PageKind.Broken, PageKind.Merged, PageKind.Merged, PageKind.Unique, PageKind.Volatile, PageKind.Unique], kinds[300..309]);
        Assert.All(kinds[..300].Concat(kinds[366..]), kind => Assert.Equal(PageKind.Untracked, kind));
        SpaceCountsView counts = scanned.Counts(space);
        Assert.Equal(
            (counts.Tracked, counts.Merged, counts.Zeroed, counts.Unique, counts.Volatile, counts.Broken),
            (kinds.Count(kind => kind != PageKind.Untracked), Count(PageKind.Merged), Count(PageKind.Zero), Count(PageKind.Unique), Count(PageKind.Volatile), Count(PageKind.Broken)));

        // In pieces the answer is the same.
        PageKind[] piece = new PageKind[7];
        for (int at = 0; at < kinds.Length; at += piece.Length)
        {
            scanned.Engine.ReadKinds(space.Id, new PageNumber(from.Value + (ulong)at), piece);
            Assert.Equal(kinds[at..(at + piece.Length)], piece);
        }

        long Count(PageKind kind) => kinds.LongCount(one => one == kind);
    }

    [Fact]
    public void ThePlacesWithRecordsAreFoundAndNoOthers()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 1, 2, 3);
        Assert.Null(scanned.Engine.NextTracked(space.Id, new PageNumber(0)));
        scanned.Pass();
        Assert.Equal(new PageNumber(space.First), scanned.Engine.NextTracked(space.Id, new PageNumber(0)));
        Assert.Equal(new PageNumber(space.First + 2), scanned.Engine.NextTracked(space.Id, new PageNumber(space.First + 2)));
        Assert.Null(scanned.Engine.NextTracked(space.Id, new PageNumber(space.First + 512)));
    }

    [Fact]
    public void TheMostSharedFramesComeFirstHoweverManyAreLookedAtAtATime()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5);
        scanned.Space(2, 6, 6, 6, 6, 6, 6, 6);
        scanned.Pass(3);
        IReadOnlyList<SharedFrame> all = scanned.Engine.MostShared(One, new FrameId(0), int.MaxValue, 10, out FrameId? next);
        Assert.Null(next);
        Assert.Equal([4, 3, 2, 2], all.Select(frame => frame.Users));
        Assert.Equal(all.Take(2), scanned.Engine.MostShared(One, new FrameId(0), int.MaxValue, 2, out _));
        Assert.Equal(space.Pages[5].Mapped, all[0].Frame.Value);
        Assert.True(all[2].Frame.Value < all[3].Frame.Value);

        List<SharedFrame> pieces = [];
        for (FrameId? at = new FrameId(0); at is { } from; at = next)
            pieces.AddRange(scanned.Engine.MostShared(One, from, 1, 10, out next));
        Assert.Equal(all, pieces.OrderByDescending(frame => frame.Users).ThenBy(frame => frame.Frame.Value));
        Assert.All(all, frame => Assert.Equal(frame.Users, scanned.Engine.UsersOf(One, frame.Frame).Count));
        Assert.Empty(scanned.Engine.MostShared(new DomainId(7), new FrameId(0), 100, 10, out _));
    }

    [Fact]
    public void BreaksAreCountedForTheSpaceAndTheDomainThatRemembersThoseOfSpacesThatHaveGone()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 1, 2, 3), other = scanned.Space(1, 1, 2, 3);
        scanned.Pass(2);
        Assert.Equal((0, 0), (scanned.Engine.FiguresOf(one.Id).Breaks, scanned.Engine.BreaksIn(One)));
        scanned.Machine.Write(one, one.First, 8);
        scanned.Machine.Write(other, other.First + 1, 7);
        scanned.Machine.Write(other, other.First + 2, 7);
        scanned.Pass(4);
        Assert.Equal((1, 2, 3), (scanned.Engine.FiguresOf(one.Id).Breaks, scanned.Engine.FiguresOf(other.Id).Breaks, scanned.Engine.BreaksIn(One)));
        scanned.Machine.End(other);
        scanned.Remove(other);
        scanned.Pass();
        Assert.Equal((1, 3, 0), (scanned.Engine.FiguresOf(one.Id).Breaks, scanned.Engine.BreaksIn(One), scanned.Engine.BreaksIn(new DomainId(2))));
    }
}
