using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Unmodified processes with memory in common: what is saved, and that nobody can tell.</summary>
public sealed class MergingTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private const long MiB = 1 << 20;

    [Fact]
    public async Task D8_FourProcessesShareThreeQuartersAndEachWriteStaysPrivate()
    {
        LiveProgram[] four = await LiveProgram.Targets(4, "common", "256");
        await using var together = new Together(four);
        const long Saveable = 3 * 192 * MiB;
        long before = four.Sum(program => ProcessView.Of(program.Pid).PssBytes);

        await Daemon.TakeInAndWait(four);

        // Frames that the daemon has mapped count for it by part: that part is a cost, too.
        long after = four.Sum(program => ProcessView.Of(program.Pid).PssBytes) + ProcessView.Of(Daemon.Pid).PssShmemBytes;
        double saved = (before - after) / (double)Saveable;
        TestContext.Current.SendDiagnosticMessage("saved {0:P1} of what could be", saved);
        WireStatus status = await Daemon.Status();
        Assert.True(saved >= 0.95, $"saved {saved:P1} of {Saveable / MiB} MiB: Pss {before / MiB} MiB before, {after / MiB} after\n{status}");
        Assert.True(status.Daemon.PoolBytes <= status.PagesShared * status.PageSize * 1.05, $"the pool holds more than its frames: {status}");

        foreach (LiveProgram program in four)
            await program.Does("verify");
        foreach (LiveProgram writer in four)
        {
            await writer.Does("write");
            foreach (LiveProgram reader in four)
                await reader.Does("verify");
        }

        await Daemon.GiveBack(four);
        foreach (LiveProgram program in four)
            await program.Does("verify");
    }

    [Fact]
    public async Task E1_OneWordWrittenIntoAMergedPageLeavesTheRestOfItAndTheOtherSharers()
    {
        LiveProgram[] three = await LiveProgram.Targets(3, "common", "32", "run=16");
        await using var together = new Together(three);
        await Daemon.TakeInAndWait(three);
        await Daemon.Merged(three[0], 1);
        foreach (LiveProgram writer in three)
        {
            await writer.Does("poke");
            foreach (LiveProgram reader in three)
                await reader.Does("verify");
        }
    }

    [Fact]
    public async Task D8_SinglePagesBetweenOthersKeepTheirContent()
    {
        LiveProgram[] three = await LiveProgram.Targets(3, "common", "24", "run=1");
        await using var together = new Together(three);
        await Daemon.TakeInAndWait(three);
        await Daemon.Merged(three[0], 1);
        foreach (LiveProgram program in three)
            await program.Does("verify");
        await three[1].Does("write");
        await three[0].Does("verify");
        await Daemon.GiveBack(three);
        foreach (LiveProgram program in three)
            await program.Does("verify");
    }

    [Fact]
    public async Task C5_PagesThatBecomeEqualLaterAreMergedLater()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "32");
        await using var together = new Together(two);
        await two[0].Does("write");
        await Daemon.TakeInAndWait(two);
        long merged = (await Daemon.Status()).Of(two[0].Pid).PagesMerged;
        await two[0].Does("again");
        await Daemon.Merged(two[0], merged + (32 * 256 * 3 / 4 * 95 / 100));
        await two[0].Does("verify");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task D8_PagesOfZerosReadAsZerosAndTakeWrites()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "8", "zeros=8192");
        await using var together = new Together(two);
        long before = ProcessView.Of(two[0].Pid).PssBytes;
        await Daemon.TakeInAndWait(two);
        long saved = before - ProcessView.Of(two[0].Pid).PssBytes;
        Assert.True(saved >= 8192 * 4096L * 95 / 100, $"{saved / MiB} MiB saved of the 32 that are zeros: {await Daemon.Status()}");
        await two[0].Does("verify");
        await two[0].Does("poke");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task D5_MemoryAsAGuestHasItMergesAndKeepsItsFlagsAndIsWholeAgainBehindIt()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "32", "guest");
        await using var together = new Together(two);
        ProcessView view = ProcessView.Of(two[0].Pid);
        ulong address = ulong.Parse((await two[0].Ask("address")).Split(' ')[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        (string flags, long huge, long resident) = (view.FlagsAt(address), view.Rollup("AnonHugePages"), view.Rollup("Rss"));
        Assert.SkipWhen(huge < 30 * 1024, $"needs transparent huge pages for memory that is advised: {huge} kB are huge");
        Assert.Equal(["mg", "hg", "dc", "dd"], new[] { "mg", "hg", "dc", "dd" }.Where(flag => flags.Split(' ').Contains(flag)));

        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 6000);
        await Daemon.Merged(two[1], 6000);
        Assert.Equal(flags, view.FlagsAt(address));
        await two[0].Does("verify");
        await two[0].Does("poke");
        await two[1].Does("verify");
        await Daemon.GiveBack(two);
        Assert.Equal(flags, view.FlagsAt(address));
        Assert.True(view.Rollup("AnonHugePages") >= huge / 2, $"{view.Rollup("AnonHugePages")} kB of {huge} are huge again; the kernel need not have a huge page for each");
        Assert.InRange(view.Rollup("Rss"), resident - 1024, resident + 1024);
        await two[0].Does("write");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task D5_HugePagesKeepTheirContent()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "32", "huge");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        await two[0].Does("poke");
        await two[1].Does("verify");
        await Daemon.GiveBack(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");
    }

    [Fact]
    public async Task D7_LockedMemoryStaysLocked()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "16", "lock");
        await using var together = new Together(two);
        await two[0].Does("verify");
        long locked = ProcessView.Of(two[0].Pid).Status("VmLck");
        Assert.True(locked >= 16 * 1024, $"{locked} kB");
        await Daemon.TakeInAndWait(two);
        await two[0].Does("verify");
        Assert.Equal(locked, ProcessView.Of(two[0].Pid).Status("VmLck"));
        await two[0].Does("poke");
        await two[1].Does("verify");
        await Daemon.GiveBack(two);
        Assert.Equal(locked, ProcessView.Of(two[0].Pid).Status("VmLck"));
        await two[0].Does("verify");
    }
}
