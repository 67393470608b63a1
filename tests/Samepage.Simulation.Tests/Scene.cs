using Samepage.Engine;
using Samepage.Simulation;
using Samepage.Simulation.Memory;
using Samepage.Simulation.Worlds;

namespace Samepage.SimulationTests;

/// <summary>A small world in which a test says what happens. Every invariant is checked as in the random ones.</summary>
internal sealed class Scene : IDisposable
{
    public Scene(bool tracksWrites = true, bool holdsThreads = true, EngineOptions? engine = null, int pages = 1024) => World = new World(new WorldOptions
    {
        Machine = new MachineOptions { TracksWrites = tracksWrites, HoldsThreads = holdsThreads, Window = 32, Pages = pages },
        Domains = 3,
        Engine = engine ?? new EngineOptions(),
    });

    public World World { get; }

    public SimulatedMachine Machine => World.Machine;

    public ScanEngine Engine => World.Engine;

    public EngineFigures Figures => Engine.Figures;

    /// <summary>A process that was taken in, one page for each value; a page of value 0 is never touched.</summary>
    public SimulatedProcess Process(int domain, params byte[] values)
    {
        SimulatedProcess process = Stranger(domain, values);
        World.Attach(process);
        return process;
    }

    /// <summary>A process that nobody has taken in.</summary>
    public SimulatedProcess Stranger(int domain, params byte[] values)
    {
        SimulatedProcess process = World.Programs.Start(domain, 0, values.Length, byAdvice: false)!;
        for (int page = 0; page < values.Length; page++)
        {
            if (values[page] != 0)
                Write(process, page, values[page]);
        }

        return process;
    }

    public int Place(SimulatedProcess process, int page) => Machine.PlaceOf(process, page);

    public PageEntry Entry(SimulatedProcess process, int page) => Machine.Tables[Place(process, page)];

    public void Write(SimulatedProcess process, int page, byte value) => World.Programs.Write(process, Place(process, page), ulong.MaxValue, Content.Filled(value));

    public byte Read(SimulatedProcess process, int page)
    {
        Assert.Equal(Access.Done, Machine.Read(Place(process, page), out ulong content));
        return (byte)content;
    }

    public bool IsMerged(SimulatedProcess process, int page) => Entry(process, page).Backing != 0 && Machine.IsFrame(Entry(process, page));

    public bool AreOne(SimulatedProcess one, int page, SimulatedProcess other, int otherPage) =>
        IsMerged(one, page) && IsMerged(other, otherPage) && Entry(one, page).Target == Entry(other, otherPage).Target && Entry(one, page).State == Entry(other, otherPage).State;

    public long Counted(SimulatedProcess process) => Engine.FiguresOf(process.Space!.Value).Counts.Tracked;

    /// <summary>While the engine is in the middle of an exchange, once, this happens.</summary>
    public void InTheMiddle(Action act)
    {
        Action before = Machine.Between;
        bool done = false;
        Machine.Between = () =>
        {
            before();
            if (done || Machine.Exchanging.Count == 0 || !Enumerable.Range(0, Machine.Exchanging.Count).Any(i => Machine.Tables[Machine.PlaceOf(Machine.Working!, Machine.Exchanging.Page + i) + Machine.Tables.Window].State != EntryState.None))
                return;
            done = true;
            act();
        };
    }

    public void Dispose()
    {
        World.Follow([]);
        World.Dispose();
    }
}
