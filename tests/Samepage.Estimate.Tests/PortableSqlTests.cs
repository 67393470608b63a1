using System.Diagnostics;
using DuckDB.NET.Data;
using Samepage.Fleet;

namespace Samepage.EstimateTests;

/// <summary>The statements of docs/fleet.sql mean the same in another engine: PostgreSQL, as it stands there, gives the answers that <c>samepage fleet</c> gives part by part.</summary>
public sealed class PortableSqlTests : IDisposable
{
    private const string User = "postgres";
    private const int SecondsMax = 600;
    private readonly string _folder = Directory.CreateTempSubdirectory("samepage-sql-").FullName;

    [Fact]
    public async Task PostgresGivesTheSameAnswers()
    {
        string programs = Programs();
        string data = Path.Combine(_folder, "data"), rows = Path.Combine(_folder, "rows.csv");
        File.SetUnixFileMode(_folder, (UnixFileMode)0x1ff);
        MakeFingerprints(rows);
        await Run(programs, "initdb", ["-D", data, "-U", "tester", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"], "");

        List<string> statements =
        [
            "CREATE TABLE fingerprints (host text, image text, workload text, domain text, pid integer, kind text, page bigint, digest bigint, zero boolean, reach boolean, huge boolean)",
            $"COPY fingerprints FROM '{rows}' CSV",
            "CREATE TABLE sampling (one_of bigint)",
            "INSERT INTO sampling VALUES (1)",
        ];
        foreach (int oneOf in (int[])[1, 3])
        {
            statements.Add($"UPDATE sampling SET one_of = {oneOf}");
            statements.AddRange(FleetQueries.Statements().Select(statement => $"COPY ({statement.Sql}) TO '{AnswerOf(statement.Name, oneOf)}' CSV"));
        }

        // One user, no server: two ends of line behind a semicolon end a statement.
        string printed = await Run(programs, "postgres", ["--single", "-j", "-F", "-D", data, "postgres"], string.Concat(statements.Select(sql => sql + ";\n\n")));
        foreach (int oneOf in (int[])[1, 3])
        {
            using FleetQueries queries = new([Path.Combine(_folder, "rows.parquet")], 1L << 30, Path.Combine(_folder, $"parts{oneOf}")) { RowsOfAPart = 1000 };
            queries.Sample(oneOf);
            foreach (string name in FleetQueries.Names)
            {
                string[] ours = [.. queries.Ask(name).Rows.Select(row => string.Join(',', row))];
                Assert.True(File.Exists(AnswerOf(name, oneOf)), $"{name}: {printed}");
                Assert.NotEmpty(ours);
                Assert.Equal(await File.ReadAllLinesAsync(AnswerOf(name, oneOf), TestContext.Current.CancellationToken), ours);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string AnswerOf(string name, int oneOf) => Path.Combine(_folder, $"{name}.{oneOf}");

    /// <summary>Forty thousand pages of thirty hosts: contents of one host, of several and of all, in either domain, of either sign; some out of reach, some zeros.</summary>
    private void MakeFingerprints(string rows)
    {
        using DuckDBConnection connection = new("DataSource=:memory:");
        connection.Open();
        using DuckDBCommand command = connection.CreateCommand();
        command.CommandText = $"""
            CREATE TABLE fingerprints AS
              SELECT 'host' || (i % 30) AS host, '/bin/p' || (i % 7) AS image, 'w' || (i % 5) AS workload, 'uid:' || (i % 2) AS domain, CAST(i % 9 AS INTEGER) AS pid, 'heap' AS kind,
                i AS page, CASE WHEN i % 50 = 0 THEN -5 ELSE CAST(hash(CASE WHEN i % 3 = 0 THEN i ELSE i * i % 4093 END) // 2 AS BIGINT) - 4611686018427387904 END AS digest,
                i % 50 = 0 AS zero, i % 11 <> 0 AS reach, false AS huge
              FROM range(40000) AS pages(i);
            COPY fingerprints TO '{rows}' (FORMAT csv, HEADER false);
            COPY fingerprints TO '{Path.ChangeExtension(rows, "parquet")}' (FORMAT parquet);
            """;
        _ = command.ExecuteNonQuery();
    }

    private static string Programs()
    {
        string[] found = Directory.Exists("/usr/lib/postgresql") ? [.. Directory.GetDirectories("/usr/lib/postgresql").OrderDescending().Select(version => Path.Combine(version, "bin"))] : [];
        string? folder = Array.Find(found, folder => File.Exists(Path.Combine(folder, "initdb")));
        Assert.SkipUnless(folder is not null, "needs initdb: install postgresql");
        return folder!;
    }

    /// <summary>Runs one of PostgreSQL's programs, which refuse to be root.</summary>
    private static async Task<string> Run(string folder, string program, string[] arguments, string input)
    {
        string path = Path.Combine(folder, program);
        ProcessStartInfo start = Environment.IsPrivilegedProcess
            ? new("setpriv", [$"--reuid={User}", $"--regid={User}", "--init-groups", path, .. arguments])
            : new(path, arguments);
        start.RedirectStandardInput = start.RedirectStandardOutput = start.RedirectStandardError = true;
        start.WorkingDirectory = "/";
        using Process process = Process.Start(start)!;
        using CancellationTokenSource bound = new(TimeSpan.FromSeconds(SecondsMax));
        try
        {
            Task<string> output = process.StandardOutput.ReadToEndAsync(bound.Token), errors = process.StandardError.ReadToEndAsync(bound.Token);
            await process.StandardInput.WriteAsync(input.AsMemory(), bound.Token);
            process.StandardInput.Close();
            string printed = await output + await errors;
            await process.WaitForExitAsync(bound.Token);
            Assert.True(process.ExitCode == 0, $"{program} ended with {process.ExitCode}: {printed}");
            return printed;
        }
        finally
        {
            if (!process.HasExited)
                process.Kill();
        }
    }
}
