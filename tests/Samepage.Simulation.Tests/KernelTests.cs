using Samepage.Engine;
using Samepage.Simulation;
using Samepage.Simulation.Memory;

namespace Samepage.SimulationTests;

/// <summary>Fork, swap, migration, hot-remove, figures and failures, on the simulated machine.</summary>
public sealed class KernelTests
{
    [Fact]
    public void F1_AForkedChildSharesFramesAndGetsItsRecordsWhenTheScannerReachesIt()
    {
        using Scene scene = new();
        SimulatedProcess parent = scene.Process(0, 7, 7);
        scene.World.Pass(2);
        SimulatedProcess child = scene.World.Programs.Fork(parent)!;
        Assert.True(scene.AreOne(parent, 0, child, 0));
        Assert.Equal(1, scene.Figures.PagesSharing);
        scene.World.Attach(child);
        scene.World.Pass();
        Assert.Equal(3, scene.Figures.PagesSharing);
        scene.World.Programs.Discard(scene.Place(child, 0));
        Assert.Equal((0, 7), (scene.Read(child, 0), scene.Read(parent, 0)));
    }

    [Fact]
    public void F1_AChildForkedInTheMiddleOfAnExchangeHasAllItsPages()
    {
        using Scene scene = new(holdsThreads: false);
        scene.Process(0, 7);
        scene.Process(0, 7);
        SimulatedProcess? child = null;
        scene.InTheMiddle(() => child = scene.World.Programs.Fork(scene.Machine.Working!));
        scene.World.Pass(2);
        Assert.Equal(7, scene.Read(child!, 0));
    }

    [Fact]
    public void F2_FrameComesBackFromSwap()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7);
        scene.World.Pass(2);
        uint backing = scene.Entry(one, 0).Backing;
        Assert.True(scene.Machine.SwapOut(scene.Entry(one, 0).Target));
        Assert.Equal((EntryState.Swapped, EntryState.Swapped), (scene.Entry(one, 0).State, scene.Entry(other, 0).State));
        scene.World.Pass();
        Assert.Equal((7, 7), (scene.Read(one, 0), scene.Read(other, 0)));
        Assert.True(scene.AreOne(one, 0, other, 0));
        Assert.Equal(backing, scene.Entry(one, 0).Backing);
    }

    [Fact]
    public void F2_AWriteToASwappedFrameGetsAPrivateCopy()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7);
        scene.World.Pass(2);
        scene.Machine.SwapOut(scene.Entry(one, 0).Target);
        scene.World.Programs.Write(one, scene.Place(one, 0), 0xFF, 9);
        Assert.Equal((9, 7), (scene.Read(one, 0), scene.Read(other, 0)));
        Assert.False(scene.IsMerged(one, 0));
    }

    [Fact]
    public void F3_EveryMappingOfAFrameIsFoundThoseOfChildrenToo()
    {
        using Scene scene = new();
        SimulatedProcess parent = scene.Process(0, 7, 7);
        scene.World.Pass(2);
        SimulatedProcess child = scene.World.Programs.Fork(parent)!;
        int[] expected = [scene.Place(parent, 0), scene.Place(parent, 1), scene.Place(child, 0), scene.Place(child, 1)];
        Assert.Equal(expected.Order(), scene.Machine.Tables.MappingsOf(scene.Entry(parent, 0).Target).Order());
        Assert.Equal(2, scene.Engine.UsersOf(new DomainId(0), new FrameId(scene.Entry(parent, 0).Backing - 1)).Count);
    }

    [Fact]
    public void F4_AFrameThatIsMovedIsStillFound()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7, 7);
        scene.World.Pass(2);
        Assert.True(scene.Machine.Migrate(scene.Entry(one, 0).Target));
        uint before = scene.Entry(one, 0).Backing;
        scene.World.MoveFrame(0, 0);
        Assert.NotEqual(before, scene.Entry(one, 0).Backing);
        SimulatedProcess late = scene.Process(0, 7);
        scene.World.Pass(2);
        Assert.True(scene.AreOne(one, 0, late, 0));
        scene.World.Rest();
    }

    [Fact]
    public void F5_AStretchOfThePoolIsGivenUpAndACancelledOfflineChangesNothing()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 7, 7, 8, 8);
        scene.World.Pass(2);
        scene.World.Retire(0, 0, 2);
        Assert.False(scene.Machine.MapsFrames(process));
        scene.World.Pass(3);
        Assert.True(scene.AreOne(process, 0, process, 1));
        Assert.True(scene.Entry(process, 0).Backing - 1 >= 2);
        scene.World.Programs.Pin(scene.Place(process, 3));
        int held = scene.Entry(process, 3).Target, free = scene.Machine.Tables.Physical.FreeCount;
        Assert.False(scene.Machine.TakeOffline(held, 1));
        Assert.Equal((held, free), (scene.Entry(process, 3).Target, scene.Machine.Tables.Physical.FreeCount));
        int frame = scene.Entry(process, 0).Target;
        Assert.True(scene.Machine.TakeOffline(frame, 1));
        Assert.NotEqual(frame, scene.Entry(process, 0).Target);
        Assert.Equal(7, scene.Read(process, 1));
    }

    [Fact]
    public void G4_G8_G10_TheFiguresAreWhatIsThere()
    {
        using Scene scene = new();
        SimulatedProcess process = scene.Process(0, 7, 7, 7, 8, 8, 1, 2, 3);
        scene.World.Pass(4);
        Assert.Equal(new EngineFigures(2, 3, 3, 0, 4, 8, 0), scene.Figures);
        scene.Write(process, 0, 50);
        scene.Write(process, 5, 51);
        scene.World.Pass();
        Assert.Equal((2, 2, 2), (scene.Figures.PagesShared, scene.Figures.PagesSharing, scene.Figures.PagesUnshared));
        Assert.Equal(2, scene.Figures.PagesVolatile);
    }

    [Fact]
    public void H2_WithoutMemoryForASlotOptingInSaysSoAndWithoutMemoryForARecordThePageIsPassedOver()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7);
        SimulatedProcess other = scene.Stranger(0, 7);
        scene.Engine.Budget.BytesMax = scene.Engine.Budget.BytesUsed;
        scene.World.Attach(other);
        Assert.Null(other.Space);
        scene.World.Pass(3);
        Assert.Equal(0, scene.Counted(one));
        scene.Engine.Budget.BytesMax = long.MaxValue;
        scene.World.Attach(other);
        scene.World.Pass(4);
        Assert.True(scene.AreOne(one, 0, other, 0));
    }

    [Fact]
    public void H1_AMergeThatFindsNoMemoryForItsMappingIsTakenBack()
    {
        using Scene scene = new();
        SimulatedProcess one = scene.Process(0, 7), other = scene.Process(0, 7);
        scene.World.Pass(2);
        scene.Machine.SwapOut(scene.Entry(one, 0).Target);
        SimulatedProcess late = scene.Process(0, 7);
        scene.World.Pass();
        scene.InTheMiddle(() => scene.Machine.Tables.Physical.Starving = 1);
        scene.World.Pass();
        Assert.Equal((false, 7), (scene.IsMerged(late, 0), scene.Read(late, 0)));
        scene.World.Pass(2);
        Assert.Equal(scene.Entry(one, 0).Backing, scene.Entry(late, 0).Backing);
        Assert.Equal(7, scene.Read(other, 0));
    }
}
