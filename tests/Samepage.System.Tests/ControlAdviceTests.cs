using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Opting in and out, as programs see it that read the control files right behind it.</summary>
/// <remarks>What they read is exact: no test here waits for anything but the program's own calls.</remarks>
public sealed class ControlAdviceTests : IDisposable
{
    private readonly OpenFolder _own = new("advised", "advised-");
    private readonly string _rules = Path.GetTempFileName();

    public ControlAdviceTests()
    {
        Needs.Root();
        Assert.SkipUnless(Directory.Exists("/sys/kernel/mm/ksm"), "this kernel keeps no advice to merge: it is built without its own merging");
        // Others of this machine advise memory, too.
        File.WriteAllText(_rules, $"settle_seconds = 0\n[[advised_in]]\nexecutable = \"{_own.Target}\"\n");
    }

    /// <summary>C.1: two scans behind the advice all is merged, and counted, though its only thread does nothing but ask for that.</summary>
    [Fact]
    public async Task TwoScansBehindTheAdviceEqualPagesAreMerged()
    {
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: _rules);
        await using LiveProgram first = await Advised(daemon, 200);
        _ = await first.Ask("advise");
        Assert.Equal("sharing 199 private 0", await first.Ask("scans 2"));
        // With scans going on already, and others there.
        await using LiveProgram second = await Advised(daemon, 100, 100);
        _ = await second.Ask("advise");
        Assert.Equal("sharing 200 private 99", await second.Ask("scans 2"));
        await first.Does("verify");
        await second.Does("verify");
    }

    /// <summary>The same for a program that asks for all of its memory, where other pages find twins as well.</summary>
    [Fact]
    public async Task SoTheyAreWhereAWholeProgramAsks()
    {
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: _rules);
        await using LiveProgram program = await Advised(daemon, 200);
        _ = await program.Ask("merge");
        Assert.EndsWith("private 0", await program.Ask("scans 2"), StringComparison.Ordinal);
        await program.Does("verify");
    }

    /// <summary>C.2: whoever reads behind the call sees it done.</summary>
    [Theory]
    [InlineData(512, 510)]
    [InlineData(2048, 2040)]
    public async Task AdviceTakenBackIsHonouredBeforeAFigureIsRead(int pages, int sharing)
    {
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: _rules);
        await using LiveProgram program = await Advised(daemon, pages), other = await Advised(daemon, pages);
        _ = await program.Ask("advise");
        _ = await program.Ask($"until {sharing}");
        string merging = Path.Combine(daemon.RunFolder, "control", "proc", $"{program.Pid}", "ksm_merging_pages");
        Assert.Equal($"{pages}\n", await File.ReadAllTextAsync(merging));
        Assert.Equal($"sharing 0 private {pages}", await program.Ask("unadvise"));
        // Left since, or about to be.
        Assert.Equal("0\n", await File.ReadAllTextAsync(merging));
        await program.Does("verify");
    }

    /// <summary>What is advised still stays merged; and another reader sees it, too.</summary>
    [Fact]
    public async Task WhatIsAdvisedStillStaysMerged()
    {
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: _rules);
        await using LiveProgram program = await Advised(daemon, 200), reader = await Advised(daemon, 1);
        _ = await program.Ask("advise");
        _ = await program.Ask("until 199");
        Assert.Equal("sharing 99 private 100", await program.Ask("unadvise 50 100"));
        Assert.Equal("sharing 99 private 1", await reader.Ask("look"));
        await program.Does("verify");
        // Advised anew it is merged anew.
        _ = await program.Ask("advise");
        Assert.Equal("sharing 199 private 0", await program.Ask("scans 2"));
    }

    /// <summary>A reader is never kept for longer than some seconds, whoever keeps the look: here a program that is stopped.</summary>
    [Fact]
    public async Task AStoppedProgramKeepsNoReader()
    {
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: _rules);
        await using LiveProgram program = await Advised(daemon, 200), reader = await Advised(daemon, 1);
        _ = await program.Ask("advise");
        _ = await program.Ask("until 199");
        await Signal(program, "STOP");
        Assert.Equal("sharing 199 private 1", await reader.Ask("look"));
        await Signal(program, "CONT");
        Assert.Equal("sharing 0 private 200", await program.Ask("unadvise"));
    }

    /// <summary>C.6: what is advised, but only in these.</summary>
    [Fact]
    public async Task WhatIsAdvisedIsTakenInOnlyWhereARuleSaysSo()
    {
        using OpenFolder others = new("advised", "advised-");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: _rules);
        await using LiveProgram program = await Advised(daemon, 200), other = LiveProgram.Start(others.Target, Path.Combine(daemon.RunFolder, "control", "ksm"), "300");
        await other.Ready();
        _ = await other.Ask("advise");
        _ = await program.Ask("advise");
        Assert.Equal("sharing 199 private 0", await program.Ask("scans 2"));
        Assert.Equal("sharing 199 private 300", await other.Ask("look"));
    }

    public void Dispose()
    {
        File.Delete(_rules);
        _own.Dispose();
    }

    private static async Task Signal(LiveProgram program, string signal) => Assert.Equal(0, (await Outside.Run(20, "kill", $"-{signal}", $"{program.Pid}")).ExitCode);

    private async Task<LiveProgram> Advised(DaemonUnderTest daemon, int pages, int contents = 1)
    {
        LiveProgram program = LiveProgram.Start(_own.Target, Path.Combine(daemon.RunFolder, "control", "ksm"), $"{pages}", $"{contents}");
        await program.Ready();
        return program;
    }
}
