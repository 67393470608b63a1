using Samepage.Engine.Records;

namespace Samepage.Engine.Index;

/// <summary>Finds by digest what bears it. Holds 32-bit references and no digests: the caller's columns have those.</summary>
/// <remarks><code>
///   tags   u8    0 = empty, else 0x80 | top 7 bits of the digest
///   refs   u32   read only when a tag matches
/// </code>Linear probing from the digest's low bits; removal shifts back what follows, so there are no tombstones and a probe may stop at
/// the first empty tag. Load at most 0.86. A digest alone never decides anything: whoever asks compares contents later (D3).</remarks>
internal sealed class DigestIndex(Func<uint, ulong> digestOf) : IDisposable
{
    private readonly NativeColumn<byte> _tags = new();
    private readonly NativeColumn<uint> _refs = new();
    private long _mask = -1;

    /// <summary>Entries held.</summary>
    public long Count { get; private set; }

    /// <summary>Bytes held.</summary>
    public long Bytes => _tags.Bytes + _refs.Bytes;

    public bool TryFind(ulong digest, out uint reference)
    {
        byte tag = Tag(digest);
        for (long place = (long)digest & _mask; _mask >= 0 && _tags[place] != 0; place = (place + 1) & _mask)
        {
            if (_tags[place] == tag && digestOf(_refs[place]) == digest)
            {
                reference = _refs[place];
                return true;
            }
        }

        reference = 0;
        return false;
    }

    /// <summary>Adds an entry; its digest must not be in yet.</summary>
    public void Add(ulong digest, uint reference)
    {
        if (Count + 1 > (_mask + 1) * 55 / 64)
            Rebuild(Math.Max(64, (_mask + 1) * 2));
        Place(digest, reference);
        Count++;
    }

    /// <summary>Removes the entry of this digest and reference, if it is in.</summary>
    public void Remove(ulong digest, uint reference)
    {
        if (_mask < 0)
            return;
        long place = (long)digest & _mask;
        while (_tags[place] != 0 && _refs[place] != reference)
            place = (place + 1) & _mask;
        if (_tags[place] == 0)
            return;
        Count--;
        for (long next = (place + 1) & _mask; _tags[next] != 0; next = (next + 1) & _mask)
        {
            long home = (long)digestOf(_refs[next]) & _mask;
            // It may move back only if its home does not lie between the gap and itself.
            if (((next - home) & _mask) < ((next - place) & _mask))
                continue;
            (_tags[place], _refs[place]) = (_tags[next], _refs[next]);
            place = next;
        }

        _tags[place] = 0;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _tags.Dispose();
        _refs.Dispose();
    }

    private static byte Tag(ulong digest) => (byte)(0x80 | (digest >> 57));

    private void Place(ulong digest, uint reference)
    {
        long place = (long)digest & _mask;
        while (_tags[place] != 0)
            place = (place + 1) & _mask;
        (_tags[place], _refs[place]) = (Tag(digest), reference);
    }

    private void Rebuild(long capacity)
    {
        uint[] kept = new uint[Count];
        int count = 0;
        for (long place = 0; place <= _mask; place++)
        {
            if (_tags[place] != 0)
                kept[count++] = _refs[place];
        }

        _tags.Dispose();
        _refs.Dispose();
        _tags.Grow(capacity);
        _refs.Grow(capacity);
        _mask = capacity - 1;
        foreach (uint reference in kept)
            Place(digestOf(reference), reference);
    }
}
