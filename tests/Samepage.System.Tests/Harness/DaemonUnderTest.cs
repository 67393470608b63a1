using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;

namespace Samepage.SystemTests.Harness;

/// <summary>A daemon of our own, with its state in a temporary folder.</summary>
internal sealed partial class DaemonUnderTest : IAsyncDisposable
{
    private const int SIGTERM = 15;
    private const int SIGKILL = 9;
    private const int SIGSTOP = 19;
    private const int SIGCONT = 18;
    private const int MNT_DETACH = 2;

    private readonly LiveProgram _process;
    private readonly HttpClient _http;

    private readonly bool _keep;

    private DaemonUnderTest(string runFolder, LiveProgram process, bool keep)
    {
        _keep = keep;
        RunFolder = runFolder;
        _process = process;
        string socket = Path.Combine(runFolder, "samepage.sock");
        _http = new HttpClient(new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancellation) =>
            {
                var connection = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await connection.ConnectAsync(new UnixDomainSocketEndPoint(socket), cancellation);
                return new NetworkStream(connection, ownsSocket: true);
            },
        })
        { BaseAddress = new Uri("http://samepage"), Timeout = TimeSpan.FromMinutes(3) };
    }

    public string RunFolder { get; }

    public int Pid => _process.Pid;

    public bool HasExited => _process.HasExited;

    public string Log => _process.Errors;

    /// <param name="runFolder">Where it keeps its state; a new folder by default.</param>
    /// <param name="keep">The folder outlives this daemon.</param>
    /// <param name="rules">Its file of rules; without one it takes in nobody but by hand, whatever else runs on this machine.</param>
    /// <param name="launcher">A program, and its arguments, that becomes the daemon.</param>
    /// <param name="arguments">What else it is told.</param>
    /// <param name="environment">What else is in its environment.</param>
    public static async Task<DaemonUnderTest> Start(string? runFolder = null, bool keep = false, string? rules = null, string[]? launcher = null, string[]? arguments = null,
        Dictionary<string, string>? environment = null)
    {
        DaemonUnderTest daemon = Launch(runFolder, keep, rules, launcher, arguments, environment);
        await daemon.Ready();
        return daemon;
    }

    /// <summary>Starts one as <see cref="Start"/> does, and does not wait until it serves.</summary>
    public static DaemonUnderTest Launch(string? runFolder = null, bool keep = false, string? rules = null, string[]? launcher = null, string[]? arguments = null,
        Dictionary<string, string>? environment = null)
    {
        Needs.Root();
        runFolder ??= Directory.CreateTempSubdirectory("samepage-test-").FullName;
        environment = new Dictionary<string, string>(environment ?? []) { ["SAMEPAGE_RUN_DIR"] = runFolder };
        string[] command =
            [.. launcher ?? [], .. Repository.Program, "daemon", .. rules is null ? (string[])["--no-rules"] : ["--config", rules], .. arguments ?? []];
        return new DaemonUnderTest(runFolder, LiveProgram.StartIn("/", environment, command[0], command[1..]), keep);
    }

    /// <summary>Returns when it serves.</summary>
    public Task Ready() => _process.Ready(60);

    public async Task<WireStatus> Status() => WireStatus.Parse(await _http.GetStringAsync("/v1/status"));

    /// <summary>What it answers on its socket.</summary>
    public Task<string> Get(string path, CancellationToken cancellation = default) => _http.GetStringAsync(path, cancellation);

    /// <summary>Posts a process id, whatever becomes of it.</summary>
    /// <param name="what"><c>attach</c> or <c>detach</c>.</param>
    /// <param name="pids">The processes.</param>
    public async Task Post(string what, params IEnumerable<int> pids)
    {
        using StringContent body = Asked(pids);
        using HttpResponseMessage reply = await _http.PostAsync($"/v1/{what}", body);
        _ = await reply.Content.ReadAsStringAsync();
    }

    public Task<Called> Cli(params IEnumerable<string> arguments) => Harness.Cli.Run(RunFolder, arguments);

    /// <summary>Has it take processes in, or give them back, without a command line.</summary>
    /// <param name="what"><c>attach</c> or <c>detach</c>.</param>
    /// <param name="programs">The processes.</param>
    /// <returns>What became of each.</returns>
    /// <exception cref="HttpRequestException">It died meanwhile, among others.</exception>
    public async Task<WireOutcome[]> Have(string what, params IEnumerable<LiveProgram> programs)
    {
        using StringContent body = Asked(programs.Select(program => program.Pid));
        using HttpResponseMessage reply = await _http.PostAsync($"/v1/{what}", body);
        string said = await reply.Content.ReadAsStringAsync();
        Assert.True(reply.IsSuccessStatusCode, $"{what}: {said}\n{Tail}");
        return WireOutcome.Parse(said);
    }

    /// <summary>Takes processes in, and returns when they are (they may still have much to merge).</summary>
    public Task TakeIn(params IEnumerable<LiveProgram> programs) => InTheEnd("attach", "not taken in (waiting)", programs);

    /// <summary>Takes processes in, however long that takes: another program, or a crowded machine, may keep it for longer than an answer is waited for.</summary>
    public async Task TakeInInTheEnd(params LiveProgram[] programs)
    {
        _ = await Cli(["attach", .. programs.Select(program => $"{program.Pid}")]);
        foreach (LiveProgram program in programs)
        {
            await Until.True(async () => (await Status()).Processes.Any(one => one.Pid == program.Pid && one.State is ("settling" or "merging")), 120,
                async () => $"process {program.Pid} is taken in: {(await Status()).Of(program.Pid)}\n{Tail}");
        }
    }

    /// <summary>Takes processes in, and returns when nothing more can be merged in them now.</summary>
    public async Task TakeInAndWait(params IEnumerable<LiveProgram> programs)
    {
        Called called = await Cli(["attach", "--wait", .. programs.Select(program => $"{program.Pid}")]);
        Assert.True(called.ExitCode == 0, $"attach --wait: {called}\n{Tail}");
    }

    /// <summary>Takes programs in that were there before it, merges them, and gives them back whole.</summary>
    /// <param name="programs">The programs, which can <c>verify</c>.</param>
    /// <param name="pages">Pages that are merged in the first of them, at least.</param>
    public async Task Serves(LiveProgram[] programs, long pages)
    {
        // Another daemon may be about to let go of them.
        await TakeInInTheEnd([.. programs]);
        await TakeInAndWait(programs);
        await Merged(programs[0], pages);
        await GiveBack(programs);
        foreach (LiveProgram program in programs)
            await program.Does("verify");
    }

    public Task GiveBack(params IEnumerable<LiveProgram> programs) => InTheEnd("detach", "not given back (waiting)", programs);

    /// <summary>On a crowded machine an answer may be given up while the work goes on: then it is asked for again, and for nothing else.</summary>
    private async Task InTheEnd(string command, string waiting, IEnumerable<LiveProgram> programs)
    {
        string[] arguments = [command, .. programs.Select(program => $"{program.Pid}")];
        Called called = new(1, "", "");
        await Until.True(async () => (called = await Cli(arguments)).ExitCode == 0 || !called.Errors.Contains(waiting, StringComparison.Ordinal), 60, () => Task.FromResult($"{command}: {called}\n{Tail}"));
        Assert.True(called.ExitCode == 0, $"{command}: {called}\n{Tail}");
    }

    /// <summary>Waits until so many pages of a process are merged.</summary>
    public Task Merged(LiveProgram program, long pages, int seconds = 180) => Until.True(
        async () => (await Status()).Of(program.Pid).PagesMerged >= pages, seconds,
        async () => $"{pages} pages of {program.Name} ({program.Pid}) merged: {(await Status()).Of(program.Pid)}\n{Tail}");

    /// <summary>The end of its log.</summary>
    public string Tail => $"the daemon ({(HasExited ? $"exited with {_process.ExitCode}" : "running")}) said: {string.Join('\n', Log.Split('\n').TakeLast(60))}";

    /// <summary>Kills it, and waits until it has ended.</summary>
    public async Task Kill9(int seconds = 10)
    {
        Kill();
        await Ends(seconds);
    }

    /// <summary>Kills it, and waits for nothing.</summary>
    public void Kill() => Assert.Equal(0, kill(Pid, SIGKILL));

    /// <summary>Returns once it has ended.</summary>
    public Task Ends(int seconds) => _process.Ends(seconds);

    /// <summary>Takes programs in, and kills the daemon at a moment at which it holds all threads of one of them.</summary>
    public async Task Kill9WhileItHolds(params LiveProgram[] programs)
    {
        Task taken = await StopWhileItHolds(programs);
        await Kill9();
        await taken.ContinueWith(static _ => { }, TaskScheduler.Default); // its command line lost the daemon
    }

    /// <summary>Takes programs in, and stops the daemon at a moment at which it holds all threads of one of them.</summary>
    /// <returns>Ends when its command line does, and nothing is asked of it any more.</returns>
    public async Task<Task> StopWhileItHolds(params LiveProgram[] programs)
    {
        int[] threads = [.. programs.Select(program => ProcessView.Of(program.Pid).Threads)];
        using var caught = new CancellationTokenSource();
        Task asked = MergeOverAndOver(TakeIn(programs), caught.Token);
        await Until.True(() => IsCaught(programs, threads), 180, () => $"the daemon was never seen to hold the threads of a program\n{asked.Status} {asked.Exception}\n{Tail}");
        await caught.CancelAsync();
        return asked;
    }

    /// <summary>A hold takes milliseconds, and who looks may be late: everything is given back and merged again until one was seen. Where nothing is merged yet nobody is held, however long that takes.</summary>
    private async Task MergeOverAndOver(Task taken, CancellationToken caught)
    {
        await taken;
        while (!caught.IsCancellationRequested)
        {
            await Task.Delay(1000, CancellationToken.None);
            if (await File.ReadAllTextAsync(ControlFile("pages_sharing"), CancellationToken.None) is "0\n")
                continue;
            await Control("run", "2");
            await Control("run", "1");
        }
    }

    /// <summary>Writes one of its control files.</summary>
    public Task Control(string file, string value) => File.WriteAllTextAsync(ControlFile(file), value);

    private string ControlFile(string file) => Path.Combine(RunFolder, "control", "ksm", file);

    /// <summary>Has it merge all that can be merged, also what was written soon after it was merged: an attack wants as many merges as there can be.</summary>
    public Task MergesWithoutRest() => Control("smart_scan", "0");

    /// <summary>Looks for a while; when all threads of a program but the agent's are held, and still are once the daemon is stopped, it is left like that.</summary>
    private bool IsCaught(LiveProgram[] programs, int[] threads)
    {
        for (int look = 0; look < 500; look++)
        {
            for (int i = 0; i < programs.Length; i++)
            {
                if (!IsHeld(programs[i], threads[i]))
                    continue;
                Assert.Equal(0, kill(Pid, SIGSTOP));
                while (ProcessView.Of(Pid).ThreadStates.Any(state => state != 'T'))
                    Thread.Yield();
                if (IsHeld(programs[i], threads[i]))
                    return true;
                Assert.Equal(0, kill(Pid, SIGCONT));
            }
        }

        return false;
    }

    /// <summary>As many threads as the program has are held, and stand before the gate: all signals are blocked in them.</summary>
    private static bool IsHeld(LiveProgram program, int threads) => ProcessView.Of(program.Pid).HeldThreads == threads;

    /// <summary>Kills the process that waits for the daemon's death.</summary>
    public void KillGuardian() => Assert.True(TryKillGuardian(), "the daemon has no guardian");

    /// <summary>Kills the process that waits for the daemon's death.</summary>
    /// <returns>False when there is none: one that only starts may not have come to that.</returns>
    public bool TryKillGuardian()
    {
        // The kernel lists children by the thread that forked them; which that is depends on what the daemon had to wait for.
        string? guardian = Directory.GetDirectories($"/proc/{Pid}/task").SelectMany(task => TextOf($"{task}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .FirstOrDefault(child => TextOf($"/proc/{child}/cmdline").Contains("samepage-guardian", StringComparison.Ordinal));
        if (guardian is null)
            return false;
        Assert.Equal(0, kill(int.Parse(guardian, System.Globalization.CultureInfo.InvariantCulture), SIGKILL));
        return true;
    }

    private static StringContent Asked(IEnumerable<int> pids) => new($"{{\"pids\": [{string.Join(", ", pids)}], \"all\": false}}", Encoding.UTF8, "application/json");

    /// <summary>A file of a thread or a process; empty when it has just ended.</summary>
    private static string TextOf(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (IOException)
        {
            return "";
        }
    }

    /// <returns>The exit code.</returns>
    public async Task<int> Terminate(int seconds = 60)
    {
        Assert.Equal(0, kill(Pid, SIGTERM));
        return await _process.Ends(seconds);
    }

    public async ValueTask DisposeAsync()
    {
        _http.Dispose();
        if (!HasExited)
        {
            _ = kill(Pid, SIGTERM);
            await Task.WhenAny(Task.Run(() => _process.Ends(30)), Task.Delay(TimeSpan.FromSeconds(31)));
        }

        await _process.DisposeAsync();
        if (!_keep && Directory.Exists(RunFolder))
            Remove(RunFolder);
    }

    /// <summary>Removes a folder in which a daemon kept its state. One that was killed leaves its control directory mounted until its guardian comes to it, whose recovery
    /// may be writing there just now.</summary>
    public static void Remove(string runFolder)
    {
        for (int tries = 1; ; tries++)
        {
            _ = umount2(Path.Combine(runFolder, "control"), MNT_DETACH);
            try
            {
                Directory.Delete(runFolder, recursive: true);
                return;
            }
            catch (IOException) when (tries < 50)
            {
                Thread.Sleep(200);
            }
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int umount2(string target, int flags);
}
