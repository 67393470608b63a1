namespace Samepage.Simulation.Worlds;

/// <summary>Makes a failing list of steps short: takes pieces out, large ones first, as long as the same invariant fails.</summary>
internal static class Shrinker
{
    /// <summary>The shortest list found.</summary>
    /// <param name="steps">A list that fails.</param>
    /// <param name="fails">Whether a list fails as the first did.</param>
    /// <param name="triesMax">Lists to try at most.</param>
    public static Step[] Shrink(Step[] steps, Func<Step[], bool> fails, int triesMax = 4000)
    {
        int tries = 0;
        for (int piece = Math.Max(steps.Length / 2, 1); piece >= 1; piece /= 2)
        {
            for (int at = 0; at < steps.Length && tries < triesMax;)
            {
                Step[] without = [.. steps.AsSpan(0, at), .. steps.AsSpan(Math.Min(at + piece, steps.Length))];
                tries++;
                if (fails(without))
                    steps = without;
                else
                    at += piece;
            }
        }

        return Simplify(steps, fails, triesMax - tries);
    }

    private static Step[] Simplify(Step[] steps, Func<Step[], bool> fails, int tries)
    {
        for (int i = 0; i < steps.Length; i++)
        {
            foreach (Step simpler in (Step[])[steps[i] with { Delay = 0 }, steps[i] with { Count = 1 }, steps[i] with { Delay = 0, Count = 1 }])
            {
                if (simpler == steps[i] || tries-- <= 0)
                    continue;
                Step[] changed = [.. steps];
                changed[i] = simpler;
                if (fails(changed))
                    steps = changed;
            }
        }

        return steps;
    }
}
