using System.Globalization;
using DuckDB.NET.Data;

namespace Samepage.FleetBench;

/// <summary>Files of fingerprints of hosts that do not exist, for measuring what a fleet's questions cost.</summary>
internal static class SyntheticFleet
{
    private const int Images = 8, KindShift = 40;

    /// <summary>Writes the files: a host each.</summary>
    /// <param name="files">Where to.</param>
    /// <param name="pages">Pages of a host.</param>
    /// <remarks>Of a host's pages 5 % are zeros, 45 % of one of eight images, 10 % copies of contents of its own, a hundred of each thousand pages with one content in a domain, and the rest the host's
    /// alone. Half of the pages are of a workload that is called as the image is, and which half differs from host to host, so a part of an image's contents has either name.
    /// What is random is a hash of a number for each content, so a file is the same whenever it is made. Compressed as the estimate's own files are.</remarks>
    public static void Write(IReadOnlyList<string> files, long pages)
    {
        using DuckDBConnection connection = new("DataSource=:memory:");
        connection.Open();
        using DuckDBCommand command = connection.CreateCommand();
        command.CommandText = "SET preserve_insertion_order = false";
        _ = command.ExecuteNonQuery();
        for (int host = 0; host < files.Count; host++)
        {
            int image = host % Images;
            command.CommandText = string.Create(CultureInfo.InvariantCulture, $"""
                COPY (
                  SELECT 'host{host:d3}' AS host, '/srv/image{image}' AS image, CASE WHEN (place + {host / Images}) % 100 < 50 THEN 'image{image}' ELSE 'own' END AS workload,
                    CASE WHEN i % 3 = 0 THEN 'uid:0' ELSE 'uid:1000' END AS domain, CAST(i % 40 AS INTEGER) AS pid, 'anonymous' AS kind, i AS page,
                    CAST(hash(CASE WHEN place < 5 THEN 0
                      WHEN place < 50 THEN {(1L + image) << KindShift} + i
                      WHEN place < 60 THEN {(1024L + host) << KindShift} + i // 1000
                      ELSE {(2048L + host) << KindShift} + i END) >> 1 AS BIGINT) AS digest,
                    place < 5 AS zero, true AS reach, false AS huge
                  FROM (SELECT i, i % 100 AS place FROM range({pages}) AS pages(i)))
                TO '{files[host].Replace("'", "''", StringComparison.Ordinal)}' (FORMAT parquet, COMPRESSION snappy)
                """);
            _ = command.ExecuteNonQuery();
        }
    }
}
