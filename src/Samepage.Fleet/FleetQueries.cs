using System.Data.Common;
using System.Globalization;
using System.Numerics;
using DuckDB.NET.Data;

namespace Samepage.Fleet;

/// <summary>Asks files of fingerprints what a fleet has in common, with DuckDB in this process; the statements are those of docs/fleet.sql.</summary>
/// <remarks><para>Grouping a billion contents in one table would put tens of gigabytes on the disk and read them again. So: 1. One pass over the files writes what is looked at
/// into parts by digest, in a temporary folder, 8 bytes a page; names become ENUMs, a byte or two each. 2. A statement's sums are taken of each part by
/// itself: copies of a content lie in one part. 3. Its answer is asked of the sums of all parts. Few fingerprints are one part, and are asked where they lie.</para>
/// <para>DuckDB keeps within the memory it is given, and uses the temporary folder beyond it. One thread at a time.</para></remarks>
public sealed class FleetQueries : IDisposable
{
    private const string NameLine = "-- name: ", AnswerLine = "-- answer\n";
    private const long RowsLookedAt = 50_000_000;
    private const int PartsMax = 256;

    /// <summary>A part's rows wait in memory until there are so many for a thread, so all parts together take at most some gigabytes.</summary>
    private const int RowsWaiting = 1 << 16;

    private static readonly string[] NameColumns = ["host", "image", "workload", "domain"];
    private readonly DuckDBConnection _connection = new("DataSource=:memory:");
    private readonly string _temporaryFolder;
    private string[] _parts = [];

    /// <param name="files">Parquet files; patterns with * are DuckDB's to match.</param>
    /// <param name="memoryBytes">Memory that DuckDB may take.</param>
    /// <param name="temporaryFolder">Where it puts what does not fit; made when needed.</param>
    /// <exception cref="DbException">A file cannot be read, or is none of fingerprints; the message says which.</exception>
    public FleetQueries(IReadOnlyList<string> files, long memoryBytes, string temporaryFolder)
    {
        _temporaryFolder = temporaryFolder;
        _connection.Open();
        Execute($"SET memory_limit = '{memoryBytes}B'");
        Execute($"SET temp_directory = {Quote(temporaryFolder)}");
        Execute("SET preserve_insertion_order = false");
        Execute($"SET partitioned_write_flush_threshold = {RowsWaiting}");
        Execute($"SET partitioned_write_max_open_files = {PartsMax}");
        Execute($"CREATE VIEW files AS SELECT host, image, workload, domain, pid, kind, page, digest, zero, reach, huge FROM read_parquet([{string.Join(", ", files.Select(Quote))}])");
        Rows = Convert.ToInt64(Scalar("SELECT COUNT(*) FROM files"), CultureInfo.InvariantCulture);
    }

    /// <summary>Fingerprints in all files.</summary>
    public long Rows { get; }

    /// <summary>Names of the statements.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. Statements().Select(statement => statement.Name)];

    /// <summary>One content of so many is looked at, so that some fifty million pages are.</summary>
    public long OneOfSuited => Math.Max(1, (Rows + RowsLookedAt - 1) / RowsLookedAt);

    /// <summary>Rows from which on fingerprints are put into parts, and about as many as a part has; for tests.</summary>
    internal long RowsOfAPart { get; init; } = 16_000_000;

    /// <summary>Sets what part of the contents is looked at, and puts many of them into parts. To be called once, before anything is asked.</summary>
    /// <param name="oneOf">One content of so many; 1 for all.</param>
    /// <param name="cancellation">Interrupts it: of a billion fingerprints it takes minutes.</param>
    /// <exception cref="DbException">It was interrupted, or the temporary folder has no room.</exception>
    public void Sample(long oneOf, CancellationToken cancellation = default)
    {
        Execute($"CREATE VIEW sampling AS SELECT CAST({oneOf} AS BIGINT) AS one_of", cancellation);
        if (Rows <= RowsOfAPart)
        {
            _parts = ["files"];
            return;
        }

        foreach (string column in NameColumns)
            Execute($"CREATE TYPE {column}_names AS ENUM (SELECT {column} FROM files GROUP BY {column} ORDER BY {column})", cancellation);
        string names = string.Join(", ", NameColumns.Select(column => $"CAST({column} AS {column}_names) AS {column}"));
        long parts = Math.Min(PartsMax, (long)BitOperations.RoundUpToPowerOf2((ulong)(Rows / oneOf / RowsOfAPart) + 1));
        string folder = Path.Combine(Directory.CreateDirectory(_temporaryFolder).FullName, "parts");
        Execute($"""
            COPY (SELECT {names}, digest, zero, reach, (digest >> 40) & {parts - 1} AS part FROM files WHERE reach AND (zero OR digest % {oneOf} = 0))
            TO {Quote(folder)} (FORMAT parquet, COMPRESSION snappy, PARTITION_BY (part))
            """, cancellation);
        if (!Directory.Exists(folder) || Directory.GetDirectories(folder) is not { Length: > 0 } written)
        {
            _parts = ["files"]; // Merging reaches none of the pages: there is nothing to group.
            return;
        }

        _parts = [.. written.Select(part => $"(SELECT {names}, digest, zero, reach FROM read_parquet({Quote(part + "/*.parquet")}, hive_partitioning = false))")];
    }

    /// <summary>Runs a statement.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="cancellation">Interrupts it: a statement may take minutes.</param>
    /// <exception cref="DbException">It was interrupted, or failed.</exception>
    public Answer Ask(string name, CancellationToken cancellation = default)
    {
        string[] halves = Statements().Single(statement => statement.Name == name).Sql.Split(AnswerLine);
        Execute("DROP TABLE IF EXISTS sums", cancellation);
        for (int part = 0; part < _parts.Length; part++)
        {
            Execute($"CREATE OR REPLACE VIEW fingerprints AS SELECT * FROM {_parts[part]}", cancellation);
            Execute($"{(part == 0 ? "CREATE TABLE sums AS" : "INSERT INTO sums")} {halves[0]} SELECT * FROM sums", cancellation);
        }

        using DuckDBCommand command = Command(halves[1]);
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

    private void Execute(string sql, CancellationToken cancellation = default)
    {
        using DuckDBCommand command = Command(sql);
        using CancellationTokenRegistration interrupts = cancellation.Register(command.Cancel);
        _ = command.ExecuteNonQuery();
    }

    private object? Scalar(string sql)
    {
        using DuckDBCommand command = Command(sql);
        return command.ExecuteScalar();
    }

    private DuckDBCommand Command(string sql)
    {
        DuckDBCommand command = _connection.CreateCommand();
        command.CommandText = sql;
        return command;
    }

    private static string Quote(string text) => $"'{text.Replace("'", "''", StringComparison.Ordinal)}'";
}

/// <summary>What a statement answered.</summary>
/// <param name="Name">The statement's name.</param>
/// <param name="Columns">Names of the columns.</param>
/// <param name="Rows">The rows, as text.</param>
public sealed record Answer(string Name, IReadOnlyList<string> Columns, IReadOnlyList<string[]> Rows);
