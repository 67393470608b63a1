using System.Globalization;
using System.Text.Json;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Who gains: figures by process, area and domain, the picture of an address space, the most shared contents.</summary>
public sealed class ObservationTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private static readonly string[] Summed = ["pages_tracked", "pages_merged", "zero_pages"];

    [Fact]
    public async Task SumsOfAreasProcessesAndDomainsAreTheTotals()
    {
        LiveProgram[] three = await LiveProgram.Targets(3, "common", "4", "zeros=64");
        await using var together = new Together(three);
        await Daemon.TakeInAndWait(three);
        await Daemon.Merged(three[0], 700);

        // Between two looks at the status that are alike, the areas were looked at in the same state.
        JsonElement status = default;
        JsonElement[] areas = [];
        await Until.True(
            async () =>
            {
                JsonElement before = await Json("status", "--json");
                areas = [.. (await Json(["status", "--areas", "--json", .. three.Select(program => $"{program.Pid}")])).GetProperty("processes").EnumerateArray()];
                status = await Json("status", "--json");
                return before.GetProperty("processes").GetRawText() == status.GetProperty("processes").GetRawText();
            },
            30,
            () => Task.FromResult($"two equal looks at the status: {status}"));

        JsonElement[] processes = [.. status.GetProperty("processes").EnumerateArray()];
        foreach (JsonElement one in areas)
        {
            JsonElement process = processes.Single(process => Number(process, "pid") == Number(one, "pid")), total = one.GetProperty("total");
            foreach (string figure in (string[])[.. Summed, "pages_unshared", "pages_volatile", "pages_broken"])
            {
                Assert.Equal(Number(process, figure), Sum(one.GetProperty("areas"), figure));
                Assert.Equal(Number(process, figure), Number(total, figure));
            }

            Assert.Equal(Number(process, "profit_bytes"), Sum(one.GetProperty("areas"), "profit_bytes") - Number(one, "agent_bytes"));
            Assert.Equal(Number(process, "profit_bytes"), Number(total, "profit_bytes"));
            Assert.Equal(Number(total, "pages_tracked"), Sum(one.GetProperty("areas"), "pages_merged") + Sum(one.GetProperty("areas"), "zero_pages") + Sum(one.GetProperty("areas"), "pages_unshared")
                + Sum(one.GetProperty("areas"), "pages_volatile") + Sum(one.GetProperty("areas"), "pages_broken") + Sum(one.GetProperty("areas"), "pages_other"));
        }

        foreach (JsonElement domain in status.GetProperty("domains").EnumerateArray())
        {
            JsonElement[] theirs = [.. processes.Where(process => process.GetProperty("domain").GetString() == domain.GetProperty("name").GetString())];
            foreach (string figure in (string[])[.. Summed, "profit_bytes"])
                Assert.Equal(theirs.Sum(process => Number(process, figure)), Number(domain, figure));
            Assert.Equal(Number(domain, "pages_merged"), Number(domain, "frames") + Number(domain, "pages_sharing"));
            Assert.True(Number(domain, "cow_breaks") >= theirs.Sum(process => Number(process, "cow_breaks")));
        }

        Assert.Equal(Sum(status.GetProperty("domains"), "pages_sharing"), Number(status, "pages_sharing"));
        Assert.Equal(Sum(status.GetProperty("domains"), "zero_pages"), Number(status, "zero_pages"));
        Assert.Equal(Sum(status.GetProperty("domains"), "profit_bytes") - Number(status.GetProperty("daemon"), "overhead_bytes"), Number(status, "profit_bytes"));
        await Daemon.GiveBack(three);
    }

    [Fact]
    public async Task ThePictureShowsWhatIsMergedAndWhatAWriteHasChanged()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "4", "run=64", "zeros=32");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 768);
        string[] range = (await two[0].Ask("address")).Split(' ');
        JsonElement picture = await Json("pages", $"{two[0].Pid}", "--range", $"{range[0]}-{range[1]}", "--cells", "65536", "--json");
        Assert.Equal(1, Number(picture, "pages_per_cell"));
        // Three runs of four are what the other has as well, the fourth is its own; at the end are zeros.
        string cells = string.Concat(picture.GetProperty("areas").EnumerateArray().Select(area => area.GetProperty("cells").GetString()));
        Assert.Equal(1024 + 32, cells.Length);
        for (int run = 0; run < 16; run++)
            Assert.Equal(new string(run % 4 == 3 ? 'u' : 'M', 64), cells.Substring(run * 64, 64));
        Assert.Equal(new string('0', 32), cells[^32..]);

        long merged = (await Daemon.Status()).Of(two[0].Pid).PagesMerged;
        await two[0].Does("poke");
        await Until.True(
            async () => Number((await Json("status", "--json", $"{two[0].Pid}")).GetProperty("processes")[0], "cow_breaks") >= merged / 2, 30,
            async () => $"breaks of {merged} merged pages: {(await Daemon.Cli("status", $"{two[0].Pid}")).Output}");
        JsonElement after = await Json("pages", $"{two[0].Pid}", "--range", $"{range[0]}-{range[1]}", "--cells", "1024", "--json");
        Assert.DoesNotContain("M", string.Concat(after.GetProperty("areas").EnumerateArray().Select(area => area.GetProperty("cells").GetString())), StringComparison.Ordinal);
        await Daemon.GiveBack(two);
    }

    [Fact]
    public async Task TheMostSharedContentsAreWhatIsInTheMemoryOfThoseWhoMapThem()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "1", "same=40");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[1], 40 + 192);
        JsonElement[] frames = [.. (await Json("frames", "--top", "256", "--json")).GetProperty("frames").EnumerateArray()];
        Assert.Equal(frames.Select(frame => Number(frame, "users")), frames.Select(frame => Number(frame, "users")).OrderDescending());
        foreach (LiveProgram program in two)
        {
            // Each has a content of its own in forty pages, and shares others with its twin.
            JsonElement most = frames.Single(frame => Number(frame, "users") == 40 && Number(frame.GetProperty("processes")[0], "pid") == program.Pid);
            Assert.Equal((1, 40L, 39L * 4096), (most.GetProperty("processes").GetArrayLength(), Number(most.GetProperty("processes")[0], "pages"), Number(most, "saved_bytes")));
        }

        Assert.Contains(frames, frame => Number(frame, "users") == 2 && frame.GetProperty("processes").EnumerateArray().Select(process => (int)Number(process, "pid")).ToHashSet().SetEquals(two.Select(one => one.Pid)));
        foreach (JsonElement frame in frames)
        {
            foreach (JsonElement process in frame.GetProperty("processes").EnumerateArray())
            {
                using FileStream memory = File.OpenRead($"/proc/{Number(process, "pid")}/mem");
                memory.Position = long.Parse(process.GetProperty("first_address").GetString()!, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
                byte[] first = new byte[32];
                memory.ReadExactly(first);
                Assert.Equal(Convert.ToHexStringLower(first), frame.GetProperty("hex").GetString());
            }
        }

        await Daemon.GiveBack(two);
    }

    [Fact]
    public async Task TopDrawsOnATerminalUntilItIsTold()
    {
        string script = Needs.Program("script", "bsdutils");
        await using LiveProgram program = await LiveProgram.Target("common", "1");
        await Daemon.TakeIn(program);
        var environment = new Dictionary<string, string> { ["SAMEPAGE_RUN_DIR"] = Daemon.RunFolder, ["TERM"] = "xterm-256color" };
        await using LiveProgram terminal = LiveProgram.StartIn("/", environment, script, "-qec", $"stty rows 30 cols 140; exec {string.Join(' ', Repository.Program)} top --interval 0.2", "/dev/null");
        string seen = "";
        while (!seen.Contains("common", StringComparison.Ordinal))
            seen += await terminal.NextLine(30);
        await terminal.Tell("nq");
        Assert.Equal(0, await terminal.Ends(30));
        await Daemon.GiveBack(program);
    }

    [Theory]
    [InlineData("top", "--json", "--count", "2", "--interval", "0.1")]
    [InlineData("top", "--count", "2", "--interval", "0.1", "--sort", "breaks")]
    public async Task InAPipeTopPrintsALookAtATime(params string[] arguments)
    {
        Called called = await Daemon.Cli(arguments);
        string[] lines = called.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.True(called.ExitCode == 0 && lines.Length >= 2, $"{called}");
        if (!arguments.Contains("--json"))
            return;
        foreach (string line in lines)
            Assert.Equal(Daemon.Pid, Number(JsonDocument.Parse(line).RootElement.GetProperty("daemon"), "pid"));
    }

    [Theory]
    [InlineData(2, "status", "--areas")]
    [InlineData(2, "pages")]
    [InlineData(2, "pages", "1", "2")]
    [InlineData(2, "pages", "1", "--range", "9-1")]
    [InlineData(2, "pages", "1", "--cells", "0")]
    [InlineData(2, "frames", "--top", "0")]
    [InlineData(2, "frames", "--top", "257")]
    [InlineData(2, "top", "--sort", "beauty")]
    [InlineData(2, "top", "--interval", "0")]
    [InlineData(2, "top", "--count", "none")]
    [InlineData(1, "pages", "1")]
    [InlineData(1, "status", "1", "--areas")]
    [InlineData(1, "status", "1")]
    public async Task WhatMakesNoSenseIsRefused(int exitCode, params string[] arguments)
    {
        Called called = await Daemon.Cli(arguments);
        Assert.True(called.ExitCode == exitCode && called.Errors.Length > 0, $"{called}");
    }

    private async Task<JsonElement> Json(params IEnumerable<string> arguments)
    {
        Called called = await Daemon.Cli(arguments);
        Assert.True(called.ExitCode == 0, $"{called}");
        return JsonDocument.Parse(called.Output).RootElement;
    }

    private static long Number(JsonElement element, string name) => element.GetProperty(name).GetInt64();

    private static long Sum(JsonElement elements, string name) => elements.EnumerateArray().Sum(element => Number(element, name));
}
