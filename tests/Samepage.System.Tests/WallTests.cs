using System.Globalization;
using System.Text.RegularExpressions;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>The wall between users, attacked: pages that all have in common, and programs that fork, exec, become somebody else and look for others' frames.</summary>
/// <remarks>What is compared are the kernel's own page frame numbers, of every page of every program. <c>./test --long</c> takes a million pages.</remarks>
public sealed partial class WallTests
{
    private const uint First = 54331, Second = 54332, FarAway = 4_000_000_000;
    private static readonly int s_pages = Environment.GetEnvironmentVariable("SAMEPAGE_TEST_SECONDS") is null ? 6_000 : 256_000;

    [Fact]
    public async Task EqualPagesOfTwoUsersAreNeverOnePageWhateverBecomesOfThePrograms()
    {
        Needs.Root();
        // Where the daemon may not pass the limit on pipes, so many frames could not be guarded (docs/limits.md).
        using var room = s_pages > 100_000 ? new Setting("/proc/sys/fs/pipe-max-size", "16777216") : null;
        using var folder = new OpenFolder("wall");
        LiveProgram[] all = [.. await Two(folder, First), .. await Two(folder, Second)];
        await using var together = new Together(all);
        uint[] users = [First, First, Second, Second];
        string run = Directory.CreateTempSubdirectory("samepage-wall-").FullName;
        try
        {
            await using (DaemonUnderTest doomed = await DaemonUnderTest.Start(run, keep: true))
            {
                await doomed.TakeIn(all);
                for (long scans = (await doomed.Status()).FullScans, seen = -1; seen < scans + 5 || !await AllMerged(doomed, all); seen = (await doomed.Status()).FullScans)
                    await Apart(users, all);

                // Forked: a child shares with its parent, and what it has written besides with the other child of its user at most.
                await Apart(users, all, await Fork(all[0]), await Fork(all[2]));
                await Until.True(async () => (await doomed.Status()).Processes.Count(process => process.PagesMerged > 0) >= 6, 60,
                    async () => $"two children merged, too: {string.Join("\n", (await doomed.Status()).Processes.AsEnumerable())}\n{doomed.Tail}");

                // Another program now, which begins with nothing in common with anybody.
                await all[1].Tell("exec");
                await all[1].Ready(120);
                await Apart(users, all);
                await doomed.TakeIn(all[1]);
                await doomed.Merged(all[1], s_pages * 9 / 10, 120);
                await Apart(users, all);
                await doomed.Kill9();
            }

            await Apart(users, all);
            await using DaemonUnderTest next = await DaemonUnderTest.Start(run, keep: true);
            await Apart(users, all);
            await next.TakeIn(all);
            await Until.True(() => AllMerged(next, all), 120, async () => $"merged again: {string.Join("\n", (await next.Status()).Processes.AsEnumerable())}\n{next.Tail}");
            int frames = await Apart(users, all);
            TestContext.Current.SendDiagnosticMessage("wall: {0} equal pages of two users in {1} frames, none in common", s_pages * all.Length, frames);
            foreach (LiveProgram program in all)
                await program.Does("verify");
            await next.GiveBack(all);
            foreach (LiveProgram program in all)
                await program.Does("verify");
        }
        finally
        {
            DaemonUnderTest.Remove(run);
        }
    }

    /// <summary>Who becomes another user is left before anything else, has its memory to itself, and shares with the other user's programs from then on.</summary>
    [Fact]
    public async Task AProgramThatBecomesAnotherUserLeavesItsFramesBehind()
    {
        Needs.Root();
        using var folder = new OpenFolder("wall");
        LiveProgram[] root = await LiveProgram.Targets(2, "wall", "4000");
        LiveProgram other = await folder.Start(FarAway, "4000");
        await using var together = new Together([.. root, other]);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeIn([.. root, other]);
        await daemon.Merged(root[0], 3600);
        await daemon.Merged(root[1], 3600);
        int[] threads = [.. root.Select(program => ProcessView.Of(program.Pid).Threads)];
        Assert.All(threads, count => Assert.Equal(3, count));
        await root[0].Does($"become {FarAway}");
        await Until.True(async () => (await daemon.Status()).Of(root[0].Pid) is { State: "skipped" } left && left.Reason.Contains("user changed", StringComparison.Ordinal), 20,
            async () => $"left, because its user changed: {(await daemon.Status()).Of(root[0].Pid)}");
        Assert.Equal((1, 0L), (ProcessView.Of(root[0].Pid).Threads, ProcessView.Of(root[0].Pid).PssShmemBytes));
        await Apart([0, 1, 2], root[0], root[1], other);
        await root[0].Does("verify");

        await daemon.TakeIn(root[0]);
        await daemon.Merged(root[0], 3600);
        await daemon.Merged(other, 3600);
        await Apart([FarAway, 0, FarAway], root[0], root[1], other);
        Assert.Equal($"uid:{FarAway}", (await daemon.Status()).Of(root[0].Pid).Domain);
        foreach (LiveProgram program in (LiveProgram[])[.. root, other])
            await program.Does("verify");
    }

    /// <summary>A sandbox that runs under its user's own id may not look into what is outside of it; nor may it by way of frames.</summary>
    [Fact]
    public async Task AUserNamespaceIsADomainOfItsOwn()
    {
        Needs.Root();
        using var folder = new OpenFolder("wall");
        LiveProgram[] three = [await folder.Start(First, "2000"), await folder.Start(First, "2000"), await folder.Start(First, "2000")];
        await using var together = new Together(three);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await three[0].Does("namespace");
        await daemon.TakeIn(three);
        await daemon.Merged(three[1], 1800);
        await Until.True(async () => (await daemon.Status()) is var status && status.Of(three[0].Pid).Settled && status.FullScans > 5, 20, "everything is scanned");
        Assert.Matches($"^uid:{First} userns:[0-9]+ caps:[0-9a-f]+$", (await daemon.Status()).Of(three[0].Pid).Domain);
        await Apart([0, 1, 1], three);
        await three[0].Does("verify");
    }

    /// <summary>Programs that keep others of their user out (key agents do) must not lie open to these by way of frames.</summary>
    [Fact]
    public async Task WhatIsNotDumpableIsLeftAlone()
    {
        Needs.Root();
        using var folder = new OpenFolder("wall");
        LiveProgram[] two = [await folder.Start(First, "2000"), await folder.Start(First, "2000")];
        await using var together = new Together(two);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeIn(two);
        await daemon.Merged(two[0], 1800);
        await two[0].Does("secret");
        await Until.True(async () => (await daemon.Status()).Of(two[0].Pid) is { State: "skipped" } left && left.Reason.Contains("not dumpable", StringComparison.Ordinal), 20,
            async () => $"left, because it is not dumpable: {(await daemon.Status()).Of(two[0].Pid)}");
        await Apart([0, 1], two);
        Assert.Equal((1, 0L), (ProcessView.Of(two[0].Pid).Threads, ProcessView.Of(two[0].Pid).PssShmemBytes));
        Called called = await daemon.Cli("attach", $"{two[0].Pid}");
        Assert.True(called.ExitCode == 1 && called.ToString().Contains("not dumpable", StringComparison.Ordinal), $"{called}");
        foreach (LiveProgram program in two)
            await program.Does("verify");
    }

    /// <summary>Not even through the descriptors of an agent, which a program of the same user can take: the frames stay what they are.</summary>
    [Fact]
    public async Task NobodyWritesAFrameOrReachesThoseOfAnotherUser()
    {
        Needs.Root();
        using var folder = new OpenFolder("wall");
        LiveProgram[] four = [await folder.Start(First, "2000"), await folder.Start(First, "2000"), await folder.Start(Second, "2000"), await folder.Start(Second, "2000")];
        await using var together = new Together(four);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeIn(four);
        await daemon.Merged(four[0], 1800);
        await daemon.Merged(four[2], 1800);
        string own = await four[0].Ask($"reach {four[1].Pid}");
        Assert.True(Reached().Match(own) is { Success: true } reached && reached.Groups["taken"].Value != "0", $"the attack does not reach the frames of its own user at all: {own}");
        Assert.Contains(" written 0 ", own, StringComparison.Ordinal);
        Assert.Equal("opened 0 taken 0 written 0 memory no", await four[0].Ask($"reach {four[2].Pid}"));
        Assert.Equal("opened 0 taken 0 written 0 memory no", await four[0].Ask($"reach {daemon.Pid}"));
        foreach (LiveProgram program in four)
            await program.Does("verify");
    }

    private static async Task<LiveProgram[]> Two(OpenFolder folder, uint user) => await Task.WhenAll(folder.Start(user, $"{s_pages}"), folder.Start(user, $"{s_pages}"));

    private static async Task<bool> AllMerged(DaemonUnderTest daemon, LiveProgram[] all)
    {
        WireStatus status = await daemon.Status();
        return all.All(program => status.Of(program.Pid).PagesMerged >= s_pages * 9 / 10);
    }

    private static async Task<(LiveProgram Parent, int Pid)> Fork(LiveProgram parent) => (parent, int.Parse((await parent.Ask("fork")).Split(' ')[1], CultureInfo.InvariantCulture));

    /// <summary>Programs of different owners have no page frame in common; children are their parents' owners'.</summary>
    /// <returns>Page frames, of all together.</returns>
    internal static async Task<int> Apart(uint[] owners, LiveProgram[] programs, params (LiveProgram Parent, int Pid)[] children)
    {
        Dictionary<ulong, (uint Owner, int Pid, ulong Page)> owner = [];
        foreach ((LiveProgram parent, int pid) in programs.Select(program => (program, program.Pid)).Concat(children))
        {
            string[] range = (await parent.Ask("address")).Split(' ');
            uint mine = owners[Array.IndexOf(programs, parent)];
            ulong start = ulong.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture), end = ulong.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            foreach ((int index, ulong frame) in ProcessView.Of(pid).Frames(start, end).Index().Where(page => page.Item != 0))
            {
                (uint Owner, int Pid, ulong Page) here = (mine, pid, start + (ulong)index * 4096);
                if (!owner.TryAdd(frame, here) && owner[frame] is var there && there.Owner != mine)
                    Assert.False(AreOne(here, there), $"frame {frame:x} at {here.Page:x} of process {pid} is also at {there.Page:x} of process {there.Pid}, of another owner");
            }
        }

        Assert.NotEmpty(owner);
        return owner.Count;
    }

    internal static Task<int> Apart(uint[] owners, params LiveProgram[] programs) => Apart(owners, programs, []);

    /// <summary>Page frames wander while pages are merged: one that was given up here may be there a moment later. What is shared stays so.</summary>
    private static bool AreOne((uint Owner, int Pid, ulong Page) here, (uint Owner, int Pid, ulong Page) there)
    {
        ulong first = FrameAt(here), other = FrameAt(there), again = FrameAt(here);
        return first == other && first == again && first != 0;
    }

    private static ulong FrameAt((uint Owner, int Pid, ulong Page) page) => ProcessView.Of(page.Pid).Frames(page.Page, page.Page + 4096)[0];

    [GeneratedRegex("^opened (?<opened>\\d+) taken (?<taken>\\d+) written (?<written>\\d+) memory (?<memory>yes|no)$")]
    private static partial Regex Reached();
}
