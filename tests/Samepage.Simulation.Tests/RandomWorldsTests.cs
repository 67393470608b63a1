using System.Globalization;
using System.Security.Cryptography;
using CsCheck;
using Samepage.Simulation;
using Samepage.Simulation.Worlds;

namespace Samepage.SimulationTests;

/// <summary>Random programs, and random moments at which everything happens: every invariant holds after every step.</summary>
public sealed class RandomWorldsTests(ITestOutputHelper output)
{
    private const long StepsMin = 4_000_000;

    /// <summary>Seconds' worth of fresh seeds; <c>./test --long</c> makes it an hour's. Every processor does its share at the same time.</summary>
    private static readonly int s_seconds = int.Parse(Environment.GetEnvironmentVariable("SAMEPAGE_TEST_SECONDS") ?? "5", CultureInfo.InvariantCulture);

    private static readonly Gen<Step> AnyStep =
        Gen.Select(Gen.Enum<Act>(), Gen.Int[0, 4095], Gen.Int[0, 4095], Gen.Int[1, 24], Gen.Int[0, 11], Gen.OneOf(Gen.Const(0), Gen.Int[0, 20], Gen.Int[Step.InExchange, Step.InExchange + 30]))
            .Select((act, who, page, count, value, delay) => new Step(act, who, page, act is Act.Starve or Act.Offline ? count % 4 : count, value, delay));

    [Fact]
    public void MillionsOfStepsOfKnownSeedsHold()
    {
        long steps = 0, within = 0, worlds = 0;
        for (ulong seed = 0; steps < StepsMin; seed++, worlds++)
            Hold(seed, ref steps, ref within);
        output.WriteLine($"{worlds} worlds, {steps} steps, {within} of them in the middle of the engine's work");
        Assert.True(within > 10_000, $"only {within} steps were taken in the middle of the engine's work");
    }

    [Fact]
    public void StepsOfFreshSeedsHold()
    {
        ulong first = BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(8)) >> 8;
        output.WriteLine($"seeds from {first} on");
        long end = Environment.TickCount64 + s_seconds * 1000L / Environment.ProcessorCount, allSteps = 0, allWithin = 0;
        ulong next = first;
        Parallel.For(0, Environment.ProcessorCount, _ =>
        {
            long steps = 0, within = 0;
            while (Environment.TickCount64 < end)
                Hold(Interlocked.Increment(ref next) - 1, ref steps, ref within);
            Interlocked.Add(ref allSteps, steps);
            Interlocked.Add(ref allWithin, within);
        });
        output.WriteLine($"{next - first} worlds, {allSteps} steps, {allWithin} of them in the middle of the engine's work");
        TestContext.Current.SendDiagnosticMessage("{0} worlds of fresh seeds, {1} steps", next - first, allSteps);
        Assert.True(allSteps > 0);
    }

    /// <summary>Worlds that once did not hold, by their seeds.</summary>
    [Theory]
    [InlineData(68413971553322122)] // a device held a broken page, and its neighbour was given back every 16 visits, also just before the look
    public void WorldsThatOnceFailedHold(ulong seed)
    {
        long steps = 0, within = 0;
        Hold(seed, ref steps, ref within);
    }

    /// <summary>Steps that CsCheck chooses, and shrinks in its own way: any act is as likely as any other, and few contents make many pages equal.</summary>
    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public void D8_G10_AnyStepsHold(bool tracksWrites, bool holdsThreads)
    {
        WorldOptions options = new() { Machine = new MachineOptions { TracksWrites = tracksWrites, HoldsThreads = holdsThreads, Processes = 6, Window = 16, Pages = 512, Slots = 64 } };
        AnyStep.Array[1, 200].Sample(steps => Verdict.Of(options, steps).Broken is null, iter: 150, threads: 1, print: steps => $"{Verdict.Of(options, steps).Message}\n{string.Join('\n', steps)}");
    }

    [Fact]
    public void TheSameSeedGivesTheSameRun()
    {
        foreach (ulong seed in new ulong[] { 9, 100, 101, 102, 103 })
            Assert.Equal(Suite.Run(seed), Suite.Run(seed));
    }

    [Fact]
    public void StepsSurviveBeingWrittenDown()
    {
        Step[] steps = Suite.Steps(5);
        Assert.Equal(steps, steps.Select(step => Step.Parse(step.ToString())));
    }

    [Fact]
    public void AFailureIsShrunkToWhatItTakes()
    {
        WorldOptions options = new() { Machine = new MachineOptions { Faults = MachineFaults.NoComparison } };
        ulong seed = 0;
        while (Verdict.Of(options, Suite.Steps(seed)).Broken is null)
            seed++;
        Invariant? broken = Verdict.Of(options, Suite.Steps(seed)).Broken;
        Step[] shrunk = Shrinker.Shrink(Suite.Steps(seed), steps => Verdict.Of(options, steps).Broken == broken);
        Assert.Equal(broken, Verdict.Of(options, shrunk).Broken);
        Assert.InRange(shrunk.Length, 3, 20);
        Assert.Contains($"seed {seed}", Verdict.Explain(options, seed, Suite.Steps(seed)), StringComparison.Ordinal);
    }

    private static void Hold(ulong seed, ref long steps, ref long within)
    {
        Verdict verdict = Suite.Run(seed);
        steps += verdict.Steps;
        within += verdict.StepsWithin;
        if (verdict.Broken is not null)
            Assert.Fail(Verdict.Explain(Suite.Options(seed), seed, Suite.Steps(seed)));
    }
}
