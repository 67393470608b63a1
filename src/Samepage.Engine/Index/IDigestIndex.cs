namespace Samepage.Engine.Index;

/// <summary>Finds by digest what bears it. Holds 32-bit references; the digests are the caller's, and must not change while their entry is in.</summary>
/// <remarks>Entries of one digest may be many: contents that differ and collide. A digest alone never decides anything: whoever asks compares contents (D3).
/// One thread.</remarks>
internal interface IDigestIndex : IDisposable
{
    /// <summary>Entries held.</summary>
    long Count { get; }

    /// <summary>Bytes held.</summary>
    long Bytes { get; }

    /// <summary>Finds an entry of this digest; which one, where there are several, the kind of index decides.</summary>
    bool TryFind(ulong digest, out uint reference);

    /// <summary>Finds the entries of this digest.</summary>
    /// <returns>How many were found: as many as there is room for at most.</returns>
    int Find(ulong digest, Span<uint> found);

    /// <summary>Adds an entry that is not in yet.</summary>
    /// <returns>False when there is no memory: nothing has changed.</returns>
    bool TryAdd(ulong digest, uint reference);

    /// <summary>Removes an entry.</summary>
    /// <returns>False when it was not in.</returns>
    bool Remove(ulong digest, uint reference);

    /// <summary>Drops all entries, in O(1), whatever their digests are by now (C7).</summary>
    void Clear();

    /// <summary>Looks at everything.</summary>
    /// <exception cref="EngineInvariantException">Something is not as it must be.</exception>
    void Check();
}
