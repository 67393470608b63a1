using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Memory that is in swap, on a swap file of the test's own.</summary>
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
}
