using System.Collections.Concurrent;

namespace Samepage.SystemTests.Harness;

/// <summary>Hostile programs of several users that come and go, some at a time, each of them of another kind than the one before it.</summary>
/// <remarks>
/// They lie in a folder of their own, so that a rule can take them in; half of them are taken in by hand besides. Of their own pages all that can be looked at is, too: whom
/// they harm may be themselves only where they turned against their own agent.
/// </remarks>
internal sealed class HostileCrowd : IAsyncDisposable
{
    /// <summary>Bounds on hanging, seconds.</summary>
    private const int Bound = 180;

    private const UnixFileMode Everybodys = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;
    private const uint Stranger = 1234;
    private static readonly string[] s_targets = ["tarpit", "thief", "execer", "leaderless", "keeper", "names", "common", "hostile", "attacker", "baited", "wall"];

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("samepage-hostile-");
    private readonly CancellationTokenSource _end = new();
    private readonly ConcurrentDictionary<string, int> _lives = [], _met = [];
    private readonly uint _user;
    private readonly (int First, int Count) _secrets;
    private readonly (string Kind, Func<Random, Task> Live)[] _kinds;
    private int _next;

    /// <param name="user">Whose they are besides root and a stranger: a user with honest programs.</param>
    /// <param name="secrets">Content that root's honest programs have, and nobody else.</param>
    public HostileCrowd(uint user, (int First, int Count) secrets)
    {
        (_user, _secrets) = (user, secrets);
        File.SetUnixFileMode(_folder.FullName, Everybodys);
        foreach (string target in s_targets)
        {
            Repository.CopyTarget(target, Target(target));
            File.SetUnixFileMode(Target(target), Everybodys);
        }

        _kinds =
        [
            ("tarpit", Tarpit), ("thief", Thieves), ("execer", Execer), ("leaderless", Leaderless), ("keeper", Keeper), ("names", Names), ("stopped", Stopped),
            ("killed", Killed), ("turns", Turns), ("attacker", Attacker), ("baited", Baited),
        ];
    }

    /// <summary>Programs in it are theirs.</summary>
    public string Folder => _folder.FullName;

    /// <summary>The daemon that takes them in by hand; it may be dead, or not yet serve.</summary>
    public DaemonUnderTest? Daemon { get; set; }

    /// <summary>Each kind has lived once at least.</summary>
    public bool HasMetAll => _kinds.All(kind => _lives.ContainsKey(kind.Kind));

    /// <summary>How many there were, of each kind, and what was met of their doings.</summary>
    public string Lives => string.Join(", ", _lives.Concat(_met).OrderBy(pair => pair.Key, StringComparer.Ordinal).Select(pair => $"{pair.Value} {pair.Key}"));

    public string Target(string name) => Path.Combine(Folder, name);

    /// <summary>Starts one after the other, so many at a time, until <see cref="Leave"/>.</summary>
    /// <returns>Ends when all of them have ended, or with what went wrong.</returns>
    public Task Come(int atATime, int seed) => Task.WhenAll(Enumerable.Range(0, atATime).Select(async slot =>
    {
        Random random = new((seed * 100) + slot);
        try
        {
            while (!_end.IsCancellationRequested)
            {
                (string kind, Func<Random, Task> live) = _kinds[(Interlocked.Increment(ref _next) - 1) % _kinds.Length];
                await live(random);
                _lives.AddOrUpdate(kind, 1, static (_, count) => count + 1);
            }
        }
        finally
        {
            await _end.CancelAsync(); // with one that found a fault all go
        }
    }));

    /// <summary>No more of them begin, and those that live end soon.</summary>
    public Task Leave() => _end.CancelAsync();

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        _end.Dispose();
        _folder.Delete(recursive: true);
    }

    private async Task Tarpit(Random random)
    {
        string[] parts = ["words", "shared", "operations", "frames", "code", "all", "pipe"];
        string part = parts[random.Next(parts.Length)];
        // Who keeps the pipe of a domain keeps that domain from merging: the stranger's, whom nothing is asked of here.
        LiveProgram program = LiveProgram.Start(Target("tarpit"), part, $"{(part == "pipe" ? Stranger : Other(random))}");
        await Beside(program, random, () => Waits(program, random, "laid"));
    }

    private async Task Baited(Random random)
    {
        LiveProgram program = LiveProgram.Start(Target("baited"));
        await Beside(program, random, () => Waits(program, random, "caught"));
    }

    /// <summary>Root's without capabilities, root's in a container, a user's: none writes a frame, or finds what is root's.</summary>
    private async Task Thieves(Random random)
    {
        // Who makes the guards' pipe smaller, or fills it, keeps its own domain from merging: that is done where nobody honest is.
        (string[] namespaces, string[] who, string[] attacks)[] all =
        [
            ([], [Thief.NoCapabilities], ["write", "guard"]),
            (["--pid", "--mount-proc", "--ipc", "--uts"], [Thief.DockersCapabilities], ["write"]),
            ([], [$"gid={_user}", $"uid={_user}"], ["write"]),
        ];
        (string[] namespaces, string[] who, string[] attacks) = all[random.Next(all.Length)];
        Thief thief = await Thief.Start(namespaces, 500, 1, who);
        await Beside(thief.Program, random, async () =>
        {
            await Pause(random, 3000);
            foreach (string attack in attacks)
            {
                string answer = await thief.Program.Ask(attack, Bound);
                if (answer.StartsWith("no descriptor", StringComparison.Ordinal))
                    continue;
                bool none = answer.Contains(" possible 0:", StringComparison.Ordinal) || (attack == "guard" && answer.EndsWith(" possible 1: shrink", StringComparison.Ordinal));
                Assert.True(none, $"{string.Join(' ', who)}, {attack}: {answer}");
                Met($"{attack} attacks on frames");
            }

            (int frames, int found) = await thief.Looks($"find {_secrets.First} {_secrets.Count}");
            Assert.True(found == 0, $"{string.Join(' ', who)} found {found} of root's pages in {frames} frames");
            await Checks(thief.Program);
        }, thief.Pid, isReady: true);
    }

    private async Task Execer(Random random)
    {
        string self = Target("execer");
        LiveProgram program = As(random, self, self, self, Target("names"));
        await Beside(program, random, async () =>
        {
            for (int exec = 0; exec < 3; exec++)
            {
                await Pause(random, 1500);
                await program.Tell("exec");
                _ = await program.Ready(Bound);
            }

            await Checks(program);
        });
    }

    private async Task Leaderless(Random random)
    {
        string[] mode = random.Next(2) == 0 ? ["first"] : ["last", "9"];
        LiveProgram program = As(random, Target("leaderless"), mode);
        await Beside(program, random, async () =>
        {
            await Pause(random, 1000);
            await program.Does("end", Bound);
            await Pause(random, 2000);
            await Checks(program);
            if (random.Next(2) == 0)
                return; // it is killed as it is
            program.CloseInput();
            _ = await program.Ends(Bound);
        });
    }

    private async Task Keeper(Random random)
    {
        LiveProgram program = LiveProgram.Start(Target("keeper"), "1024");
        await Beside(program, random, async () =>
        {
            await Pause(random, 1500);
            await program.Does("trap", Bound);
            await Pause(random, 4000);
            // Killed before, it could not end: its own exit waits for the lock that it holds.
            await program.Does("release", Bound);
            await Checks(program);
        });
    }

    private async Task Names(Random random)
    {
        LiveProgram program = As(random, Target("names"));
        await Beside(program, random, async () =>
        {
            await Pause(random, 3000);
            await Checks(program);
        });
    }

    private async Task Stopped(Random random)
    {
        LiveProgram program = As(random, Target("common"), "8");
        await Beside(program, random, async () =>
        {
            await Pause(random, 1500);
            await StoppedTests.Stop(program);
            await Pause(random, 3000);
            if (random.Next(3) == 0)
                return;
            StoppedTests.Go(program);
            await Checks(program);
        });
    }

    private async Task Killed(Random random)
    {
        LiveProgram program = As(random, Target("common"), "8");
        await Beside(program, random, () => Pause(random, 300));
    }

    private async Task Turns(Random random)
    {
        string[] ways = ["close", "exit", "stop"];
        LiveProgram program = As(random, Target("hostile"));
        await Beside(program, random, async () =>
        {
            await Pause(random, 2000);
            _ = await program.Ask(ways[random.Next(ways.Length)], Bound);
            await Pause(random, 2000);
        });
    }

    private async Task Attacker(Random random)
    {
        string[] doings = ["collapse", "pageout", "grow", "extra", "forks 40", "twin", "lock", "discard", "nofile", $"setuid {Stranger}"];
        LiveProgram program = As(random, Target("attacker"));
        await Beside(program, random, async () =>
        {
            await Pause(random, 2000);
            string doing = doings[random.Next(doings.Length)], answer = await program.Ask(doing, Bound);
            Assert.True(!answer.StartsWith("bad ", StringComparison.Ordinal) || answer.StartsWith("bad 0 ", StringComparison.Ordinal), $"attacker after {doing}: {answer}");
            await Pause(random, 1000);
            await Checks(program);
            program.CloseInput();
            _ = await program.Ends(Bound); // and its twin, which would outlive it
        });
    }

    /// <summary>It lives beside the others: the rule takes it in, or a hand; then it does what it does, and is killed.</summary>
    /// <param name="program">What is asked.</param>
    /// <param name="random">What is left to chance.</param>
    /// <param name="doing">What it does.</param>
    /// <param name="pid">The process that is taken in, where that is another.</param>
    /// <param name="isReady">It has said so.</param>
    private async Task Beside(LiveProgram program, Random random, Func<Task> doing, int pid = 0, bool isReady = false)
    {
        await using (program)
        {
            if (!isReady)
                _ = await program.Ready(Bound);
            Task byHand = random.Next(2) == 0 ? ByHand(pid == 0 ? program.Pid : pid) : Task.CompletedTask;
            await doing();
            if (!program.HasExited)
                program.Kill();
            _ = await program.Ends(Bound);
            await byHand;
        }
    }

    /// <summary>Has the daemon of the moment take a program in. What comes of it is the program's affair; that an answer comes, while the daemon lives, is not.</summary>
    private async Task ByHand(int pid)
    {
        if (Daemon is not { } daemon)
            return;
        try
        {
            await daemon.Post("attach", pid);
        }
        catch (Exception unanswered) when (unanswered is HttpRequestException or IOException or OperationCanceledException or ObjectDisposedException)
        {
            if (unanswered.InnerException is TimeoutException)
                Assert.Fail($"no answer to attach {pid}: {daemon.Log}");
        }
    }

    /// <summary>For some seconds it waits for what it has laid out.</summary>
    private async Task Waits(LiveProgram program, Random random, string word)
    {
        Task<string> said = program.NextLine(Bound);
        await Task.WhenAny(said, Pause(random, 3000));
        if (said.IsCompletedSuccessfully && said.Result == word)
        {
            Met(word);
            await Pause(random, 3000);
        }

        _ = said.ContinueWith(static late => late.Exception, TaskScheduler.Default); // it is killed before it says anything
    }

    private static async Task Checks(LiveProgram program)
    {
        string answer = await program.Ask("verify", Bound);
        Assert.True(answer == "ok", $"{program.Name} ({program.Pid}): {answer}: {program.Errors}");
    }

    private void Met(string what) => _met.AddOrUpdate(what, 1, static (_, count) => count + 1);

    private async Task Pause(Random random, int most) => await Task.WhenAny(Task.Delay(random.Next(most)), Task.Delay(Timeout.Infinite, _end.Token));

    private uint Other(Random random) => random.Next(2) == 0 ? _user : Stranger;

    /// <summary>Starts a target as root, as the user of honest programs, or as a stranger.</summary>
    private LiveProgram As(Random random, string target, params IEnumerable<string> arguments)
    {
        if (random.Next(3) == 0)
            return LiveProgram.Start(target, arguments);
        uint user = Other(random);
        return LiveProgram.Start(Needs.Program("setpriv", "util-linux"), [$"--reuid={user}", $"--regid={user}", "--clear-groups", target, .. arguments]);
    }
}
