using Samepage.Engine;
using Samepage.Simulation;
using Samepage.Simulation.Memory;

namespace Samepage.SimulationTests;

/// <summary>Merging a page, and breaking merges, on the simulated machine.</summary>
public sealed class ExchangeTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void D1_D4_AWriteInTheMiddleWaitsAndIsNotLost(bool holdsThreads)
    {
        using Scene scene = new(holdsThreads: holdsThreads);
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7);
        SimulatedProcess? writer = null;
        int waiting = 0;
        scene.InTheMiddle(() =>
        {
            writer = scene.Machine.Working;
            scene.Write(writer!, 0, 9);
            waiting = scene.World.Programs.Waiting;
        });
        scene.World.Pass(2);
        Assert.Equal((1, 9), (waiting, scene.Read(writer!, 0)));
        Assert.Equal(7, scene.Read(writer == one ? other : one, 0));
    }

    [Fact]
    public void D2_APageThatADeviceHoldsIsLeftAloneAndMergedLater()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7);
        scene.World.Programs.Pin(scene.Place(one, 0));
        scene.World.Pass(4);
        Assert.False(scene.IsMerged(one, 0));
        scene.World.Programs.Unpin(0);
        scene.World.Pass(2);
        Assert.True(scene.AreOne(one, 0, other, 0));
    }

    [Fact]
    public void B8_AReferenceOnAListPutsOffThatOnePageUntilTheListIsDrained()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7, 8), other = scene.Process(0, 7, 8);
        scene.World.Programs.Pin(scene.Place(one, 0));
        scene.World.Pass(2);
        Assert.True(scene.AreOne(one, 1, other, 1));
        Assert.False(scene.IsMerged(one, 0));
        scene.World.Programs.Unpin(0);
        scene.World.Pass(1);
        Assert.True(scene.AreOne(one, 0, other, 0));
    }

    [Fact]
    public void D3_ContentsOfOneDigestAreNeverMerged()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 0, 0, 0, 0);
        for (int page = 0; page < 4; page++)
            scene.World.Programs.Write(process, scene.Place(process, page), ulong.MaxValue, Content.Blind | ((ulong)(page / 2 + 1) << 8));
        byte[] one = new byte[64], other = new byte[64];
        Content.Expand(Content.Blind | (1 << 8), one);
        Content.Expand(Content.Blind | (2 << 8), other);
        Assert.Equal(System.IO.Hashing.XxHash3.HashToUInt64(one), System.IO.Hashing.XxHash3.HashToUInt64(other));
        scene.World.Rest();
        Assert.True(scene.AreOne(process, 0, process, 1));
        Assert.True(scene.AreOne(process, 2, process, 3));
        Assert.False(scene.AreOne(process, 0, process, 2));
    }

    [Fact]
    public void D4_AMappingThatChangesInTheMiddleIsNotReplaced()
    {
        using Scene scene = new(holdsThreads: false);
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7);
        SimulatedProcess? mapper = null;
        scene.InTheMiddle(() =>
        {
            mapper = scene.Machine.Working;
            scene.World.Programs.Map(scene.Place(mapper!, 0), AreaFlags.Plain);
        });
        scene.World.Pass(2);
        Assert.Equal((0, false), (scene.Read(mapper!, 0), scene.IsMerged(mapper!, 0)));
        Assert.Equal(7, scene.Read(mapper == one ? other : one, 0));
        Assert.True(scene.Machine.Races > 0);
    }

    [Fact]
    public void D5_HugePageIsSplit()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 1, 2, 3, 4, 5, 6, 7, 7);
        Assert.True(scene.Machine.Collapse(scene.Place(process, 0)));
        scene.Machine.SplitsFail = true;
        scene.World.Pass(4);
        Assert.Equal((false, true), (scene.IsMerged(process, 7), scene.Entry(process, 0).Has(EntryFlags.Huge)));
        scene.Machine.SplitsFail = false;
        scene.World.Pass(4);
        Assert.True(scene.AreOne(process, 6, process, 7));
        Assert.False(scene.Entry(process, 0).Has(EntryFlags.Huge));
    }

    [Fact]
    public void D6_AStoppedProcessIsComeBackTo()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7);
        one.Stopped = true;
        scene.World.Pass(3);
        Assert.False(scene.IsMerged(one, 0));
        one.Stopped = false;
        scene.World.Pass(2);
        Assert.True(scene.AreOne(one, 0, other, 0));
    }

    [Fact]
    public void D7_LockedMemoryStaysLocked()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 7, 7);
        scene.World.Programs.Become(scene.Place(process, 0), AreaFlags.Locked, AreaFlags.None);
        scene.World.Pass(3);
        Assert.True(scene.AreOne(process, 0, process, 1));
        Assert.True(scene.Entry(process, 0).In(AreaFlags.Locked));
        Assert.False(scene.Machine.SwapOut(scene.Entry(process, 0).Target));
    }

    [Fact]
    public void D8_AWriteGivesTheWriterItsOwnCopyAndTheOthersKeepTheirs()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7), third = scene.Process(0, 7);
        scene.World.Pass(2);
        scene.Write(one, 0, 9);
        Assert.Equal((9, 7, 7), (scene.Read(one, 0), scene.Read(other, 0), scene.Read(third, 0)));
        Assert.True(scene.AreOne(other, 0, third, 0));
    }

    [Fact]
    public void D9_ReplacedMemoryIsFreedAtOnce()
    {
        using Scene scene = new();
        scene.Process(0, 7, 7, 7, 7);
        int free = scene.Machine.Tables.Physical.FreeCount;
        scene.World.Pass(2);
        Assert.Equal(free + 3, scene.Machine.Tables.Physical.FreeCount);
    }

    [Fact]
    public void E1_E2_BreakingTouchesFramesOfTheRangeAloneAndChangesNoContent()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 7, 7, 7, 5);
        scene.World.Pass(2);
        int own = scene.Entry(process, 3).Target;
        Assert.Equal(BreakOutcome.Done, scene.World.Break(process, new PageRun(new PageNumber(process.FirstPage + 1), 3)));
        Assert.Equal((true, false, false), (scene.IsMerged(process, 0), scene.IsMerged(process, 1), scene.IsMerged(process, 2)));
        Assert.Equal((7, 7, own), (scene.Read(process, 1), scene.Read(process, 2), scene.Entry(process, 3).Target));
    }

    [Fact]
    public void E2_APageDiscardedWhileItIsGivenBackStaysDiscarded()
    {
        using Scene scene = new(holdsThreads: false);
        SimulatedProcess process = scene.Process(0, 7, 7);
        scene.World.Pass(2);
        scene.InTheMiddle(() => scene.World.Programs.Discard(scene.Place(process, 0)));
        scene.World.Break(process, new PageRun(new PageNumber(process.FirstPage), 2));
        Assert.Equal((0, 7), (scene.Read(process, 0), scene.Read(process, 1)));
    }

    [Fact]
    public void E3_EverythingIsBrokenRecordsGoAndSlotsStay()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7, 8), other = scene.Process(0, 7, 8);
        scene.World.Pass(3);
        scene.Machine.Tables.Physical.Starving = 1;
        Assert.Equal(BreakOutcome.NoMemory, scene.World.UnmergeAll());
        Assert.Equal(BreakOutcome.Done, scene.World.UnmergeAll());
        Assert.Equal((0, 0, 0), (scene.Figures.FullScans, scene.Counted(one), scene.Counted(other)));
        Assert.Equal(2, scene.World.Taken.Count);
        scene.World.Pass(3);
        Assert.True(scene.AreOne(one, 1, other, 1));
    }
}
