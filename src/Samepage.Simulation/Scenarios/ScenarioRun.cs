using Samepage.Engine;
using Samepage.Simulation.Memory;
using Samepage.Simulation.Worlds;

namespace Samepage.Simulation.Scenarios;

/// <summary>Runs a scenario: programs load their memory and go on writing while the engine scans; all is checked after every step; then everything
/// is given back and everybody ends.</summary>
public static class ScenarioRun
{
    private const int Window = 512;
    private const int PageSize = 4096;
    private const int RoundsOfWork = 12;
    private const int StepsPerRound = 40;

    /// <summary>Runs it. The same scenario, seed and number of processes give the same report.</summary>
    /// <param name="scenario">The scenario.</param>
    /// <param name="seed">Decides everything that is left to chance.</param>
    /// <param name="processes">1 to <see cref="Scenario.ProcessesMax"/>.</param>
    /// <param name="progress">Told how far it is, from 0 to 1, and what is going on.</param>
    public static SimulationReport Run(Scenario scenario, ulong seed, int processes, Action<double, string>? progress = null)
    {
        ArgumentNullException.ThrowIfNull(scenario);
        ArgumentOutOfRangeException.ThrowIfLessThan(processes, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(processes, Scenario.ProcessesMax);
        using World world = new(OptionsFor(scenario.Memory, processes));
        SimulationReport report = new() { Scenario = scenario, Seed = seed, PageSize = PageSize };
        try
        {
            Dice dice = new(seed);
            progress?.Invoke(0, "programs load their memory");
            Load(world, scenario.Memory, processes, dice);
            for (int round = 0; round < RoundsOfWork; round++)
            {
                progress?.Invoke((round + 1.0) / (RoundsOfWork + 3), $"pass {round + 1}");
                world.Follow([new Step(Act.Pass), .. Work(scenario.Memory, dice)]);
            }

            progress?.Invoke((RoundsOfWork + 1.0) / (RoundsOfWork + 3), "coming to rest");
            world.Rest();
            report = Measure(report, world);
            progress?.Invoke((RoundsOfWork + 2.0) / (RoundsOfWork + 3), "each writes to all its pages; everything is given back");
            world.Follow([.. Enumerable.Range(0, processes).Select(number => new Step(Act.WriteCell, number, 0, Window, 8 * (number + 1)))]);
            world.GiveAllBack();
            world.EndAll();
        }
        catch (BrokenInvariantException broken)
        {
            report = report with { Broken = broken };
        }

        progress?.Invoke(1, "done");
        return report with { Steps = world.Steps, StepsWithin = world.StepsWithin };
    }

    private static WorldOptions OptionsFor(MemoryMix mix, int processes)
    {
        int slots = mix.Stormy ? processes + processes / 2 + 4 : processes;
        return new WorldOptions
        {
            Machine = new MachineOptions { Processes = slots, Window = Window, Pages = slots * Window * 2, Slots = slots * Window / 4, PageSize = PageSize },
            Domains = mix.Domains,
            StepsPerRecount = 100_000,
            CallsPerCheck = 16,
        };
    }

    private static void Load(World world, MemoryMix mix, int processes, Dice dice)
    {
        int common = Window * mix.Common / 100, zero = Window * mix.Zero / 100;
        SimulatedProcess? first = null;
        for (int number = 0; number < processes; number++)
        {
            SimulatedProcess process = mix.Forked && first is not null ? world.Programs.Fork(first)! : world.Programs.Start(number % mix.Domains, 0, Window, byAdvice: false)!;
            first ??= process;
            for (int page = 0; page < Window; page++)
            {
                ulong content = page < common ? CommonContent(page) : page < common + zero ? Content.Zero : dice.Next() | 1;
                world.Programs.Write(process, world.Machine.PlaceOf(process, page), ulong.MaxValue, content);
            }

            world.Attach(process);
        }
    }

    /// <summary>Different for each page, never zero, and never what a program's own memory holds.</summary>
    private static ulong CommonContent(int page) => ((ulong)(page + 1) << 8 | 0x5A) << 8;

    private static IEnumerable<Step> Work(MemoryMix mix, Dice dice)
    {
        if (mix.Stormy)
            return StepGenerator.Make(dice.Next(), StepsPerRound * 4).Where(step => !step.IsEngines || step.Act is Act.Attach or Act.Scan);
        return Enumerable.Range(0, StepsPerRound).Select(_ =>
        {
            Act act = dice.Percent(60) ? Act.WriteCell : dice.Percent(60) ? Act.Read : dice.Percent(50) ? Act.ForeignWrite : Act.SwapOut;
            return new Step(act, dice.Below(4096), dice.Below(4096), 1 + dice.Below(4), dice.Below(200), dice.Percent(50) ? dice.Below(30) : Step.InExchange + dice.Below(30));
        });
    }

    private static SimulationReport Measure(SimulationReport report, World world)
    {
        EngineFigures figures = world.Engine.Figures;
        (int, long, long, long)[] domains = [.. Enumerable.Range(0, report.Scenario.Memory.Domains).Select(number =>
        {
            DomainFigures domain = world.Engine.FiguresOf(new DomainId(number));
            return (number, domain.Frames, domain.Users - domain.Frames, world.Engine.BreaksIn(new DomainId(number)));
        })];
        ProcessFigures[] processes = [.. world.Taken.OrderBy(process => process.Slot).Select(process =>
        {
            SpaceFigures space = world.Engine.FiguresOf(process.Space!.Value);
            return new ProcessFigures(process.Slot + 1, process.Domain, space.Settled, space.Counts.Tracked, space.Counts.Merged, space.Counts.Zeroed, space.Counts.Volatile,
                space.Counts.Unique, space.Counts.Broken, space.Breaks);
        })];
        return report with
        {
            Figures = (figures.FullScans, figures.PagesScanned, figures.PagesShared, figures.PagesSharing, figures.PagesUnshared, processes.Sum(process => process.PagesVolatile)),
            ZeroPages = processes.Sum(process => process.ZeroPages),
            MetadataBytes = world.Engine.MetadataBytes,
            PoolBytes = Enumerable.Range(0, report.Scenario.Memory.Domains).Sum(number => world.Engine.FiguresOf(new DomainId(number)).FramesHeld) * PageSize,
            Merged = world.Machine.Merged,
            Domains = domains,
            Processes = processes,
            Host = report.Scenario.Memory.Host is { } host ? HostEstimate.Of(host, report.Scenario.Memory, world.Machine.Merged) : null,
        };
    }
}
