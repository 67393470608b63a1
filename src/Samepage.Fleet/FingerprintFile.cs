using Parquet;
using Parquet.Schema;
using Samepage.Estimate;
using Samepage.Estimate.Census;

namespace Samepage.Fleet;

/// <summary>Writes the pages of a census as a Parquet file of fingerprints; docs/estimate.md has the schema.</summary>
/// <remarks>A row group holds a million pages, so memory is bounded whatever the census holds.</remarks>
public sealed class FingerprintFile(Stream file, string host, FleetKey key)
{
    private const int RowsOfAGroup = 1 << 20;
    private static readonly DataField Host = new DataField<string>("host"), Image = new DataField<string>("image"), Workload = new DataField<string>("workload"), Domain = new DataField<string>("domain"),
        Kind = new DataField<string>("kind");

    private static readonly DataField Pid = new DataField<int>("pid"), Page = new DataField<long>("page"), Digest = new DataField<long>("digest"),
        Zero = new DataField<bool>("zero"), Reach = new DataField<bool>("reach"), Huge = new DataField<bool>("huge");

    private static readonly ParquetSchema Schema = new(Host, Image, Workload, Domain, Pid, Kind, Page, Digest, Zero, Reach, Huge);

    /// <summary>Writes all of it.</summary>
    /// <param name="fingerprints">The pages, in any order.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public async Task WriteAsync(IEnumerable<Fingerprint> fingerprints)
    {
        await using ParquetWriter writer = await ParquetWriter.CreateAsync(Schema, file);
        foreach (Fingerprint[] rows in fingerprints.Chunk(RowsOfAGroup))
            await WriteGroupAsync(writer, rows);
    }

    private async Task WriteGroupAsync(ParquetWriter writer, Fingerprint[] rows)
    {
        long[] digests = new long[rows.Length];
        key.Turn([.. rows.Select(row => row.Digest)], digests);
        using ParquetRowGroupWriter group = writer.CreateRowGroup();
        await group.WriteAsync(Host, Enumerable.Repeat(host, rows.Length).ToArray());
        await group.WriteAsync(Image, rows.Select(row => row.Source.Image).ToArray());
        await group.WriteAsync(Workload, rows.Select(row => row.Source.Name).ToArray());
        await group.WriteAsync(Domain, rows.Select(row => row.Source.Domain).ToArray());
        await group.WriteAsync<int>(Pid, rows.Select(row => row.Source.Pid).ToArray());
        await group.WriteAsync(Kind, rows.Select(row => row.Kind.ToString().ToLowerInvariant()).ToArray());
        await group.WriteAsync<long>(Page, rows.Select(row => (long)row.Page).ToArray());
        await group.WriteAsync<long>(Digest, digests);
        await group.WriteAsync<bool>(Zero, rows.Select(row => row.IsZero).ToArray());
        await group.WriteAsync<bool>(Reach, rows.Select(row => row.InReach).ToArray());
        await group.WriteAsync<bool>(Huge, rows.Select(row => row.InHugePage).ToArray());
        group.CompleteValidate();
    }
}
