using System.Numerics;
using System.Runtime.InteropServices;

namespace Samepage.Estimate.Census;

/// <summary>All records of a census in one stretch of native memory: 16 bytes a page, and nothing besides.</summary>
/// <remarks>It grows by half. A stretch of this size is a mapping of its own, which the allocator moves with mremap(2): nothing is copied, and room
/// that was not used yet takes no memory. <see cref="Add"/> may be called by several threads; everything else by one, while nobody adds.</remarks>
internal sealed unsafe class PageTable : IDisposable
{
    private const long FirstCapacity = 1 << 16;
    private const int BucketTarget = 4096;
    private readonly Lock _lock = new();
    private PageRecord* _records;
    private long _capacity;

    /// <summary>Records in it.</summary>
    public long Count { get; private set; }

    /// <summary>Bytes of the records.</summary>
    public long Bytes => Count * sizeof(PageRecord);

    public ref PageRecord this[long index]
    {
        get
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((ulong)index, (ulong)Count, nameof(index));
            return ref _records[index];
        }
    }

    /// <summary>Adds records.</summary>
    /// <exception cref="OutOfMemoryException">There is no memory; nothing was added.</exception>
    public void Add(ReadOnlySpan<PageRecord> records)
    {
        lock (_lock)
        {
            if (Count + records.Length > _capacity)
            {
                long capacity = Math.Max(FirstCapacity, Math.Max(_capacity + _capacity / 2, Count + records.Length));
                _records = (PageRecord*)NativeMemory.Realloc(_records, (nuint)capacity * (nuint)sizeof(PageRecord));
                _capacity = capacity;
            }

            records.CopyTo(new Span<PageRecord>(_records + Count, records.Length));
            Count += records.Length;
        }
    }

    /// <summary>Neighbouring records.</summary>
    public Span<PageRecord> Slice(long first, long end)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(end, Count);
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        return new Span<PageRecord>(_records + first, checked((int)(end - first)));
    }

    /// <summary>The first record whose tag is not below one, in a table sorted by place.</summary>
    public long Find(ulong tag)
    {
        long low = 0, high = Count;
        while (low < high)
        {
            long middle = low + (high - low) / 2;
            if (_records[middle].Tag < tag)
                low = middle + 1;
            else
                high = middle;
        }

        return low;
    }

    /// <summary>Drops records that are not wanted; the others keep their order.</summary>
    /// <param name="keep">Says whether to keep one, and may change it.</param>
    public void Keep(RecordFilter keep)
    {
        long to = 0;
        for (long i = 0; i < Count; i++)
        {
            PageRecord record = _records[i];
            if (keep(ref record))
                _records[to++] = record;
        }

        Count = to;
    }

    /// <summary>Puts copies of a content together.</summary>
    public void SortByContent() => Sort(default(ByContent));

    /// <summary>Puts pages as they lie in memory.</summary>
    public void SortByPlace() => Sort(default(ByPlace));

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.Free(_records);
        _records = null;
        (_capacity, Count) = (0, 0);
    }

    /// <summary>Sorts in place: records are dealt out to buckets by the top bits of their key, then each bucket is sorted by itself, on all processors.</summary>
    /// <remarks>1. Count what each bucket gets. 2. Walk along each bucket, and exchange what does not belong there with the first record of the bucket
    /// where it does, until all lie right (McIlroy, Bostic and McIlroy, 1993). 3. Sort the buckets.</remarks>
    private void Sort<TOrder>(TOrder order)
        where TOrder : struct, IOrder
    {
        if (Count < 2)
            return;
        ulong highest = 0;
        for (long i = 0; i < Count; i++)
            highest |= order.Key(_records[i]);
        int width = Math.Clamp(BitOperations.Log2((ulong)Math.Max(1, Count / BucketTarget)), 1, 16);
        int shift = Math.Max(0, 64 - BitOperations.LeadingZeroCount(highest) - width);
        int buckets = 1 << width;
        long[] next = new long[buckets], ends = new long[buckets];
        for (long i = 0; i < Count; i++)
            ends[order.Key(_records[i]) >> shift]++;
        for (long bucket = 0, sum = 0; bucket < buckets; bucket++)
        {
            next[bucket] = sum;
            ends[bucket] = sum += ends[bucket];
        }

        long[] starts = [.. next];
        for (int bucket = 0; bucket < buckets; bucket++)
        {
            while (next[bucket] < ends[bucket])
            {
                PageRecord record = _records[next[bucket]];
                for (ulong home = order.Key(record) >> shift; home != (ulong)bucket; home = order.Key(record) >> shift)
                {
                    ref PageRecord place = ref _records[next[home]++];
                    (place, record) = (record, place);
                }

                _records[next[bucket]++] = record;
            }
        }

        Parallel.For(0, buckets, bucket => order.Sort(Slice(starts[bucket], ends[bucket])));
    }

    private interface IOrder
    {
        ulong Key(in PageRecord record);

        void Sort(Span<PageRecord> records);
    }

    private readonly struct ByContent : IOrder
    {
        public ulong Key(in PageRecord record) => record.Digest;

        public void Sort(Span<PageRecord> records) => records.Sort();
    }

    private readonly struct ByPlace : IOrder
    {
        public ulong Key(in PageRecord record) => record.Tag;

        public void Sort(Span<PageRecord> records) => records.Sort(static (a, b) => a.Tag.CompareTo(b.Tag));
    }
}

/// <summary>Says whether a record is kept, and may change it.</summary>
internal delegate bool RecordFilter(ref PageRecord record);
