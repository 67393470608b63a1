using System.Globalization;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>What a distribution needs: the service manager is told, the unit's limits are enough, completions and manual pages are what the commands are.</summary>
public sealed partial class PackagingTests
{
    private static readonly string Deploy = Path.Combine(Repository.Root, "deploy");

    [Fact]
    public async Task TheServiceManagerIsToldWhenItServesThatItLivesAndWhenItStops()
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("samepage-notify-");
        string path = Path.Combine(folder.FullName, "notify");
        using Socket manager = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
        manager.Bind(new UnixDomainSocketEndPoint(path));
        manager.ReceiveTimeout = 30_000;
        await using (DaemonUnderTest daemon = await DaemonUnderTest.Start(environment: new() { ["NOTIFY_SOCKET"] = path, ["WATCHDOG_USEC"] = "200000" }))
        {
            Assert.Equal("READY=1", Hear());
            for (int i = 0; i < 3; i++)
                Assert.Equal("WATCHDOG=1", Hear());
            Assert.Equal(0, await daemon.Terminate());
            string last;
            do
                last = Hear();
            while (last == "WATCHDOG=1");
            Assert.Equal("STOPPING=1", last);
        }

        folder.Delete(recursive: true);

        string Hear()
        {
            byte[] buffer = new byte[256];
            return Encoding.UTF8.GetString(buffer, 0, manager.Receive(buffer));
        }
    }

    /// <summary>The capabilities of the unit, and nothing but them, let it do all that it does to programs of others.</summary>
    [Fact]
    public async Task TheUnitLeavesTheDaemonWhatItNeeds()
    {
        string setpriv = Needs.Program("setpriv", "util-linux");
        string unit = await File.ReadAllTextAsync(Path.Combine(Deploy, "samepage.service"));
        string[] kept = Capability().Match(unit).Groups[1].Value.Split(' ');
        Assert.Contains("CAP_SYS_PTRACE", kept);
        string bounds = $"-all,{string.Join(',', kept.Select(name => $"+{name[4..].ToLowerInvariant()}"))}";
        DirectoryInfo folder = Directory.CreateTempSubdirectory("samepage-unit-");
        File.SetUnixFileMode(folder.FullName, (UnixFileMode)0b111_101_101);
        string common = Path.Combine(folder.FullName, "common");
        Repository.CopyTarget("common", common);
        await using (DaemonUnderTest daemon = await DaemonUnderTest.Start(launcher: [setpriv, "--no-new-privs", $"--bounding-set={bounds}", "--inh-caps=-all"]))
        {
            string status = await File.ReadAllTextAsync($"/proc/{daemon.Pid}/status");
            // A container may lack some of them.
            Assert.InRange(System.Numerics.BitOperations.PopCount(ulong.Parse(Effective().Match(status).Groups[1].Value, NumberStyles.HexNumber, CultureInfo.InvariantCulture)), 1, kept.Length);
            LiveProgram[] two = [.. Enumerable.Range(0, 2).Select(_ => LiveProgram.Start(setpriv, "--reuid=54323", "--regid=54323", "--clear-groups", common, "4"))];
            await using var together = new Together(two);
            foreach (LiveProgram program in two)
                await program.Ready();
            await daemon.TakeInAndWait(two);
            await daemon.Merged(two[0], 768);
            Assert.True(Directory.Exists(Path.Combine(daemon.RunFolder, "control", "ksm")), daemon.Tail);
            foreach (LiveProgram program in two)
                await program.Does("write");
            await daemon.GiveBack(two);
            Assert.Equal(0, await daemon.Terminate());
        }

        folder.Delete(recursive: true);
    }

    [Fact]
    public async Task SystemdUnderstandsTheUnit()
    {
        string analyze = Needs.Program("systemd-analyze", "systemd");
        DirectoryInfo folder = Directory.CreateTempSubdirectory("samepage-unit-");
        string unit = Path.Combine(folder.FullName, "samepage.service");
        // It looks for the programs and the pages that the unit names.
        await File.WriteAllTextAsync(unit, (await File.ReadAllTextAsync(Path.Combine(Deploy, "samepage.service"))).Replace("/usr/bin/samepage", "/bin/true", StringComparison.Ordinal));
        await using LiveProgram verify = LiveProgram.Start(analyze, "verify", "--man=no", unit);
        Assert.True(await verify.Ends(30) == 0 && !verify.Errors.Contains("samepage.service:", StringComparison.Ordinal), verify.Errors);
        folder.Delete(recursive: true);
    }

    [Fact]
    public async Task BashCompletesCommandsOptionsAndProcesses()
    {
        string script = await Script("bash");
        Assert.Equal(["stat", "status"], await Complete("samepage", "stat"));
        Assert.Contains("--areas", await Complete("samepage", "status", "--a"));
        Assert.Contains($"{Environment.ProcessId}", await Complete("samepage", "attach", $"{Environment.ProcessId}"));
        Assert.Equal(["breaks"], (await Complete("samepage", "top", "--sort", "br"))[1..]);

        async Task<string[]> Complete(params string[] words)
        {
            string typed = string.Join(' ', words.Select(word => $"'{word}'"));
            string[] lines = await Shell("bash", $"{script}\nCOMP_WORDS=({typed}); COMP_CWORD={words.Length - 1}; _samepage; echo '{words[^1]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"");
            return lines;
        }
    }

    [Fact]
    public async Task ZshIsGivenEveryOptionOfACommand()
    {
        string zsh = Needs.Program("zsh", "zsh");
        string script = await Script("zsh");
        // What the completion system would be given.
        string[] said = await Shell(zsh, $"_arguments() {{ print -l -- \"$@\" }}\n_describe() {{ print -l -- $commands }}\nwords=(samepage top ''); CURRENT=3\n{script}\nwords=(samepage ''); CURRENT=2; _samepage");
        Assert.Contains(said, line => line.StartsWith("--sort[", StringComparison.Ordinal) && line.EndsWith(":value:(saved merged tracked breaks hold pid name)", StringComparison.Ordinal));
        Assert.Contains(said, line => line.StartsWith("--interval[", StringComparison.Ordinal));
        Assert.Contains(said, line => line.StartsWith("attach:Take running", StringComparison.Ordinal));
    }

    [Fact]
    public async Task FishCompletesCommandsOptionsAndValues()
    {
        string fish = Needs.Program("fish", "fish");
        string script = await Script("fish");
        Assert.Contains(await Complete("samepage sta"), line => line.StartsWith("status\t", StringComparison.Ordinal));
        Assert.Contains(await Complete("samepage status --a"), line => line.StartsWith("--areas\t", StringComparison.Ordinal));
        Assert.Contains(await Complete("samepage top --sort br"), line => line.Split('\t')[0] == "breaks");

        Task<string[]> Complete(string typed) => Shell(fish, $"{script}\ncomplete -C '{typed}'");
    }

    [Fact]
    public async Task TheManualPagesSayWhatThereIs()
    {
        string man = Needs.Program("man", "man-db");
        Called made = await Cli.Run(Path.GetTempPath(), "manual");
        string first = await Render(made.Output);
        Called help = await Cli.Run(Path.GetTempPath(), "--help");
        string[] commands = [.. Listed().Matches(help.Output[help.Output.IndexOf("Commands:", StringComparison.Ordinal)..].Split("\n\n")[0]).Select(match => match.Groups[1].Value)];
        Assert.Contains("attach", commands);
        Assert.All(commands, command => Assert.Contains($"samepage {command}", first, StringComparison.Ordinal));
        Assert.Contains("--metrics-port", first, StringComparison.Ordinal);

        string daemon = await Render(await File.ReadAllTextAsync(Path.Combine(Deploy, "man", "samepaged.8")));
        Called daemonHelp = await Cli.Run(Path.GetTempPath(), "daemon", "--help");
        Assert.All(OptionName().Matches(daemonHelp.Output).Select(match => match.Value).Distinct().Where(name => name is not ("--help" or "--version")), name => Assert.Contains(name, daemon, StringComparison.Ordinal));
        string rules = await Render(await File.ReadAllTextAsync(Path.Combine(Deploy, "man", "samepage.toml.5")));
        foreach (string key in (string[])["settle_seconds", "advised", "[[include]]", "[[exclude]]", "user", "cgroup", "executable", "name"])
            Assert.Contains(key, rules, StringComparison.Ordinal);

        async Task<string> Render(string page)
        {
            DirectoryInfo folder = Directory.CreateTempSubdirectory("samepage-man-");
            string file = Path.Combine(folder.FullName, "page.1");
            await File.WriteAllTextAsync(file, page);
            await using LiveProgram rendering = LiveProgram.StartIn("/", new Dictionary<string, string> { ["MANWIDTH"] = "120", ["LC_ALL"] = "C.UTF-8", ["MANPAGER"] = "cat", ["MANROFFOPT"] = "-c" },
                "sh", "-c", $"'{man}' --warnings -l '{file}' | sed 's/\\x1b\\[[0-9;]*m//g; s/.\\x08//g' > '{file}.txt'");
            Assert.True(await rendering.Ends(30) == 0 && rendering.Errors.Length == 0, rendering.Errors);
            string text = (await File.ReadAllTextAsync($"{file}.txt")).Replace('‐', '-').Replace('−', '-');
            folder.Delete(recursive: true);
            return text;
        }
    }

    private static async Task<string> Script(string shell)
    {
        Called called = await Cli.Run(Path.GetTempPath(), "completion", shell);
        Assert.True(called.ExitCode == 0, $"{called}");
        return called.Output;
    }

    private static async Task<string[]> Shell(string shell, string text)
    {
        string file = Path.GetTempFileName();
        await File.WriteAllTextAsync(file, text);
        await using LiveProgram run = LiveProgram.Start("sh", "-c", $"HOME=/nonexistent '{shell}' '{file}' > '{file}.out'");
        int exit = await run.Ends(30);
        string[] lines = await File.ReadAllLinesAsync($"{file}.out");
        Assert.True(exit == 0 && run.Errors.Length == 0, $"{exit}: {run.Errors}");
        File.Delete(file);
        File.Delete($"{file}.out");
        return lines;
    }

    [GeneratedRegex("^CapabilityBoundingSet=(.+)$", RegexOptions.Multiline)]
    private static partial Regex Capability();

    [GeneratedRegex(@"^CapEff:\s+(\w+)$", RegexOptions.Multiline)]
    private static partial Regex Effective();

    [GeneratedRegex(@"^  (\w+)", RegexOptions.Multiline)]
    private static partial Regex Listed();

    [GeneratedRegex(@"--[a-z][a-z-]+")]
    private static partial Regex OptionName();
}
