using Samepage.Engine;
using Samepage.Simulation;
using Samepage.Simulation.Worlds;

namespace Samepage.SimulationTests;

/// <summary>The random worlds that everything is proved on: a seed decides what kind of a world it is, and what happens in it.</summary>
internal static class Suite
{
    /// <summary>How a world of a seed is made: with and without tracking of writes, with threads held and not, hash index and tree, rests and none, few processes and hundreds,
    /// pages read and plans carried out a few at a time, at once and late.</summary>
    public static WorldOptions Options(ulong seed, MachineFaults machine = MachineFaults.None, EngineFaults engine = EngineFaults.None) => new()
    {
        Machine = new MachineOptions
        {
            TracksWrites = seed % 4 < 3,
            HoldsThreads = seed % 2 == 0,
            Processes = IsCrowded(seed) ? 250 : seed % 3 == 0 ? 12 : 4,
            Window = IsCrowded(seed) ? 24 : seed % 3 == 1 ? 16 : 32,
            Pages = IsCrowded(seed) ? 8192 : 1024,
            Slots = 256,
            Lags = seed % 7 < 4,
            Faults = machine,
        },
        Engine = new EngineOptions
        {
            Index = seed % 5 == 0 ? IndexKind.Tree : IndexKind.Hash,
            PagesPerRead = seed % 7 == 6 ? 256 : 1 + (int)(seed % 7),
            PagesPerFlight = seed % 7 == 6 ? 4096 : 1 + (int)(seed / 7 % 5),
            Faults = engine,
        },
        SmartScan = seed / 4 % 2 == 0,
        Domains = IsCrowded(seed) ? 4 : 2,
        CallsPerCheck = IsCrowded(seed) ? 32 : 4,
        StepsPerRecount = IsCrowded(seed) ? 2000 : 500,
    };

    /// <summary>What happens in it.</summary>
    public static Step[] Steps(ulong seed) => IsCrowded(seed)
        ? StepGenerator.Make(seed, 4000, values: 60, begun: 200, hard: seed % 5 == 3)
        : StepGenerator.Make(seed, 400, hard: seed % 5 == 3);

    /// <summary>Runs it.</summary>
    public static Verdict Run(ulong seed) => Verdict.Of(Options(seed), Steps(seed));

    /// <summary>One world in sixteen, of each kind, has hundreds of processes.</summary>
    public static bool IsCrowded(ulong seed) => seed / 4 % 16 == 2;
}
