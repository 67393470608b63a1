using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>An estimate reads, is exact, and changes nothing. No daemon runs.</summary>
public sealed class EstimateTests
{
    private const int Page = 4096;
    private const ulong Present = 1UL << 63, OfFile = 1UL << 61;

    [Fact]
    public async Task KnownNumbersOfAliveProcessComeOutExactly()
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "2", "run=16", "zeros=50", "same=20");
        await using var together = new Together(two);
        using JsonDocument report = await Estimate([.. two.Select(program => $"{program.Pid}")]);
        JsonElement[] processes = [.. report.RootElement.GetProperty("processes").EnumerateArray()];
        // What is known of the array, and what a plain count of all the memory says.
        Dictionary<string, HashSet<int>> holders = [];
        long zeros = 0, copies = 0, distinct = 0;
        foreach (LiveProgram program in two)
        {
            (long programZeros, Dictionary<string, long> contents) = await AnonymousMemory(program);
            zeros += programZeros;
            copies += contents.Values.Sum();
            distinct += contents.Count;
            foreach (string content in contents.Keys)
                (holders.TryGetValue(content, out HashSet<int>? known) ? known : holders[content] = []).Add(program.Pid);
        }

        JsonElement all = report.RootElement.GetProperty("totals").GetProperty("figures");
        Assert.Equal((zeros, copies - distinct, distinct - holders.Count, holders.Count), (Of(all, "zero"), Of(all, "internal"), Of(all, "in_domain"), Of(all, "unique")));
        Assert.Equal((2 * 50, 2 * 19), (zeros, copies - distinct));
        Assert.InRange(distinct - holders.Count, 2 * 256 * 3 / 4, 2 * 256 * 3 / 4 + 30);
        Assert.Equal(zeros + copies - holders.Count, Of(report.RootElement.GetProperty("totals"), "saved_pages"));
        Assert.All(processes, process => Assert.Equal("", process.GetProperty("obstacle").GetString()));
    }

    [Fact]
    public async Task NothingOfTheTargetChanges()
    {
        Needs.Root();
        await using LiveProgram program = await LiveProgram.Target("common", "8", "huge", "zeros=10");
        ulong[] range = [.. (await program.Ask("address")).Split(' ').Select(address => ulong.Parse(address, NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
        await Until.True(() => ProcessView.Of(program.Pid).ThreadStates == "S", 20, () => "it waits for a command");
        string smaps = Areas(program.Pid), stat = Faults(program.Pid);
        ulong[] frames = ProcessView.Of(program.Pid).Frames(range[0], range[1]);
        using JsonDocument report = await Estimate($"{program.Pid}", "--samples", "2", "--interval", "0");
        Assert.Equal(smaps, Areas(program.Pid));
        Assert.Equal(stat, Faults(program.Pid));
        Assert.Equal("S", ProcessView.Of(program.Pid).ThreadStates);
        Assert.Equal(frames, ProcessView.Of(program.Pid).Frames(range[0], range[1]));
        Assert.True(Of(report.RootElement.GetProperty("totals").GetProperty("figures"), "huge") > 0, "it has no huge page: this shows nothing of them");
        await program.Does("verify");
    }

    /// <summary>The daemon splits huge pages where their program asked for merging, and there only.</summary>
    [Fact]
    public async Task HugePagesOfWhoAskedForMergingAreReachedAndOthersAreNot()
    {
        Needs.Root();
        Assert.SkipWhen(File.ReadAllText("/sys/kernel/mm/transparent_hugepage/enabled").Contains("[never]", StringComparison.Ordinal), "this machine gives no huge pages");
        foreach ((string advice, long common) in ((string, long)[])[("guest", 8 * 256 * 3 / 4), ("huge", 0)])
        {
            LiveProgram[] two = await LiveProgram.Targets(2, "common", "8", advice);
            await using var together = new Together(two);
            using JsonDocument report = await Estimate([.. two.Select(program => $"{program.Pid}")]);
            JsonElement all = report.RootElement.GetProperty("totals").GetProperty("figures");
            Assert.True(Of(all, advice == "guest" ? "huge_reached" : "huge") >= 2 * 2 * 512, $"{advice}: {all}");
            Assert.Equal(0, Of(all, advice == "guest" ? "huge" : "huge_reached"));
            // The C library's own memory is in no huge page, and common to both as well.
            Assert.InRange(Of(all, "in_domain"), common, common + 30);
        }
    }

    [Fact]
    public async Task WithoutRootItReadsOnesOwnAndSaysWhatCannotBeTold()
    {
        Needs.Root();
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName;
        try
        {
            File.SetUnixFileMode(folder, (UnixFileMode)0x1ff);
            await using LiveProgram theirs = await LiveProgram.Target("common", "1");
            await using LiveProgram own = LiveProgram.Start("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", Repository.Target("common"), "1", "same=9");
            await own.Ready();
            Called called = await Cli.RunAs(1234, folder, ["estimate", "--json", $"{own.Pid}"]);
            Assert.True(called.ExitCode == 0, $"{called}");
            using JsonDocument report = JsonDocument.Parse(called.Output);
            Assert.Equal(8, Of(report.RootElement.GetProperty("totals").GetProperty("figures"), "internal"));
            Called refused = await Cli.RunAs(1234, folder, ["estimate", $"{theirs.Pid}"]);
            Assert.True(refused.ExitCode == 3 && refused.Errors.Contains("EACCES", StringComparison.Ordinal), $"{refused}");
            Called mixed = await Cli.RunAs(1234, folder, ["estimate", "--json", "--all"]);
            Assert.True(mixed.ExitCode == 0 && mixed.Errors.Contains("or as root", StringComparison.Ordinal), $"{mixed}");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Theory]
    [InlineData(2, "estimate")]
    [InlineData(2, "estimate", "--all", "--sample", "64")]
    [InlineData(2, "estimate", "--all", "--samples", "0")]
    [InlineData(2, "estimate", "--all", "--clones", "1")]
    [InlineData(1, "estimate", "--name", "no-program-of-that-name")]
    [InlineData(1, "estimate", "2")] // a kernel thread
    public async Task WhatMakesNoSenseOrIsNotThereIsSaid(int exitCode, params string[] arguments)
    {
        Called called = await Cli.Run("/nonexistent", arguments);
        Assert.True(called.ExitCode == exitCode && called.Errors.Length > 0 && called.Output.Length == 0, $"{called}");
    }

    private static async Task<JsonDocument> Estimate(params string[] arguments)
    {
        Called called = await Cli.Run("/nonexistent", ["estimate", "--json", .. arguments]);
        Assert.True(called.ExitCode == 0, $"{called}");
        return JsonDocument.Parse(called.Output);
    }

    private static long Of(JsonElement element, string figure) => element.GetProperty(figure).GetInt64();

    /// <summary>All that smaps says, but for what other processes change by mapping the same files, and for Referenced: a frame that was read has been referenced.</summary>
    private static string Areas(int pid) => string.Join('\n', File.ReadLines($"/proc/{pid}/smaps").Where(line =>
        !line.StartsWith("Referenced:", StringComparison.Ordinal) && !line.StartsWith("Pss", StringComparison.Ordinal) && !line.Contains("_Clean:", StringComparison.Ordinal)));

    /// <summary>Minor and major faults of the process.</summary>
    private static string Faults(int pid)
    {
        string[] fields = File.ReadAllText($"/proc/{pid}/stat").Split(' ');
        return $"{fields[9]} {fields[11]}";
    }

    /// <summary>A count of its own: every present page of plain private memory, by SHA-256.</summary>
    private static async Task<(long Zeros, Dictionary<string, long> Contents)> AnonymousMemory(LiveProgram program)
    {
        long zeros = 0;
        Dictionary<string, long> contents = [];
        using FileStream memory = new($"/proc/{program.Pid}/mem", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 0);
        using FileStream pagemap = new($"/proc/{program.Pid}/pagemap", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 0);
        byte[] page = new byte[Page], word = new byte[8];
        foreach (string line in ProcessView.Of(program.Pid).Maps)
        {
            string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (fields[1] != "rw-p" || fields[4] != "0" || (fields.Length > 5 && fields[5] != "[heap]"))
                continue;
            string[] range = fields[0].Split('-');
            for (ulong at = Convert.ToUInt64(range[0], 16); at < Convert.ToUInt64(range[1], 16); at += Page)
            {
                await RandomAccess.ReadAsync(pagemap.SafeFileHandle, word, (long)(at / Page * 8));
                if ((BinaryPrimitives.ReadUInt64LittleEndian(word) & (Present | OfFile)) != Present)
                    continue;
                await RandomAccess.ReadAsync(memory.SafeFileHandle, page, (long)at);
                if (page.AsSpan().ContainsAnyExcept((byte)0))
                    contents[Convert.ToHexString(SHA256.HashData(page))] = contents.GetValueOrDefault(Convert.ToHexString(SHA256.HashData(page))) + 1;
                else
                    zeros++;
            }
        }

        return (zeros, contents);
    }
}
