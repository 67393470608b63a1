using System.Text.Json;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>The command line: exit codes, and what programs read of it.</summary>
public sealed class CliTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    [Theory]
    [InlineData("attach")]
    [InlineData("attach", "shoe")]
    [InlineData("attach", "-1")]
    [InlineData("attach", "0")]
    [InlineData("detach")]
    [InlineData("detach", "1", "--all")]
    [InlineData("status", "--jsno")]
    [InlineData("recover", "--timeout", "-1")]
    [InlineData("recover", "--timeout", "soon")]
    [InlineData("nonsense")]
    public async Task BadUseExitsWith2AndSaysWhatIsWrong(params string[] arguments)
    {
        Called called = await Daemon.Cli(arguments);
        Assert.True(called.ExitCode == 2 && called.Errors.Length > 0, $"{called}");
    }

    [Theory]
    [InlineData("--help", "attach")]
    [InlineData("attach --help", "--wait")]
    [InlineData("detach --help", "--all")]
    [InlineData("status --help", "--json")]
    [InlineData("doctor --help", "--json")]
    [InlineData("daemon --help", "SAMEPAGE_RUN_DIR")]
    [InlineData("recover --help", "--timeout")]
    public async Task HelpTellsWhatThereIs(string arguments, string mentioned)
    {
        Called called = await Daemon.Cli(arguments.Split(' '));
        Assert.True(called.ExitCode == 0 && called.Output.Contains(mentioned, StringComparison.Ordinal), $"{called}");
    }

    [Fact]
    public async Task StatusInJsonHasTheNamesThatWerePromised()
    {
        await using LiveProgram program = await LiveProgram.Target("common", "1");
        await Daemon.TakeIn(program);
        Called called = await Daemon.Cli("status", "--json");
        Assert.True(called.ExitCode == 0, $"{called}");
        using var status = JsonDocument.Parse(called.Output);
        Has(status.RootElement, "run", "full_scans", "pages_scanned", "pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "zero_pages", "page_size", "profit_bytes", "daemon", "domains", "processes");
        Has(status.RootElement.GetProperty("daemon"), "pid", "rss_bytes", "metadata_bytes");
        Has(status.RootElement.GetProperty("domains")[0], "name", "frames", "pages_sharing");
        JsonElement process = status.RootElement.GetProperty("processes").EnumerateArray().Single(one => one.GetProperty("pid").GetInt32() == program.Pid);
        Has(process, "pid", "name", "domain", "state", "reason", "pages_tracked", "pages_merged", "zero_pages", "profit_bytes");
        Assert.Equal("common", process.GetProperty("name").GetString());
        Assert.Equal(Daemon.Pid, status.RootElement.GetProperty("daemon").GetProperty("pid").GetInt32());
        await Daemon.GiveBack(program);
    }

    [Fact]
    public async Task AttachInJsonTellsWhatBecameOfEachProcess()
    {
        await using LiveProgram program = await LiveProgram.Target("common", "1");
        Called called = await Daemon.Cli("attach", "--json", $"{program.Pid}");
        Assert.True(called.ExitCode == 0, $"{called}");
        using var reply = JsonDocument.Parse(called.Output);
        JsonElement outcome = reply.RootElement.GetProperty("processes")[0];
        Assert.Equal(program.Pid, outcome.GetProperty("pid").GetInt32());
        Assert.True(outcome.GetProperty("done").GetBoolean());
        await Daemon.GiveBack(program);
    }

    [Fact]
    public async Task DoctorLooksAtTheKernelAndAtOurPrivileges()
    {
        Called called = await Daemon.Cli("doctor", "--json");
        using var report = JsonDocument.Parse(called.Output);
        Has(report.RootElement, "verdict", "checks");
        Assert.True(called.ExitCode == (report.RootElement.GetProperty("verdict").GetString() == "failure" ? 3 : 0), $"{called}");
        foreach (JsonElement check in report.RootElement.GetProperty("checks").EnumerateArray())
        {
            Has(check, "name", "verdict", "found", "remedy");
            Assert.Contains(check.GetProperty("verdict").GetString(), new[] { "ok", "warning", "failure" });
            Assert.True(check.GetProperty("verdict").GetString() == "ok" || check.GetProperty("remedy").GetString()?.Length > 0, $"a remedy for {check}");
        }
    }

    [Fact]
    public async Task WithoutADaemonItSaysHowToStartOne()
    {
        DirectoryInfo empty = Directory.CreateTempSubdirectory("samepage-nobody-");
        try
        {
            Called called = await Cli.Run(empty.FullName, "status");
            Assert.True(called.ExitCode == 1 && called.Errors.Contains("samepage daemon", StringComparison.Ordinal), $"{called}");
        }
        finally
        {
            empty.Delete(recursive: true);
        }
    }

    [Fact]
    public async Task ASecondDaemonInTheSamePlaceIsRefused()
    {
        Called called = await Daemon.Cli("daemon");
        Assert.True(called.ExitCode == 1, $"{called}");
        Assert.Equal(1, (await Daemon.Status()).Run);
    }

    [Fact]
    public async Task RecoveringWhereADaemonServesIsRefused()
    {
        Called called = await Daemon.Cli("recover");
        Assert.True(called.ExitCode == 1 && called.Errors.Contains("serves", StringComparison.Ordinal), $"{called}");
        Assert.Equal(1, (await Daemon.Status()).Run);
    }

    private static void Has(JsonElement element, params string[] names)
    {
        foreach (string name in names)
            Assert.True(element.TryGetProperty(name, out _), $"no {name} in {element}");
    }
}
