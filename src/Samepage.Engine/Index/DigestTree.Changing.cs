namespace Samepage.Engine.Index;

/// <content>Putting in and taking out.</content>
internal sealed partial class DigestTree
{
    /// <inheritdoc/>
    public bool TryAdd(ulong digest, uint reference)
    {
        if (!TryTakeNode(out uint node))
            return false;
        Way way = new(stackalloc uint[DepthMax]);
        for (uint at = _root; at != 0;)
        {
            bool right = Compare(digest, reference, at) > 0;
            way.Push(at, right);
            at = Child(at, right);
        }

        (_left[node], _right[node], _refs[node]) = (Red, 0, reference);
        Link(way, way.Depth, node);
        BalanceRed(ref way, node);
        Colour(_root, red: false);
        Count++;
        return true;
    }

    /// <inheritdoc/>
    public bool Remove(ulong digest, uint reference)
    {
        Way way = new(stackalloc uint[DepthMax]);
        uint node = _root;
        for (int order; node != 0 && (order = Compare(digest, reference, node)) != 0;)
        {
            way.Push(node, right: order > 0);
            node = Child(node, right: order > 0);
        }

        if (node == 0)
            return false;
        if (Child(node, right: false) != 0 && Child(node, right: true) != 0)
        {
            // The entry that comes next has one node below it at most: it takes this place, and its node goes.
            uint emptied = node;
            way.Push(node, right: true);
            for (node = Child(node, right: true); Child(node, right: false) != 0; node = Child(node, right: false))
                way.Push(node, right: false);
            _refs[emptied] = _refs[node];
        }

        uint below = Child(node, right: false) | Child(node, right: true);
        Link(way, way.Depth, below);
        if (IsRed(below))
            Colour(below, red: false);
        else if (!IsRed(node))
            BalanceBlack(ref way);
        GiveNode(node);
        Count--;
        return true;
    }

    /// <summary>A red node was put at the end of the way: no red one may stand above it.</summary>
    private void BalanceRed(ref Way way, uint node)
    {
        while (way.Depth >= 2 && IsRed(way.Node(way.Depth - 1)))
        {
            uint parent = way.Node(way.Depth - 1), grandparent = way.Node(way.Depth - 2);
            bool parentRight = way.Right(way.Depth - 2), nodeRight = way.Right(way.Depth - 1);
            uint uncle = Child(grandparent, !parentRight);
            Colour(grandparent, red: true);
            if (IsRed(uncle))
            {
                Colour(parent, red: false);
                Colour(uncle, red: false);
                node = grandparent;
                way.Depth -= 2;
                continue;
            }

            if (nodeRight != parentRight)
            {
                Rotate(parent, node, nodeRight);
                parent = node;
            }

            Colour(parent, red: false);
            Rotate(grandparent, parent, parentRight);
            Link(way, way.Depth - 2, parent);
            return;
        }
    }

    /// <summary>A black node was taken from the end of the way: each way down must have as many black nodes as before.</summary>
    private void BalanceBlack(ref Way way)
    {
        while (way.Depth > 0)
        {
            uint parent = way.Node(way.Depth - 1);
            bool right = way.Right(way.Depth - 1);
            uint sibling = Child(parent, !right);
            if (IsRed(sibling))
            {
                Colour(sibling, red: false);
                Colour(parent, red: true);
                Rotate(parent, sibling, !right);
                Link(way, way.Depth - 1, sibling);
                way.Replace(way.Depth - 1, sibling);
                way.Push(parent, right);
                sibling = Child(parent, !right);
            }

            if (!IsRed(Child(sibling, right: false)) && !IsRed(Child(sibling, right: true)))
            {
                Colour(sibling, red: true);
                if (IsRed(parent))
                {
                    Colour(parent, red: false);
                    return;
                }

                way.Depth--;
                continue;
            }

            if (!IsRed(Child(sibling, !right)))
            {
                uint near = Child(sibling, right);
                Colour(near, red: false);
                Colour(sibling, red: true);
                Rotate(sibling, near, right);
                sibling = near;
            }

            Colour(sibling, IsRed(parent));
            Colour(parent, red: false);
            Colour(Child(sibling, !right), red: false);
            Rotate(parent, sibling, !right);
            Link(way, way.Depth - 1, sibling);
            return;
        }
    }

    /// <summary>Puts a node's child above it. Whoever calls links the child to what was above the node.</summary>
    private void Rotate(uint node, uint child, bool childRight)
    {
        SetChild(node, childRight, Child(child, !childRight));
        SetChild(child, !childRight, node);
    }

    /// <summary>Makes a node the one at a depth of the way.</summary>
    private void Link(in Way way, int depth, uint node)
    {
        if (depth == 0)
            _root = node;
        else
            SetChild(way.Node(depth - 1), way.Right(depth - 1), node);
    }

    /// <summary>The nodes from the root down, and the side taken at each.</summary>
    private ref struct Way(Span<uint> nodes)
    {
        private readonly Span<uint> _nodes = nodes;
        private ulong _sides;

        public int Depth { get; set; }

        public readonly uint Node(int depth) => _nodes[depth];

        public readonly bool Right(int depth) => ((_sides >> depth) & 1) != 0;

        public readonly void Replace(int depth, uint node) => _nodes[depth] = node;

        public void Push(uint node, bool right)
        {
            _nodes[Depth] = node;
            _sides = (_sides & ~(1UL << Depth)) | ((right ? 1UL : 0UL) << Depth);
            Depth++;
        }
    }
}
