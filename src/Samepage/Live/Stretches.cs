using System.Runtime.InteropServices;
using Samepage.Agent;
using Samepage.Linux.Processes;

namespace Samepage.Live;

/// <summary>Makes a batch of operations in which short runs near each other are bracketed in a stretch that is moved out whole.</summary>
/// <remarks>One move of many pages flushes the processor's translations once; moves of a few pages flush each page. What lies between the runs is
/// moved out and copied back, so the runs must not be too far apart; and only one area's memory may lie between them. It is done where a flush is dear
/// (<see cref="TranslationFlush"/>): elsewhere the copies would cost more than all flushes, a third of an agent's time for runs of 16.
/// <c>SAMEPAGE_STRETCHES</c> in the daemon's environment, <c>always</c> or <c>never</c>, decides in its place, for tests and measurements.</remarks>
internal sealed class Stretches(List<Segment> segments)
{
    private const ulong Page = 4096;

    /// <summary>A move of more bytes than this flushes once: longer runs need no stretch, shorter stretches help nobody.</summary>
    private const ulong FlushedOneByOne = TranslationFlush.OneByOneMax * Page;

    /// <summary>The most pages that lie between two runs of a stretch, and are moved out with them.</summary>
    public const ulong PagesBetween = 16;

    private const ulong MaxStretch = 256 * Page, MaxGap = PagesBetween * Page, ChunkBytes = 512 * Page;
    private readonly List<AgentOperation> _batch = [];
    private int _segment;

    /// <summary>Stretches cost less here than what they save.</summary>
    public static bool AreWorthIt { get; } = Environment.GetEnvironmentVariable("SAMEPAGE_STRETCHES") switch { "always" => true, "never" => false, _ => TranslationFlush.IsDear };

    /// <summary>The batch for these operations, by rising address: all of them, and what brackets them.</summary>
    public Span<AgentOperation> Bracket(List<AgentOperation> operations)
    {
        _batch.Clear();
        _segment = 0;
        for (int first = 0; first < operations.Count;)
        {
            int end = EndOfStretch(operations, first);
            if (end - first < 2)
            {
                _batch.Add(operations[first++]);
                continue;
            }

            ulong start = operations[first].Address;
            AgentOperation bracket = new()
            {
                Kind = OperationKind.Merge,
                Flags = OperationFlags.BeginStretch | (operations[first].Flags & OperationFlags.Named),
                Address = start,
                Length = operations[end - 1].Address + operations[end - 1].Length - start,
                FrameOffset = (ulong)(end - first),
            };
            _batch.Add(bracket);
            for (; first < end; first++)
                _batch.Add(operations[first] with { Flags = OperationFlags.InStretch | (operations[first].Flags & (OperationFlags.NoReserve | OperationFlags.Named)) });
            // All of them are in one area: the advice of one is that of all.
            _batch.Add(bracket with { Flags = OperationFlags.EndStretch | (operations[end - 1].Flags & OperationFlags.Advice) });
        }

        return CollectionsMarshal.AsSpan(_batch);
    }

    /// <summary>Writes outcomes back to the operations that the batch was made of.</summary>
    /// <param name="tried">How much of the batch was tried.</param>
    /// <param name="operations">The operations.</param>
    /// <returns>How many of the operations were tried.</returns>
    public int TakeOutcomes(int tried, List<AgentOperation> operations)
    {
        int to = 0;
        for (int i = 0; i < tried; i++)
        {
            if ((_batch[i].Flags & (OperationFlags.BeginStretch | OperationFlags.EndStretch)) == 0)
                operations[to] = operations[to++] with { Error = _batch[i].Error, Done = _batch[i].Done };
        }

        return to;
    }

    /// <summary>Operations of a batch, from one on, that must be carried out in one go: one, or a stretch with its brackets.</summary>
    public static int Inseparable(in AgentOperation operation) =>
        (operation.Flags & OperationFlags.BeginStretch) != 0 ? (int)operation.FrameOffset + 2 : 1;

    /// <summary>How far a stretch goes that begins at an operation: within one area and one page table, with gaps no longer than what they part.</summary>
    private int EndOfStretch(List<AgentOperation> operations, int first)
    {
        AgentOperation begin = operations[first];
        while (_segment < segments.Count && segments[_segment].End <= begin.Address)
            _segment++;
        if (_segment == segments.Count || !IsShortRun(begin))
            return first + 1;
        ulong limit = Math.Min(Math.Min(segments[_segment].End, begin.Address + MaxStretch), (begin.Address / ChunkBytes + 1) * ChunkBytes);
        int end = first + 1;
        for (; end < operations.Count; end++)
        {
            AgentOperation before = operations[end - 1], next = operations[end];
            ulong gap = next.Address - (before.Address + before.Length);
            if (!IsShortRun(next) || next.Address + next.Length > limit || gap > MaxGap || gap > before.Length + next.Length)
                break;
        }

        return operations[end - 1].Address + operations[end - 1].Length - begin.Address > FlushedOneByOne ? end : first + 1;
    }

    /// <summary>Protection is lifted, and put back, for one run at a time.</summary>
    private static bool IsShortRun(in AgentOperation operation) =>
        operation.Kind == OperationKind.Merge && operation.Length <= FlushedOneByOne && (operation.Flags & OperationFlags.Protected) == 0;
}
