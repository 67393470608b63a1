using Samepage.Estimate;
using Samepage.Estimate.Census;
using Samepage.Fleet;

namespace Samepage.EstimateTests;

/// <summary>Fingerprints of several hosts: written, keyed, read back and asked.</summary>
public sealed class FleetTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("samepage-fleet-").FullName;

    [Fact]
    public void HostsWorkloadsAndPairsComeOutAsTheyWereWritten()
    {
        ulong[] common = [.. Counted.Fresh(640)], pair = [.. Counted.Fresh(320)];
        Write("a", new ListedSource(1, "uid:1").With(common).With(common.Take(40)).With(Counted.Same(0, 9)), new ListedSource(2, "uid:2").With(common));
        Write("b", new ListedSource(1, "uid:1").With(common).With(pair));
        Write("c", new ListedSource(3, "uid:1").With(pair).With(Counted.Fresh(10)));
        using FleetQueries queries = new([.. Directory.GetFiles(_folder, "*.parquet")], 1L << 30, _folder);
        Assert.Equal(640 + 40 + 9 + 640 + 640 + 320 + 320 + 10, queries.Rows);
        Assert.Equal(1, queries.OneOfSuited);
        queries.Sample(1);
        Assert.Equal([["a", "1320", "9", "49"], ["b", "960", "0", "0"], ["c", "330", "0", "0"]], queries.Ask("hosts").Rows);
        Answer together = queries.Ask("together");
        Assert.Equal(["one", "other", "saved"], together.Columns);
        Assert.All(together.Rows, row => Assert.Contains(row[0] + row[1], new[] { "ab", "bc" }));
        Assert.Contains(queries.Ask("workloads").Rows, row => row[0] == "program 1" && row[1] == "program 2");
        Assert.NotEmpty(queries.Ask("images").Rows);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void PartByPartTheAnswersAreTheSame(int oneOf)
    {
        ulong[] common = [.. Counted.Fresh(6000)];
        Write("a", new ListedSource(1, "uid:1").With(common).With(common.Take(400)).With(Counted.Same(0, 9)), new ListedSource(2, "uid:2").With(common));
        Write("b", new ListedSource(1, "uid:1").With(common.Skip(2000)).With(Counted.Fresh(2000)));
        Write("c", new ListedSource(3, "uid:1").With(Counted.Same(0, 7)));
        string[] files = Directory.GetFiles(_folder, "*.parquet");
        using FleetQueries whole = new(files, 1L << 30, _folder), parts = new(files, 1L << 30, _folder) { RowsOfAPart = 500 };
        whole.Sample(oneOf);
        parts.Sample(oneOf);
        Assert.InRange(Directory.GetDirectories(Path.Combine(_folder, "parts")).Length, 8, 256);
        Assert.All(FleetQueries.Names, name => Assert.Equal(whole.Ask(name).Rows, parts.Ask(name).Rows));
        Assert.Contains(parts.Ask("hosts").Rows, row => row.SequenceEqual(["c", "0", "7", "7"]));
    }

    [Fact]
    public void WhereMergingReachesNothingThereIsNoAnswerAndNoError()
    {
        Write("a", new ListedSource(1, "uid:1").With(Counted.Fresh(300), flags: PageFlags.Huge));
        using FleetQueries queries = new([.. Directory.GetFiles(_folder, "*.parquet")], 1L << 30, _folder) { RowsOfAPart = 100 };
        queries.Sample(1);
        Assert.All(FleetQueries.Names, name => Assert.Empty(queries.Ask(name).Rows));
    }

    [Fact]
    public void ASampleOfTheContentsIsScaledUp()
    {
        ulong[] common = [.. Counted.Fresh(20_000)];
        Write("a", new ListedSource(1, "uid:1").With(common), new ListedSource(2, "uid:1").With(common));
        using FleetQueries queries = new([.. Directory.GetFiles(_folder, "*.parquet")], 1L << 30, _folder);
        queries.Sample(16);
        string[] host = Assert.Single(queries.Ask("hosts").Rows);
        Assert.InRange(long.Parse(host[3], System.Globalization.CultureInfo.InvariantCulture), 17_000, 23_000);
    }

    [Fact]
    public void OnlyTheSameKeyGivesTheSameFingerprints()
    {
        ulong[] digests = [1, 2, 1, CensusRun.ZeroDigest];
        long[] one = Turned("a key of sixteen", digests), again = Turned("a key of sixteen", digests), other = Turned("another key, of 23 bytes", digests);
        Assert.Equal(one, again);
        Assert.Equal(one[0], one[2]);
        Assert.Equal(3, one.Distinct().Count());
        Assert.Empty(one.Intersect(other));
        Assert.Throws<ArgumentException>(() => new FleetKey("fifteen bytes !"u8));
    }

    [Fact]
    public void EveryStatementIsPlainSql()
    {
        Assert.Equal(["hosts", "images", "workloads", "together"], FleetQueries.Names);
        // What DuckDB has and Spark or Trino has not, and the other way round.
        Assert.All(FleetQueries.Statements(), statement => Assert.DoesNotMatch("::|QUALIFY|EXCLUDE|GROUP BY ALL|read_parquet|\\bUSING SAMPLE\\b|LIST\\(|`|\"", statement.Sql));
    }

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static long[] Turned(string secret, ulong[] digests)
    {
        using FleetKey key = new(System.Text.Encoding.UTF8.GetBytes(secret));
        long[] fingerprints = new long[digests.Length];
        key.Turn(digests, fingerprints);
        return fingerprints;
    }

    private void Write(string host, params ListedSource[] sources)
    {
        using FleetKey key = new("a key for the tests of fleets"u8);
        using CensusRun census = new(sources, new CensusOptions { Cost = Counted.Costs })
        {
            OnFingerprints = fingerprints =>
            {
                using FileStream file = File.Create(Path.Combine(_folder, $"{host}.parquet"));
                new FingerprintFile(file, host, key).WriteAsync(fingerprints).GetAwaiter().GetResult();
            },
        };
        _ = census.Run(CancellationToken.None);
    }
}
