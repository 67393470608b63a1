using Samepage.Agent;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Keeps pages that somebody besides their program holds from being moved: a device, a registered buffer of io_uring, a read that is under way, a pipe.</summary>
/// <remarks>
/// <para>UFFDIO_MOVE takes a large folio apart first, and on many kernels tries for ever where it cannot, because somebody holds a reference to it (move-large-folio and its kin in
/// <see cref="Linux.Kernels.KernelBugs"/>): the program would hang. MADV_COLD for one page of it takes it apart as well, and leaves it as it is where it cannot. So that is asked for first, then the kernel is asked
/// whether they are gone (<c>/proc/kpageflags</c>), and what is large still is withheld from the batch: it is tried again later, ever more seldom.</para>
/// <para>A page by itself that is pinned UFFDIO_MOVE refuses. One that is held by a reference alone (a pipe; a direct read of NFS) it moves, and what is merged would no longer be what the holder has: so where references
/// can be counted (<see cref="HeldPages"/>), such a page is withheld, too.</para>
/// <para>It is looked at while the program's threads are held. What the answer rests on then: none of its pages is held, or becomes a part of a large folio that is, before it is moved, a fraction of a millisecond later.
/// The kernel makes no large folio of pages that anybody holds; and to take a reference without a thread of the program it takes a request of io_uring with a thread of its own. With a large folio that program would hang
/// itself; a direct read of NFS that such a thread begins in that very moment would be lost.</para>
/// <para>One batch at a time, by the thread that looks for the holder of the threads.</para>
/// </remarks>
internal sealed class MoveSieve(LiveSpace space)
{
    /// <summary>What an operation was withheld for: the kernel never says so of a move.</summary>
    public const Linux.Errno Held = Linux.Errno.EUSERS;

    private const ulong Page = 4096, GapMost = 64 * Page;
    private readonly LargeFolios _folios = new(FrameFlags.Here);
    private readonly List<Withheld> _withheld = [];
    private readonly List<ulong> _pages = [], _frames = [], _addresses = [];
    private readonly HashSet<ulong> _held = [];

    /// <summary>Has large folios in a batch taken apart, and withholds what is large still, or held.</summary>
    /// <param name="batch">Operations by rising address.</param>
    /// <returns>Whether anything is left to be carried out.</returns>
    public bool Sift(Span<AgentOperation> batch)
    {
        _withheld.Clear();
        _held.Clear();
        _frames.Clear();
        _addresses.Clear();
        _folios.Forget();
        Withhold(batch, FindLarge);
        // All pages of a batch are asked about at once.
        if (HeldPages.CanBeTold)
            HeldPages.Find([.. _frames], index => _held.Add(_addresses[index]));
        if (_held.Count > 0)
            Withhold(batch, FindHeld);
        foreach (ref readonly AgentOperation operation in batch)
        {
            if (operation.Kind != OperationKind.None)
                return true;
        }

        return false;
    }

    /// <summary>Withholds operations from where they must not go on.</summary>
    /// <param name="batch">Operations by rising address.</param>
    /// <param name="find">The first page of a range that must not be moved: its end where there is none. The last argument is up to where it is asked about next.</param>
    private void Withhold(Span<AgentOperation> batch, Func<ulong, ulong, ulong, ulong> find)
    {
        ulong readTo = 0;
        for (int i = 0; i < batch.Length;)
        {
            int count = Stretches.Inseparable(batch[i]);
            ulong start = batch[i].Address, end = start + batch[i].Length;
            if (batch[i].Kind is not (OperationKind.None or OperationKind.Unmerge))
            {
                readTo = end > readTo ? ReadTo(batch[i..]) : readTo;
                ulong found = find(start, end, readTo);
                if (found < end && count > 1)
                {
                    Dissolve(batch.Slice(i++, count));
                    continue;
                }

                if (found < end)
                    Withhold(batch, i, found);
            }

            i += count;
        }
    }

    private ulong FindHeld(ulong start, ulong end, ulong readTo)
    {
        while (start < end && !_held.Contains(start))
            start += Page;
        return start;
    }

    /// <summary>Gives operations that were withheld back, as what could not be done: <see cref="Held"/>.</summary>
    /// <param name="batch">The one that was sifted last, with its outcomes.</param>
    public void Restore(Span<AgentOperation> batch)
    {
        // One may have been shortened twice: last first.
        for (int i = _withheld.Count - 1; i >= 0; i--)
        {
            Withheld withheld = _withheld[i];
            ref AgentOperation operation = ref batch[withheld.Index];
            if (operation.Kind == OperationKind.None)
                (operation.Done, operation.Error) = (0, (long)Held);
            else if (operation.Done == operation.Length)
                operation.Error = (long)Held;
            (operation.Kind, operation.Length) = (withheld.Kind, withheld.Length);
        }

        _withheld.Clear();
    }

    /// <summary>The first page of a range that is in a large folio, after what could be taken apart was. Those before it are to be asked about.</summary>
    private ulong FindLarge(ulong start, ulong end, ulong readTo)
    {
        ulong large = _folios.FindFirst(space.Pagemap, start, end, readTo, _frames, _addresses);
        if (large == end)
            return end;
        _pages.Clear();
        _folios.List(space.Pagemap, large, end, _pages);
        foreach (ulong page in _pages)
            _ = PidFd.TryMakeCold(space.PidFd, page, Page);
        _folios.Forget();
        return _folios.FindFirst(space.Pagemap, large, end, end, _frames, _addresses);
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

    /// <summary>What is before the first page that must not be moved is moved without it; a join is all or nothing.</summary>
    private void Withhold(Span<AgentOperation> batch, int index, ulong first)
    {
        ref AgentOperation operation = ref batch[index];
        _withheld.Add(new Withheld(index, operation.Kind, operation.Length));
        if (first > operation.Address && operation.Kind != OperationKind.Join)
            operation.Length = first - operation.Address;
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
