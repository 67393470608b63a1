using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Kernels;

/// <summary>Says of pages in memory whether anybody has a reference to them beyond their mappings: a device that reads or writes by DMA, buffers registered with io_uring, a pipe filled by vmsplice(2), VFIO, RDMA, a direct read of NFS.</summary>
/// <remarks>
/// <para>The kernel counts a page's references, and shows the count nowhere under <c>/proc</c>. A BPF program reads it (see <see cref="KernelWords"/>), together with the count of the mappings and at the same moment. Where the
/// counts are is found by pages of our own (see <see cref="FrameRecords"/>), and proven before anything is said: these pages' counts must follow references that are taken to them and given back.</para>
/// <para>It needs root with CAP_SYS_ADMIN (which stands for CAP_BPF and CAP_PERFMON too), BTF, x86-64, and a kernel that is not locked down for confidentiality.</para>
/// <para>What is said holds for the moment of reading. Who stops a process, and then finds its pages' frames by <c>/proc/PID/pagemap</c>, knows that none of its threads takes another reference; a frame that was given to somebody
/// else meanwhile is another page. Others that have the page mapped may take one.</para>
/// <para>What it cannot tell, it calls held: frames that are free or do not exist, pages of files and of shared memory (their file refers to them), pages of large folios, pages that the kernel is just moving or reclaiming. Of a large
/// folio, whose first page alone counts the references to all, that page is not held where it is the only one mapped, and nobody refers to any.</para>
/// <para>Followers of the page tables have no reference, and are told when a page leaves its place: KVM, and devices that fault for themselves (mmu notifiers). Who maps memory by its physical address (<c>/dev/mem</c>) has none
/// either, and is told nothing.</para>
/// <para>One caller at a time, any thread. Sources: Documentation/core-api/pin_user_pages.rst, Documentation/admin-guide/mm/pagemap.rst, Documentation/bpf/btf.rst.</para>
/// </remarks>
public sealed unsafe class PageReferences : IDisposable
{
    /// <summary>References that a pin counts as (<c>FOLL_PIN</c>). Fewer beyond the mappings are no pin: lists of the kernel's, a pipe, an old kind of direct I/O (<c>FOLL_GET</c>).</summary>
    public const uint Pin = 1024;

    private static readonly Lazy<(PageReferences?, string)> s_here = new(static () => (TryOpen(out string why), why));
    private readonly KernelWords _words;
    private readonly FrameRecords _records;
    private readonly FrameFlags _flags;
    private readonly LruBatches _batches;

    private PageReferences(KernelWords words, FrameRecords records, FrameFlags flags, LruBatches batches) => (_words, _records, _flags, _batches) = (words, records, flags, batches);

    /// <summary>One for all, opened when it is first asked for and never closed; null where it cannot be known, and why not. Who uses it sees to it that he is alone.</summary>
    public static (PageReferences? Counts, string Why) Here => s_here.Value;

    /// <summary>Loads the program, finds the counts and proves that they are.</summary>
    /// <remarks>Takes some tens of milliseconds, most of it for reading the kernel's type information. Some pages, a pipe and a ring of io_uring are made for it, and end with the call.</remarks>
    /// <param name="why">What was refused or did not prove true, for people, with the errno by name; empty where it works.</param>
    /// <returns>Null where it cannot be known.</returns>
    public static PageReferences? TryOpen(out string why)
    {
        if (FrameFlags.TryOpen(out Errno errno) is not { } flags)
        {
            why = $"open(/proc/kpageflags): {errno}";
            return null;
        }

        LruBatches? batches = null;
        KernelWords? words = KernelWords.TryOpen(out why);
        try
        {
            if (words is not null && FrameRecords.TryFind(words, batches = new LruBatches(), out FrameRecords records, out why))
                return new PageReferences(words, records, flags, batches);
        }
        catch (SyscallException failed)
        {
            why = failed.Message;
        }

        batches?.Dispose();
        words?.Dispose();
        flags.Dispose();
        return null;
    }

    /// <summary>Reads how many references there are to each page, those of its mappings, of its file and of the swap cache among them.</summary>
    /// <param name="frames">Frame numbers, as <c>/proc/PID/pagemap</c> shows them.</param>
    /// <param name="references">Receives the counts, at least as many. 0 for a free frame, and for pages of a large folio but its first.</param>
    /// <param name="errno">EFAULT where one is no frame of memory; otherwise what bpf(2) answered.</param>
    /// <returns>False when not all could be read: what <paramref name="references"/> holds then is of no use.</returns>
    public bool TryRead(ReadOnlySpan<ulong> frames, Span<uint> references, out Errno errno)
    {
        errno = Errno.None;
        for (int done = 0; done < frames.Length && errno == Errno.None; done += KernelWords.Capacity)
        {
            ReadOnlySpan<ulong> some = Some(frames, done);
            errno = Load(some);
            for (int i = 0; i < some.Length && errno == Errno.None; i++)
            {
                ulong word = _words.Slots[i];
                references[done + i] = PageCounts.Of(word).References;
                if (word == 0) // no page has this: it would have a mapping that is no reference
                    errno = Errno.EFAULT;
            }
        }

        return errno == Errno.None;
    }

    /// <summary>Finds the pages to which somebody has a reference beyond their mappings, or of which that cannot be told.</summary>
    /// <remarks>Where a few references are seen, <see cref="DrainBatches"/> is called once, and all pages are read again. A page in the swap cache has one reference for that, which is left out.</remarks>
    /// <param name="frames">Frame numbers, as <c>/proc/PID/pagemap</c> shows them.</param>
    /// <param name="held">Receives the answers, at least as many.</param>
    /// <param name="errno">What bpf(2) answered.</param>
    /// <returns>False when the counts could not be read: what <paramref name="held"/> holds then is of no use.</returns>
    public bool TryFindHeld(ReadOnlySpan<ulong> frames, Span<bool> held, out Errno errno)
    {
        errno = Judge(frames, held, out bool anyFew);
        if (errno == Errno.None && anyFew && DrainBatches() == Errno.None)
            errno = Judge(frames, held, out _);
        return errno == Errno.None;
    }

    /// <summary>Makes the kernel empty the lists in which pages wait for their place in the LRU lists, on all CPUs: pages that were just touched are in one, and have a reference for it.</summary>
    /// <returns>What the system refused.</returns>
    public Errno DrainBatches() => _batches.Drain();

    /// <inheritdoc/>
    public void Dispose()
    {
        _batches.Dispose();
        _words.Dispose();
        _flags.Dispose();
    }

    private static ReadOnlySpan<ulong> Some(ReadOnlySpan<ulong> frames, int from) => frames.Slice(from, Math.Min(KernelWords.Capacity, frames.Length - from));

    private Errno Load(ReadOnlySpan<ulong> frames)
    {
        for (int i = 0; i < frames.Length; i++)
            _words.Slots[i] = _records.CountsOf(frames[i]);
        return _words.Read(frames.Length);
    }

    private Errno Judge(ReadOnlySpan<ulong> frames, Span<bool> held, out bool anyFew)
    {
        anyFew = false;
        for (int done = 0; done < frames.Length; done += KernelWords.Capacity)
        {
            ReadOnlySpan<ulong> some = Some(frames, done);
            Span<bool> here = held.Slice(done, some.Length);
            if (Load(some) is var errno and not Errno.None)
                return errno;
            bool lookCloser = false;
            for (int i = 0; i < some.Length; i++)
            {
                PageCounts counts = PageCounts.Of(_words.Slots[i]);
                here[i] = !counts.AreMappingsOnly;
                lookCloser |= counts.Few > 0;
            }

            // From here on the slots hold something else.
            for (int i = 0; i < some.Length && lookCloser; i++)
                here[i] = here[i] && IsHeld(some[i], ref anyFew);
        }

        return Errno.None;
    }

    /// <summary>Looks at one page that has more references than mappings.</summary>
    private bool IsHeld(ulong frame, ref bool anyFew)
    {
        // Before and after: else the one reference could be another's, of a page that has left the swap cache.
        ulong before = Flags(frame);
        PageCounts counts = PageCounts.Of(_words.ReadOne(_records.CountsOf(frame)));
        ulong flags = before & Flags(frame);
        if (counts.AreMappingsOnly || (counts.Few == 1 && (flags & (FrameFlags.InSwapCache | FrameFlags.InLarge)) == FrameFlags.InSwapCache))
            return false;
        anyFew |= counts.Few > 0 && (flags & FrameFlags.InLarge) == 0;
        return true;
    }

    /// <summary>A frame's word of <c>/proc/kpageflags</c>; 0 when it cannot be read.</summary>
    private ulong Flags(ulong frame) => frame < _records.Frames ? _flags.Of(frame) : 0;
}
