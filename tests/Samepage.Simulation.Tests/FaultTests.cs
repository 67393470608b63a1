using Samepage.Engine;
using Samepage.Simulation;
using Samepage.Simulation.Worlds;

namespace Samepage.SimulationTests;

/// <summary>The tests bite: with a deliberate fault in the machine, in what carries plans out, or in the engine, an invariant fails on the same
/// worlds on which none fails without, and it is the one that the fault is about.</summary>
public sealed class FaultTests
{
    private const long StepsMax = 4_000_000;

    [Theory]
    [InlineData(nameof(MachineFaults.NoComparison), Invariant.EachReadsWhatItWrote)]
    [InlineData(nameof(MachineFaults.CompareBeforeProtect), Invariant.EachReadsWhatItWrote)]
    [InlineData(nameof(MachineFaults.NoPinCheck), Invariant.PinnedPagesStay)]
    [InlineData(nameof(MachineFaults.MissChildsHole), Invariant.EachReadsWhatItWrote)]
    [InlineData(nameof(MachineFaults.ForgetLock), Invariant.AreasStayAsAsked)]
    [InlineData(nameof(MachineFaults.FrameWritable), Invariant.FramesNeverChange)]
    [InlineData(nameof(MachineFaults.WakeTooEarly), Invariant.EachReadsWhatItWrote)]
    [InlineData(nameof(MachineFaults.ZeroWithoutLooking), Invariant.EachReadsWhatItWrote)]
    [InlineData(nameof(MachineFaults.UnmergeUnprotected), Invariant.EachReadsWhatItWrote)]
    [InlineData(nameof(MachineFaults.DiscardShowsFrame), Invariant.EachReadsWhatItWrote)]
    [InlineData(nameof(MachineFaults.OnePoolForAll), Invariant.DomainsAreApart)]
    [InlineData(nameof(MachineFaults.MappingUnchecked), Invariant.AreasStayAsAsked)]
    [InlineData(nameof(MachineFaults.WriteIntoFrame), Invariant.FramesNeverChange)]
    [InlineData(nameof(MachineFaults.ForgetToWake), Invariant.NobodyWaits)]
    [InlineData(nameof(MachineFaults.KeepReplaced), Invariant.NobodyWaits)]
    [InlineData(nameof(MachineFaults.DiscardUndone), Invariant.EachReadsWhatItWrote)]
    [InlineData(nameof(MachineFaults.ChildUnwatched), Invariant.EachReadsWhatItWrote)]
    [InlineData(nameof(MachineFaults.EverythingMergeable), Invariant.OnlyEligibleIsMerged)]
    [InlineData(nameof(MachineFaults.CollectThenProtect), Invariant.NothingEqualIsApart)]
    [InlineData(nameof(MachineFaults.UnmappedAlways), Invariant.FramesAreFreedUnmapped)]
    [InlineData(nameof(MachineFaults.UnmergeLosesPage), Invariant.EachReadsWhatItWrote)]
    [InlineData(nameof(MachineFaults.NothingMovedBack), Invariant.EachReadsWhatItWrote)]
    public void Fault_OfTheMachineIsNoticed(string fault, Invariant by) =>
        IsNoticed(by, seed => Suite.Options(seed, machine: Enum.Parse<MachineFaults>(fault)));

    [Theory]
    [InlineData(nameof(EngineFaults.UnlinkOldPages), Invariant.EngineIsConsistent)]
    [InlineData(nameof(EngineFaults.KeepUnstablePages), Invariant.EngineIsConsistent)]
    [InlineData(nameof(EngineFaults.KeepLonelyFrames), Invariant.NoFrameIsLonely)]
    [InlineData(nameof(EngineFaults.GiveUpPromisedFrames), Invariant.NoFrameIsLonely)]
    [InlineData(nameof(EngineFaults.DropWithoutCounting), Invariant.EngineIsConsistent)]
    [InlineData(nameof(EngineFaults.KeepDeadNodes), Invariant.EngineIsConsistent)]
    [InlineData(nameof(EngineFaults.OneDomain), Invariant.NothingEqualIsApart)]
    [InlineData(nameof(EngineFaults.KeepPassedRecords), Invariant.CountersEqualARecount)]
    [InlineData(nameof(EngineFaults.WrongDigest), Invariant.EngineIsConsistent)]
    [InlineData(nameof(EngineFaults.IgnoreDiffers), Invariant.CountersEqualARecount)]
    [InlineData(nameof(EngineFaults.FreeMappedFrames), Invariant.FramesAreFreedUnmapped)]
    [InlineData(nameof(EngineFaults.SkipStableSearch), Invariant.NothingEqualIsApart)]
    [InlineData(nameof(EngineFaults.SlotBeforeCursor), Invariant.TheCursorKeepsItsOrder)]
    [InlineData(nameof(EngineFaults.MissBreaks), Invariant.CountersEqualARecount)]
    [InlineData(nameof(EngineFaults.RestForEver), Invariant.NothingEqualIsApart)]
    public void Fault_OfTheEngineIsNoticed(string fault, Invariant by) =>
        IsNoticed(by, seed => Suite.Options(seed, engine: Enum.Parse<EngineFaults>(fault)));

    /// <summary>One fault can break more than one invariant; that it is noticed is asked of the first world that it breaks, and that it is noticed
    /// for what it is, of the first in which the named invariant is the first to fail.</summary>
    private static void IsNoticed(Invariant by, Func<ulong, WorldOptions> options)
    {
        List<string> others = [];
        long steps = 0;
        for (ulong seed = 0; steps < StepsMax; seed++)
        {
            Verdict verdict = Verdict.Of(options(seed), Suite.Steps(seed));
            steps += verdict.Steps;
            if (verdict.Broken == by)
                return;
            if (verdict.Broken is not null)
                others.Add($"seed {seed}: {verdict.Message.Split('\n')[0]}");
        }

        Assert.Fail($"{by} held in {steps} steps; what did not hold:\n{string.Join('\n', others.Take(20))}");
    }
}
