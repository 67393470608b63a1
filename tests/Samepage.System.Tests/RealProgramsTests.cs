using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Programs that nobody here wrote, at work while they are merged.</summary>
public sealed class RealProgramsTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    /// <summary>Loads the same data in every interpreter; checks it by its digest; changes it on request.</summary>
    private const string Python = """
        import hashlib, sys
        blocks = [bytearray(hashlib.sha256(b'%d' % i).digest() * 32768) for i in range(32)]
        table = {('key %d' % i): [i, str(i) * 3] for i in range(50000)}
        def digest():
            whole = hashlib.sha256()
            for block in blocks: whole.update(block)
            whole.update(repr(sorted(table.items())).encode())
            return whole.hexdigest()
        first = digest()
        print('ready', flush=True)
        for line in sys.stdin:
            if line.strip() == 'write':
                for i, block in enumerate(blocks):
                    for at in range(0, len(block), 4096): block[at] = (block[at] + 1 + i) & 255
                for i, block in enumerate(blocks):
                    for at in range(0, len(block), 4096): block[at] = (block[at] - 1 - i) & 255
            print('ok' if digest() == first else 'bad', flush=True)
        """;

    private const string Node = """
        const crypto = require('crypto');
        const blocks = [];
        for (let i = 0; i < 32; i++) {
          const seed = crypto.createHash('sha256').update(String(i)).digest(), block = Buffer.alloc(1 << 20);
          for (let at = 0; at < block.length; at += 32) seed.copy(block, at);
          blocks.push(block);
        }
        const objects = Array.from({length: 50000}, (_, i) => ({id: i, name: 'name ' + i}));
        const digest = () => { const whole = crypto.createHash('sha256'); blocks.forEach(b => whole.update(b)); whole.update(JSON.stringify(objects)); return whole.digest('hex'); };
        const first = digest();
        console.log('ready');
        require('readline').createInterface({input: process.stdin}).on('line', line => {
          if (line === 'write') for (const step of [1, -1]) for (const block of blocks) for (let at = 0; at < block.length; at += 4096) block[at] = (block[at] + step) & 255;
          const garbage = []; for (let i = 0; i < 100000; i++) garbage.push({i});
          console.log(digest() === first ? 'ok' : 'bad');
        }).on('close', () => process.exit(0));
        """;

    [Fact]
    public async Task Python3()
    {
        string python = Needs.Program("python3", "python3");
        await TwoInterpreters(() => LiveProgram.Start(python, "-c", Python));
    }

    [Fact]
    public async Task Node_js()
    {
        string node = Needs.Program("node", "nodejs");
        await TwoInterpreters(() => LiveProgram.Start(node, "-e", Node));
    }

    [Fact]
    public async Task AStaticallyLinkedProgram()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common-static", "32");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 5000);
        foreach (LiveProgram program in two)
            await program.Does("write");
        await Daemon.GiveBack(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");
    }

    [Fact]
    public async Task FiftyThreads()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "threads50");
        await using var together = new Together(two);
        await Daemon.TakeIn(two);
        await Daemon.Merged(two[0], 5000, 60);
        long rounds = await Rounds(two[0]);
        await Until.True(async () => await Rounds(two[0]) > rounds + 2000, 60, "its threads go on working");
        await Rounds(two[1]);
        await Daemon.GiveBack(two);
        await Rounds(two[0]);
        Assert.Equal(51, ProcessView.Of(two[0].Pid).Threads);
    }

    [Fact]
    public async Task RedisUnderLoad()
    {
        string redis = Needs.Program("redis-server", "redis-server");
        await using RedisUnderTest first = await RedisUnderTest.Start(redis), second = await RedisUnderTest.Start(redis);
        await first.Fill();
        await second.Fill();
        // Once, or until something was merged under the load.
        await Until.True(
            async () =>
            {
                Task load = Task.WhenAll(first.Load(seconds: 5), second.Load(seconds: 5), first.Benchmark(Needs.Program("redis-benchmark", "redis-tools"), 3_000));
                return await AgainAndAgain(load, () => [first.Server.Pid, second.Server.Pid]) > 0;
            },
            60,
            async () => $"merges under load: {await Daemon.Status()}");
        await first.CheckEveryKey();
        await second.CheckEveryKey();
        string digest = await first.Digest();
        // It has forked, and what is shared since then is not moved to join its neighbours: that is told of (docs/limits.md).
        await StormTests.GivenBackInTheEnd(Daemon, first.Server);
        await StormTests.GivenBackInTheEnd(Daemon, second.Server);
        Assert.Equal(digest, await first.Digest());
        await first.CheckEveryKey();
        await second.CheckEveryKey();
    }

    /// <summary>Servers that hold the same in memory, asked for all of it by several at once, while they are taken in and given back.</summary>
    [Theory]
    [InlineData("node", 5000)]
    [InlineData("nginx", 20)]
    [InlineData("java", 1000)]
    public async Task AServiceUnderLoad(string kind, long pages)
    {
        await using ServiceUnderTest first = await ServiceUnderTest.Start(kind), second = await ServiceUnderTest.Start(kind);
        // Under load the daemon, which is nice, hardly comes to look at so much memory within seconds: so it begins before.
        int[] servers = [.. first.Processes, .. second.Processes];
        await Daemon.Cli(["attach", .. servers.Select(pid => $"{pid}")]);
        await Until.True(async () => (await Daemon.Status()).Processes.Where(process => servers.Contains(process.Pid)).Max(process => process.PagesMerged) >= pages, 30,
            async () => $"{string.Join('\n', (await Daemon.Status()).Processes.AsEnumerable())}\n{Daemon.Tail}");
        using var end = new CancellationTokenSource(TimeSpan.FromSeconds(4));
        Task<int>[] load = [first.Load(end.Token), first.Load(end.Token), second.Load(end.Token)];
        long most = await AgainAndAgain(Task.WhenAll(load), () => [.. first.Processes, .. second.Processes]);
        Assert.All(load, answers => Assert.InRange(answers.Result, 20, int.MaxValue));
        Called back = await Daemon.Cli("detach", "--all");
        Assert.True(back.ExitCode == 0, $"{back}");
        TestContext.Current.SendDiagnosticMessage("{0}: {1} answers, {2} pages merged at most under load", kind, load.Sum(answers => answers.Result), most);
    }

    /// <summary>Takes processes in and gives them back for as long as they are loaded, and leaves them taken in.</summary>
    /// <returns>The most pages that were merged in the first at a time.</returns>
    private async Task<long> AgainAndAgain(Task load, Func<int[]> processes)
    {
        long most = 0;
        for (int round = 0; round == 0 || !load.IsCompleted; round++)
        {
            if (round > 0)
            {
                // A server that forks may have to be asked again: its children of this moment share its frames.
                Called back = new(1, "", "");
                await Until.True(async () => (back = await Daemon.Cli("detach", "--all")).ExitCode == 0, 20,
                    async () => $"{back}\n{string.Join('\n', (await Daemon.Status()).Processes.AsEnumerable())}\n{Daemon.Tail}");
            }

            int[] pids = processes();
            await Daemon.Cli(["attach", .. pids.Select(pid => $"{pid}")]);
            for (int look = 0; look < 8 && (look < 4 || !load.IsCompleted); look++, await Task.Delay(125))
                most = Math.Max(most, (await Daemon.Status()).Processes.Where(process => pids.Contains(process.Pid)).Select(process => process.PagesMerged).DefaultIfEmpty().Max());
        }

        await load;
        return most;
    }

    [Fact]
    public async Task PostgresUnderLoad()
    {
        string programs = Path.GetDirectoryName(Needs.Program("initdb", "postgresql")) ?? "";
        Needs.Program("pgbench", "postgresql");
        await using PostgresUnderTest postgres = await PostgresUnderTest.Start(programs);
        string before = await postgres.Query("select md5(string_agg(aid || filler, ',' order by aid)) from pgbench_accounts");
        await TakeInAll(postgres);
        Task bench = postgres.Bench(seconds: 7);
        await AgainAndAgain(bench, postgres.Processes);
        await TakeInAll(postgres);
        Assert.Equal(before, await postgres.Query("select md5(string_agg(aid || filler, ',' order by aid)) from pgbench_accounts"));
        Assert.Equal("t", await postgres.Query(
            "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history) and (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)"));
        // Every index, held against every row of its table; amcheck raises an error for what does not fit.
        await postgres.Query("create extension if not exists amcheck");
        Assert.NotEqual("0", await postgres.Query("select count(bt_index_check(indexrelid, true)) from pg_index join pg_class on pg_class.oid = indexrelid join pg_am on pg_am.oid = relam where amname = 'btree' and relpersistence <> 't'"));
        Called back = await Daemon.Cli("detach", "--all");
        Assert.True(back.ExitCode == 0, $"{back}");
        Assert.Equal(before, await postgres.Query("select md5(string_agg(aid || filler, ',' order by aid)) from pgbench_accounts"));
        Assert.Equal(0, await postgres.Stop());
    }

    /// <summary>Takes in every process of a cluster. A worker may end in the meantime; nobody else may be refused.</summary>
    private async Task TakeInAll(PostgresUnderTest postgres)
    {
        Called called = await Daemon.Cli(["attach", .. postgres.Processes().Select(pid => $"{pid}")]);
        Assert.DoesNotContain(called.Errors.Split('\n'), line => line.Length > 0 && !line.EndsWith("no such process", StringComparison.Ordinal));
        Assert.Equal("merging", (await Daemon.Status()).Of(postgres.Pid).State.Replace("settling", "merging", StringComparison.Ordinal));
    }

    private async Task TwoInterpreters(Func<LiveProgram> start)
    {
        LiveProgram[] two = [start(), start()];
        await using var together = new Together(two);
        foreach (LiveProgram program in two)
            await program.Ready();
        int threads = ProcessView.Of(two[0].Pid).Threads;
        await Daemon.TakeInAndWait(two);
        // Of the 32 MiB of blocks nearly all; what else the interpreters have in common comes on top.
        await Daemon.Merged(two[0], 7000);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        await two[0].Does("write");
        await two[1].Does("verify");
        await Daemon.GiveBack(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        Assert.Equal(threads, ProcessView.Of(two[0].Pid).Threads);
        two[0].CloseInput();
        Assert.Equal(0, await two[0].Ends());
    }

    private static async Task<long> Rounds(LiveProgram threads)
    {
        string[] words = (await threads.Ask("report")).Split(' ');
        Assert.True(words[3] == "0", $"{string.Join(' ', words)}: {threads.Errors}");
        return long.Parse(words[1], System.Globalization.CultureInfo.InvariantCulture);
    }
}
