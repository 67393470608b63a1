using System.Text.Json;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Where nothing can be merged nobody begins to serve: every way in says what the doctor says, and ends with 3.</summary>
public sealed class UnfitTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("samepage-unfit-");

    /// <summary>What is missing, and how a program is started so that it is.</summary>
    public static TheoryData<string> Lacks => new("sys_ptrace", "sys_admin", "kernel");

    [Theory]
    [MemberData(nameof(Lacks))]
    public async Task ADaemonThatCannotServeEndsAndNeverSaysReady(string lack)
    {
        Called called = await Run(lack, "daemon", "--no-rules");
        Refuses(called, lack);
        Assert.DoesNotContain("ready", called.Output, StringComparison.Ordinal);
        Assert.Empty(_folder.GetFileSystemInfos());
    }

    [Theory]
    [MemberData(nameof(Lacks))]
    public async Task AnAttachWithoutADaemonSaysWhyNoneCanBeStarted(string lack)
    {
        await using LiveProgram program = await LiveProgram.Target("common", "1");
        Refuses(await Run(lack, "attach", $"{program.Pid}"), lack);
        await program.Does("verify");
    }

    [Theory]
    [MemberData(nameof(Lacks))]
    public async Task TheDoctorNamesTheSame(string lack)
    {
        Called called = await Run(lack, "doctor", "--json");
        Assert.True(called.ExitCode == 3, $"{called}");
        using JsonDocument report = JsonDocument.Parse(called.Output);
        Assert.Contains(report.RootElement.GetProperty("checks").EnumerateArray(), check =>
            check.GetProperty("name").GetString() == (lack == "kernel" ? "kernel" : "privileges") && check.GetProperty("verdict").GetString() == "failure");
    }

    /// <summary>Control files are no must: without the device the daemon serves all the same, and the doctor warns.</summary>
    [Fact]
    public async Task WithoutFuseItServesAndTheDoctorWarns()
    {
        string unshare = Needs.Program("unshare", "util-linux");
        // A device of a number that nobody has, in the place of the real one.
        string none = Path.Combine(_folder.FullName, "none");
        await Outside.Must(10, "mknod", none, "c", "511", "511");
        string[] launcher = [unshare, "--mount", "sh", "-c", $"mount --bind '{none}' /dev/fuse || exit 77; exec \"$0\" \"$@\""];
        Called doctor = await Cli.RunAs(null, _folder.FullName, ["doctor", "--json"], launcher: launcher);
        Assert.SkipWhen(doctor.ExitCode == 77, "needs to mount over /dev/fuse");
        using JsonDocument report = JsonDocument.Parse(doctor.Output);
        Assert.Contains(report.RootElement.GetProperty("checks").EnumerateArray(), check => check.GetProperty("name").GetString() == "fuse" && check.GetProperty("verdict").GetString() == "warning");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(launcher: launcher);
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "4");
        await using var together = new Together(two);
        await daemon.Serves(two, 700);
    }

    /// <inheritdoc/>
    public void Dispose() => _folder.Delete(recursive: true);

    private Task<Called> Run(string lack, params string[] arguments)
    {
        Needs.Root();
        return lack == "kernel"
            ? Cli.RunAs(null, _folder.FullName, arguments, environment: new() { ["SAMEPAGE_KERNEL_RELEASE"] = "6.1.192" })
            : Cli.RunAs(null, _folder.FullName, arguments, launcher: [Needs.Program("setpriv", "util-linux"), $"--bounding-set=-{lack}", "--inh-caps=-all"]);
    }

    private static void Refuses(Called called, string lack)
    {
        Assert.True(called.ExitCode == 3, $"{called}");
        string[] named = lack == "kernel" ? ["6.1.192", "linux-image-6.12-amd64"] : [$"CAP_{lack.ToUpperInvariant()}", "run as root"];
        Assert.All(named, word => Assert.Contains(word, called.Errors, StringComparison.Ordinal));
        Assert.Contains("samepage doctor", called.Errors, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", called.Errors, StringComparison.Ordinal);
    }
}
