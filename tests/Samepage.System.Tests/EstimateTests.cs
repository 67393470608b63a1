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

    /// <summary>A page that is there when it is listed, and gone when it is read, with a userfaultfd that nobody answers: the reading is given up, and says so.</summary>
    [Fact]
    public async Task AProgramThatKeepsItsReaderWaitingIsLeftOutAndNamed()
    {
        Needs.Root();
        await using LiveProgram other = await LiveProgram.Target("common", "1");
        await using LiveProgram baited = await LiveProgram.Target("baited");
        Called called = new(0, "", "");
        // It has to come just in between; on a crowded machine that may take it longer than a thousand readings.
        await Until.True(async () => (called = await Cli.Run("/nonexistent", "estimate", $"{baited.Pid}", $"{other.Pid}", "--samples", "1000", "--interval", "0")).ExitCode != 0, 300, () => Task.FromResult($"a reader is caught: {called}"));
        Assert.True(called.ExitCode == 1 && called.Errors.Contains($"process {baited.Pid} (baited) is left out", StringComparison.Ordinal), $"{called}");
        Assert.Contains($"{other.Pid}  common", called.Output, StringComparison.Ordinal);
        Assert.Equal("caught", await baited.NextLine());
    }

    /// <summary>What a kernel before 6.7 lets be read says the same: forced here, on programs with pages of every kind, of which one asked for huge pages.</summary>
    [Fact]
    public async Task WithoutTheScanOfNewerKernelsTheFiguresAreTheSame()
    {
        Needs.Root();
        LiveProgram[] programs =
        [
            .. await LiveProgram.Targets(2, "common", "8", "zeros=50", "same=20"), await LiveProgram.Target("common", "8", "huge"), await LiveProgram.Target("common", "8", "guest"),
            await LiveProgram.Target("forker"),
        ];
        await using var together = new Together(programs);
        // Its child's pages are everybody's.
        string child = await programs[^1].Ask("fork");
        foreach (LiveProgram program in programs)
            await Until.True(() => ProcessView.Of(program.Pid).ThreadStates.All(state => state == 'S'), 60, () => $"{program.Name} waits for a command");
        string[] pids = [.. programs.Select(program => $"{program.Pid}"), child];
        using JsonDocument scanned = await Estimate(pids);
        Called called = await Cli.RunAs(null, "/nonexistent", ["estimate", "--json", .. pids], environment: new() { ["SAMEPAGE_PAGEMAP"] = "words" });
        Assert.True(called.ExitCode == 0, $"{called}");
        using JsonDocument words = JsonDocument.Parse(called.Output);
        Assert.True(Of(scanned.RootElement.GetProperty("totals").GetProperty("figures"), "resident") > 4 * 2048, "nothing was read");
        foreach (string part in (string[])["totals", "processes", "kinds", "domains"])
            Assert.Equal(scanned.RootElement.GetProperty(part).GetRawText(), words.RootElement.GetProperty(part).GetRawText());
    }

    /// <summary>A program whose file lies where nobody answers: its file is not opened, by the estimate or by the daemon.</summary>
    [Fact]
    public async Task TheFileOfAProgramIsNotOpened()
    {
        Needs.Root();
        Assert.SkipUnless(File.Exists("/dev/fuse"), "needs /dev/fuse");
        await using LiveProgram stale = await LiveProgram.Target("stale", Repository.Target("common-static"), "1");
        Assert.Equal("/mnt/common-static", (await Outside.Run(10, "readlink", $"/proc/{stale.Pid}/exe")).Output.Trim());
        using JsonDocument report = await Estimate($"{stale.Pid}");
        Assert.True(Of(report.RootElement.GetProperty("totals").GetProperty("figures"), "resident") >= 256, "nothing was read");
        await using (DaemonUnderTest daemon = await DaemonUnderTest.Start())
        {
            await daemon.TakeIn(stale);
            await daemon.GiveBack(stale);
        }

        await stale.Does("verify");
        Assert.DoesNotContain("opened again", stale.Errors, StringComparison.Ordinal);
    }

    /// <summary>Images that say more of themselves than they hold: holes, and segments over each other; and what is no file at all.</summary>
    [Fact]
    public async Task WhatAnImageSaysOfItselfCostsNothing()
    {
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName;
        try
        {
            string sparse = Path.Combine(folder, "sparse.mem"), overlapping = Path.Combine(folder, "overlapping.elf"), fifo = Path.Combine(folder, "fifo");
            await Outside.Must(10, "truncate", "-s", "10T", sparse);
            using (FileStream file = new(sparse, FileMode.Open, FileAccess.Write))
            {
                file.Position = 1L << 42;
                file.Write(Enumerable.Repeat((byte)7, 2 * Page).ToArray());
            }

            WriteOverlapping(overlapping, segments: 60_000, bytes: 1L << 30);
            await Outside.Must(10, "mkfifo", fifo);
            using JsonDocument report = await Estimate("--image", sparse, "--image", overlapping);
            JsonElement all = report.RootElement.GetProperty("totals").GetProperty("figures");
            Assert.Equal((10L << 40) / Page + ((1L << 30) / Page), Of(all, "resident"));
            // The two pages that were written, and the headers.
            Assert.Equal(Of(all, "resident") - 2 - 821, Of(all, "zero"));
            Assert.InRange(report.RootElement.GetProperty("effort").GetProperty("bytes_read").GetInt64(), 2 * Page, 64 << 20);
            foreach (string none in (string[])[fifo, folder, "/dev/zero"])
            {
                Called refused = await Cli.Run("/nonexistent", "estimate", "--image", none);
                Assert.True(refused.ExitCode == 1 && refused.Errors.Contains("no file", StringComparison.Ordinal), $"{refused}");
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>A core dump whose loadable segments all are the same bytes: the whole of a sparse file.</summary>
    private static void WriteOverlapping(string path, int segments, long bytes)
    {
        byte[] head = new byte[64 + 56 * segments];
        "\u007fELF"u8.CopyTo(head);
        (head[4], head[5], head[16]) = (2, 1, 4);
        BinaryPrimitives.WriteInt64LittleEndian(head.AsSpan(32), 64);
        BinaryPrimitives.WriteUInt16LittleEndian(head.AsSpan(56), (ushort)segments);
        for (int i = 0; i < segments; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(head.AsSpan(64 + 56 * i), 1);
            BinaryPrimitives.WriteInt64LittleEndian(head.AsSpan(64 + 56 * i + 32), bytes);
        }

        using FileStream file = File.Create(path);
        file.Write(head);
        file.SetLength(bytes);
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
