namespace Samepage.Engine.Scan;

/// <summary>The slabs of a space by rising chunk (B5): two sorted arrays. Pages are met by rising address, so that a new slab nearly always goes to the end.</summary>
internal sealed class SlabTable
{
    private ulong[] _chunks = [];
    private int[] _slabs = [];

    public int Count { get; private set; }

    public long Bytes => _chunks.Length * (long)(sizeof(ulong) + sizeof(int));

    public ulong Chunk(int index) => _chunks[index];

    public int Slab(int index) => _slabs[index];

    /// <summary>The index of the first chunk that is not below this one.</summary>
    public int LowerBound(ulong chunk)
    {
        int index = Array.BinarySearch(_chunks, 0, Count, chunk);
        return index < 0 ? ~index : index;
    }

    public bool TryFind(ulong chunk, out int slab)
    {
        int index = LowerBound(chunk);
        bool found = index < Count && _chunks[index] == chunk;
        slab = found ? _slabs[index] : -1;
        return found;
    }

    /// <summary>Adds a slab for a chunk that has none.</summary>
    public void Add(ulong chunk, int slab)
    {
        if (Count == _chunks.Length)
        {
            int room = Math.Max(4, Count + Count / 8 + 1);
            Array.Resize(ref _chunks, room);
            Array.Resize(ref _slabs, room);
        }

        int index = LowerBound(chunk);
        Array.Copy(_chunks, index, _chunks, index + 1, Count - index);
        Array.Copy(_slabs, index, _slabs, index + 1, Count - index);
        (_chunks[index], _slabs[index]) = (chunk, slab);
        Count++;
    }

    /// <summary>Keeps the slabs that a predicate accepts, by index, in their order.</summary>
    /// <param name="keep">Called once for each, from the first on.</param>
    public void Keep(Func<ulong, int, bool> keep)
    {
        int kept = 0;
        for (int i = 0; i < Count; i++)
        {
            if (keep(_chunks[i], _slabs[i]))
                (_chunks[kept], _slabs[kept++]) = (_chunks[i], _slabs[i]);
        }

        Count = kept;
    }
}
