using Samepage.Engine;
using Samepage.Engine.Control;
using Samepage.Engine.Records;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>What is merged and written again and again is left alone for a while (smart_scan, G9).</summary>
public sealed class RestTests
{
    private static readonly TimeSpan s_second = TimeSpan.FromSeconds(1);

    [Fact]
    public void G9_APageThatIsMergedAndWrittenRestsTwiceAsLongEachTime()
    {
        using Scanned scanned = new();
        scanned.Engine.SmartScan = true;
        FakeSpace steady = scanned.Space(0, 1, 1), busy = scanned.Space(0, 1);
        List<double> rests = [];
        scanned.Pass(3);
        Assert.Equal(3, scanned.Engine.Figures.PagesShared + scanned.Engine.Figures.PagesSharing);
        for (int round = 0; round < 13; round++)
        {
            scanned.Machine.Write(busy, busy.First, 1);
            scanned.Pass(3);
            TimeSpan begin = scanned.Engine.Now;
            while (scanned.Engine.FiguresOf(busy.Id).Counts.Merged == 0)
            {
                scanned.Engine.Now += s_second / 2;
                scanned.Pass();
                Assert.True(scanned.Engine.Now - begin < TimeSpan.FromMinutes(20), "it rests for ever");
            }

            rests.Add((scanned.Engine.Now - begin).TotalSeconds);
        }

        Assert.Equal([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 512, 512], rests);
        Assert.InRange(scanned.Engine.Figures.PagesSkipped, 13, 26);
        Assert.Equal(2, scanned.Engine.FiguresOf(steady.Id).Counts.Merged);
    }

    [Fact]
    public void G9_APageThatIsWrittenWhileItRestsBeginsItsRestAnew()
    {
        using Scanned scanned = new();
        FakeSpace busy = MergedWithOthers(scanned);
        scanned.Machine.Write(busy, busy.First, 1);
        scanned.Pass(3);
        for (int i = 0; i < 20; i++)
        {
            scanned.Engine.Now += s_second * 3 / 4;
            scanned.Machine.Write(busy, busy.First, 1);
            scanned.Pass();
            Assert.Equal((0, 1), (scanned.Engine.FiguresOf(busy.Id).Counts.Merged, scanned.Engine.FiguresOf(busy.Id).Counts.Volatile));
        }

        scanned.Engine.Now += s_second;
        scanned.Pass();
        Assert.Equal(1, scanned.Engine.FiguresOf(busy.Id).Counts.Merged);
    }

    [Fact]
    public void G9_APageThatStaysMergedIsForgiven()
    {
        using Scanned scanned = new();
        FakeSpace busy = MergedWithOthers(scanned);
        for (int round = 0; round < 30; round++)
        {
            // Seen merged a minute after it was.
            scanned.Engine.Now += s_second * 61;
            scanned.Pass();
            scanned.Machine.Write(busy, busy.First, 1);
            scanned.Pass(4);
            Assert.Equal(1, scanned.Engine.FiguresOf(busy.Id).Counts.Merged);
        }

        Assert.Equal(0, scanned.Engine.Figures.PagesSkipped);
    }

    [Fact]
    public void G9_WithoutSmartScanNothingRestsAndWhatRestedIsLookedAtAtOnce()
    {
        using Scanned scanned = new();
        ScanControl control = new(scanned.Engine);
        Assert.Equal("1\n", control.Read("smart_scan"));
        scanned.Space(0, 1, 1);
        FakeSpace busy = scanned.Space(0, 1);
        scanned.Pass(3);
        scanned.Machine.Write(busy, busy.First, 1);
        scanned.Pass(8);
        Assert.Equal(0, scanned.Engine.FiguresOf(busy.Id).Counts.Merged);
        string? skipped = control.Read("pages_skipped");
        Assert.NotEqual("0\n", skipped);
        Assert.Equal(ControlOutcome.Done, control.Write("smart_scan", "0\n"));
        scanned.Pass();
        Assert.Equal(1, scanned.Engine.FiguresOf(busy.Id).Counts.Merged);
        for (int round = 0; round < 20; round++)
        {
            scanned.Machine.Write(busy, busy.First, 1);
            scanned.Pass(4);
            Assert.Equal(1, scanned.Engine.FiguresOf(busy.Id).Counts.Merged);
        }

        Assert.Equal(skipped, control.Read("pages_skipped"));
    }

    /// <summary>Of pages that are written together each is some other's twin: they rest as well.</summary>
    [Fact]
    public void G9_PagesThatAreWrittenTogetherRest()
    {
        using Scanned scanned = new();
        scanned.Engine.SmartScan = true;
        FakeSpace busy = scanned.Space(0, 1, 1, 1, 1, 1, 1, 1, 1);
        long merges = 0;
        for (int second = 0; second < 200; second++)
        {
            for (ulong page = 0; page < 8; page++)
                scanned.Machine.Write(busy, busy.First + page, (byte)(second + 2));
            scanned.Pass(4);
            scanned.Engine.Now += s_second;
            merges += scanned.Engine.FiguresOf(busy.Id).Counts.Merged;
        }

        Assert.InRange(merges, 1, 200);
    }

    /// <summary>Where there is no room for frames there may never be any: a full domain costs nothing, counts as settled, and what there is no room for is merged when there is.</summary>
    [Fact]
    public void H2_PagesWithoutRoomForTheirFrameAreTriedEverMoreSeldom()
    {
        using Scanned scanned = new();
        scanned.Engine.SmartScan = true;
        scanned.Machine.OutOfMemory = true;
        FakeSpace one = scanned.Space(0, 1, 2, 3, 4), other = scanned.Space(0, 1, 2, 3, 4);
        for (int second = 0; second < 600; second++)
        {
            scanned.Pass();
            scanned.Engine.Now += s_second;
        }

        Assert.InRange(scanned.Engine.Figures.PagesScanned, 16, 8 * 25);
        Assert.True(scanned.Engine.FiguresOf(one.Id).Settled && scanned.Engine.FiguresOf(other.Id).Settled);
        scanned.Machine.OutOfMemory = false;
        for (int second = 0; second < 600; second++)
        {
            scanned.Pass();
            scanned.Engine.Now += s_second;
        }

        Assert.Equal((4, 4), (one.InFrames, other.InFrames));
    }

    [Theory]
    [InlineData(0, 9, 1)]
    [InlineData(0, 30, 0)]
    [InlineData(4, 30, 4)]
    [InlineData(4, 60, 3)]
    [InlineData(0, 60, 0)]
    [InlineData(10, 9, 10)]
    [InlineData(2, -1, 3)]
    public void G9_HowLongItStayedMergedDecides(int before, int seconds, int after)
    {
        uint merged = uint.MaxValue - 5, seen = unchecked(merged + (uint)(seconds * PageHistory.TicksPerSecond)), now = unchecked(seen + 3);
        PageHistory history = new PageHistory(before, merged).Broken(seen, now);
        Assert.Equal(new PageHistory(after, now), history);
        Assert.Equal(history, PageHistory.Of(history.Bits));
    }

    [Fact]
    public void VisitsThatGainNothingAreMadeLessOften()
    {
        VisitPacing pacing = new();
        TimeSpan visit = TimeSpan.FromMilliseconds(20);
        pacing.VisitEnded(visit, gained: 10_000);
        Assert.Equal(TimeSpan.Zero, pacing.Rest(visit, 10_000));
        for (int i = 0; i < 2; i++)
        {
            pacing.VisitEnded(visit, 10_000 - i);
            Assert.Equal((TimeSpan.Zero, TimeSpan.Zero), (pacing.Wasted, pacing.Rest(visit, 10_000 - i)));
        }

        // What is broken and merged again is no gain.
        for (int i = 0; i < 20; i++)
        {
            pacing.VisitEnded(visit, i % 2 == 0 ? 9_000 : 10_000);
            Assert.Equal((visit, visit * 9), (pacing.Wasted, pacing.Rest(visit, i % 2 == 0 ? 9_000 : 10_000)));
        }

        Assert.Equal(visit * 18, pacing.Rest(visit * 2, 10_000));
        Assert.Equal(VisitPacing.LongestRest, pacing.Rest(TimeSpan.FromMinutes(1), 10_000));
        // Another found twins of its pages meanwhile.
        Assert.Equal(TimeSpan.Zero, pacing.Rest(visit, 10_001));
        pacing.VisitEnded(visit, 12_000);
        Assert.Equal(TimeSpan.Zero, pacing.Wasted);
        // Cheap visits are made as often as ever.
        for (int i = 0; i < 20; i++)
            pacing.VisitEnded(TimeSpan.FromMilliseconds(1), 12_000);
        Assert.Equal(TimeSpan.Zero, pacing.Wasted);
    }

    [Fact]
    public void WhatWasGainedLongAgoAndIsLostCountsAgain()
    {
        VisitPacing pacing = new();
        TimeSpan visit = TimeSpan.FromMilliseconds(20);
        pacing.VisitEnded(visit, 100_000);
        for (int i = 0; i < 200; i++)
            pacing.VisitEnded(visit, 0);
        Assert.Equal(visit, pacing.Wasted);
        pacing.VisitEnded(visit, 1_000);
        Assert.Equal(TimeSpan.Zero, pacing.Wasted);
    }

    /// <summary>A space whose only page is merged with two of another, by an engine that lets pages rest.</summary>
    private static FakeSpace MergedWithOthers(Scanned scanned)
    {
        scanned.Engine.SmartScan = true;
        scanned.Space(0, 1, 1);
        FakeSpace busy = scanned.Space(0, 1);
        scanned.Pass(3);
        return busy;
    }

    /// <summary>Who holds a page may do so for ever, and each try stops a program: it is tried again ever more seldom, and merged once nobody holds it.</summary>
    [Fact]
    public void D2_APageThatIsHeldForLongIsTriedAgainEverMoreSeldom()
    {
        using Scanned scanned = new();
        scanned.Engine.SmartScan = true;
        FakeSpace one = scanned.Space(1, 7, 7), other = scanned.Space(1, 7);
        int tries = 0;
        other.Force = (_, _) =>
        {
            tries++;
            return PageOutcome.Held;
        };
        for (int second = 0; second < 100; second++)
        {
            scanned.Engine.Now += TimeSpan.FromSeconds(1);
            scanned.Pass();
        }

        Assert.InRange(tries, 5, 8);
        Assert.Equal((2, 0), (one.InFrames, other.InFrames));
        other.Force = null;
        scanned.Engine.Now += TimeSpan.FromMinutes(10);
        scanned.Pass(2);
        Assert.Equal(1, other.InFrames);
    }
}
