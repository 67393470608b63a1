using System.Globalization;
using DuckDB.NET.Data;

namespace Samepage.FleetBench;

/// <summary>Files of fingerprints of hosts that do not exist, for measuring what a fleet's questions cost.</summary>
internal static class SyntheticFleet
{
    private const int Images = 8;

    /// <summary>Writes the files: a host each.</summary>
    /// <param name="files">Where to.</param>
    /// <param name="pages">Pages of a host.</param>
    /// <remarks>Of a host's pages 5 % are zeros, 45 % of one of eight images, 10 % copies of contents of its own, and the rest the host's alone. What is random is a hash of
    /// the page's place, so a file is the same whenever it is made.</remarks>
    public static void Write(IReadOnlyList<string> files, long pages)
    {
        using DuckDBConnection connection = new("DataSource=:memory:");
        connection.Open();
        for (int host = 0; host < files.Count; host++)
        {
            using DuckDBCommand command = connection.CreateCommand();
            command.CommandText = string.Create(CultureInfo.InvariantCulture, $"""
                COPY (
                  SELECT 'host{host:d3}' AS host, '/srv/image{host % Images}' AS image, CASE WHEN i % 100 < 50 THEN 'image{host % Images}' ELSE 'own' END AS workload,
                    CASE WHEN i % 3 = 0 THEN 'uid:0' ELSE 'uid:1000' END AS domain, CAST(i % 40 AS INTEGER) AS pid, 'anonymous' AS kind, i AS page,
                    CAST(CASE WHEN i % 100 < 5 THEN 42
                      WHEN i % 100 < 50 THEN hash('image{host % Images}', i)
                      WHEN i % 100 < 60 THEN hash({host}, i // 1000)
                      ELSE hash({host}, i, 'own') END // 2 AS BIGINT) AS digest,
                    i % 100 < 5 AS zero, true AS reach, false AS huge
                  FROM range({pages}) AS pages(i))
                TO '{files[host].Replace("'", "''", StringComparison.Ordinal)}' (FORMAT parquet, COMPRESSION zstd)
                """);
            _ = command.ExecuteNonQuery();
        }
    }
}
