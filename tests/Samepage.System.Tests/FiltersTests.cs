using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Programs under seccomp filters: who forbids nothing of what the agent does is served like any other, and who does is left alone, with the reason.</summary>
public sealed class FiltersTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private const int Mebibytes = 16, Pages = Mebibytes * 256, Common = Pages * 15 / 16;

    [Theory]
    [InlineData("allow")]
    [InlineData("deny")]
    [InlineData("exec")]
    [InlineData("mdwe")]
    [InlineData("mdwe", "exec", "deny", "allow")]
    public async Task AProgramWhoseFiltersForbidNothingOfOursIsServed(params string[] filters)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "filtered", [$"{Mebibytes}", .. filters]);
        await using var together = new Together(two);
        await IsServed(two);
    }

    /// <summary>As container runtimes and systemd set them: read of programs under them, one file a filter, the oldest first.</summary>
    [Theory]
    [InlineData("docker", 1)]
    [InlineData("podman", 1)]
    [InlineData("systemd-errno", 3)]
    [InlineData("systemd-kill", 3)]
    public async Task AProgramUnderRealFiltersIsServed(string name, int count)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "filtered", [$"{Mebibytes}", .. Real(name, count)]);
        await using var together = new Together(two);
        await IsServed(two);
    }

    [Fact]
    public async Task AProgramUnderAnAllowListOfItsOwnIsLeftAlone()
    {
        await using LiveProgram program = await LiveProgram.Target("filtered", ["4", .. Real("allowlist", 1)]);
        Called called = await Daemon.Cli("attach", $"{program.Pid}");
        WireProcess process = (await Daemon.Status()).Of(program.Pid);
        Assert.True(called.ExitCode == 1 && process.State == "skipped" && process.Reason.Contains("KILL", StringComparison.Ordinal), $"{called} {process}");
        await IsAsItWas(program, 1);
    }

    /// <summary>Under all that a service with MemoryDenyWriteExecute=, RestrictNamespaces= and SystemCallFilter=@system-service has; it forks, and every key is looked at.</summary>
    [Fact]
    public async Task AServerUnderTheFiltersOfAServiceIsServed()
    {
        const string Launcher = """
            import ctypes, os, sys
            libc = ctypes.CDLL(None, use_errno=True)
            class Program(ctypes.Structure): _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_void_p)]
            end = sys.argv.index('--')
            for path in sys.argv[1:end]:
                code = open(path, 'rb').read()
                if libc.syscall(317, 1, 0, ctypes.byref(Program(len(code) // 8, ctypes.cast(ctypes.c_char_p(code), ctypes.c_void_p)))): raise OSError(ctypes.get_errno())
            os.execv(sys.argv[end + 1], sys.argv[end + 1:])
            """;
        string redis = Needs.Program("redis-server", "redis-server");
        string[] launcher = [Needs.Program("python3", "python3"), "-c", Launcher, .. Real("systemd-kill", 3), "--"];
        await using RedisUnderTest first = await RedisUnderTest.Start(redis, launcher), second = await RedisUnderTest.Start(redis, launcher);
        await first.Fill();
        await second.Fill();
        Assert.Equal(3, ProcessView.Of(first.Server.Pid).Status("Seccomp_filters"));
        await Daemon.TakeInInTheEnd(first.Server, second.Server);
        await Daemon.Merged(first.Server, 1000);
        await first.Load(seconds: 5);
        await first.CheckEveryKey();
        await second.CheckEveryKey();
        foreach (RedisUnderTest one in (RedisUnderTest[])[first, second])
        {
            await StormTests.GivenBackInTheEnd(Daemon, one.Server);
            await one.CheckEveryKey();
            Assert.DoesNotContain(ProcessView.Of(one.Server.Pid).MappedNames, name => name.Contains("samepage", StringComparison.Ordinal));
        }
    }

    private static IEnumerable<string> Real(string name, int count) =>
        Enumerable.Range(0, count).Select(index => Path.Combine(Repository.Root, "tests", "Samepage.Linux.Tests", "Seccomp", $"{name}.{index}.bpf"));

    /// <summary>Nobody sees it sleep, so what its filters are cannot be read without stopping it where it runs.</summary>
    [Fact]
    public async Task AProgramThatComputesUnderAFilterIsServed()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "filtered", $"{Mebibytes}", "deny");
        await using var together = new Together(two);
        foreach (LiveProgram one in two)
            await one.Does("spin");
        await IsServed(two, threads: 2);
    }

    [Theory]
    [InlineData("clone", "clone", "KILL_PROCESS")]
    [InlineData("ioctl", "ioctl", "ERRNO")]
    [InlineData("sigreturn", "rt_sigreturn", "ERRNO")]
    [InlineData("strict", "strict")]
    public async Task AProgramWhoseFilterForbidsOursIsLeftAlone(string filter, params string[] named)
    {
        await using LiveProgram program = await LiveProgram.Target("filtered", "4", filter);
        int threads = ProcessView.Of(program.Pid).Threads;
        Called called = await Daemon.Cli("attach", $"{program.Pid}");
        Assert.True(called.ExitCode == 1, $"{called}");
        WireProcess process = (await Daemon.Status()).Of(program.Pid);
        Assert.True(process.State == "skipped" && named.All(word => process.Reason.Contains(word, StringComparison.Ordinal)), $"{process}");
        await IsAsItWas(program, threads);
    }

    [Fact]
    public async Task AFilterThatComesLaterAndForbidsNothingChangesNothing()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "filtered", $"{Mebibytes}");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], Common - 64);
        await two[0].Does("deny");
        await two[0].Does("allow");
        // Seen as soon as somebody looks: what is written now is merged again, by an agent under these filters.
        for (int look = 0; look < 10; look++)
        {
            await Task.Delay(300, TestContext.Current.CancellationToken);
            WireProcess process = (await Daemon.Status()).Of(two[0].Pid);
            Assert.True(process.PagesMerged >= Common - 64 && process.State != "skipped", $"{process}\n{Daemon.Tail}");
        }

        await Daemon.GiveBack(two);
        foreach (LiveProgram one in two)
            await IsAsItWas(one, 1);
    }

    /// <summary>What forbids the call in which the agent waits does nothing until somebody interrupts it there: it begins again, before the filter.</summary>
    [Theory]
    [InlineData("ioctl", "ioctl")]
    [InlineData("doorbell", "read")]
    public async Task AFilterThatComesLaterAndForbidsOursMakesTheAgentLeave(string filter, string call)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "filtered", $"{Mebibytes}");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], Common - 64);
        await two[0].Does(filter);
        await Until.True(async () => (await Daemon.Status()).Of(two[0].Pid).State == "skipped", 30, async () => $"{(await Daemon.Status()).Of(two[0].Pid)}\n{Daemon.Tail}");
        Assert.Contains(call, (await Daemon.Status()).Of(two[0].Pid).Reason, StringComparison.Ordinal);
        foreach (LiveProgram one in two)
            await one.Does("verify");
        await IsAsItWas(two[0], 1);
        await Daemon.GiveBack(two[1]);
    }

    /// <summary>A call that was begun before the filter that forbids it goes on. It must not begin again: nobody interrupts it, and what needs all threads to stand still waits for its end.</summary>
    [Fact]
    public async Task ACallThatWasBegunBeforeTheFilterThatForbidsItIsNotInterrupted()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "filtered", $"{Mebibytes}");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], Common - 64);
        foreach (LiveProgram one in two)
        {
            await one.Does("reader");
            await one.Does("once");
        }

        Called called = await Daemon.Cli("detach", $"{two[0].Pid}");
        Assert.True(called.ExitCode != 0 && $"{called}".Contains("waits in", StringComparison.Ordinal), $"{called}\n{Daemon.Tail}");
        foreach (LiveProgram one in two)
            Assert.Equal("read 16", await one.Ask("wake"));
        await StormTests.GivenBackInTheEnd(Daemon, two[0]);
        await StormTests.GivenBackInTheEnd(Daemon, two[1]);
        foreach (LiveProgram one in two)
            await IsAsItWas(one, 1);
    }

    /// <summary>A supervisor does what he is asked for. Asked twice for one call he does it twice.</summary>
    /// <remarks>A thread that comes to such a call in the some ten microseconds between the look and the stop has him asked twice (docs/limits.md): on a crowded machine that happens once in some thousand.</remarks>
    [Fact]
    public async Task ASupervisorIsAskedOnceForEachCall()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "filtered", $"{Mebibytes}", "supervise");
        await using var together = new Together(two);
        foreach (LiveProgram one in two)
            await one.Does("begin");
        await Daemon.MergesWithoutRest();
        for (int round = 0; round < 4; round++)
        {
            await Daemon.TakeInInTheEnd(two);
            await Daemon.Merged(two[0], Common - 64);
            foreach (LiveProgram one in two)
                await one.Does("verify");
            await Daemon.GiveBack(two);
        }

        foreach (LiveProgram one in two)
        {
            await HasAskedOnce(one);
            await IsAsItWas(one, 1);
        }
    }

    /// <summary>Of a thread that has only just come it is not known what filters it has: those that others have may be its own.</summary>
    [Fact]
    public async Task ASupervisorIsAskedOnceAlsoForThreadsThatComeAndGo()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "filtered", $"{Mebibytes}", "supervise");
        await using var together = new Together(two);
        await Daemon.TakeInInTheEnd(two);
        foreach (LiveProgram one in two)
            await one.Does("brief");
        await Daemon.MergesWithoutRest();
        await Task.Delay(TimeSpan.FromSeconds(5), TestContext.Current.CancellationToken);
        foreach (LiveProgram one in two)
            await HasAskedOnce(one);
        await Daemon.Merged(two[0], Common - 64);
        await Daemon.GiveBack(two);
        foreach (LiveProgram one in two)
            await IsAsItWas(one, 1);
    }

    private static async Task HasAskedOnce(LiveProgram program)
    {
        int[] counts = [.. (await program.Ask("end")).Split(' ').Select(count => int.Parse(count, CultureInfo.InvariantCulture))];
        Assert.True(counts[0] > 100 && counts[1] - counts[0] is >= 0 and <= 1, $"{counts[0]} calls, and {counts[1]} questions");
    }

    /// <summary>The kernel goes on with a sleep by a call of its own, which filters see.</summary>
    [Fact]
    public async Task ASleepUnderAFilterEndsInTime()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "filtered", $"{Mebibytes}", "deny");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        foreach (LiveProgram one in two)
            await one.Does("sleeper");
        for (int round = 0; round < 4; round++)
        {
            await Daemon.Control("run", "2");
            await Daemon.Control("run", "1");
            await Daemon.Merged(two[0], Common - 64);
        }

        foreach (LiveProgram one in two)
        {
            string[] slept = (await one.NextLine()).Split(' ');
            Assert.True(slept is ["slept", "0", _] && double.Parse(slept[2], CultureInfo.InvariantCulture) >= 5, string.Join(' ', slept));
        }

        await Daemon.GiveBack(two);
        foreach (LiveProgram one in two)
            await IsAsItWas(one, 1);
    }

    /// <summary>From its death on no filter is suspended any more.</summary>
    [Fact]
    public async Task ADaemonThatDiesInAHoldHarmsNobodyUnderFilters()
    {
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        LiveProgram[] two = await LiveProgram.Targets(2, "filtered", $"{Mebibytes}", "exec", "deny");
        await using var together = new Together(two);
        await daemon.Kill9WhileItHolds(two);
        foreach (LiveProgram one in two)
        {
            await one.Does("verify");
            await Until.True(() => ProcessView.Of(one.Pid) is { Threads: 1 } view && !view.MappedNames.Any(name => name.Contains("samepage", StringComparison.Ordinal)), 60, () => $"{one.Name} ({one.Pid}) is given back");
            await IsAsItWas(one, 1);
        }
    }

    private async Task IsServed(LiveProgram[] programs, int threads = 1)
    {
        await Daemon.TakeInAndWait(programs);
        await Daemon.Merged(programs[0], Common - 64);
        foreach (LiveProgram one in programs)
            await one.Does("verify");
        await Daemon.GiveBack(programs);
        foreach (LiveProgram one in programs)
            await IsAsItWas(one, threads);
    }

    private static async Task IsAsItWas(LiveProgram program, int threads)
    {
        await program.Does("verify");
        ProcessView view = ProcessView.Of(program.Pid);
        Assert.Equal(threads, view.Threads);
        Assert.DoesNotContain(view.MappedNames, name => name.Contains("samepage", StringComparison.Ordinal));
        Assert.Equal(0, view.WatchedAreas);
    }
}
