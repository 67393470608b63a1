using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Children forked from merged memory: nobody took them in, and still every byte of theirs must be right.</summary>
public sealed class ForkTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    [Fact]
    public async Task F1_AChildHasItsParentsMemoryAndWritesOfEitherAreItsOwn()
    {
        LiveProgram[] two = await Merged();
        await using var together = new Together(two);
        await two[0].Ask("fork");
        await two[0].Does("child verify");
        await two[0].Does("child write");
        await two[0].Does("verify");
        await two[0].Does("write");
        await two[0].Does("child verify");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task F1_WhatAChildDiscardsReadsAsZerosAndItsParentKeepsIt()
    {
        LiveProgram[] two = await Merged();
        await using var together = new Together(two);
        await two[0].Ask("fork");
        await two[0].Does("child discard");
        await two[0].Does("verify");
        await two[0].Does("child write");
        await two[0].Does("discard");
        await two[0].Does("child verify");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task F1_WhatAProgramDiscardsItsChildKeeps()
    {
        LiveProgram[] two = await Merged();
        await using var together = new Together(two);
        await two[0].Ask("fork");
        await two[0].Does("discard");
        await two[0].Does("child verify");
        await two[0].Does("write");
        await two[0].Does("child verify");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task F1_AChildOutlivesItsParentsStay()
    {
        LiveProgram[] two = await Merged();
        await using var together = new Together(two);
        await two[0].Ask("fork");
        await Daemon.GiveBack(two);
        await two[0].Does("child verify");
        await two[0].Does("child discard");
        await two[0].Does("verify");
        await two[0].Does("child write");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task F1_AChildOutlivesTheDaemon()
    {
        await using DaemonUnderTest doomed = await DaemonUnderTest.Start();
        LiveProgram[] two = await LiveProgram.Targets(2, "forker");
        await using var together = new Together(two);
        await doomed.TakeInAndWait(two);
        await doomed.Merged(two[0], 3000);
        await two[0].Ask("fork");
        await doomed.Kill9();
        await two[0].Does("child verify");
        await two[0].Does("verify");
        await two[0].Does("child discard");
        await two[0].Does("child write");
        await two[0].Does("verify");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task F1_AChildOutlivesItsParent()
    {
        LiveProgram[] two = await Merged();
        await using var together = new Together(two);
        await two[0].Ask("fork");
        await two[0].Does("child verify");
        two[0].Kill();
        Assert.Equal("orphan ok", await two[0].NextLine(60));
        await two[1].Does("verify");
    }

    [Fact]
    public async Task F1_AChildMayBecomeAnotherProgram()
    {
        LiveProgram[] two = await Merged();
        await using var together = new Together(two);
        for (int round = 0; round < 2; round++)
        {
            await two[round].Ask("fork");
            Assert.Equal("ended 0", await two[round].Ask("child exec"));
            await two[round].Does("verify");
        }
    }

    private async Task<LiveProgram[]> Merged()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "forker");
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 3000);
        return two;
    }
}
