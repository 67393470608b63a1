using System.Globalization;
using System.Text.RegularExpressions;

namespace Samepage.SystemTests.Harness;

/// <summary>The target that tries to write frames, and to read others', who it is told to be and in namespaces of its own if wanted.</summary>
/// <param name="Program">What is asked: the target itself, or what made its namespaces.</param>
/// <param name="Pid">The target.</param>
internal sealed partial record Thief(LiveProgram Program, int Pid) : IAsyncDisposable
{
    /// <summary>Nothing at all.</summary>
    public const string NoCapabilities = "caps=0";

    /// <summary>What Docker leaves a container's root by default.</summary>
    public const string DockersCapabilities = "caps=a80425fb";

    /// <summary>Starts one, and returns when its memory is filled.</summary>
    /// <param name="namespaces">What unshare(1) is told, such as <c>--pid --mount-proc</c>; empty for none of its own.</param>
    /// <param name="pages">Pages of each half.</param>
    /// <param name="first">The content of the first.</param>
    /// <param name="who">Who it is to be.</param>
    public static async Task<Thief> Start(string[] namespaces, int pages, int first, params string[] who)
    {
        string[] arguments = [Repository.Target("thief"), $"{pages}", $"{first}", .. who];
        LiveProgram program = namespaces.Length == 0 ? LiveProgram.Start(arguments[0], arguments[1..])
            : LiveProgram.Start(Needs.Program("unshare", "util-linux"), [.. namespaces, "--fork", "--kill-child", .. arguments]);
        await program.Ready(120);
        return new Thief(program, namespaces.Length == 0 ? program.Pid
            : int.Parse((await File.ReadAllTextAsync($"/proc/{program.Pid}/task/{program.Pid}/children")).Split(' ')[0], CultureInfo.InvariantCulture));
    }

    /// <summary>Attacks by one of its commands.</summary>
    /// <returns>Ways that were tried, and what was possible.</returns>
    public async Task<(int Tried, string Possible)> Attacks(string command)
    {
        string answer = await Program.Ask(command);
        Match told = Attacked().Match(answer);
        Assert.True(told.Success, $"{command}: {answer}: {Program.Errors}");
        return (Number(told.Groups["tried"]), told.Groups["names"].Value);
    }

    /// <summary>Looks for pages of somebody else.</summary>
    /// <returns>Frames that it could read, and those pages among them.</returns>
    public async Task<(int Frames, int Found)> Looks(string command)
    {
        string answer = await Program.Ask(command, 120);
        Match told = Looked().Match(answer);
        Assert.True(told.Success, $"{command}: {answer}: {Program.Errors}");
        return (Number(told.Groups["frames"]), Number(told.Groups["found"]));
    }

    /// <summary>The kernel's numbers of the page frames behind its memory.</summary>
    public async Task<HashSet<ulong>> Frames()
    {
        string[] range = (await Program.Ask("address")).Split(' ');
        HashSet<ulong> frames = [.. ProcessView.Of(Pid).Frames(ulong.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture), ulong.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
        frames.Remove(0);
        return frames;
    }

    public ValueTask DisposeAsync() => Program.DisposeAsync();

    private static int Number(Group group) => int.Parse(group.ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture);

    [GeneratedRegex("^tried (?<tried>\\d+) possible \\d+: ?(?<names>.*)$")]
    private static partial Regex Attacked();

    [GeneratedRegex("^frames (?<frames>\\d+) found (?<found>\\d+)$")]
    private static partial Regex Looked();
}
