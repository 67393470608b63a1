namespace Samepage.Simulation.Worlds;

/// <summary>Makes lists of steps from a seed.</summary>
internal static class StepGenerator
{
    /// <summary>How often each act comes, of the sum of all.</summary>
    private static readonly (Act Act, int Weight)[] Weights =
    [
        (Act.Start, 10), (Act.Fork, 12), (Act.Exit, 7), (Act.Stop, 2), (Act.Continue, 5),
        (Act.Map, 12), (Act.MapOther, 4), (Act.Unmap, 9), (Act.Remap, 8), (Act.Protect, 6), (Act.Unprotect, 9), (Act.Lock, 5), (Act.Unlock, 4),
        (Act.Advise, 4), (Act.Unadvise, 2), (Act.NoFork, 1), (Act.WipeOnFork, 1),
        (Act.Write, 60), (Act.WriteBlind, 6), (Act.WriteRising, 60), (Act.WriteCell, 70), (Act.Read, 50), (Act.Discard, 22), (Act.ForeignWrite, 30),
        (Act.Pin, 12), (Act.Dma, 20), (Act.Unpin, 10),
        (Act.SwapOut, 14), (Act.Migrate, 14), (Act.Collapse, 5), (Act.SplitsFail, 1), (Act.SplitsWork, 2), (Act.Starve, 5), (Act.Offline, 2), (Act.Online, 2),
        (Act.Attach, 22), (Act.Detach, 3), (Act.Break, 3), (Act.UnmergeAll, 1), (Act.MoveFrame, 3), (Act.Visit, 15), (Act.Scan, 35), (Act.Pass, 9), (Act.Rest, 1),
    ];

    /// <summary>What comes besides where it is asked for: it excuses the engine from some of what must hold at rest.</summary>
    private static readonly (Act Act, int Weight)[] Hardships = [(Act.StarveEngine, 4), (Act.Retire, 3)];

    private static readonly Act[] Wheel = WheelOf(Weights), HardWheel = WheelOf([.. Weights, .. Hardships]);

    /// <summary>So many steps, the same for the same seed.</summary>
    /// <param name="seed">The seed.</param>
    /// <param name="count">How many.</param>
    /// <param name="values">Different values that programs write: the fewer, the more pages are equal.</param>
    /// <param name="begun">Processes that are started and taken in first.</param>
    /// <param name="hard">With want of memory for records, and stretches of pools given up.</param>
    public static Step[] Make(ulong seed, int count, int values = 24, int begun = 0, bool hard = false)
    {
        Act[] wheel = hard ? HardWheel : Wheel;
        Dice dice = new(seed);
        Step[] steps = new Step[count];
        for (int i = 0; i < Math.Min(begun * 2, count); i++)
            steps[i] = new Step(i % 2 == 0 ? Act.Start : Act.Attach, i % 2 == 0 ? 2 * dice.Below(100) : i / 2, dice.Below(8), 8 + dice.Below(24), dice.Below(values));
        for (int i = begun * 2; i < count; i++)
        {
            Act act = wheel[dice.Below(wheel.Length)];
            int pages = dice.Percent(50) ? 1 + dice.Below(3) : 1 + dice.Below(24);
            int delay = dice.Percent(35) ? 0 : dice.Percent(45) ? dice.Below(20) : Step.InExchange + (dice.Percent(70) ? dice.Below(12) : dice.Below(60));
            steps[i] = new Step(act, dice.Below(4096), dice.Below(4096), act is Act.Starve or Act.Offline ? 1 + dice.Below(6) : pages, dice.Below(values), delay);
        }

        return steps;
    }

    private static Act[] WheelOf((Act Act, int Weight)[] weights) => [.. weights.SelectMany(weight => Enumerable.Repeat(weight.Act, weight.Weight))];
}
