using Samepage.Engine.Records;

namespace Samepage.Engine.Index;

/// <summary>A hash table of entries.</summary>
/// <remarks><code>
///   tags   u8    0 = empty, else 0x80 | low 7 bits of the digest
///   refs   u32   read only when a tag matches
/// </code>An entry's home is its digest's share of the table, digest * capacity / 2^64, so that the table can have any size, and is rebuilt in
/// order. Linear probing; removal shifts back what follows, so there are no tombstones and a probe may stop at the first empty tag.
/// It grows by a quarter above a load of 0.86 and shrinks below one of 0.5: 5.8 to 10 bytes an entry.</remarks>
internal sealed class DigestIndex(Func<uint, ulong> digestOf, MemoryBudget budget) : IDigestIndex
{
    private const int SmallestCapacity = 64;

    /// <summary>Digests are fetched so many at a time: they lie anywhere in memory, and the processor waits for many at once.</summary>
    private const int RebuildBlock = 128;

    private NativeColumn<byte> _tags = new(budget);
    private NativeColumn<uint> _refs = new(budget);
    private long _capacity;

    /// <inheritdoc/>
    public long Count { get; private set; }

    /// <inheritdoc/>
    public long Bytes => _tags.Bytes + _refs.Bytes;

    /// <inheritdoc/>
    public bool TryFind(ulong digest, out uint reference)
    {
        reference = 0;
        if (Count == 0)
            return false;
        byte tag = Tag(digest);
        for (long place = Home(digest); _tags[place] != 0; place = Next(place))
        {
            if (_tags[place] == tag && digestOf(_refs[place]) == digest)
            {
                reference = _refs[place];
                return true;
            }
        }

        return false;
    }

    /// <inheritdoc/>
    public int Find(ulong digest, Span<uint> found)
    {
        int count = 0;
        if (Count == 0)
            return count;
        byte tag = Tag(digest);
        for (long place = Home(digest); count < found.Length && _tags[place] != 0; place = Next(place))
        {
            if (_tags[place] == tag && digestOf(_refs[place]) == digest)
                found[count++] = _refs[place];
        }

        return count;
    }

    /// <inheritdoc/>
    public bool TryAdd(ulong digest, uint reference)
    {
        // Where there is no memory to grow, the table may fill up to its last place but one: a probe must end somewhere.
        if (Count + 1 > _capacity * 55 / 64 && !TryRebuild(Math.Max(SmallestCapacity, _capacity + _capacity / 4)) && Count + 2 > _capacity)
            return false;
        Place(digest, reference);
        Count++;
        return true;
    }

    /// <inheritdoc/>
    public bool Remove(ulong digest, uint reference)
    {
        if (Count == 0)
            return false;
        long place = Home(digest);
        while (_tags[place] != 0 && _refs[place] != reference)
            place = Next(place);
        if (_tags[place] == 0)
            return false;
        for (long next = Next(place); _tags[next] != 0; next = Next(next))
        {
            // It may move back only if its home does not lie between the gap and itself.
            if (Distance(Home(digestOf(_refs[next])), next) < Distance(place, next))
                continue;
            (_tags[place], _refs[place]) = (_tags[next], _refs[next]);
            place = next;
        }

        _tags[place] = 0;
        Count--;
        if (_capacity > SmallestCapacity && Count < _capacity / 2)
            _ = TryRebuild(Fitting(Count));
        return true;
    }

    /// <inheritdoc/>
    public void Clear()
    {
        if (_capacity == 0)
            return;
        long capacity = Fitting(Count);
        Count = 0;
        _capacity = _tags.TryRenew(capacity) && _refs.TryRenew(capacity) ? capacity : 0;
    }

    /// <inheritdoc/>
    public void Check()
    {
        long count = 0;
        for (long place = 0; place < _capacity; place++)
        {
            if (_tags[place] == 0)
                continue;
            count++;
            ulong digest = digestOf(_refs[place]);
            if (_tags[place] != Tag(digest))
                throw new EngineInvariantException("index tags", $"place {place} has tag {_tags[place]:x} for digest {digest:x}");
            for (long before = Home(digest); before != place; before = Next(before))
            {
                if (_tags[before] == 0)
                    throw new EngineInvariantException("index probes", $"digest {digest:x} at place {place} is cut off from its home by place {before}");
            }
        }

        if (count != Count)
            throw new EngineInvariantException("index count", $"{count} entries are counted as {Count}");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _tags.Dispose();
        _refs.Dispose();
    }

    private static byte Tag(ulong digest) => (byte)(0x80 | (digest & 0x7F));

    private static long Fitting(long count) => Math.Max(SmallestCapacity, count + count * 29 / 64);

    private long Home(ulong digest) => (long)Math.BigMul(digest, (ulong)_capacity, out _);

    private long Next(long place) => place + 1 == _capacity ? 0 : place + 1;

    private long Distance(long from, long to) => to >= from ? to - from : to - from + _capacity;

    private void Place(ulong digest, uint reference)
    {
        long place = Home(digest);
        while (_tags[place] != 0)
            place = Next(place);
        (_tags[place], _refs[place]) = (Tag(digest), reference);
    }

    private bool TryRebuild(long capacity)
    {
        NativeColumn<byte> tags = new(budget);
        NativeColumn<uint> refs = new(budget);
        if (!tags.TryRenew(capacity) || !refs.TryRenew(capacity))
        {
            tags.Dispose();
            refs.Dispose();
            return false;
        }

        (NativeColumn<byte> oldTags, NativeColumn<uint> oldRefs, long old) = (_tags, _refs, _capacity);
        (_tags, _refs, _capacity) = (tags, refs, capacity);
        Span<uint> references = stackalloc uint[RebuildBlock];
        Span<ulong> digests = stackalloc ulong[RebuildBlock];
        for (long place = 0; place < old;)
        {
            int count = 0;
            for (; place < old && count < RebuildBlock; place++)
            {
                if (oldTags[place] != 0)
                    references[count++] = oldRefs[place];
            }

            for (int i = 0; i < count; i++)
                digests[i] = digestOf(references[i]);
            for (int i = 0; i < count; i++)
                Place(digests[i], references[i]);
        }

        oldTags.Dispose();
        oldRefs.Dispose();
        return true;
    }
}
