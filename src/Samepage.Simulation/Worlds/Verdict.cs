namespace Samepage.Simulation.Worlds;

/// <summary>What came of a run.</summary>
/// <param name="Broken">The invariant that did not hold; null when all held.</param>
/// <param name="Message">What was found.</param>
/// <param name="Steps">Steps of the machine.</param>
/// <param name="StepsWithin">Of those, in the middle of a call of the engine's.</param>
internal readonly record struct Verdict(Invariant? Broken, string Message, long Steps, long StepsWithin)
{
    /// <summary>Runs a list of steps in a new world.</summary>
    public static Verdict Of(WorldOptions options, IReadOnlyList<Step> steps)
    {
        using World world = new(options);
        try
        {
            world.Run(steps);
            return new Verdict(null, "", world.Steps, world.StepsWithin);
        }
        catch (BrokenInvariantException broken)
        {
            return new Verdict(broken.Invariant, broken.Message, world.Steps, world.StepsWithin);
        }
        catch (Exception failed) when (failed is InvalidOperationException or KeyNotFoundException or ArgumentException or IndexOutOfRangeException)
        {
            // Whatever the engine asserts, it asserts of itself.
            return new Verdict(Invariant.EngineIsConsistent, failed.ToString(), world.Steps, world.StepsWithin);
        }
    }

    /// <summary>A failure in words that let anybody see it again: the seed, and the shortest list of steps that still fails the same way.</summary>
    public static string Explain(WorldOptions options, ulong seed, Step[] steps)
    {
        Invariant? broken = Of(options, steps).Broken;
        Step[] shrunk = Shrinker.Shrink(steps, shorter => Of(options, shorter).Broken == broken);
        return $"seed {seed}, {options.Machine}\n{Of(options, shrunk).Message}\n{string.Join('\n', shrunk)}";
    }
}
