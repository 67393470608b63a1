using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using Microsoft.Win32.SafeHandles;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>The control directory of a running daemon, as programs use it that were written for the kernel's.</summary>
public sealed partial class ControlDirectoryTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private static readonly Dictionary<int, string> Names = new() { [22] = "EINVAL", [34] = "ERANGE", [16] = "EBUSY" };

    private string Folder => Path.Combine(Daemon.RunFolder, "control", "ksm");

    /// <summary>What the kernel's files answered to 32 texts each, asked of ours through the mount.</summary>
    [Fact]
    public void G9_TheMountedFilesAnswerAsTheKernelsDid()
    {
        string file = "", value = "";
        List<string> wrong = [];
        int answers = 0;
        foreach (string line in File.ReadLines(Path.Combine(Repository.Root, "tests", "Samepage.Engine.Tests", "Data", "control-probe.txt")))
        {
            if (Header().Match(line) is { Success: true } header)
            {
                (file, value) = (header.Groups["name"].Value, Regex.Unescape(header.Groups["value"].Value));
                var mode = (UnixFileMode)Convert.ToInt32(header.Groups["mode"].Value, 8);
                Assert.Equal((mode, 4096), (File.GetUnixFileMode(PathOf(file)), new FileInfo(PathOf(file)).Length));
                if (!mode.HasFlag(UnixFileMode.UserWrite))
                    Assert.Throws<UnauthorizedAccessException>(() => File.OpenWrite(PathOf(file)));
            }
            else if (Answer().Match(line) is { Success: true } answer)
            {
                Assert.Equal("ok", Write(file, file == "advisor_mode" ? "none" : value));
                string outcome = Write(file, Regex.Unescape(answer.Groups["text"].Value)), after = Read(file);
                if (outcome != answer.Groups["outcome"].Value || (after != Regex.Unescape(answer.Groups["after"].Value)))
                    wrong.Add($"{file} {line.Trim()}: {outcome}, {after.Trim()}");
                answers++;
            }
        }

        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
        Assert.Equal(13 * 32, answers);
        PutBack();
    }

    [Fact]
    public async Task G1_E3_RunStopsUnmergesAndMergesAgainWhileTheWriteWaits()
    {
        PutBack();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "16");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        long sharing = Number("pages_sharing");
        Assert.InRange(sharing, 3072, 3400);

        // Stopped: what is merged stays, and so do the counters, whatever the programs do.
        Assert.Equal("ok", Write("run", "0"));
        long scans = Number("full_scans"), scanned = Number("pages_scanned");
        await two[0].Does("poke");
        await Task.Delay(1500);
        Assert.Equal((scans, scanned, sharing), (Number("full_scans"), Number("pages_scanned"), Number("pages_sharing")));
        Assert.Equal("ok", Write("run", "1"));
        await Until.True(() => Number("pages_sharing") < sharing / 2, 20, () => $"the writes are noticed once it scans: {Read("pages_sharing")}");
        await two[0].Does("again");
        await Until.True(() => Number("pages_sharing") >= 3072, 30, () => $"merged again: {Read("pages_sharing")}");

        // Unmerged: when the write returns it is so.
        Assert.Equal("ok", Write("run", "2"));
        foreach (string counter in (string[])["pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "ksm_zero_pages", "stable_node_chains", "stable_node_dups", "general_profit", "full_scans"])
            Assert.Equal((counter, "0\n"), (counter, Read(counter)));
        foreach (LiveProgram program in two)
        {
            // What the agent shares with the daemon is there still.
            Assert.InRange(ProcessView.Of(program.Pid).PssShmemBytes, 0, 64 << 10);
            Assert.Equal("merging", (await Daemon.Status()).Of(program.Pid).State);
            await program.Does("verify");
        }

        Assert.Equal(("ok", "ok"), (Write("max_page_sharing", "2"), Write("run", "1")));
        await Until.True(() => Number("pages_sharing") >= 3072, 30, () => $"merged a third time: {Read("pages_sharing")}");
        Assert.Equal(("EBUSY", "ok", "EBUSY"), (Write("max_page_sharing", "256"), Write("max_page_sharing", "2"), Write("merge_across_nodes", "0")));
        foreach (LiveProgram program in two)
            await program.Does("verify");
        await Daemon.GiveBack(two);
        PutBack();
    }

    /// <summary>Its pages are given back while its own thread waits in the write that asks for it.</summary>
    [Fact]
    public async Task E3_AProgramMayUnmergeItself()
    {
        PutBack();
        string python = Needs.Program("python3", "python3");
        const string script = """
            import os, sys
            data = bytearray(b"".join(bytes([i % 251 + 1]) * 4096 for i in range(2048)) * 2)
            before = bytes(data[::4096])
            print("ready", flush=True)
            for line in sys.stdin:
                run = os.open(sys.argv[1] + "/run", os.O_WRONLY)
                os.write(run, line.encode())
                os.close(run)
                print("ok" if data[::4096] == before else "bad", open(sys.argv[1] + "/pages_sharing").read().strip(), flush=True)
            """;
        await using LiveProgram program = LiveProgram.Start(python, "-c", script, Folder);
        await program.Ready();
        await Daemon.TakeInAndWait(program);
        for (int round = 0; round < 3; round++)
        {
            await Until.True(() => Number("pages_sharing") > 3000, 30, () => $"its pages are merged: {Read("pages_sharing")}");
            Assert.Equal("ok 0", await program.Ask("2"));
            Assert.StartsWith("ok", await program.Ask("1"), StringComparison.Ordinal);
        }

        await Daemon.GiveBack(program);
        PutBack();
    }

    [Fact]
    public async Task AReaderWithoutPrivilegesReadsAndMayNotWrite()
    {
        File.SetUnixFileMode(Daemon.RunFolder, (UnixFileMode)0b111_101_101);
        Called read = await ShellAs(65534, $"cat {Folder}/run; ls {Folder} | wc -l >&2");
        Assert.Equal((0, "1"), (read.ExitCode, read.Output.Trim()));
        Assert.Contains("Permission denied", (await ShellAs(65534, $"echo 0 > {Folder}/run")).Errors, StringComparison.Ordinal);
        Assert.Equal("1\n", Read("run"));
    }

    /// <summary>Debian's exporter, unchanged, in a mount namespace of its own.</summary>
    [Fact]
    public async Task NodeExporterShowsTheFiguresOfTheStatus()
    {
        PutBack();
        string exporter = Needs.Program("prometheus-node-exporter", "prometheus-node-exporter");
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "16", "zeros=100");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        Assert.Equal("ok", Write("run", "0"));
        int port = Outside.FreePort();
        var environment = new Dictionary<string, string> { ["SAMEPAGE_RUN_DIR"] = Daemon.RunFolder };
        await using (LiveProgram scraped = LiveProgram.StartIn("/", environment, Repository.Program[0], [.. Repository.Program[1..], "control", "--bind", "--",
            exporter, "--collector.disable-defaults", "--collector.ksmd", $"--web.listen-address=127.0.0.1:{port}"]))
        {
            string metrics = await Outside.Get($"http://127.0.0.1:{port}/metrics", scraped);
            WireStatus status = await Daemon.Status();
            Assert.Equal(
                (status.PagesShared, status.PagesSharing, status.PagesUnshared, status.PagesVolatile, status.FullScans, status.Run),
                (Metric(metrics, "pages_shared"), Metric(metrics, "pages_sharing"), Metric(metrics, "pages_unshared"), Metric(metrics, "pages_volatile"), Metric(metrics, "full_scans_total"), Metric(metrics, "run")));
            Assert.InRange(status.PagesSharing, 3000, 3400);
            Assert.Equal(262_144, Metric(metrics, "pages_to_scan"));
            Assert.Equal(1, Regex.Count(metrics, "^node_scrape_collector_success{collector=\"ksmd\"} 1", RegexOptions.Multiline));
        }

        // Nobody else saw it.
        Assert.DoesNotContain("fuse.samepage", File.ReadAllLines("/proc/self/mountinfo").Where(line => line.Contains(" /sys/kernel/mm/ksm ", StringComparison.Ordinal)));
        await Daemon.GiveBack(two);
        PutBack();
    }

    [Fact]
    public async Task ACommandFindsTheFiguresOfProcessesWhereTheKernelHasThem()
    {
        PutBack();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        Called called = await Daemon.Cli("control", "--bind", "--proc", "--", "sh", "-c",
            $"cat /proc/{two[0].Pid}/ksm_merging_pages; grep ksm_merging_pages /proc/{two[1].Pid}/ksm_stat; cat /sys/kernel/mm/ksm/pages_shared; exit 7");
        WireStatus status = await Daemon.Status();
        Assert.Equal((7, $"{status.Of(two[0].Pid).PagesMerged}\nksm_merging_pages {status.Of(two[1].Pid).PagesMerged}\n{status.PagesShared}\n"), (called.ExitCode, called.Output));
        Assert.Equal("0\n", File.ReadAllText($"/proc/{two[0].Pid}/ksm_merging_pages"));
        await Daemon.GiveBack(two);
    }

    /// <summary>What lies over the kernel's files, or is open, says that nothing is merged when the process has been left, and is no error.</summary>
    [Fact]
    public async Task TheFilesOfAProcessThatWasLeftGoOn()
    {
        PutBack();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        using StreamReader open = new(Path.Combine(Daemon.RunFolder, "control", "proc", $"{two[0].Pid}", "ksm_merging_pages"));
        // Its mounts are its own, and the daemon gives back what it covers meanwhile.
        Task<Called> called = Daemon.Cli("control", "--bind", "--proc", "--", "sh", "-c", $"cat /proc/{two[0].Pid}/ksm_merging_pages; {string.Join(' ', Repository.Program)} detach {two[0].Pid} && cat /proc/{two[0].Pid}/ksm_merging_pages && grep merging /proc/{two[0].Pid}/ksm_stat");
        Called done = await called;
        string[] lines = done.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.True(done.ExitCode == 0 && long.Parse(lines[0], CultureInfo.InvariantCulture) > 1500, $"{done}");
        Assert.Equal(["0", "ksm_merging_pages 0"], lines[^2..]);
        Assert.Equal("0\n", await open.ReadToEndAsync());
        await Daemon.GiveBack(two[1]);
    }

    [Fact]
    public async Task TheFilesCanBeShownElsewhereAndBadUseChangesNothing()
    {
        string place = Directory.CreateTempSubdirectory("samepage-test-").FullName;
        Called mounted = await Daemon.Cli("control", "--mount", place);
        Assert.True(mounted.ExitCode == 0, $"{mounted}");
        Assert.Equal("1\n", File.ReadAllText(Path.Combine(place, "run")));
        Assert.Equal(2, (await Daemon.Cli("control", "--mount", place)).ExitCode);
        Called itself = await Daemon.Cli("control", "--mount", Folder);
        Assert.Equal(2, itself.ExitCode);
        Assert.Contains("the control directory itself", itself.Errors, StringComparison.Ordinal);
        Assert.Equal(0, (await Daemon.Cli("control", "--unmount", place)).ExitCode);
        Assert.Empty(Directory.GetFiles(place));
        Assert.Equal(2, (await Daemon.Cli("control", "--unmount", place)).ExitCode);
        Assert.Equal(2, (await Daemon.Cli("control", "--mount", Path.Combine(place, "none"))).ExitCode);
        Assert.Equal(2, (await Daemon.Cli("control", "--proc")).ExitCode);
        Called shown = await Daemon.Cli("control", "--json");
        Assert.Contains("\"advisor_mode\": \"[none] scan-time\"", shown.Output, StringComparison.Ordinal);
        Directory.Delete(place);
    }

    private static Task<Called> ShellAs(int user, string script) => Outside.Run(20, "setpriv", $"--reuid={user}", $"--regid={user}", "--clear-groups", "sh", "-c", script);

    private static long Metric(string metrics, string name)
    {
        Match match = Regex.Match(metrics, $"^node_ksmd_{name} (.+)$", RegexOptions.Multiline);
        Assert.True(match.Success, $"no {name} in {metrics}");
        return (long)double.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture);
    }

    /// <summary>The values that a daemon begins with.</summary>
    private void PutBack()
    {
        Assert.Equal("ok", Write("advisor_mode", "none"));
        Assert.Equal("ok", Write("run", "2"));
        foreach ((string file, string value) in ((string, string)[])[("sleep_millisecs", "20"), ("max_page_sharing", "256"), ("merge_across_nodes", "1"), ("use_zero_pages", "1"), ("pages_to_scan", "262144"), ("run", "1")])
            Assert.Equal((file, "ok"), (file, Write(file, value)));
    }

    private string PathOf(string file) => Path.Combine(Folder, file);

    private string Read(string file) => File.ReadAllText(PathOf(file));

    private long Number(string file) => long.Parse(Read(file), CultureInfo.InvariantCulture);

    private string Write(string file, string text)
    {
        using SafeFileHandle handle = File.OpenHandle(PathOf(file), FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        try
        {
            RandomAccess.Write(handle, Encoding.Latin1.GetBytes(text), 0);
            return "ok";
        }
        catch (IOException refused)
        {
            return Names.GetValueOrDefault(refused.HResult, $"{refused.HResult}: {refused.Message}");
        }
    }

    [GeneratedRegex(@"^(?<name>\w+)  mode=(?<mode>\d+) size=4096 value=b'(?<value>.*)'$")]
    private static partial Regex Header();

    [GeneratedRegex(@"^   b'(?<text>.*?)' +-> (?<outcome>\w+) +reads b'(?<after>.*)'$")]
    private static partial Regex Answer();
}
