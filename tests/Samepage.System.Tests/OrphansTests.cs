using System.Diagnostics;
using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Children that share frames, whose parent and daemon have ended together: nobody is left who knows them, but what keeps their descriptors.</summary>
public sealed class OrphansTests
{
    /// <summary>Forks once, and never reads a command again: its child does, which is not dumpable and so never gets an agent of its own, however long it lives beside its parent.</summary>
    private const string Forks = """
        import ctypes, mmap, os, signal, sys
        prctl = ctypes.CDLL(None).prctl
        PAGE, COUNT = 4096, 768
        memory = mmap.mmap(-1, COUNT * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        words = [(page + 1).to_bytes(4, 'little') * 1024 for page in range(COUNT)]
        for page in range(COUNT): memory[page * PAGE:(page + 1) * PAGE] = words[page]
        print('ready', flush=True)
        for line in sys.stdin:
            command, *which = line.split()
            if command == 'fork':
                child = os.fork()
                if child:
                    print(child, flush=True)
                    while True: signal.pause()
                prctl(4, 0, 0, 0, 0)
                continue
            if command == 'discard':
                for page in range(int(which[0]) * 256, int(which[0]) * 256 + 256): words[page] = bytes(PAGE)
                memory.madvise(mmap.MADV_DONTNEED, int(which[0]) * 256 * PAGE, 256 * PAGE)
            bad = sum(memory[page * PAGE:(page + 1) * PAGE] != words[page] for page in range(COUNT))
            print('ok' if not bad else f'bad {bad}', flush=True)
        """;

    /// <summary>What a guardian becomes, for as long as that is told: it has the ends of the store, which it takes from a guardian that is about to be killed.</summary>
    private const string Guards = """
        import ctypes, os, sys
        folder, seconds, *program = sys.argv[1:]
        lock = open(folder + '/lock').read().split()
        guardian = os.pidfd_open(int(lock[3]))
        ends = [ctypes.CDLL(None).syscall(438, guardian, int(end), 0) for end in lock[5:7]]
        for end in ends: os.set_inheritable(end, True)
        print('ready', flush=True)
        sys.stdin.readline()
        os.environ.update(SAMEPAGE_RUN_DIR=folder, SAMEPAGE_KEPT=f'{ends[0]} {ends[1]}')
        os.execv(program[0], program + ['recover', '--timeout', seconds])
        """;

    [Fact]
    public async Task WhatAChildDiscardsWhoseParentEndsWithTheDaemonReadsAsZeros()
    {
        Needs.Root();
        await using DaemonUnderTest doomed = await DaemonUnderTest.Start();
        LiveProgram[] two = await LiveProgram.Targets(2, "forker");
        await using var together = new Together(two);
        await doomed.TakeInAndWait(two);
        await doomed.Merged(two[0], 3000);
        _ = await Forked(doomed, two[0]);
        await two[0].Does("child verify");
        doomed.Kill();
        two[0].Kill();
        string said = await two[0].NextLine(180);
        Assert.True(said == "orphan ok", $"{said}\n{two[0].Errors}");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task SuchAChildIsWatchedByOneAfterTheOtherUntilItEnds()
    {
        Needs.Root();
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName, python = Needs.Program("python3", "python3");
        LiveProgram[] two = [LiveProgram.Start(python, "-c", Forks), LiveProgram.Start(python, "-c", Forks)];
        await using var together = new Together(two);
        foreach (LiveProgram one in two)
            await one.Ready();
        (int child, string log) = await Orphan(folder, two);
        using Process forked = Process.GetProcessById(child);
        string watcher = await IsWatched(folder, log);
        await two[0].Does("discard 0", 180);
        await using (DaemonUnderTest next = await DaemonUnderTest.Start(folder, keep: true))
        {
            await Until.True(() => !Directory.Exists($"/proc/{watcher}"), 60, () => "the recovery gives way to a daemon");
            await two[0].Does("discard 1", 180);
            Assert.Equal(1, await next.Terminate());
            // What it said last may come behind its end.
            await Until.True(() => next.Log.Contains("which the guardian starts now", StringComparison.Ordinal), 60, () => next.Log);
            log = next.Log;
        }

        _ = await IsWatched(folder, log);
        await two[0].Does("discard 2", 180);
        Called recovered = await Cli.Run(folder, "recover");
        Assert.True(recovered.ExitCode == 1 && recovered.Errors.Contains("watches", StringComparison.Ordinal), $"{recovered}");
        forked.Kill();
        await Until.True(async () => (await Cli.Run(folder, "recover")).ExitCode == 0, 60, () => Task.FromResult("nobody is watched any more"));
        await two[1].Does("verify");
        DaemonUnderTest.Remove(folder);
    }

    /// <summary>Between the end of who watches and the moment at which a daemon serves there is a guardian, too.</summary>
    [Fact]
    public async Task SuchAChildIsWatchedAlsoWhereADaemonDiesThatHasJustTakenItOver()
    {
        Needs.Root();
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName, python = Needs.Program("python3", "python3");
        LiveProgram[] two = [LiveProgram.Start(python, "-c", Forks), LiveProgram.Start(python, "-c", Forks)];
        await using var together = new Together(two);
        foreach (LiveProgram one in two)
            await one.Ready();
        (int child, string log) = await Orphan(folder, two);
        using Process forked = Process.GetProcessById(child);
        string watcher = await IsWatched(folder, log);
        await using (DaemonUnderTest next = DaemonUnderTest.Launch(folder, keep: true))
        {
            await Until.True(() => !Directory.Exists($"/proc/{watcher}"), 60, () => "the recovery gives way to a daemon");
            next.Kill();
            await next.Ends(20);
            log = next.Log;
        }

        string another = "";
        await Until.True(async () => (another = await IsWatched(folder, log)) != watcher && Directory.Exists($"/proc/{another}"), 60, () => Task.FromResult($"another watches: {another}\n{log}"));
        await two[0].Does("discard 0", 180);
        forked.Kill();
        await Until.True(() => !Directory.Exists($"/proc/{another}"), 60, () => "nobody is watched any more");
        await two[1].Does("verify");
        DaemonUnderTest.Remove(folder);
    }

    /// <summary>A program that is never given back ends nobody's watch.</summary>
    [Fact]
    public async Task SuchAChildIsWatchedAlsoWhereAnotherProgramCannotBeGivenBack()
    {
        using UnifiedGroup group = UnifiedGroup.Make();
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName, python = Needs.Program("python3", "python3");
        LiveProgram[] three = [.. Enumerable.Range(0, 3).Select(_ => LiveProgram.Start(python, "-c", Forks))];
        await using var together = new Together(three);
        foreach (LiveProgram one in three)
            await one.Ready();
        await using DaemonUnderTest doomed = await DaemonUnderTest.Start(folder, keep: true);
        await doomed.TakeInAndWait(three);
        await doomed.Merged(three[0], 700);
        using Process forked = Process.GetProcessById(await Forked(doomed, three[0]));
        await using LiveProgram recovery = LiveProgram.Start(python, ["-c", Guards, folder, "3", .. Repository.Program]);
        await recovery.Ready();
        group.Take(three[2].Pid);
        group.Freeze(true);
        doomed.KillGuardian();
        doomed.Kill();
        three[0].Kill();
        await doomed.Ends(20);
        await recovery.Tell("go");
        await Until.True(() => recovery.HasExited || File.ReadAllText(Path.Combine(folder, "lock")).StartsWith("watch ", StringComparison.Ordinal), 120, () => recovery.Errors);
        await three[0].Does("discard 0", 180);
        group.Freeze(false);
        forked.Kill();
        await recovery.Ends(60);
        await using DaemonUnderTest next = await DaemonUnderTest.Start(folder);
        await three[1].Does("verify");
        await three[2].Does("verify");
    }

    /// <summary>Has the first of two programs fork when they are merged, and kills it together with their daemon.</summary>
    /// <returns>The child, and what the daemon had said.</returns>
    private static async Task<(int Child, string Log)> Orphan(string folder, LiveProgram[] two)
    {
        await using DaemonUnderTest doomed = await DaemonUnderTest.Start(folder, keep: true);
        await doomed.TakeInAndWait(two);
        await doomed.Merged(two[0], 700);
        int child = await Forked(doomed, two[0]);
        doomed.Kill();
        two[0].Kill();
        await doomed.Ends(20);
        return (child, doomed.Log);
    }

    /// <summary>Has a program fork, and returns when the daemon has the child's descriptor: a parent that is killed before takes it with it.</summary>
    private static async Task<int> Forked(DaemonUnderTest daemon, LiveProgram program)
    {
        int before = Watching();
        int child = int.Parse(await program.Ask("fork"), CultureInfo.InvariantCulture);
        await Until.True(() => Watching() > before, 60, () => $"the daemon has the descriptor of {child}\n{daemon.Tail}");
        // What it was at then has been done when it answers.
        _ = await daemon.Status();
        return child;

        int Watching() => Directory.GetFiles($"/proc/{daemon.Pid}/fd").Count(IsUserfaultfd);
    }

    private static bool IsUserfaultfd(string descriptor)
    {
        try
        {
            return File.ResolveLinkTarget(descriptor, returnFinalTarget: false)?.Name.Contains("[userfaultfd]", StringComparison.Ordinal) == true;
        }
        catch (FileNotFoundException)
        {
            return false; // closed meanwhile
        }
    }

    /// <returns>Who watches.</returns>
    private static async Task<string> IsWatched(string folder, string log)
    {
        string[] holder = [];
        await Until.True(() => (holder = File.ReadAllText(Path.Combine(folder, "lock")).Split(' '))[0] == "watch", 120, () => $"somebody watches: {string.Join(' ', holder)}\n{log}");
        return holder[1];
    }
}
