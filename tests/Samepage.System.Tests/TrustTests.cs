using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>A trust domain holds those who may look into each other by the kernel's rule, and one container. What is compared are the kernel's page frame numbers.</summary>
public sealed class TrustTests
{
    private const int Pages = 1000, First = 1;
    private static readonly string[] s_here = [];

    [Fact]
    public async Task RootsOfDifferentCapabilitiesShareNothing()
    {
        Needs.Root();
        await using Thief whole = await Start(), none = await Start(s_here, Thief.NoCapabilities), same = await Start(s_here, Thief.NoCapabilities), some = await Start(s_here, Thief.DockersCapabilities);
        await using DaemonUnderTest daemon = await Merge(whole, none, same, some);
        Assert.Equal([RootsDomain, "uid:0 caps:0", "uid:0 caps:0", $"uid:0 caps:a80425fb"], await Domains(daemon, whole, none, same, some));
        await Apart(whole, none, some);
        await Share(none, same);
    }

    [Fact]
    public async Task ContainersShareNothingEvenUnderOneUser()
    {
        Needs.Root();
        await using Thief outside = await Start(), one = await Start(["--pid", "--mount-proc"]), other = await Start(["--pid", "--mount-proc"]);
        await using DaemonUnderTest daemon = await Merge(outside, one, other);
        Assert.All((await Domains(daemon, one, other)), domain => Assert.Matches("^uid:0 pidns:[0-9]+( caps:[0-9a-f]+)?$", domain));
        await Apart(outside, one, other);
    }

    [Fact]
    public async Task AControlGroupOfAContainerRuntimeIsADomain()
    {
        const string Id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";
        using UnifiedGroup a = UnifiedGroup.Make($"docker-{Id}a.scope"), b = UnifiedGroup.Make($"libpod-{Id}b.scope");
        await using Thief outside = await Start(), one = await Start(), other = await Start();
        a.Take(one.Pid);
        b.Take(other.Pid);
        await using DaemonUnderTest daemon = await Merge(outside, one, other);
        Assert.Equal([RootsDomain, $"{RootsDomain} container:docker-0123456789ab", $"{RootsDomain} container:libpod-0123456789ab"], await Domains(daemon, outside, one, other));
        await Apart(outside, one, other);
    }

    /// <summary>systemd's PrivateTmp and PrivateNetwork make no container.</summary>
    [Fact]
    public async Task MountAndNetworkNamespacesDoNotDivide()
    {
        Needs.Root();
        await using Thief plain = await Start(), mounts = await Start(["--mount"]), network = await Start(["--net"]);
        await using DaemonUnderTest daemon = await Merge(plain, mounts, network);
        Assert.All(await Domains(daemon, plain, mounts, network), domain => Assert.Equal(RootsDomain, domain));
        await Share(plain, mounts);
        await Share(plain, network);
    }

    /// <summary>ptrace(2) wants the group ids to be the same, and does not look at supplementary groups.</summary>
    [Fact]
    public async Task GroupsDivideAsTheKernelHasIt()
    {
        Needs.Root();
        const string User = "uid=54361";
        await using Thief plain = await Start(s_here, User, "gid=54361", "groups=1"), supplementary = await Start(s_here, User, "gid=54361", "groups=2"), group = await Start(s_here, User, "gid=54362", "groups=1");
        await using DaemonUnderTest daemon = await Merge(plain, supplementary, group);
        Assert.Equal(["uid:54361", "uid:54361", "uid:54361 gid:54362"], await Domains(daemon, plain, supplementary, group));
        await Share(plain, supplementary);
        await Apart(plain, group);
    }

    /// <summary>Nobody may look into it, whatever his group: the kernel wants all three to be the reader's.</summary>
    [Fact]
    public async Task WhoHasMixedGroupsIsLeftAlone()
    {
        Needs.Root();
        await using Thief mixed = await Start(s_here, "gid=54361", "saved=54362", "uid=54361");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        Called called = await daemon.Cli("attach", $"{mixed.Pid}");
        Assert.True(called.ExitCode == 1 && called.ToString().Contains("mixed credentials", StringComparison.Ordinal), $"{called}\n{daemon.Tail}");
    }

    [Theory]
    [InlineData("drop 0")]
    [InlineData("group 54363")]
    public async Task WhoChangesItsCapabilitiesOrGroupIsGivenBack(string change)
    {
        Needs.Root();
        await using Thief one = await Start(), other = await Start();
        await using DaemonUnderTest daemon = await Merge(one, other);
        await Share(one, other);
        await one.Program.Does(change);
        await Until.True(async () => (await daemon.Status()).Of(one.Pid) is { State: "skipped" } left && left.Reason.Contains("capabilities", StringComparison.Ordinal), 60,
            async () => $"left, because its credentials changed: {(await daemon.Status()).Of(one.Pid)}\n{daemon.Tail}");
        Assert.Equal((1, 0L), (ProcessView.Of(one.Pid).Threads, ProcessView.Of(one.Pid).PssShmemBytes));
        await Apart(one, other);
        await daemon.TakeInAndWait(one.Program);
        await Until.True(async () => (await daemon.Status()).Of(one.Pid).PagesMerged >= Pages * 9 / 10, 60, "it merges with itself again");
        await Apart(one, other);
        await one.Program.Does("verify");
        await other.Program.Does("verify");
    }

    /// <summary>Of root's processes the owner of their files shows nothing: the process itself is asked. Where it has CAP_SYS_PTRACE others of its kind may look into it all the same.</summary>
    [Fact]
    public async Task WhatIsOfRootWithoutCapabilitiesAndNotDumpableIsLeftAlone()
    {
        Needs.Root();
        await using Thief hidden = await Start(s_here, Thief.NoCapabilities);
        await hidden.Program.Does("secret");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        Called called = await daemon.Cli("attach", $"{hidden.Pid}");
        Assert.True(called.ExitCode == 1 && called.ToString().Contains("not dumpable", StringComparison.Ordinal), $"{called}\n{daemon.Tail}");
        Assert.Equal(1, ProcessView.Of(hidden.Pid).Threads);
        await hidden.Program.Does("verify");
    }

    /// <summary>What is not dumpable any more is left like what never was, root's too, of which no file in /proc shows it.</summary>
    [Theory]
    [InlineData(Thief.NoCapabilities)]
    [InlineData(Thief.DockersCapabilities)]
    [InlineData("gid=54361", Thief.NoCapabilities)]
    [InlineData("gid=54361", "uid=54361")]
    public async Task WhatIsNotDumpableAnyMoreIsGivenBack(params string[] who)
    {
        Needs.Root();
        await using Thief hidden = await Start(s_here, who), peer = await Start(s_here, who);
        await using DaemonUnderTest daemon = await Merge(hidden, peer);
        await Share(hidden, peer);
        Assert.Equal("looks", await peer.Program.Ask($"look {hidden.Pid}"));
        await hidden.Program.Does("secret");
        Assert.Equal("EPERM", await peer.Program.Ask($"look {hidden.Pid}"));
        await Until.True(async () => (await daemon.Status()).Of(hidden.Pid) is { State: "skipped" } left && left.Reason.Contains("not dumpable", StringComparison.Ordinal), 60,
            async () => $"left, because it is not dumpable any more: {(await daemon.Status()).Of(hidden.Pid)}\n{daemon.Tail}");
        await Apart(hidden, peer);
        await hidden.Program.Does("verify");
        await peer.Program.Does("verify");
    }

    /// <summary>A program that has confined itself by Landlock may not look into others of its user, and nothing shows that it has. It shares with nobody, before and after.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task WhoHasConfinedItselfSharesWithNobody(bool afterwards)
    {
        Needs.Root();
        string[] user = ["gid=54364", "uid=54364"];
        await using Thief open = await Start(s_here, user), confined = await Start(s_here, user);
        Assert.Equal("looks", await confined.Program.Ask($"look {open.Pid}"));
        if (!afterwards)
        {
            string answer = await confined.Program.Ask("sandbox");
            Assert.SkipWhen(answer != "ok", $"Landlock: {answer}");
        }

        await using DaemonUnderTest daemon = await Merge(open, confined);
        if (afterwards)
        {
            await Share(open, confined);
            string answer = await confined.Program.Ask("sandbox");
            Assert.SkipWhen(answer != "ok", $"Landlock: {answer}");
            await Until.True(async () => (await daemon.Status()).Of(confined.Pid) is { State: "skipped" }, 60, async () => $"left, because it may have confined itself: {(await daemon.Status()).Of(confined.Pid)}");
            await daemon.TakeInAndWait(confined.Program);
        }

        Assert.Equal("EPERM", await confined.Program.Ask($"look {open.Pid}"));
        string[] domains = await Domains(daemon, open, confined);
        Assert.Equal("uid:54364", domains[0]);
        Assert.Matches($"^uid:54364 nonewprivs alone:{confined.Pid}-[0-9]+$", domains[1]);
        await Apart(open, confined);
        await open.Program.Does("verify");
        await confined.Program.Does("verify");
    }

    /// <summary>A namespace is told by a number that the kernel gives to another one as soon as the first is gone; the frames of a container that has ended stay for some seconds. One that came then, and was
    /// quick, read 1,500 of 1,500 pages of the one before (3 of 42 tries).</summary>
    [Fact]
    public async Task TheNumberOfANamespaceThatHasFramesIsNobodyElses()
    {
        Needs.Root();
        const int Tries = 20;
        Thief ended = await Start(["--pid", "--mount-proc"]);
        string number;
        await using DaemonUnderTest daemon = await Merge(ended);
        await using (ended)
            number = Namespace(ended);
        await Until.True(async () => !(await daemon.Status()).Processes.Any(process => process.Pid == ended.Pid), 60, "it has ended, and was left");
        for (int i = 0; i < Tries; i++)
        {
            await using Thief next = await Thief.Start(["--pid", "--mount-proc"], 1, 1);
            Assert.NotEqual(number, Namespace(next));
            await Task.Delay(100);
        }
    }

    private static string Namespace(Thief thief) => new FileInfo($"/proc/{thief.Pid}/ns/pid").LinkTarget!;

    /// <summary>The estimate counts for whom the daemon would merge.</summary>
    [Fact]
    public async Task TheEstimateDividesAsTheDaemonDoes()
    {
        Needs.Root();
        await using Thief whole = await Start(), none = await Start(s_here, Thief.NoCapabilities), contained = await Start(["--pid", "--mount-proc"]);
        Called called = await Cli.Run(Path.GetTempPath(), ["estimate", $"{whole.Pid}", $"{none.Pid}", $"{contained.Pid}", "--json"]);
        Assert.True(called.ExitCode == 0, $"{called}");
        foreach (string domain in (string[])[$"\"{RootsDomain}\"", "\"uid:0 caps:0\"", "\"uid:0 pidns:"])
            Assert.Contains(domain, called.ToString(), StringComparison.Ordinal);
    }

    /// <summary>The name of the domain of root's programs with all that we have: capabilities are named where they are not the first process's.</summary>
    internal static string RootsDomain { get; } = Permitted("self") == Permitted("1") ? "uid:0" : $"uid:0 caps:{Permitted("self"):x}";

    private static ulong Permitted(string process) => ulong.Parse(
        File.ReadLines($"/proc/{process}/status").First(line => line.StartsWith("CapPrm:", StringComparison.Ordinal)).AsSpan(7).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private static Task<Thief> Start() => Start(s_here);

    private static Task<Thief> Start(string[] namespaces, params string[] who) => Thief.Start(namespaces, Pages, First, who);

    /// <summary>Takes them in, and returns when all have merged what is twice in each.</summary>
    private static async Task<DaemonUnderTest> Merge(params Thief[] programs)
    {
        DaemonUnderTest daemon = await DaemonUnderTest.Start();
        Called taken = await daemon.Cli(["attach", .. programs.Select(program => $"{program.Pid}")]);
        Assert.True(taken.ExitCode == 0, $"{taken}\n{daemon.Tail}");
        await Until.True(async () => (await daemon.Status()) is var status && programs.All(program => status.Of(program.Pid).PagesMerged >= 2 * Pages * 9 / 10), 120,
            async () => $"all merged: {string.Join("\n", (await daemon.Status()).Processes.AsEnumerable())}\n{daemon.Tail}");
        return daemon;
    }

    private static async Task<string[]> Domains(DaemonUnderTest daemon, params Thief[] programs)
    {
        WireStatus status = await daemon.Status();
        return [.. programs.Select(program => status.Of(program.Pid).Domain)];
    }

    /// <summary>Page frames wander while pages are merged, so what seems to be in common is looked at again.</summary>
    private static async Task Apart(params Thief[] programs)
    {
        for (int i = 0; i < programs.Length; i++)
        {
            for (int k = i + 1; k < programs.Length; k++)
            {
                HashSet<ulong> common = await programs[i].Frames();
                for (int look = 0; look < 3 && common.Count > 0; look++)
                {
                    common.IntersectWith(await programs[k].Frames());
                    common.IntersectWith(await programs[i].Frames());
                }

                Assert.True(common.Count == 0, $"{common.Count} frames in common of {programs[i].Pid} and {programs[k].Pid}");
            }
        }
    }

    private static Task Share(Thief one, Thief other) => Until.True(
        async () => (await one.Frames()).Intersect(await other.Frames()).Count() >= Pages * 9 / 10, 120, $"{one.Pid} and {other.Pid} share frames");
}
