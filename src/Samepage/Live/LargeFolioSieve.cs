using Samepage.Agent;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Keeps pages of large folios from being moved, on kernels where that could hang their program (move-large-folio and its kin in <see cref="Linux.Kernels.KernelBugs"/>).</summary>
/// <remarks>
/// <para>UFFDIO_MOVE takes a large folio apart first, and tries for ever where it cannot: while somebody besides the program holds a reference to it, a registered buffer of io_uring, a pipe, a device.
/// MADV_COLD for one page of it takes it apart as well, and leaves it as it is where it cannot. So that is asked for first, then the kernel is asked whether they are gone (<c>/proc/kpageflags</c>), and
/// what is large still is withheld from the batch: it is busy, EBUSY, to be tried again later.</para>
/// <para>It is looked at while the program's threads are held. What the answer rests on then: none of its pages becomes a part of a large folio that somebody holds before it is moved. It could only by
/// khugepaged or MADV_COLLAPSE, both of which refuse what anybody holds; and to be held, between that and the move, a fraction of a millisecond, it would take one who needs no thread of the program.
/// A request of io_uring with a polling thread could be such a one: it could hang its own program.</para>
/// <para>One batch at a time, by the thread that looks for the holder of the threads.</para>
/// </remarks>
internal sealed class LargeFolioSieve(LiveSpace space)
{
    private const ulong Page = 4096, GapMost = 64 * Page;
    private readonly LargeFolios _folios = new(FrameFlags.Here);
    private readonly List<Withheld> _withheld = [];
    private readonly List<ulong> _pages = [];
    private ulong _readTo;

    /// <summary>Has large folios in a batch taken apart, and withholds what is large still.</summary>
    /// <param name="batch">Operations by rising address.</param>
    /// <returns>Whether anything is left to be carried out.</returns>
    public bool Sift(Span<AgentOperation> batch)
    {
        bool any = false;
        _withheld.Clear();
        _folios.Forget();
        _readTo = 0;
        for (int i = 0; i < batch.Length;)
        {
            int count = Stretches.Inseparable(batch[i]);
            ulong start = batch[i].Address, end = start + batch[i].Length;
            bool moves = batch[i].Kind is not (OperationKind.None or OperationKind.Unmerge);
            ulong large = moves ? FindHeld(start, end, batch, i) : end;
            if (large < end && count > 1)
            {
                Dissolve(batch.Slice(i++, count));
                continue;
            }

            if (large < end)
                Withhold(batch, i, large);
            any |= batch[i].Kind != OperationKind.None;
            i += count;
        }

        return any;
    }

    /// <summary>Gives operations that were withheld back, as what could not be done.</summary>
    /// <param name="batch">The one that was sifted last, with its outcomes.</param>
    public void Restore(Span<AgentOperation> batch)
    {
        foreach (Withheld withheld in _withheld)
        {
            ref AgentOperation operation = ref batch[withheld.Index];
            if (operation.Kind == OperationKind.None)
                (operation.Done, operation.Error) = (0, (long)Linux.Errno.EBUSY);
            else if (operation.Done == operation.Length)
                operation.Error = (long)Linux.Errno.EBUSY;
            (operation.Kind, operation.Length) = (withheld.Kind, withheld.Length);
        }

        _withheld.Clear();
    }

    /// <summary>The first page of a range that is in a large folio, after what could be taken apart was.</summary>
    private ulong FindHeld(ulong start, ulong end, ReadOnlySpan<AgentOperation> batch, int index)
    {
        if (end > _readTo)
            _readTo = ReadTo(batch[index..]);
        ulong large = _folios.FindFirst(space.Pagemap, start, end, _readTo);
        if (large == end)
            return end;
        _pages.Clear();
        _folios.List(space.Pagemap, large, end, _pages);
        foreach (ulong page in _pages)
            _ = PidFd.TryMakeCold(space.PidFd, page, Page);
        _folios.Forget();
        return _folios.FindFirst(space.Pagemap, large, end, end);
    }

    /// <summary>Where the ranges end that lie so near to the first that all are read at once.</summary>
    private static ulong ReadTo(ReadOnlySpan<AgentOperation> batch)
    {
        ulong start = batch[0].Address, end = start + batch[0].Length;
        foreach (ref readonly AgentOperation next in batch[1..])
        {
            ulong nextEnd = next.Address + next.Length;
            if (next.Address < start || next.Address > end + GapMost || nextEnd - start > LargeFolios.WordsMost * Page)
                break;
            end = Math.Max(end, nextEnd);
        }

        return end;
    }

    /// <summary>What is before the large page is moved without it; a join is all or nothing.</summary>
    private void Withhold(Span<AgentOperation> batch, int index, ulong large)
    {
        ref AgentOperation operation = ref batch[index];
        _withheld.Add(new Withheld(index, operation.Kind, operation.Length));
        if (large > operation.Address && operation.Kind != OperationKind.Join)
            operation.Length = large - operation.Address;
        else
            operation.Kind = OperationKind.None;
    }

    /// <summary>A stretch is moved out whole, or not at all: its runs are moved one by one in its place.</summary>
    private static void Dissolve(Span<AgentOperation> stretch)
    {
        OperationFlags advice = stretch[^1].Flags & OperationFlags.Advice;
        foreach (ref AgentOperation run in stretch[1..^1])
            run.Flags = (run.Flags & ~OperationFlags.InStretch) | advice;
        (stretch[0].Kind, stretch[^1].Kind) = (OperationKind.None, OperationKind.None);
    }

    /// <param name="Index">Its place in the batch.</param>
    /// <param name="Kind">What it was.</param>
    /// <param name="Length">How long it was.</param>
    private readonly record struct Withheld(int Index, OperationKind Kind, ulong Length);
}
