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

    /// <summary>More than its warden can watch: the daemon does, and no child costs it a thread.</summary>
    [Fact]
    public async Task AProgramWithManyChildrenTakesNoThreadOfTheDaemonForEach()
    {
        const int Children = 700, ThreadsMost = 200;
        LiveProgram[] two = await Merged();
        await using var together = new Together(two);
        await two[0].Does($"many {Children}");
        // All are looked at once a second, for nobody says when one has ended.
        for (int look = 0; look < 20; look++)
        {
            int threads = ProcessView.Of(Daemon.Pid).Threads;
            Assert.True(threads < ThreadsMost, $"{threads} threads of the daemon for {Children} children");
            await Task.Delay(200, TestContext.Current.CancellationToken);
        }

        await two[0].Does("verify");
        await two[1].Does("write");
        two[0].Kill();
    }

    /// <summary>They would take more descriptors than the daemon may have: it keeps some for itself, goes on, and forgets nobody with an agent in him.</summary>
    [Fact]
    public async Task AProgramWithMoreChildrenThanThereAreDescriptorsKeepsNobodyElse()
    {
        string prlimit = Needs.Program("prlimit", "util-linux");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(launcher: [prlimit, "--nofile=900:900"]);
        LiveProgram[] honest = await LiveProgram.Targets(2, "common", "4"), two = await LiveProgram.Targets(2, "forker");
        await using var together = new Together([.. honest, .. two]);
        await daemon.TakeInAndWait([.. honest, .. two]);
        await daemon.Merged(two[0], 3000);
        await two[0].Tell("many 900");
        for (int look = 0; look < 25; look++)
        {
            Assert.False(daemon.HasExited, daemon.Tail);
            await Task.Delay(200, TestContext.Current.CancellationToken);
        }

        Assert.All((await daemon.Status()).Processes.Where(process => honest.Any(program => program.Pid == process.Pid)), process => Assert.Equal("merging", process.State));
        await daemon.GiveBack(honest);
        foreach (LiveProgram program in honest)
            await program.Does("verify");
        two[0].Kill();
        await two[1].Does("verify");
    }

    /// <summary>The daemon answers for children behind the 256th itself. What these fork waits where it has no descriptor for it, and goes on when it has.</summary>
    [Fact]
    public async Task ChildrenThatTheDaemonAnswersForForkNoMoreThanThereAreDescriptors()
    {
        const int Children = 290, Each = 30, All = (Children - 260) * Each;
        string prlimit = Needs.Program("prlimit", "util-linux");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await Limit(960);
        LiveProgram[] honest = await LiveProgram.Targets(2, "common", "4"), two = await LiveProgram.Targets(2, "forker");
        await using var together = new Together([.. honest, .. two]);
        await daemon.TakeInAndWait([.. honest, .. two]);
        await daemon.Merged(two[0], 3000);
        await two[0].Does($"kin {Children} {Each}");
        int made = 0;
        for (int look = 0; look < 25; look++)
        {
            Assert.False(daemon.HasExited, daemon.Tail);
            await Task.Delay(200, TestContext.Current.CancellationToken);
            made = Grandchildren();
        }

        Assert.True(made < All, $"{made} grandchildren for a daemon of 960 descriptors");
        Assert.All((await daemon.Status()).Processes.Where(process => honest.Any(program => program.Pid == process.Pid)), process => Assert.Equal("merging", process.State));
        await daemon.GiveBack(honest);
        foreach (LiveProgram program in honest)
            await program.Does("verify");

        await Limit(8192);
        await Until.True(() => Grandchildren() == All, 120, () => $"all have forked: {Grandchildren()}\n{daemon.Tail}");
        two[0].Kill();
        await two[1].Does("verify");

        async Task Limit(int descriptors)
        {
            await using var set = LiveProgram.Start(prlimit, "--pid", $"{daemon.Pid}", $"--nofile={descriptors}:");
            Assert.Equal(0, await set.Ends());
        }

        int Grandchildren() => ChildrenOf($"{two[0].Pid}").Sum(child => ChildrenOf(child).Length);
        static string[] ChildrenOf(string pid) => File.ReadAllText($"/proc/{pid}/task/{pid}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries);
    }

    private async Task<LiveProgram[]> Merged()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "forker");
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 3000);
        return two;
    }
}
