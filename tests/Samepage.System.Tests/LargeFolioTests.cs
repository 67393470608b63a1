using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Huge pages of which somebody besides the program holds a part. The kernel cannot take them to pieces, and on most kernels UFFDIO_MOVE of any of their pages tries to for ever: the program was held for ten
/// seconds, its next mprotect hung, and so did whoever looked at its mappings.</summary>
public sealed class LargeFolioTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private const int MiB = 8, Pages = MiB * 256, HeldAtMost = 1500;

    [Theory]
    [InlineData("uring", "advise")]
    [InlineData("uring", "split")]
    [InlineData("vmsplice", "advise")]
    [InlineData("vmsplice", "split")]
    public async Task HugePagesThatSomebodyHoldsAreLeftAloneAndKeepNobody(string holder, string form)
    {
        Assert.SkipWhen(holder == "uring" && await File.ReadAllTextAsync("/proc/sys/kernel/io_uring_disabled") is not "0\n", "needs io_uring");
        LiveProgram[] programs =
        [
            await LiveProgram.Target("hugepin", $"{MiB}", holder, form),
            await LiveProgram.Target("hugepin", $"{MiB}", "none", form),
            await LiveProgram.Target("hugepin", $"{MiB}", "none", form),
        ];
        await using var together = new Together(programs);
        await Daemon.TakeIn(programs);
        foreach (LiveProgram free in programs[1..])
            await Daemon.Merged(free, Pages - 64);
        // Nothing hangs: neither it, nor who looks at its mappings.
        await programs[0].Does("protect");
        await programs[0].Does("fork");
        await programs[0].Does("through");
        Assert.NotEmpty(await File.ReadAllLinesAsync($"/proc/{programs[0].Pid}/maps"));
        WireProcess held = (await Daemon.Status()).Of(programs[0].Pid);
        Assert.True(held.PagesMerged < HeldAtMost, $"what is held is left alone: {held}");
        foreach (LiveProgram program in programs)
            await program.Does("verify");

        // When nobody holds it any more it is merged as well.
        await programs[0].Does("unpin");
        await Daemon.MergesWithoutRest();
        await Daemon.Merged(programs[0], Pages - 64);
        await Daemon.Control("smart_scan", "1");
        await Daemon.GiveBack(programs);
        foreach (LiveProgram program in programs)
            await program.Does("verify");
    }
}
