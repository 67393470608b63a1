using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Memory that its program cannot write, or cannot touch, is merged; a thread that tries all the time is never let through, whoever dies.</summary>
public sealed partial class ProtectionTests
{
    private const int MiB = 8, Pages = MiB * 256;

    [Theory]
    [InlineData("readonly")]
    [InlineData("noaccess")]
    [InlineData("code")]
    public async Task ProtectedMemoryIsMergedAndNobodyIsLetThrough(string kind)
    {
        Needs.Root();
        LiveProgram[] three = await LiveProgram.Targets(3, "barrier", kind, $"{MiB}");
        await using var together = new Together(three);
        string[] shape = await Shape(three[0]);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait(three);
        foreach (LiveProgram program in three)
            await daemon.Merged(program, Pages);
        Assert.InRange((await daemon.Status()).PagesSharing, 2 * Pages, 4 * Pages);
        foreach (LiveProgram program in three)
            await Holds(program);
        await three[0].Does("change");
        await Holds(three[1]);
        await daemon.MergesWithoutRest();
        await daemon.Merged(three[0], Pages);
        await daemon.GiveBack(three);
        Assert.Equal(shape, await Shape(three[0]));
        foreach (LiveProgram program in three)
            await Holds(program);
    }

    /// <summary>Some of their pages are all zero: those become the kernel's zero page, behind the same protection.</summary>
    [Fact]
    public async Task ZerosOfProtectedMemoryAreGivenToTheZeroPage()
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "barrier", "readonly", $"{MiB}", "zeros");
        await using var together = new Together(two);
        string[] shape = await Shape(two[0]);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait(two);
        await daemon.Merged(two[0], Pages * 3 / 4);
        // What is not touched after it was thrown away is not there at all.
        await Until.True(async () => (await daemon.Status()).Of(two[0].Pid) is { } of && of.PagesTracked - of.ZeroPages < (Pages * 3 / 4) + 200, 120, async () => $"{(await daemon.Status()).Of(two[0].Pid)}");
        foreach (LiveProgram program in two)
            await Holds(program);
        await daemon.GiveBack(two);
        Assert.Equal(shape, await Shape(two[0]));
        await Holds(two[0]);
    }

    /// <summary>Its code could not be made writable for a moment: that is refused with nothing done, tried no more for a while, and said.</summary>
    [Fact]
    public async Task CodeOfAProgramThatForbidsItselfMoreOfItIsLeftAlone()
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "barrier", "code", $"{MiB}", "mdwe");
        await using var together = new Together(two);
        string[] shape = await Shape(two[0]);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait(two);
        await Until.True(async () => (await daemon.Status()).Of(two[0].Pid).Reason.Contains("EACCES", StringComparison.Ordinal), 120, async () => $"{(await daemon.Status()).Of(two[0].Pid)}");
        Assert.InRange((await daemon.Status()).Of(two[0].Pid).PagesMerged, 0, 100);
        foreach (LiveProgram program in two)
            await Holds(program);
        await daemon.GiveBack(two);
        Assert.Equal(shape, await Shape(two[0]));
    }

    [Theory]
    [InlineData("readonly")]
    [InlineData("noaccess")]
    [InlineData("code")]
    public async Task KilledWhileItHoldsTheyStayProtectedAndAreGivenBack(string kind)
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "barrier", kind, "32");
        await using var together = new Together(two);
        string[] shape = await Shape(two[0]);
        Trace before = Trace.Of(two[0]);
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName;
        for (int round = 0; round < 3; round++)
        {
            await using DaemonUnderTest doomed = await DaemonUnderTest.Start(folder, keep: true);
            await doomed.Kill9WhileItHolds(two);
            foreach (LiveProgram program in two)
                await Holds(program);
        }

        await before.GoneAfterDeath(180);
        Assert.Equal(shape, await Shape(two[0]));
        foreach (LiveProgram program in two)
            await Holds(program);
        DaemonUnderTest.Remove(folder);
    }

    /// <summary>What the estimate says of such memory is what the daemon does.</summary>
    [Theory]
    [InlineData("kinds", "plain", true)]
    [InlineData("kinds", "dontfork", true)]
    [InlineData("kinds", "readonly", true)]
    [InlineData("kinds", "noaccess", true)]
    [InlineData("kinds", "code", true)]
    [InlineData("kinds", "executable", false)]
    [InlineData("kinds", "dontdump", false)]
    [InlineData("kinds", "wipe", false)]
    public async Task TheEstimateSaysWhatTheDaemonDoes(string target, string kind, bool merged)
    {
        Needs.Root();
        await using LiveProgram one = LiveProgram.Start(Repository.Target(target), kind), other = LiveProgram.Start(Repository.Target(target), kind);
        await one.NextLine();
        await other.NextLine();
        Called called = await Cli.Run("/nonexistent", "estimate", "--json", $"{one.Pid}", $"{other.Pid}");
        Assert.True(called.ExitCode == 0, $"{called}");
        using JsonDocument report = JsonDocument.Parse(called.Output);
        long saved = report.RootElement.GetProperty("totals").GetProperty("saved_pages").GetInt64();
        // Half of 1,024 pages are common.
        Assert.InRange(saved, merged ? 512 : 0, merged ? 640 : 128);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait(one, other);
        Assert.InRange((await daemon.Status()).Of(one.Pid).PagesMerged, merged ? 512 : 0, merged ? 640 : 128);
        await one.Does(merged ? "fork" : "verify");
        await daemon.GiveBack(one, other);
        await one.Does(merged ? "fork" : "verify");
        await one.Does("verify");
    }

    /// <summary>It is all right, kept out is who tries, and so is a child of it.</summary>
    private static async Task Holds(LiveProgram program)
    {
        await program.Does("verify");
        await program.Does("child");
        await Until.True(async () => Count().Match(await program.Ask("tries")) is { Success: true } said && long.Parse(said.Groups[1].Value, CultureInfo.InvariantCulture) > 0, 60, () => Task.FromResult("it tries"));
        Assert.Matches("^tries [0-9]+ through 0 wrong 0$", await program.Ask("tries"));
    }

    private static async Task<string[]> Shape(LiveProgram program)
    {
        ulong[] range = [.. (await program.Ask("address")).Split(' ').Select(text => ulong.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
        return [.. ProcessView.Of(program.Pid).Within(range[0], range[1], range[0]), .. ((string[])["VmData", "VmExe", "VmLib"]).Select(field => $"{field} {ProcessView.Of(program.Pid).Status(field)}")];
    }

    [GeneratedRegex("^tries ([0-9]+) ")]
    private static partial Regex Count();
}
