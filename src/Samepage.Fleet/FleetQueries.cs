using System.Data.Common;
using System.Globalization;
using DuckDB.NET.Data;

namespace Samepage.Fleet;

/// <summary>Asks files of fingerprints what a fleet has in common, with DuckDB in this process; the statements are those of docs/fleet.sql.</summary>
/// <remarks>DuckDB keeps within the memory it is given, and uses a temporary folder beyond it. One thread at a time.</remarks>
public sealed class FleetQueries : IDisposable
{
    private const string NameLine = "-- name: ";
    private const long RowsLookedAt = 50_000_000;
    private readonly DuckDBConnection _connection = new("DataSource=:memory:");

    /// <param name="files">Parquet files; patterns with * are DuckDB's to match.</param>
    /// <param name="memoryBytes">Memory that DuckDB may take.</param>
    /// <param name="temporaryFolder">Where it puts what does not fit; made when needed.</param>
    /// <exception cref="DbException">A file cannot be read, or is none of fingerprints; the message says which.</exception>
    public FleetQueries(IReadOnlyList<string> files, long memoryBytes, string temporaryFolder)
    {
        _connection.Open();
        Execute($"SET memory_limit = '{memoryBytes}B'");
        Execute($"SET temp_directory = {Quote(temporaryFolder)}");
        Execute("SET preserve_insertion_order = false");
        Execute($"CREATE VIEW fingerprints AS SELECT host, image, workload, domain, pid, kind, page, digest, zero, reach, huge FROM read_parquet([{string.Join(", ", files.Select(Quote))}])");
        Rows = Convert.ToInt64(Scalar("SELECT COUNT(*) FROM fingerprints"), CultureInfo.InvariantCulture);
    }

    /// <summary>Fingerprints in all files.</summary>
    public long Rows { get; }

    /// <summary>Names of the statements.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. Statements().Select(statement => statement.Name)];

    /// <summary>One content of so many is looked at, so that some fifty million pages are.</summary>
    public long OneOfSuited => Math.Max(1, (Rows + RowsLookedAt - 1) / RowsLookedAt);

    /// <summary>Sets what part of the contents is looked at.</summary>
    /// <param name="oneOf">One content of so many; 1 for all.</param>
    public void Sample(long oneOf) => Execute($"CREATE OR REPLACE VIEW sampling AS SELECT CAST({oneOf} AS BIGINT) AS one_of");

    /// <summary>Runs a statement.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="cancellation">Interrupts it: a statement may take minutes.</param>
    /// <exception cref="DbException">It was interrupted, or failed.</exception>
    public Answer Ask(string name, CancellationToken cancellation = default)
    {
        using DuckDBCommand command = _connection.CreateCommand();
        using CancellationTokenRegistration interrupts = cancellation.Register(command.Cancel);
        command.CommandText = Statements().Single(statement => statement.Name == name).Sql;
        using DbDataReader reader = command.ExecuteReader();
        List<string[]> rows = [];
        while (reader.Read())
            rows.Add([.. Enumerable.Range(0, reader.FieldCount).Select(i => Convert.ToString(reader.GetValue(i), CultureInfo.InvariantCulture) ?? "")]);
        return new Answer(name, [.. Enumerable.Range(0, reader.FieldCount).Select(reader.GetName)], rows);
    }

    /// <inheritdoc/>
    public void Dispose() => _connection.Dispose();

    internal static IEnumerable<(string Name, string Sql)> Statements()
    {
        using StreamReader reader = new(typeof(FleetQueries).Assembly.GetManifestResourceStream("fleet.sql")!);
        string text = reader.ReadToEnd();
        foreach (string part in text.Split(NameLine)[1..])
        {
            int end = part.IndexOf('\n', StringComparison.Ordinal);
            yield return (part[..end].Trim(), part[(end + 1)..].Trim().TrimEnd(';'));
        }
    }

    private void Execute(string sql)
    {
        using DuckDBCommand command = _connection.CreateCommand();
        command.CommandText = sql;
        _ = command.ExecuteNonQuery();
    }

    private object? Scalar(string sql)
    {
        using DuckDBCommand command = _connection.CreateCommand();
        command.CommandText = sql;
        return command.ExecuteScalar();
    }

    private static string Quote(string text) => $"'{text.Replace("'", "''", StringComparison.Ordinal)}'";
}

/// <summary>What a statement answered.</summary>
/// <param name="Name">The statement's name.</param>
/// <param name="Columns">Names of the columns.</param>
/// <param name="Rows">The rows, as text.</param>
public sealed record Answer(string Name, IReadOnlyList<string> Columns, IReadOnlyList<string[]> Rows);
