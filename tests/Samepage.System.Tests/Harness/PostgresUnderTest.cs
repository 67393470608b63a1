using System.Diagnostics;
using System.Globalization;

namespace Samepage.SystemTests.Harness;

/// <summary>A PostgreSQL cluster of our own, in a temporary folder, run by a user without privileges.</summary>
internal sealed class PostgresUnderTest : IAsyncDisposable
{
    /// <summary>Made by Debian's package; initdb wants a user that has a name.</summary>
    private const string User = "postgres";

    private readonly string _programs;
    private readonly string _folder;
    private LiveProgram? _server;

    private PostgresUnderTest(string programs, string folder) => (_programs, _folder) = (programs, folder);

    public static async Task<PostgresUnderTest> Start(string programs)
    {
        string folder = Directory.CreateTempSubdirectory("samepage-postgres-").FullName;
        var postgres = new PostgresUnderTest(programs, folder);
        try
        {
            await Outside.Must(60, "chown", $"{User}:{User}", folder);
            await postgres.As("initdb", "-D", postgres.Data, "-U", "tester", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8");
            postgres._server = LiveProgram.Start("setpriv", [.. Identity, Path.Combine(programs, "postgres"),
                "-D", postgres.Data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=32MB"]);
            await Until.True(() => File.Exists(Path.Combine(folder, ".s.PGSQL.5432")) || postgres._server.HasExited, 30, () => postgres._server.Errors);
            await Until.True(async () => (await postgres.Try("psql", [.. postgres.Where, "-c", "select 1"])).ExitCode == 0, 30, () => Task.FromResult(postgres._server.Errors));
            await postgres.As("pgbench", [.. postgres.Where, "-i", "-q", "-s", "1"]);
            return postgres;
        }
        catch
        {
            await postgres.DisposeAsync();
            throw;
        }
    }

    private static string[] Identity => [$"--reuid={User}", $"--regid={User}", "--init-groups"];

    private string Data => Path.Combine(_folder, "data");

    private string[] Where => ["-h", _folder, "-U", "tester", "-d", "postgres"];

    private LiveProgram Server => _server ?? throw new InvalidOperationException("not started");

    public int Pid => Server.Pid;

    /// <summary>The server and all its workers of this moment that are still there.</summary>
    public int[] Processes() => [Server.Pid, .. File.ReadAllText($"/proc/{Server.Pid}/task/{Server.Pid}/children")
        .Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(pid => int.Parse(pid, CultureInfo.InvariantCulture))];

    public async Task<string> Query(string sql) => (await As("psql", [.. Where, "-At", "-c", sql])).Trim();

    public Task Bench(int seconds) => As("pgbench", [.. Where, "-n", "-c", "4", "-j", "2", "-T", $"{seconds}"]);

    /// <returns>The server's exit code after a fast shutdown.</returns>
    public async Task<int> Stop()
    {
        await As("pg_ctl", "stop", "-D", Data, "-m", "fast", "-t", "30");
        return await Server.Ends();
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is { HasExited: false })
            await Try("pg_ctl", ["stop", "-D", Data, "-m", "immediate", "-t", "20"]);
        if (_server is not null)
            await _server.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    private async Task<string> As(string program, params string[] arguments)
    {
        Called called = await Try(program, arguments);
        Assert.True(called.ExitCode == 0, $"{program}: {called}");
        return called.Output;
    }

    private Task<Called> Try(string program, string[] arguments) => Outside.Run(60, "setpriv", [.. Identity, Path.Combine(_programs, program), .. arguments]);
}
