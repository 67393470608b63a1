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

    /// <summary>Calls of the engine's between two checks of what it holds.</summary>
    public int CallsPerCheck { get; init; } = 1;

    /// <summary>The engine.</summary>
    public EngineOptions Engine { get; init; } = new();

    /// <summary>It leaves alone for a while what was merged and written again and again.</summary>
    public bool SmartScan { get; init; }
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
    private long _stepsAtRecount;
    private long _calls;
    private bool _calm;

    public World(WorldOptions options)
    {
        _options = options;
        Machine = new SimulatedMachine(options.Machine);
        Programs = new Programs(Machine);
        _checker = new Checker(Machine, Programs);
        Engine = new ScanEngine(Machine, options.Engine) { SmartScan = options.SmartScan };
        Machine.Between = Between;
        Machine.Listed = NoteListed;
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
        Follow(steps);
        Rest();
        EndAll();
    }

    /// <summary>Takes all steps of a list.</summary>
    public void Follow(IReadOnlyList<Step> steps)
    {
        (_steps, _next, _delay) = (steps, 0, -1);
        while (_next < steps.Count)
            Take(steps[_next++]);
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

    /// <summary>Lets nothing happen but the engine's work for a while, and checks what must hold at rest.</summary>
    public void Rest()
    {
        Machine.Tables.Physical.Starving = 0;
        Engine.Budget.BytesMax = long.MaxValue;
        Machine.SplitsFail = false;
        foreach (SimulatedProcess process in Machine.Living)
            process.Stopped = false;
        _calm = true;
        // Every page has rested when the first of the passes begins: they are counted for what is to be done then.
        Engine.Now += TimeSpan.FromMinutes(10);
        CancelRetired();
        Pass(CalmPasses);
        _calm = false;
        _checker.Recount(atRest: true);
        CheckRest();
    }

    /// <summary>Ends every program: nothing may be left.</summary>
    public void EndAll()
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

    /// <inheritdoc/>
    public void Dispose() => Engine.Dispose();

    /// <summary>A call of the engine's, in which the world goes on.</summary>
    private void EngineCall(Action call)
    {
        _engineWorks = true;
        Engine.Now += TimeSpan.FromMilliseconds(500);
        call();
        _engineWorks = false;
        Machine.Working = null;
        _checker.LookAtTouched();
        _checker.NobodyWaits();
        if (++_calls % _options.CallsPerCheck == 0)
            Engine.CheckInvariants();
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
                if (Machine.Exchanging.Count == 0)
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
