using Samepage.Engine;
using Samepage.Simulation.Memory;

namespace Samepage.Simulation.Worlds;

/// <summary>What a world is made of.</summary>
internal sealed record WorldOptions
{
    /// <summary>The machine.</summary>
    public MachineOptions Machine { get; init; } = new();

    /// <summary>Trust domains that programs belong to.</summary>
    public int Domains { get; init; } = 2;

    /// <summary>Steps between two recounts of everything.</summary>
    public int StepsPerRecount { get; init; } = 500;
}

/// <summary>A machine, its programs, the engine and its keeper, driven by a list of steps. The same options and the same list give the same run.</summary>
/// <remarks>
/// <para>Steps are taken one after the other. While the engine works, the machine offers an opportunity wherever others may run; then the steps
/// that come next in the list are taken, each behind as many opportunities as its delay says, up to the next step of the engine's own.</para>
/// <para>Invariants are checked after each step and at each opportunity.</para>
/// </remarks>
internal sealed partial class World : IDisposable
{
    private readonly WorldOptions _options;
    private readonly Checker _checker;
    private readonly List<SimulatedProcess> _taken = [];
    private IReadOnlyList<Step> _steps = [];
    private int _next;
    private int _delay = -1;
    private bool _engineWorks;
    private bool _calm;
    private long _stepsAtRecount;

    public World(WorldOptions options)
    {
        _options = options;
        Machine = new SimulatedMachine(options.Machine);
        Programs = new Programs(Machine);
        _checker = new Checker(Machine, Programs);
        Engine = new ScanEngine(Machine);
        Machine.Between = Between;
    }

    public SimulatedMachine Machine { get; }

    public Programs Programs { get; }

    public ScanEngine Engine { get; }

    /// <summary>Processes that the engine knows.</summary>
    public IReadOnlyList<SimulatedProcess> Taken => _taken;

    /// <summary>Steps of the machine so far: what programs, kernel and devices did, and opportunities between the steps of an exchange.</summary>
    public long Steps { get; private set; }

    /// <summary>Of those, what happened in the middle of a call of the engine's.</summary>
    public long StepsWithin { get; private set; }

    /// <summary>Takes all steps of a list, comes to rest, ends every program, and checks that nothing is left.</summary>
    /// <exception cref="BrokenInvariantException">Something did not hold.</exception>
    public void Run(IReadOnlyList<Step> steps)
    {
        (_steps, _next, _delay) = (steps, 0, -1);
        while (_next < steps.Count)
            Take(steps[_next++]);
        Rest();
        EndAll();
    }

    /// <summary>Takes one step, and checks what it touched.</summary>
    public void Take(Step step)
    {
        Steps++;
        if (step.IsEngines)
            Call(step);
        else
            Do(step);
        _checker.LookAtTouched();
        if (Steps - _stepsAtRecount < _options.StepsPerRecount)
            return;
        _stepsAtRecount = Steps;
        _checker.Recount(!_engineWorks);
    }

    /// <summary>Visits every process, and ends the pass.</summary>
    public void Pass(int times = 1)
    {
        for (int i = 0; i < times; i++)
        {
            foreach (SimulatedProcess process in _taken.ToArray())
                Visit(process);
            EngineCall(Engine.EndPass);
        }
    }

    /// <summary>Lets the engine know a process.</summary>
    public void Attach(SimulatedProcess process)
    {
        if (process.Space is not null)
            return;
        Engine.Add(Machine.TakeIn(process), new DomainId(process.Domain));
        _taken.Add(process);
    }

    /// <summary>Gives a process everything back, and forgets it.</summary>
    /// <returns>False when something could not be given back: it stays.</returns>
    public bool Detach(SimulatedProcess process)
    {
        bool all = true;
        EngineCall(() => all = Machine.UnmergeAll(process));
        if (all || !process.Alive)
            Forget(process);
        return all;
    }

    /// <summary>Lets nothing happen but the engine's work for a while, and checks what must hold at rest.</summary>
    public void Rest()
    {
        Machine.Tables.Physical.Starving = 0;
        Machine.SplitsFail = false;
        foreach (SimulatedProcess process in Machine.Living)
            process.Stopped = false;
        _calm = true;
        Pass(CalmPasses);
        _calm = false;
        _checker.Recount(atRest: true);
        CheckRest();
    }

    /// <inheritdoc/>
    public void Dispose() => Engine.Dispose();

    private void EndAll()
    {
        foreach (SimulatedProcess process in Machine.Living.ToArray())
            Programs.Exit(process);
        while (Programs.Pins > 0)
            Programs.Unpin(0);
        _calm = true;
        Pass(PassesToFree);
        _calm = false;
        _checker.LookAtTouched();
        _checker.Recount(atRest: true);
        Machine.BringOnline(0, Machine.Tables.Physical.Count);
        if (Machine.Tables.Physical.FreeCount != Machine.Tables.Physical.Count || Machine.Tables.Swap.FreeCount != Machine.Tables.Swap.Count)
            throw new BrokenInvariantException(Invariant.MemoryIsConserved, $"every program has ended, and {Machine.Tables.Physical.Count - Machine.Tables.Physical.FreeCount} pages are in use");
    }

    private void Visit(SimulatedProcess process)
    {
        bool there = false;
        EngineCall(() => there = Engine.Visit(process.Space!.Value));
        if (!there || !process.Alive)
            Forget(process);
    }

    private void Forget(SimulatedProcess process)
    {
        SpaceId space = process.Space!.Value;
        Engine.Remove(space);
        Machine.LetGo(space);
        _taken.Remove(process);
        CheckTrace(process);
    }

    /// <summary>A call of the engine's, in which the world goes on.</summary>
    private void EngineCall(Action call)
    {
        _engineWorks = true;
        call();
        _engineWorks = false;
        _checker.LookAtTouched();
        _checker.NobodyWaits();
    }

    private void Between()
    {
        Steps++;
        _checker.LookAtTouched();
        if (_calm || !_engineWorks)
            return;
        while (_next < _steps.Count && !_steps[_next].IsEngines)
        {
            if (_delay < 0)
                _delay = _steps[_next].Delay;
            if (_delay >= Step.InExchange)
            {
                if (Machine.Working is null)
                    return;
                _delay -= Step.InExchange;
            }

            if (_delay-- > 0)
                return;
            StepsWithin++;
            Take(_steps[_next++]);
        }
    }
}
