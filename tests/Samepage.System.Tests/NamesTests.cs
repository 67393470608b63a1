using System.Globalization;
using System.Text;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Names are a hostile program's to choose. What of them a terminal would obey is spelled out wherever text leaves us, and a line stays a line.</summary>
public sealed class NamesTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    /// <summary>What a terminal would obey of the target's name: its title set, the screen cleared; and the end of a line.</summary>
    private static readonly string[] Obeyed = ["\e]", "\a", "\e[2J", "\r\ufffd"];

    [Fact]
    public async Task NoCommandPrintsANameThatATerminalWouldObey()
    {
        await using LiveProgram one = await LiveProgram.Target("names");
        await using LiveProgram other = await LiveProgram.Target("names");
        await using LiveProgram refused = await LiveProgram.Target("seccomp");
        string folder = Directory.CreateDirectory(Path.Combine(Daemon.RunFolder, "\e[2J\a\n")).FullName;
        string image = Path.Combine(folder, "\e]0;pwn\a.mem"), rules = Path.Combine(folder, "rules.toml"), pid = $"{one.Pid}";
        await File.WriteAllBytesAsync(image, new byte[8192]);
        await File.WriteAllTextAsync(rules, "\"\\u001b]0;pwn\\u0007\" = 1\n");
        (string Command, string[] Arguments, string Mentions)[] all =
        [
            ("attach --wait", ["attach", "--wait", pid, $"{other.Pid}", $"{refused.Pid}"], "\\x1b"),
            ("status", ["status"], "\\x1b"),
            ("status PID", ["status", pid], "\\x1b"),
            ("status --areas", ["status", pid, "--areas"], "\\x1b"),
            ("top", ["top", "--count", "1"], "\\x1b"),
            ("pages", ["pages", pid], "\\x1b"),
            ("frames", ["frames"], "\\x1b"),
            ("estimate", ["estimate", pid, $"{other.Pid}"], "\\x1b"),
            ("estimate --image", ["estimate", "--image", image], "\\x1b"),
            ("estimate --image of nothing", ["estimate", "--image", image + "\e[2J"], "\\x1b"),
            ("doctor", ["doctor"], ""),
            ("daemon --config", ["daemon", "--config", rules], "\\x1b"),
            ("an unknown word", ["status", "\e]0;pwn\a"], "\\x1b"),
            ("control --mount", ["control", "--mount", "/nonexistent/\e]0;pwn\a"], "\\x1b"),
            ("reload", ["reload"], ""),
            ("recover", ["recover"], ""),
            ("detach", ["detach", pid, $"{other.Pid}", $"{refused.Pid}"], ""),
        ];
        foreach ((string command, string[] arguments, string mentions) in all)
        {
            Called called = await Daemon.Cli(arguments);
            string said = called.Output + called.Errors;
            Assert.True(said.All(letter => letter == '\n' || IsPlain(letter)), $"{command} in a pipe: {Spelled(said)}");
            Assert.True(said.Contains(mentions, StringComparison.Ordinal), $"{command} names nothing, so this shows nothing: {Spelled(said)}");
        }

        Assert.True(Daemon.Log.All(letter => letter is '\n' || IsPlain(letter)), $"the log: {Spelled(Daemon.Log)}");
        Assert.Contains("\\x1b", Daemon.Log, StringComparison.Ordinal);
        Assert.All(Daemon.Log.Split('\n'), line => Assert.Matches(@"^\d\d:\d\d:\d\d\.\d\d\d ", line));
        await one.Does("verify");
    }

    /// <summary>The same on a terminal, where escapes of our own draw tables and colours.</summary>
    [Fact]
    public async Task NorOnATerminal()
    {
        string script = Needs.Program("script", "bsdutils");
        await using LiveProgram one = await LiveProgram.Target("names");
        await using LiveProgram other = await LiveProgram.Target("names");
        await Daemon.TakeInAndWait(one, other);
        string[] commands = ["status", $"status {one.Pid} --areas", "top --count 1", $"pages {one.Pid}", "frames", $"estimate {one.Pid}", $"attach --wait {one.Pid}"];
        foreach (string command in commands)
        {
            string line = $"stty cols 250; SAMEPAGE_RUN_DIR={Daemon.RunFolder} TERM=xterm {string.Join(' ', Repository.Program)} {command}";
            Called called = await Outside.Run(120, script, "-qec", line, "/dev/null");
            Assert.True(called.ExitCode == 0, $"{command}: {called}");
            Assert.True(called.Output.Contains("x1b", StringComparison.Ordinal), $"{command} names nothing, so this shows nothing: {Spelled(called.Output)}");
            Assert.All(Obeyed, obeyed => Assert.False(called.Output.Contains(obeyed, StringComparison.Ordinal), $"{command} on a terminal: {Spelled(called.Output)}"));
        }

        await Daemon.GiveBack(one, other);
    }

    /// <summary>JSON has escapes of its own, and says what the name is.</summary>
    [Fact]
    public async Task JsonSaysWhatTheNameIs()
    {
        await using LiveProgram one = await LiveProgram.Target("names");
        await Daemon.TakeIn(one);
        Called called = await Daemon.Cli("status", "--json");
        Assert.True(called.Output.All(letter => letter is '\n' or (>= ' ' and <= '~')), Spelled(called.Output));
        using var status = System.Text.Json.JsonDocument.Parse(called.Output);
        Assert.Contains(status.RootElement.GetProperty("processes").EnumerateArray(), process => process.GetProperty("name").GetString()!.StartsWith("\e]0;pwn\a\e[2J", StringComparison.Ordinal));
        await Daemon.GiveBack(one);
    }

    private static bool IsPlain(char letter) => char.GetUnicodeCategory(letter) is not (UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator);

    private static string Spelled(string text)
    {
        StringBuilder shown = new();
        foreach (char letter in text)
            shown.Append(letter == '\n' || IsPlain(letter) ? letter.ToString() : $"<{(int)letter:x2}>");
        return shown.ToString();
    }
}
