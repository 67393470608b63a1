using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Processes that end, or become another program, while they are taken in.</summary>
public sealed class LifeTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    [Fact]
    public async Task B7_AProcessMayBecomeAnotherProgramWhileItIsMerged()
    {
        for (int round = 0; round < 5; round++)
        {
            LiveProgram[] two = await LiveProgram.Targets(2, "execer", Repository.Target("common"), "8");
            await using var together = new Together(two);
            await Daemon.TakeIn(two);
            if (round > 0)
                await Daemon.Merged(two[0], round * 800);
            await two[0].Tell("exec");
            await two[0].Ready();
            await two[0].Does("verify");
            await two[0].Does("write");
            await two[1].Does("verify");
            Assert.DoesNotContain(ProcessView.Of(two[0].Pid).MappedNames, name => name.Contains("memfd", StringComparison.Ordinal));
            await ForgottenOrTracked(two[0], old: 4096);
        }
    }

    [Fact]
    public async Task H3_RequestsAreServedWhileMuchIsMerged()
    {
        int answers = 0;
        // On a crowded machine all may be merged before we come to ask: then it was not much.
        for (int mebibytes = 64; answers < 2 && mebibytes <= 1024; mebibytes *= 4)
        {
            LiveProgram[] three = await LiveProgram.Targets(3, "common", $"{mebibytes}");
            await using var together = new Together(three);
            await Daemon.TakeIn(three[0], three[1]);
            answers = 0;
            while (!(await Daemon.Status()).Of(three[0].Pid).Settled)
            {
                if (++answers == 1)
                    await Daemon.TakeIn(three[2]);
            }

            if (answers > 1)
                await Daemon.Merged(three[2], 10_000);
            foreach (LiveProgram program in three)
                await program.Does("verify");
        }

        Assert.True(answers > 1, "nothing was answered before all was merged");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task B7_AProcessMayEndAtAnyMoment(bool killed)
    {
        await using LiveProgram survivor = await LiveProgram.Target("common", "32");
        await Daemon.TakeIn(survivor);
        for (int round = 0; round < 8; round++)
        {
            await using LiveProgram leaver = await LiveProgram.Target("common", "32");
            await Daemon.TakeIn(leaver);
            if (round > 0)
                await Daemon.Merged(leaver, round * 700);
            if (killed)
                leaver.Kill();
            else
                leaver.CloseInput();
            Assert.Equal(killed ? 137 : 0, await leaver.Ends(20));
            await survivor.Does("verify");
        }

        await Until.True(async () => (await Daemon.Status()).Processes.Count(process => process.State is "merging" or "settling") <= 1, 20,
            async () => $"only the survivor is listed as taken in: {string.Join("; ", (await Daemon.Status()).Processes.AsEnumerable())}");
        await survivor.Does("write");
        await Daemon.GiveBack(survivor);
        await survivor.Does("verify");
        await Until.True(async () => (await Daemon.Status()).PagesShared == 0, 20, async () => $"no frame is left when nobody uses one: {await Daemon.Status()}");
    }

    private async Task ForgottenOrTracked(LiveProgram program, long old) => await Until.True(
        async () => (await Daemon.Status()).Of(program.Pid) is var process && (process.State is not "merging" || process.PagesMerged < old), 10,
        async () => $"the daemon notices that the old program is gone: {(await Daemon.Status()).Of(program.Pid)}");
}
