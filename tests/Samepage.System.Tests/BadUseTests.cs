using System.Diagnostics;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Whatever a user does wrong: a status that is documented, a sentence, no stack trace, and an end.</summary>
public sealed class BadUseTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("samepage-bad-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>Every option that takes a path, with everything that is no such file.</summary>
    [Fact]
    public async Task NoPathBringsAStackTraceOrAWait()
    {
        string fifo = Path.Combine(_folder, "fifo"), dangling = Path.Combine(_folder, "dangling"), file = Path.Combine(_folder, "file"), empty = Path.Combine(_folder, "empty");
        await Outside.Must(10, "mkfifo", fifo);
        File.CreateSymbolicLink(dangling, Path.Combine(_folder, "not", "there"));
        await File.WriteAllTextAsync(file, "not what is wanted\n");
        await File.WriteAllTextAsync(empty, "");
        string[] bad = [fifo, dangling, _folder, Path.Combine(file, "below"), "/dev/null/x", "/proc/self/nothing", "", new string('x', 300), "/" + string.Concat(Enumerable.Repeat("y/", 3000)), "\ud800"];
        string self = $"{Environment.ProcessId}";
        List<(string[] Arguments, int[] Exits)> uses = [];
        foreach (string path in bad)
        {
            uses.Add((["estimate", "--image", path], [1, 2]));
            uses.Add((["estimate", self, "--html", path], [2]));
            uses.Add((["estimate", self, "--parquet", path, "--fleet-key", file], [2]));
            uses.Add((["estimate", self, "--parquet", Path.Combine(_folder, "out.parquet"), "--fleet-key", path], [2]));
            uses.Add((["fleet", path], [1, 2]));
            uses.Add((["control", "--unmount", path], [2]));
            uses.Add((["control", "--mount", path], [1, 2]));
        }

        uses.Add((["fleet", file], [1]));
        uses.Add((["fleet", empty], [1]));
        uses.Add((["estimate", "--image", "/dev/zero"], [1]));
        uses.Add((["daemon", "--config", ""], [2]));
        uses.Add((["daemon", "--config", fifo], [2]));
        uses.Add((["daemon", "--config", file], [2]));
        await AllEnd(uses);
    }

    [Fact]
    public async Task NoNumberOrWordBringsAStackTrace()
    {
        string[] numbers = ["-1", "0", "99999999999999999999", "0x10", "1e3", "٣", "", " 1", "\e[2J", "NaN", "\ufffd"];
        List<(string[] Arguments, int[] Exits)> uses = [([], [2]), (["\e]0;x\a"], [2]), (["--"], [2]), (["@file"], [2])];
        foreach (string number in numbers)
        {
            foreach (string[] command in (string[][])[["attach"], ["detach"], ["status"], ["pages"], ["recover", "--timeout"], ["top", "--interval"], ["top", "--count"], ["frames", "--top"], ["pages", "1", "--cells"], ["pages", "1", "--range"],
                ["attach", "1", "--wait", "--timeout"], ["estimate", "1", "--samples"], ["estimate", "1", "--threads"], ["estimate", "1", "--clones"], ["estimate", "1", "--sample"], ["daemon", "--metrics-port"], ["daemon", "--web-port"],
                ["simulate", "--processes"], ["fleet", "x", "--memory"], ["top", "--sort"], ["completion"]])
            {
                // Recovering takes any number of seconds from 0 on, blanks before it or not; and "no" file is nobody's fault.
                if (!(command[0] == "recover" && int.TryParse(number, out int seconds) && seconds is >= 0 and <= 3600))
                    uses.Add(([.. command, number], [2]));
            }
        }

        uses.Add((["estimate", "1", "--interval", "-1"], [2]));
        uses.Add((["attach", "1", "--timeout", "5"], [2]));
        uses.Add((["estimate", "--user", "nobody\e[2J"], [2]));
        uses.Add((["control", "--bind", "--mount", "/x"], [2]));
        await AllEnd(uses);
    }

    /// <summary>Output that is closed, full, or read no more; and a directory that is gone.</summary>
    [Theory]
    [InlineData("status >&-", 1)]
    [InlineData("doctor >&-", 1)]
    [InlineData("--help >&-", 1)]
    [InlineData("manual > /dev/full", 1)]
    [InlineData("status --json > /dev/full", 1)]
    [InlineData("status 2>&- >&- <&-", 1)]
    [InlineData("attach 0 2>&-", 2)]
    [InlineData("manual <&-", 0)]
    [InlineData("estimate --image relative.mem", 1)]
    public async Task OutputThatTakesNothingIsSaid(string command, int exit)
    {
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        string gone = Directory.CreateDirectory(Path.Combine(_folder, "gone")).FullName;
        Called called = await Outside.Run(120, "bash", "-c", $"cd {gone}; rmdir {gone}; export SAMEPAGE_RUN_DIR={daemon.RunFolder}; {string.Join(' ', Repository.Program)} {command}");
        Assert.True(called.ExitCode == exit && !IsTrace(called), $"{called}");
    }

    /// <summary>A reader that has seen enough ends us, as the signal ends others: what the shell tells is 141.</summary>
    [Theory]
    [InlineData("top --interval 0.1", "head -1")]
    [InlineData("top --interval 3600", "head -1")]
    [InlineData("top --json --interval 0.1", "head -1")]
    [InlineData("manual", "true")]
    [InlineData("status", "true")]
    public async Task AReaderThatHasSeenEnoughEndsUs(string command, string reader)
    {
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        Called called = await Outside.Run(120, "bash", "-c", $"export SAMEPAGE_RUN_DIR={daemon.RunFolder}; (sleep 1; exec {string.Join(' ', Repository.Program)} {command}) | {reader}; echo ${{PIPESTATUS[0]}}");
        Assert.True(called.Output.TrimEnd().EndsWith("141", StringComparison.Ordinal) && called.Errors.Length == 0, $"{called}");
    }

    /// <summary>A daemon that was started with nothing open serves all the same, and nothing of its own is taken for its output.</summary>
    [Theory]
    [InlineData(">&-")]
    [InlineData(">&- 2>&- <&-")]
    [InlineData("> /dev/full 2> /dev/full")]
    [InlineData("| true")]
    public async Task ADaemonThatCannotSayReadyServes(string with)
    {
        Needs.Root();
        string run = Path.Combine(_folder, "run"), pidFile = Path.Combine(_folder, "pid");
        await using LiveProgram program = await LiveProgram.Target("common", "1");
        ProcessStartInfo start = new("bash", ["-c", $"export SAMEPAGE_RUN_DIR={run}; (echo $BASHPID > {pidFile}; exec {string.Join(' ', Repository.Program)} daemon --no-rules) {with} & "]) { WorkingDirectory = "/" };
        using Process shell = Process.Start(start)!;
        await shell.WaitForExitAsync();
        await Until.True(async () => (await Cli.Run(run, "attach", $"{program.Pid}")).ExitCode == 0, 120, "it takes a program in");
        Assert.Equal(0, (await Cli.Run(run, "detach", "--all")).ExitCode);
        await program.Does("verify");
        string pid = (await File.ReadAllTextAsync(pidFile)).Trim();
        await Outside.Must(10, "kill", "-TERM", pid);
        await Until.True(() => !Directory.Exists($"/proc/{pid}"), 120, () => "the daemon ends");
    }

    private async Task AllEnd(List<(string[] Arguments, int[] Exits)> uses)
    {
        string run = Path.Combine(_folder, "nobody");
        await Parallel.ForEachAsync(uses, new ParallelOptions { MaxDegreeOfParallelism = 2 }, async (use, _) =>
        {
            Called called = await Cli.Run(run, use.Arguments);
            string what = string.Join(' ', use.Arguments.Select(word => word.Length > 80 ? word[..80] + "…" : word));
            Assert.True(use.Exits.Contains(called.ExitCode) && called.Errors.Length > 0 && !IsTrace(called), $"samepage {what}: {called}");
        });
    }

    private static bool IsTrace(Called called) =>
        (called.Output + called.Errors) is var said && (said.Contains("   at ", StringComparison.Ordinal) || said.Contains("Unhandled exception", StringComparison.Ordinal) || said.Contains("error in samepage itself", StringComparison.Ordinal));
}
