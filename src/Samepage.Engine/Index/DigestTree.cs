using System.Runtime.CompilerServices;
using Samepage.Engine.Records;

namespace Samepage.Engine.Index;

/// <summary>A red-black tree of entries, by digest, and by reference where digests are equal.</summary>
/// <remarks><code>
///   left    u32   the node below that comes before; bit 31: the node is red
///   right   u32   the node below that comes after
///   refs    u32
/// </code>Nodes are numbered from 1 and lie in arrays, 12 bytes each; 0 is no node, and black. A node knows nothing of what is above it: whoever
/// changes the tree comes from the root and remembers the way. It is balanced by colour alone.
/// <para>Why not by content where digests are equal: the content of a unique page is its process's, and changes under the tree; its digest is ours and
/// does not. So a search among equal digests is exact, and bytes are compared by whoever asks, on the few that there are.</para></remarks>
internal sealed partial class DigestTree(Func<uint, ulong> digestOf, MemoryBudget budget) : IDigestIndex
{
    private const uint Red = 1U << 31;

    /// <summary>A tree of 2^31 nodes is at most 62 deep, and a removal puts one more onto the way.</summary>
    private const int DepthMax = 64;

    private readonly NativeColumn<uint> _left = new(budget);
    private readonly NativeColumn<uint> _right = new(budget);
    private readonly NativeColumn<uint> _refs = new(budget);
    private uint _root;
    private uint _next = 1;

    /// <summary>Nodes given back, as a chain through their left.</summary>
    private uint _free;

    /// <inheritdoc/>
    public long Count { get; private set; }

    /// <inheritdoc/>
    public long Bytes => _left.Bytes + _right.Bytes + _refs.Bytes;

    /// <inheritdoc/>
    public bool TryFind(ulong digest, out uint reference)
    {
        for (uint node = _root; node != 0;)
        {
            reference = _refs[node];
            ulong there = digestOf(reference);
            if (there == digest)
                return true;
            node = Child(node, right: digest > there);
        }

        reference = 0;
        return false;
    }

    /// <inheritdoc/>
    public int Find(ulong digest, Span<uint> found)
    {
        Span<uint> open = stackalloc uint[DepthMax];
        int depth = 0, count = 0;
        for (uint node = _root; node != 0;)
        {
            bool before = digestOf(_refs[node]) < digest;
            if (!before)
                open[depth++] = node;
            node = Child(node, before);
        }

        while (depth > 0 && count < found.Length)
        {
            uint node = open[--depth];
            if (digestOf(_refs[node]) != digest)
                break;
            found[count++] = _refs[node];
            for (node = Child(node, right: true); node != 0; node = Child(node, right: false))
                open[depth++] = node;
        }

        return count;
    }

    /// <inheritdoc/>
    public void Clear() => (_root, _next, _free, Count) = (0, 1, 0, 0);

    /// <inheritdoc/>
    public void Check()
    {
        long count = 0;
        uint last = 0;
        if (IsRed(_root))
            throw new EngineInvariantException("tree colours", "the root is red");
        _ = CheckBelow(_root, ref count, ref last);
        if (count != Count)
            throw new EngineInvariantException("tree count", $"{count} nodes are counted as {Count}");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _left.Dispose();
        _right.Dispose();
        _refs.Dispose();
    }

    /// <summary>Looks at everything below a node, and at the node, in order.</summary>
    /// <returns>Black nodes on each way down.</returns>
    private int CheckBelow(uint node, ref long count, ref uint last)
    {
        if (node == 0)
            return 1;
        int left = CheckBelow(Child(node, right: false), ref count, ref last);
        if (last != 0 && Compare(digestOf(_refs[last]), _refs[last], node) >= 0)
            throw new EngineInvariantException("tree order", $"reference {_refs[last]} comes before {_refs[node]}");
        last = node;
        count++;
        int right = CheckBelow(Child(node, right: true), ref count, ref last);
        if (left != right)
            throw new EngineInvariantException("tree balance", $"{left} black nodes before reference {_refs[node]}, {right} behind it");
        if (IsRed(node) && (IsRed(Child(node, right: false)) || IsRed(Child(node, right: true))))
            throw new EngineInvariantException("tree colours", $"a red node below the red one of reference {_refs[node]}");
        return left + (IsRed(node) ? 0 : 1);
    }

    /// <summary>Below zero when an entry comes before a node, above when behind it, zero when it is the node's.</summary>
    private int Compare(ulong digest, uint reference, uint node)
    {
        uint other = _refs[node];
        int byDigest = digest.CompareTo(digestOf(other));
        return byDigest != 0 ? byDigest : reference.CompareTo(other);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private uint Child(uint node, bool right) => right ? _right[node] : _left[node] & ~Red;

    private void SetChild(uint node, bool right, uint child)
    {
        if (right)
            _right[node] = child;
        else
            _left[node] = (_left[node] & Red) | child;
    }

    private bool IsRed(uint node) => node != 0 && (_left[node] & Red) != 0;

    private void Colour(uint node, bool red) => _left[node] = red ? _left[node] | Red : _left[node] & ~Red;

    private bool TryTakeNode(out uint node)
    {
        node = _free != 0 ? _free : _next;
        if (_free != 0)
        {
            _free = _left[node];
            return true;
        }

        long least = node + 1L, room = Math.Max(64, least + least / 64);
        if (node >= _left.Capacity || node >= _right.Capacity || node >= _refs.Capacity)
        {
            if (node >= Red || !TryGrow(_left, least, room) || !TryGrow(_right, least, room) || !TryGrow(_refs, least, room))
                return false;
        }

        _next++;
        return true;
    }

    private static bool TryGrow(NativeColumn<uint> column, long least, long room) => column.TryGrow(room) || column.TryGrow(least);

    private void GiveNode(uint node)
    {
        _left[node] = _free;
        _free = node;
    }
}
