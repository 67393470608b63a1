using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Memory that is in swap, on a swap file of the test's own.</summary>
[Collection(SwapFile.Machine)]
public sealed class SwapTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    [Fact]
    public async Task F2_MemoryInSwapMergesWhenItIsBackAndFramesAreNeverSwapped()
    {
        await using SwapFile swap = await SwapFile.On(256 << 20);
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "16");
        await using var together = new Together(two);
        await two[0].Does("pageout");
        Assert.InRange(ProcessView.Of(two[0].Pid).Status("VmSwap"), 15 * 1024, long.MaxValue);
        await Daemon.TakeInAndWait(two);
        // It stays where it is: looking for duplicates brings nothing back.
        Assert.InRange(ProcessView.Of(two[0].Pid).Status("VmSwap"), 15 * 1024, long.MaxValue);

        await two[0].Does("verify");
        await Daemon.Merged(two[0], 3000);
        await Daemon.Merged(two[1], 3000);
        foreach (LiveProgram program in two)
            await program.Does("pageout");
        await two[0].Does("verify");
        await Daemon.Merged(two[0], 3000);
        foreach (LiveProgram program in two)
            await program.Does("pageout");
        await two[0].Does("write");
        await two[1].Does("verify");

        foreach (LiveProgram program in two)
            await program.Does("pageout");
        await Daemon.GiveBack(two);
        await two[1].Does("verify");
        await two[0].Does("write");
    }

    /// <summary>
    /// What a control group leaves its members decides whether they can be given back. One without a limit leaves what the machine has, with swap as well as without
    /// (version 1 says "no limit" by a number so large that nothing can be added to it); swap that a group may not use is no room.
    /// </summary>
    [Fact]
    public async Task SwapIsRoomInAGroupOnlyAsFarAsTheGroupMayUseIt()
    {
        using MemoryGroup group = MemoryGroup.Make();
        await using SwapFile swap = await SwapFile.On(256 << 20);
        await using LiveProgram inside = LiveProgram.Start(group.Launcher[0], [.. group.Launcher[1..], Repository.Target("common"), "64"]);
        await inside.Ready();
        long used = group.Usage;
        await using LiveProgram outside = await LiveProgram.Target("common", "64");
        await Daemon.TakeInAndWait(inside, outside);
        await Daemon.Merged(inside, 12_000);
        await group.Freed(40 << 20, used);
        group.Limit(group.Usage + (8 << 20));
        group.LimitSwap(0);
        Called called = await Daemon.Cli("detach", $"{inside.Pid}");
        Assert.True(called.ExitCode == 1 && called.ToString().Contains("control group", StringComparison.Ordinal), $"{called}");
        await inside.Does("verify");

        group.Limit(null);
        await Daemon.GiveBack(inside, outside);
        await inside.Does("verify");
        Assert.Equal(0, group.Killed);
    }

    /// <summary>On a kernel on which a page that is being swapped out must not be moved nothing is merged while swap is on; what is merged is given back all the same.</summary>
    [Fact]
    public async Task OnAKernelThatCannotMovePagesBesideSwapNothingIsMergedWhileItIsOn()
    {
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(environment: new() { ["SAMEPAGE_KERNEL_RELEASE"] = "6.12.19" });
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together(two);
        Assert.SkipWhen(File.ReadAllLines("/proc/swaps").Length > 1, "this machine has swap of its own");
        await using (await SwapFile.On(64 << 20))
        {
            await Until.True(async () => (await daemon.Get("/v1/status")).Contains("swap is on", StringComparison.Ordinal), 60, () => Task.FromResult(daemon.Tail));
            Called waits = await daemon.Cli(["attach", "--wait", .. two.Select(program => $"{program.Pid}")]);
            Assert.True(waits.ExitCode == 1 && waits.Errors.Contains("swap is on", StringComparison.Ordinal), $"{waits}");
            Called status = await daemon.Cli("status");
            Assert.Contains("waiting for swap to be off", status.Output, StringComparison.Ordinal);
            Assert.Contains("nothing is merged while swap is on", status.Output, StringComparison.Ordinal);
            Assert.All((await daemon.Status()).Processes, process => Assert.Equal((0, 0), (process.PagesMerged, process.ZeroPages)));
        }

        await daemon.Merged(two[0], 1500, 120);
        await daemon.Merged(two[1], 1500, 120);
        await using (await SwapFile.On(64 << 20))
        {
            await daemon.GiveBack(two);
            foreach (LiveProgram program in two)
                await program.Does("verify");
        }

        Assert.Equal(0, await daemon.Terminate());
    }
}
