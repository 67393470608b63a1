using System.Globalization;
using System.Text.RegularExpressions;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Programs that do to their memory all that a program may do, while it is being merged, and check every byte.</summary>
public sealed partial class StormTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private const int StormSeconds = 8;

    /// <summary>No thread of a program should be held for a second. A machine that is busy with other things may do worse, so only gross excess fails.</summary>
    private const long StallMicrosecondsGross = 10_000_000;

    /// <summary>Fewer would not show that the storm met merged pages. Memory just forked is shared with the child: less of it can be merged.</summary>
    private static long MergedAtLeast(string operation) => operation is "fork" ? 500 : 2000;

    [Theory]
    [InlineData("write")]
    [InlineData("dontneed")]
    [InlineData("mprotect")]
    [InlineData("remap")]
    [InlineData("fixed")]
    [InlineData("fork")]
    public async Task D4_MemoryThatChangesWhileItIsMergedIsAlwaysRight(string operation)
    {
        await Daemon.MergesWithoutRest();
        // For so long at least, and until enough of it was met by merging: a crowded machine takes longer for that.
        LiveProgram[] two = await Storms(operation, 0);
        await using var together = new Together(two);
        DateTime end = DateTime.UtcNow.AddSeconds(StormSeconds);
        await Daemon.TakeIn(two);
        await Daemon.Merged(two[0], MergedAtLeast(operation));
        for (; DateTime.UtcNow < end; await Task.Delay(50))
            await Daemon.Status();
        foreach (LiveProgram storm in two)
        {
            storm.CloseInput();
            await Found(storm, "done");
        }
    }

    [Theory]
    [InlineData("all")]
    [InlineData("siege")]
    public async Task A5_GivingBackAndTakingInAgainInTheMiddleOfAStormHarmsNothing(string operation)
    {
        await Daemon.MergesWithoutRest();
        LiveProgram[] two = await Storms(operation, 0);
        await using var together = new Together(two);
        for (int round = 0; round < 2; round++)
        {
            await Daemon.TakeIn(two);
            await Daemon.Merged(two[0], 200);
            foreach (LiveProgram storm in new[] { two[round % 2], two[1 - (round % 2)] })
            {
                await GivenBackInTheEnd(Daemon, storm);
                await Report(storm);
            }

            await Report(two[0]);
            await Report(two[1]);
        }

        foreach (LiveProgram storm in two)
        {
            storm.CloseInput();
            await Found(storm, "done");
        }
    }

    /// <summary>A program that forks all the time may have to be asked again: its children of this moment share its frames.</summary>
    internal static async Task GivenBackInTheEnd(DaemonUnderTest daemon, LiveProgram storm)
    {
        Called called = new(1, "", "");
        // While it is looked back at, it gives its memory other advice, and that is told of too.
        await Until.True(async () => (called = await daemon.Cli("detach", $"{storm.Pid}")).ExitCode == 0 || called.Errors.Contains("was given back, and is right", StringComparison.Ordinal), 180, () => Task.FromResult($"{called}\n{daemon.Tail}"));
    }

    internal static async Task<LiveProgram[]> Storms(string operation, int seconds) =>
        [await LiveProgram.Target("storm", operation, $"{seconds}", "3", "1"), await LiveProgram.Target("storm", operation, $"{seconds}", "3", "2")];

    /// <summary>Two of the worst, with files for direct I/O where the file system has it.</summary>
    internal static async Task<LiveProgram[]> Sieges(string folder, int firstSeed = 1)
    {
        LiveProgram[] two = [.. Enumerable.Range(firstSeed, 2).Select(seed => LiveProgram.StartIn("/", new Dictionary<string, string> { ["STORM_FILE"] = Path.Combine(folder, $"direct-{seed}") },
            Repository.Target("storm"), "siege", "0", "3", $"{seed}"))];
        foreach (LiveProgram siege in two)
            await siege.Ready();
        return two;
    }

    /// <summary>Asks a running storm what it has found so far: nothing may be wrong.</summary>
    /// <returns>What <see cref="Found"/> does.</returns>
    internal static async Task<long> Report(LiveProgram storm)
    {
        await storm.Tell("report");
        return await Found(storm, "so far");
    }

    /// <summary>Asks a storm that was kept from running, by the test: how long its threads had to wait says nothing then.</summary>
    internal static async Task IsRight(LiveProgram storm, int seconds)
    {
        await storm.Tell("report");
        string line = await storm.NextLine(seconds);
        Assert.True(line.Contains(" bad 0 ", StringComparison.Ordinal) && line.Contains(" intruded 0 ", StringComparison.Ordinal), $"{storm.Name}: {line}\n{storm.Errors}");
    }

    /// <returns>The longest time for which a thread of it was not let run since it began, microseconds.</returns>
    internal static async Task<long> Found(LiveProgram storm, string head)
    {
        string line = await storm.NextLine(60);
        Match found = Counts().Match(line);
        Assert.True(line.StartsWith(head, StringComparison.Ordinal) && found.Success, $"{storm.Name}: {line}");
        Assert.True(found.Groups["bad"].Value == "0", $"{storm.Name}: {line}\n{storm.Errors}");
        Assert.True(found.Groups["intruded"].Value == "0", $"{storm.Name}: something was mapped where the program had just unmapped: {line}");
        Assert.NotEqual("0", found.Groups["ops"].Value);
        long stall = long.Parse(found.Groups["stall"].ValueSpan, CultureInfo.InvariantCulture);
        Assert.True(stall < StallMicrosecondsGross, $"{storm.Name}: a thread was not let run for long: {line}");
        TestContext.Current.SendDiagnosticMessage("{0}: {1}", storm.Name, line);
        return stall;
    }

    [GeneratedRegex("ops (?<ops>\\d+) bad (?<bad>\\d+) refused (?<refused>\\d+) intruded (?<intruded>\\d+) stall (?<stall>\\d+)")]
    private static partial Regex Counts();
}
