using Samepage.Engine;

namespace Samepage.EngineTests.Harness;

/// <summary>An engine on a fake machine, with the spaces that it was given.</summary>
internal sealed class Scanned : IDisposable
{
    public FakeMachine Machine { get; }

    public ScanEngine Engine { get; }

    public List<FakeSpace> Spaces { get; } = [];

    /// <summary>Faults that engines made by this thread have: the tests are tried with these.</summary>
    [ThreadStatic]
    private static EngineFaults _planted;

    /// <param name="tracksWrites">The machine tracks writes; otherwise the engine has to compare checksums.</param>
    /// <param name="options">How the engine is made.</param>
    public Scanned(bool tracksWrites = true, EngineOptions? options = null)
    {
        Machine = new FakeMachine { TracksWrites = tracksWrites };
        Engine = new ScanEngine(Machine, (options ?? new EngineOptions()) with { Faults = _planted });
    }

    /// <summary>Whether something fails with a fault planted.</summary>
    public static bool Fails(EngineFaults planted, Action test)
    {
        _planted = planted;
        try
        {
            test();
            return false;
        }
        catch (Exception noticed) when (noticed is not (OutOfMemoryException or NullReferenceException))
        {
            return true;
        }
        finally
        {
            _planted = EngineFaults.None;
        }
    }

    /// <summary>A space that the engine knows; its pages are filled with the values given.</summary>
    public FakeSpace Space(int domain, params byte[] values)
    {
        FakeSpace space = Machine.NewSpace(domain, values.Length);
        for (int i = 0; i < values.Length; i++)
            Machine.Write(space, space.First + (ulong)i, values[i]);
        return Take(space);
    }

    /// <summary>Lets the engine know a space.</summary>
    public FakeSpace Take(FakeSpace space)
    {
        Assert.True(Engine.Add(space.Id, space.Domain));
        Spaces.Add(space);
        return space;
    }

    /// <summary>Visits every space, and ends the pass.</summary>
    public void Pass(int times = 1)
    {
        for (int i = 0; i < times; i++)
        {
            foreach (FakeSpace space in Spaces)
                Assert.True(Engine.Visit(space.Id));
            Engine.EndPass();
        }

        Engine.CheckInvariants();
    }

    /// <summary>Scans to the end of a pass, so many pages at a time.</summary>
    /// <returns>What the batches did.</returns>
    public List<BatchReport> ScanPass(int pages = 1000)
    {
        List<BatchReport> batches = [];
        do
        {
            batches.Add(Engine.Scan(pages));
        }
        while (batches[^1].PassesCompleted == 0 && Engine.HasWork);
        Engine.CheckInvariants();
        return batches;
    }

    public void Remove(FakeSpace space)
    {
        Engine.Remove(space.Id);
        Spaces.Remove(space);
    }

    public SpaceCountsView Counts(FakeSpace space) => new(Engine.FiguresOf(space.Id).Counts);

    public DomainFigures Domain(int domain) => Engine.FiguresOf(new DomainId(domain));

    public void Dispose() => Engine.Dispose();
}
