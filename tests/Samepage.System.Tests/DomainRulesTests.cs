using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Trust domains as the rules have them: by control group, and named groups of several users. What is compared are the kernel's page frame numbers.</summary>
public sealed class DomainRulesTests
{
    private const uint First = 54341, Second = 54342, Third = 54343;
    private const int Pages = 2000, Most = 1800;
    private const string Quiet = "advised = false\n", ByCgroup = Quiet + "domain = \"cgroup\"\n";

    [Fact]
    public async Task EqualPagesOfTwoControlGroupsAreNeverOnePage()
    {
        using UnifiedGroup a = UnifiedGroup.Make(), b = UnifiedGroup.Make();
        LiveProgram[] four = await LiveProgram.Targets(4, "wall", $"{Pages}");
        await using var together = new Together(four);
        foreach ((int index, LiveProgram program) in four.Index())
            (index < 2 ? a : b).Take(program.Pid);
        string rules = Rules(ByCgroup);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: rules);
        await daemon.TakeInAndWait(four);
        await AllMerged(daemon, four);
        await WallTests.Apart([1, 1, 2, 2], four);
        Assert.Equal([Name(a), Name(a), Name(b), Name(b)], await Domains(daemon, four));

        // Who moves takes nothing with it, and shares where it has come to.
        b.Take(four[1].Pid);
        await Until.True(async () => (await daemon.Status()).Of(four[1].Pid).Domain == Name(b), 30, async () => $"it is of its new domain: {(await daemon.Status()).Of(four[1].Pid)}");
        await WallTests.Apart([1, 2, 2, 2], four);
        await daemon.Merged(four[1], Most);
        await WallTests.Apart([1, 2, 2, 2], four);

        // A child that is moved before it was taken in is of its parent's domain until it is found.
        int child = int.Parse((await four[1].Ask("fork")).Split(' ')[1], CultureInfo.InvariantCulture);
        a.Take(child);
        await Until.True(async () => (await daemon.Status()).Of(child) is { PagesMerged: > 0 } moved && moved.Domain == Name(a), 60,
            async () => $"the child is merged where it is: {(await daemon.Status()).Of(child)}\n{daemon.Tail}");
        Assert.InRange((await Frames(four[1])).Intersect(await Frames(four[1], child)).Count(), 0, Pages / 10); // such as were never merged are fork's

        // Rules read again move everybody at once.
        await Reload(daemon, rules, Quiet);
        Assert.All(await Domains(daemon, four), domain => Assert.Equal(TrustTests.RootsDomain, domain));
        await AllMerged(daemon, four);
        await Until.True(async () => (await Frames(four[0])).Intersect(await Frames(four[3])).Count() > Most, 30, "they share across control groups");
        await Reload(daemon, rules, ByCgroup);
        await WallTests.Apart([1, 2, 2, 2], four);
        await AllMerged(daemon, four[1..]);
        await WallTests.Apart([1, 2, 2, 2], four);
        foreach (LiveProgram program in four)
            await program.Does("verify");
        await daemon.GiveBack(four);
        File.Delete(rules);
    }

    [Fact]
    public async Task ANamedGroupOfTwoUsersSharesAndNobodyElseDoes()
    {
        Needs.Root();
        using var folder = new OpenFolder("wall");
        LiveProgram[] four = [await Start(folder, First), await Start(folder, Second), await Start(folder, Third), await Start(folder, Third)];
        await using var together = new Together(four);
        string pair = $"{Quiet}[[group]]\ndomain = \"pair\"\nuser = {First}\n[[group]]\ndomain = \"pair\"\nuser = {Second}\n", rules = Rules(pair);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: rules);
        await daemon.TakeInAndWait(four);
        await AllMerged(daemon, four);
        Assert.Equal(["group:pair", "group:pair", $"uid:{Third}", $"uid:{Third}"], await Domains(daemon, four));
        Assert.InRange((await Frames(four[0])).Intersect(await Frames(four[1])).Count(), Most, Pages);
        await WallTests.Apart([1, 1, 2, 2], four);

        foreach (LiveProgram program in four)
            await program.Does("verify");

        // The group is no more: whoever was in it has its memory to itself when the answer comes.
        await Reload(daemon, rules, Quiet);
        await WallTests.Apart([1, 2, 3, 3], four);
        Assert.Equal([$"uid:{First}", $"uid:{Second}"], (await Domains(daemon, four))[..2]);
        await Reload(daemon, rules, pair);
        await AllMerged(daemon, four);
        Assert.InRange((await Frames(four[0])).Intersect(await Frames(four[1])).Count(), Most, Pages);
        foreach (LiveProgram program in four)
            await program.Does("verify");
        await daemon.GiveBack(four);
        File.Delete(rules);
    }

    private static string Name(UnifiedGroup group) => $"{TrustTests.RootsDomain} cgroup:{group.Path}";

    private static Task<LiveProgram> Start(OpenFolder folder, uint user) => folder.Start(user, $"{Pages}");

    private static async Task<string[]> Domains(DaemonUnderTest daemon, LiveProgram[] programs)
    {
        WireStatus status = await daemon.Status();
        return [.. programs.Select(program => status.Of(program.Pid).Domain)];
    }

    private static async Task AllMerged(DaemonUnderTest daemon, params LiveProgram[] programs)
    {
        foreach (LiveProgram program in programs)
            await daemon.Merged(program, Most, 60);
    }

    private static async Task Reload(DaemonUnderTest daemon, string path, string text)
    {
        await File.WriteAllTextAsync(path, text);
        Called reloaded = await daemon.Cli("reload");
        Assert.True(reloaded.ExitCode == 0, $"{reloaded}\n{daemon.Tail}");
    }

    private static async Task<ulong[]> Frames(LiveProgram program, int? child = null)
    {
        string[] range = (await program.Ask("address")).Split(' ');
        return [.. ProcessView.Of(child ?? program.Pid).Frames(
            ulong.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture), ulong.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture)).Where(frame => frame != 0)];
    }

    private static string Rules(string text)
    {
        string path = Path.GetTempFileName();
        File.WriteAllText(path, text);
        return path;
    }
}
