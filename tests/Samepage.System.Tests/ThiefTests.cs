using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Frames attacked by programs of all credentials short of the daemon's own: none can be written, and none of another domain's be read.</summary>
public sealed class ThiefTests
{
    private const int Pages = 1500, Secrets = 1500, FirstSecret = 5_000_000;
    private static readonly string[] s_container = ["--pid", "--mount-proc", "--ipc", "--uts"];

    public static TheoryData<string, string[], string[]> Credentials => new()
    {
        { "root without capabilities", [], [Thief.NoCapabilities] },
        { "root with Docker's capabilities, in a container", s_container, [Thief.DockersCapabilities] },
        { "root with all capabilities, in a container", s_container, [] },
        { "root with all capabilities, in a pid namespace alone", ["--pid", "--mount-proc"], [] },
        { "root of a user namespace, in a container", [.. s_container, "--user", "--map-root-user"], [] },
        { "a user", [], ["gid=54351", "uid=54351"] },
    };

    [Theory]
    [MemberData(nameof(Credentials))]
    public async Task NobodyWhoIsServedWritesAFrameOrReadsAnotherDomains(string who, string[] namespaces, string[] credentials)
    {
        Needs.Root();
        // Root's own, with all that root has.
        LiveProgram[] victims = await LiveProgram.Targets(2, "wall", $"{Secrets}", $"{FirstSecret}");
        await using var together = new Together(victims);
        await using Thief thief = await Thief.Start(namespaces, Pages, 1, credentials);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        Called taken = await daemon.Cli("attach", $"{victims[0].Pid}", $"{victims[1].Pid}", $"{thief.Pid}");
        Assert.True(taken.ExitCode == 0, $"{taken}\n{daemon.Tail}");
        await daemon.Merged(victims[0], Secrets * 9 / 10, 120);
        await Until.True(async () => (await daemon.Status()).Of(thief.Pid).PagesMerged >= Pages * 9 / 10, 120, async () => $"{(await daemon.Status()).Of(thief.Pid)}\n{daemon.Tail}");

        (int frames, int found) = await thief.Looks($"find {FirstSecret} {Secrets}");
        Assert.True(frames >= Pages * 9 / 10, $"{who}: the attack does not reach its own frames: {frames}");
        Assert.Equal(0, found);
        (int tried, string possible) = await thief.Attacks("write");
        Assert.True(tried >= 40, $"{tried} ways only");
        Assert.Equal("", possible);
        Assert.NotEqual((await daemon.Status()).Of(victims[0].Pid).Domain, (await daemon.Status()).Of(thief.Pid).Domain);

        foreach (LiveProgram victim in victims)
            await victim.Does("verify");
        await thief.Program.Does("verify");
        await daemon.GiveBack(victims);
        foreach (LiveProgram victim in victims)
            await victim.Does("verify");
    }

    /// <summary>The daemon's descriptors write frames, and it is root's like the thief: what stands between them are its capabilities.</summary>
    [Fact]
    public async Task RootWithoutCapabilitiesReachesNeitherTheDaemonNorItsGuardian()
    {
        LiveProgram[] victims = await LiveProgram.Targets(2, "wall", $"{Secrets}", $"{FirstSecret}");
        await using var together = new Together(victims);
        await using LiveProgram powerless = LiveProgram.Start(Needs.Program("setpriv", "util-linux"), "--inh-caps=-all", "--bounding-set=-all", Repository.Target("wall"), "10");
        await powerless.Ready();
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait(victims);
        await daemon.Merged(victims[0], Secrets * 9 / 10);
        string[] children = [.. Directory.GetDirectories($"/proc/{daemon.Pid}/task").SelectMany(task => File.ReadAllText($"{task}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries))];
        Assert.NotEmpty(children);
        foreach (string pid in (string[])[$"{daemon.Pid}", .. children, $"{victims[0].Pid}"])
            Assert.Equal("opened 0 taken 0 written 0 memory no", await powerless.Ask($"reach {pid}"));
    }

    /// <summary>The socket is a file of root's, and so open to every root.</summary>
    [Fact]
    public async Task RootWithoutCapabilitiesSeesNoContents()
    {
        string setpriv = Needs.Program("setpriv", "util-linux");
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "4");
        await using var together = new Together(two);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait(two);
        await daemon.Merged(two[0], 500);
        Called frames = await daemon.Cli("frames");
        Assert.True(frames.ExitCode == 0 && frames.Output.Contains("common", StringComparison.Ordinal), $"{frames}");
        foreach (string[] launcher in (string[][])[[setpriv, "--inh-caps=-all", "--bounding-set=-all"], [Needs.Program("unshare", "util-linux"), "--user", "--map-root-user"]])
        {
            foreach (string what in (string[])["frames", "web"])
            {
                Called refused = await Cli.RunAs(null, daemon.RunFolder, [what], launcher: launcher);
                Assert.True(refused.ExitCode != 0 && !refused.Output.Contains("common", StringComparison.Ordinal), $"{what}: {refused}");
                if (what == "frames")
                    Assert.Contains("CAP_SYS_PTRACE", refused.Errors, StringComparison.Ordinal);
            }

            // What is no content it may know, and do.
            Called status = await Cli.RunAs(null, daemon.RunFolder, ["status"], launcher: launcher);
            Assert.True(status.ExitCode == 0, $"{status}");
        }
    }

    /// <summary>The pipe that keeps huge pages away is held by all agents: whoever could read it dry would have others see zeros.</summary>
    [Theory]
    [InlineData(false, Thief.NoCapabilities)]
    [InlineData(true, "")]
    [InlineData(false, "uid=54352")]
    public async Task WhatGuardsFramesCannotBeRead(bool inUserNamespace, string credentials)
    {
        Needs.Root();
        await using Thief thief = await Thief.Start(inUserNamespace ? [.. s_container, "--user", "--map-root-user"] : [], Pages, 1, credentials);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        Called taken = await daemon.Cli("attach", $"{thief.Pid}");
        Assert.True(taken.ExitCode == 0, $"{taken}\n{daemon.Tail}");
        await Until.True(async () => (await daemon.Status()).Of(thief.Pid).PagesMerged > 0, 60, "it merges with itself");
        (int tried, string possible) = await thief.Attacks("guard");
        Assert.Equal((9, ""), (tried, possible));
    }

    /// <summary>A child shares its parent's frames by fork. That it has become somebody else since gives it nothing more of them.</summary>
    [Fact]
    public async Task AChildThatBecomesAnotherUserReachesNoMoreOfItsParentsFrames()
    {
        Needs.Root();
        await using Thief parent = await Thief.Start([], Pages, 1);
        LiveProgram[] victims = await LiveProgram.Targets(2, "wall", $"{Secrets}", $"{FirstSecret}");
        await using var together = new Together(victims);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait([parent.Program, .. victims]);
        await daemon.Merged(parent.Program, Pages * 9 / 10);
        Assert.True((await parent.Looks($"find {FirstSecret} {Secrets}")).Found > 0, "they share a pool: the child is to be kept from what the parent can read");
        Assert.Equal(0, (await parent.Looks("child 54353")).Found);
        await parent.Program.Does("verify");
    }

    /// <summary>The frames' mount keeps writers out, and nothing else: what a program may do to its own memory it may do to merged memory.</summary>
    [Fact]
    public async Task MergedMemoryCanBecomeCode()
    {
        Needs.Root();
        await using Thief program = await Thief.Start([], Pages, 1);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeIn(program.Program);
        await daemon.Merged(program.Program, Pages * 9 / 10);
        await program.Program.Does("code");
        await program.Program.Does("verify");
    }
}
