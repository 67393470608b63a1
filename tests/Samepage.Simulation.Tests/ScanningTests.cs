using Samepage.Engine;
using Samepage.Simulation;
using Samepage.Simulation.Memory;

namespace Samepage.SimulationTests;

/// <summary>Opting in and out, the cursor, and what is decided, on the simulated machine.</summary>
public sealed class ScanningTests
{
    [Theory]
    [InlineData(AreaFlags.Shared)]
    [InlineData(AreaFlags.Device)]
    [InlineData(AreaFlags.HugeTlb)]
    [InlineData(AreaFlags.NoExpand)]
    [InlineData(AreaFlags.WipeOnFork)]
    [InlineData(AreaFlags.Executable)]
    internal void A2_AdviceOnMemoryThatCannotBeMergedIsIgnored(AreaFlags odd)
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 7, 7, 7);
        scene.World.Programs.Map(scene.Place(process, 1), AreaFlags.Plain | AreaFlags.Advised | odd);
        scene.Write(process, 1, 7);
        scene.World.Pass(4);
        Assert.Equal((true, false, true), (scene.IsMerged(process, 0), scene.IsMerged(process, 1), scene.IsMerged(process, 2)));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A2_MemoryThatForkDoesNotCopyIsMergedAndNoChildHasIt(bool asks)
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 7, 7);
        scene.World.Programs.Map(scene.Place(process, 1), AreaFlags.Plain | AreaFlags.NoFork | (asks ? AreaFlags.Advised : AreaFlags.None));
        scene.Write(process, 1, 7);
        scene.World.Pass(4);
        Assert.Equal((true, true), (scene.IsMerged(process, 0), scene.IsMerged(process, 1)));
        SimulatedProcess child = scene.World.Programs.Fork(process)!;
        scene.World.Pass(4);
        Assert.Equal((true, false), (scene.IsMerged(child, 0), scene.IsMerged(child, 1)));
    }

    [Theory]
    [InlineData(AreaFlags.Mapped | AreaFlags.Readable)]
    [InlineData(AreaFlags.Mapped | AreaFlags.Readable | AreaFlags.Executable)]
    internal void A2_MemoryThatCannotBeWrittenAnyMoreIsMerged(AreaFlags now)
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 7, 7);
        int place = scene.Place(process, 1);
        scene.World.Programs.Become(place, now & ~AreaFlags.Plain, AreaFlags.Plain & ~now);
        scene.World.Pass(4);
        Assert.Equal((true, true), (scene.IsMerged(process, 0), scene.IsMerged(process, 1)));
        scene.World.Programs.Become(place, AreaFlags.Writable, AreaFlags.None);
        scene.Write(process, 1, 8);
        scene.World.Pass(1);
        Assert.True(scene.IsMerged(process, 0) && !scene.IsMerged(process, 1));
    }

    [Fact]
    public void A1_OnlyAdvisedAreasOfAProcessThatWasNotChosenWholeAreMerged()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 7, 7, 7);
        process.ByAdvice = true;
        scene.World.Programs.Become(scene.Place(process, 0), AreaFlags.Advised, AreaFlags.None);
        scene.World.Programs.Become(scene.Place(process, 2), AreaFlags.Advised, AreaFlags.None);
        scene.World.Pass(4);
        Assert.Equal((true, false, true), (scene.IsMerged(process, 0), scene.IsMerged(process, 1), scene.IsMerged(process, 2)));
    }

    [Fact]
    public void A3_NewSlotGoesBehindTheCursor()
    {
        using Scene scene = new();
        SimulatedProcess[] old = [scene.Process(0, 1, 2, 3), scene.Process(0, 4, 5, 6), scene.Process(0, 7, 8, 9)];
        scene.World.Pass();
        List<SpaceId> order = [];
        Action<SpaceId> listed = scene.Machine.Listed;
        scene.Machine.Listed = space =>
        {
            listed(space);
            order.Add(space);
        };
        scene.World.Scan(1);
        SimulatedProcess late = scene.Process(0, 10);
        scene.World.Pass();
        Assert.Equal(old.Select(process => process.Space!.Value), order);
        scene.World.Pass();
        Assert.Contains(late.Space!.Value, order);
    }

    [Fact]
    public void A4_OptingInGivesTheScannerWork()
    {
        using Scene scene = new();
        Assert.False(scene.Engine.HasWork);
        scene.Process(0, 1);
        Assert.True(scene.Engine.HasWork);
    }

    [Fact]
    public void A5_OptingOutFailsForWantOfMemoryAndGoesOnWhenAskedAgain()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 7, 7, 7, 7);
        scene.World.Pass(3);
        PageRun all = new(new PageNumber(process.FirstPage), 32);
        scene.Machine.Tables.Physical.Starving = 1;
        Assert.Equal(BreakOutcome.NoMemory, scene.World.Break(process, all));
        Assert.True(scene.Machine.MapsFrames(process));
        Assert.Equal(BreakOutcome.Done, scene.World.Break(process, all));
        Assert.False(scene.Machine.MapsFrames(process));
        Assert.Equal(7, scene.Read(process, 3));
    }

    [Fact]
    public void A6_RecordsOfARangeThatOptedOutGoWithTheNextPass()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 7, 7, 8);
        process.ByAdvice = true;
        for (int page = 0; page < 3; page++)
            scene.World.Programs.Become(scene.Place(process, page), AreaFlags.Advised, AreaFlags.None);
        scene.World.Pass(3);
        scene.World.Break(process, new PageRun(new PageNumber(process.FirstPage), 2));
        scene.World.Programs.Become(scene.Place(process, 0), AreaFlags.None, AreaFlags.Advised);
        scene.World.Programs.Become(scene.Place(process, 1), AreaFlags.None, AreaFlags.Advised);
        Assert.Equal(3, scene.Counted(process));
        scene.World.Pass();
        Assert.Equal(1, scene.Counted(process));
    }

    [Fact]
    public void B2_B3_BatchesGoOnWhereTheyEndedAndThePassCountsOnce()
    {
        using Scene scene = new(tracksWrites: false);
        scene.Process(0, 1, 2, 3, 4, 5);
        scene.Process(0, 6, 7, 8, 9, 10);
        scene.World.Pass();
        long scans = scene.Figures.FullScans, looked = 0;
        int batches = 0;
        while (scene.Figures.FullScans == scans)
        {
            looked += scene.World.Scan(3).PagesLookedAt;
            batches++;
        }

        Assert.Equal((10, scans + 1), (looked, scene.Figures.FullScans));
        Assert.InRange(batches, 4, 5);
    }

    [Fact]
    public void B4_PagesNeverTouchedOrSwappedOutCostNoRecord()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 0, 0, 5, 6);
        Assert.True(scene.Machine.SwapOut(scene.Entry(process, 2).Target));
        scene.World.Pass(2);
        Assert.Equal(1, scene.Counted(process));
    }

    [Fact]
    public void B5_RecordsThatTheCursorPassesWithoutTheirPageAreDropped()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 1, 2, 3, 4);
        scene.World.Pass(2);
        scene.World.Programs.Unmap(scene.Place(process, 1));
        scene.World.Programs.Unmap(scene.Place(process, 3));
        scene.World.Pass();
        Assert.Equal(2, scene.Counted(process));
    }

    [Fact]
    public void B6_AProcessWithoutAreasLosesItsSlot()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 1);
        scene.World.Pass();
        scene.World.Programs.Unmap(scene.Place(process, 0));
        scene.World.Pass();
        Assert.Empty(scene.World.Taken);
        Assert.False(scene.Engine.HasWork);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void B7_AProcessEndsWhileAPageOfItIsBeingMerged(bool holdsThreads)
    {
        using Scene scene = new(holdsThreads: holdsThreads);
        SimulatedProcess one = scene.Process(0, 7, 8), other = scene.Process(0, 7, 8);
        bool ended = false;
        scene.InTheMiddle(() =>
        {
            scene.World.Programs.Exit(scene.Machine.Working!);
            ended = true;
        });
        scene.World.Pass(4);
        Assert.True(ended);
        Assert.Single(scene.World.Taken);
        SimulatedProcess left = one.Alive ? one : other;
        Assert.Equal((7, 8), (scene.Read(left, 0), scene.Read(left, 1)));
        scene.World.Rest();
    }

    [Fact]
    public void B9_FramesAreNotReadAgain()
    {
        using Scene scene = new();
        scene.Process(0, 7, 7, 7);
        scene.World.Pass(3);
        long scanned = scene.Figures.PagesScanned;
        scene.World.Pass(5);
        Assert.Equal(scanned, scene.Figures.PagesScanned);
    }

    [Fact]
    public void C3_C5_C8_PagesGoThroughTheUnstableSideIntoFrames()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7);
        scene.World.Pass(2);
        Assert.True(scene.AreOne(one, 0, other, 0));
        Assert.Equal((1, 1, 0), (scene.Figures.PagesShared, scene.Figures.PagesSharing, scene.Figures.PagesUnshared));
        SimulatedProcess third = scene.Process(0, 7);
        scene.World.Pass(2);
        Assert.True(scene.AreOne(one, 0, third, 0));
        Assert.Equal((1, 2), (scene.Figures.PagesShared, scene.Figures.PagesSharing));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void C4_APageThatChangesBetweenTwoPassesIsLeftAlone(bool tracksWrites)
    {
        using Scene scene = new(tracksWrites);
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7);
        for (byte value = 8; value < 14; value++)
        {
            scene.World.Pass();
            scene.Write(one, 0, value);
            scene.Write(other, 0, value);
        }

        Assert.Equal(0, scene.Figures.PagesShared);
        scene.World.Pass(3);
        Assert.True(scene.AreOne(one, 0, other, 0));
    }

    [Theory]
    [InlineData(EngineFaults.None, true)]
    [InlineData(EngineFaults.MergeShared, false)]
    internal void C6_PagesThatForkSharesAreNotMergedWithEachOther(EngineFaults fault, bool left)
    {
        using Scene scene = new(engine: new EngineOptions { Faults = fault });
        SimulatedProcess parent = scene.Stranger(0, 7, 8);
        SimulatedProcess child = scene.World.Programs.Fork(parent)!;
        scene.World.Attach(parent);
        scene.World.Attach(child);
        scene.World.Pass(4);
        Assert.Equal(left, scene.Figures.PagesShared == 0 && scene.Entry(parent, 0).Target == scene.Entry(child, 0).Target);
    }

    [Fact]
    public void C7_TheUnstableSideIsEmptiedWithEachScanAndStillMerges()
    {
        using Scene scene = new(tracksWrites: false);
        SimulatedProcess one = scene.Process(0, 7);
        scene.World.Pass(5);
        Assert.Equal(0, scene.Figures.PagesShared);
        SimulatedProcess other = scene.Process(0, 7);
        scene.World.Pass(3);
        Assert.True(scene.AreOne(one, 0, other, 0));
    }

    [Fact]
    public void C9_WithoutMemoryForTheFrameBothPagesStayAsTheyAre()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7);
        scene.World.Pass();
        scene.Machine.Tables.Physical.Starving = 1;
        scene.World.Pass();
        Assert.Equal((false, false, 0), (scene.IsMerged(one, 0), scene.IsMerged(other, 0), scene.Figures.PagesShared));
        scene.World.Pass(20);
        Assert.True(scene.AreOne(one, 0, other, 0));
    }

    [Fact]
    public void C10_AFrameOfWhichTheSecondPageDiffersIsTurnedBack()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7);
        scene.InTheMiddle(() => scene.Write(scene.Machine.Working == one ? other : one, 0, 9));
        scene.World.Pass(2);
        Assert.Equal((false, false), (scene.IsMerged(one, 0), scene.IsMerged(other, 0)));
        scene.World.Rest();
    }

    [Fact]
    public void C11_AFrameWhoseLastUserIsGoneIsFreed()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 7, 7);
        scene.World.Pass(2);
        int free = scene.Machine.Tables.Physical.FreeCount;
        scene.World.Programs.Discard(scene.Place(process, 0));
        scene.World.Programs.Discard(scene.Place(process, 1));
        scene.World.Pass(5);
        Assert.Equal((free + 1, 0), (scene.Machine.Tables.Physical.FreeCount, scene.Figures.PagesShared));
    }
}
