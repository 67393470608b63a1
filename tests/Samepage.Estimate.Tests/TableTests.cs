using Samepage.Estimate;
using Samepage.Estimate.Census;

namespace Samepage.EstimateTests;

/// <summary>The table of records: its packing, its orders, and the counting of heavy contents.</summary>
public sealed class TableTests
{
    [Theory]
    [InlineData(0, 0UL, MemoryKind.Heap, PageFlags.None)]
    [InlineData(65_535, (1UL << 36) - 1, MemoryKind.Image, PageFlags.Reach | PageFlags.Met)]
    [InlineData(258, 0x7_ffff_ffffUL, MemoryKind.FileData, PageFlags.Frame)]
    internal void WhatIsPackedComesOut(int source, ulong page, MemoryKind kind, PageFlags flags)
    {
        PageRecord record = new(42, source, page, kind, flags);
        Assert.Equal((42UL, source, page, kind, flags), (record.Digest, record.Source, record.Page, record.Kind, record.Flags));
        Assert.Equal(PageFlags.Changed, record.With(PageFlags.Changed).Flags);
        Assert.Equal(record.Place, record.With(PageFlags.Changed).Place);
        Assert.Equal(16, System.Runtime.CompilerServices.Unsafe.SizeOf<PageRecord>());
    }

    [Theory]
    [InlineData(0, false)]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(70_000, false)]
    [InlineData(300_000, false)]
    [InlineData(200_000, true)]
    public void BothOrdersAreThoseOfAPlainSort(int count, bool skewed)
    {
        Random random = new(count);
        PageRecord[] records =
        [
            .. Enumerable.Range(0, count).Select(i =>
                new PageRecord(skewed ? (ulong)random.Next(3) << 62 : (ulong)random.NextInt64(), random.Next(5), (ulong)i, MemoryKind.Heap, PageFlags.Reach)),
        ];
        using PageTable table = new();
        foreach (PageRecord[] part in records.Chunk(100))
            table.Add(part);
        table.SortByContent();
        Assert.Equal(records.OrderBy(record => record.Digest).ThenBy(record => record.Tag), table.Slice(0, count).ToArray());
        table.SortByPlace();
        Assert.Equal(records.OrderBy(record => record.Tag), table.Slice(0, count).ToArray());
        if (count > 0)
            Assert.Equal(count / 2, table.Find(table[count / 2].Tag));
        Assert.Equal(count, table.Find(ulong.MaxValue));
        Assert.Equal(16L * count, table.Bytes);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void AContentsTrueNumberLiesBetweenWhatWasMetAndWhatMayHaveBeenMissed(int seed)
    {
        Random random = new(seed);
        HeavyContents heavy = new(capacity: 256);
        Dictionary<ulong, long> truth = [];
        for (int i = 0; i < 200_000; i++)
        {
            ulong content = (ulong)(random.Next(3) > 0 ? random.Next(20) : random.Next(1_000_000));
            truth[content] = truth.GetValueOrDefault(content) + 1;
            heavy.Add(7, [content]);
        }

        var found = heavy.Take();
        Assert.True(found.Count >= 20, $"{found.Count} found");
        Assert.All(found, entry => Assert.InRange(truth[entry.Key.Digest], entry.Value.Copies, entry.Value.Copies + entry.Value.Missed));
    }
}
