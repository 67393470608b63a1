namespace Samepage.Linux.Kernels;

/// <summary>Where the kernel keeps what it knows of each frame of memory (<c>struct page</c>): in one row, by frame number.</summary>
/// <param name="First">Address of frame 0's.</param>
/// <param name="Bytes">Bytes of one.</param>
/// <param name="Counts">Where in it the word is of which the lower half is <c>_mapcount</c> and the upper <c>_refcount</c>.</param>
/// <remarks>
/// <para>Nobody tells where the row is, and it is elsewhere after each boot. To try addresses could hit a device's registers. So it is followed from a page of ours whose frame is known: the page is put into a pipe, and from the
/// thread's <c>task_struct</c> pointers lead over the file descriptor to the pipe's buffer, and from there to the page's record. Where the fields are is in the kernel's type information.</para>
/// <para>What comes out is believed only if several pages agree on it, and their counts are, and change, exactly as they must.</para>
/// </remarks>
internal readonly record struct FrameRecords(ulong First, uint Bytes, uint Counts)
{
    /// <summary>On x86-64 the row begins at a multiple of this, Documentation/arch/x86/x86_64/mm.rst. With CONFIG_SPARSEMEM_VMEMMAP off there are many rows, each of which would begin elsewhere.</summary>
    private const ulong Alignment = 1UL << 30;

    /// <summary>Below this begins the row of a kernel with page tables of five levels.</summary>
    private const ulong FourLevels = 0xFFFF_8000_0000_0000;

    private const int Attempts = 8;

    /// <summary>Frames that the row has room for: past its end is other memory.</summary>
    public ulong Frames => First >= FourLevels ? 1UL << 34 : 1UL << 40;

    /// <summary>Where a frame's counts are; 0 for no frame.</summary>
    public ulong CountsOf(ulong frame) => frame < Frames ? First + frame * Bytes + Counts : 0;

    /// <summary>Finds the row, and proves it.</summary>
    /// <param name="words">Reads the kernel's memory.</param>
    /// <param name="batches">Told to do it the other way where the first does not show.</param>
    /// <param name="records">The row.</param>
    /// <param name="why">Why there is none to be used, for people.</param>
    public static bool TryFind(KernelWords words, LruBatches batches, out FrameRecords records, out string why)
    {
        records = default;
        if (KernelTypes.TryRead() is not { } types)
        {
            why = $"the kernel shows no type information ({KernelTypes.Path}: CONFIG_DEBUG_INFO_BTF)";
            return false;
        }

        Offsets offsets = new(types);
        why = offsets.Why;
        // Pages of ours may be moved or looked at by the kernel meanwhile: then once more.
        for (int i = 0; i < Attempts && offsets.Why.Length == 0; i++)
        {
            batches.ByMoving = i >= Attempts / 2;
            try
            {
                if (Try(words, offsets, batches, out records, out why))
                    return true;
            }
            catch (SyscallException failed)
            {
                why = failed.Message;
            }
        }

        return false;
    }

    private static bool Try(KernelWords words, Offsets offsets, LruBatches batches, out FrameRecords records, out string why)
    {
        records = default;
        Span<ulong> frames = stackalloc ulong[OwnPages.Count], after = stackalloc ulong[OwnPages.Count];
        using OwnPages own = new();
        Errno drained = batches.Drain();
        why = drained == Errno.None ? "" : $"the kernel's lists of new pages cannot be emptied ({batches.Call}: {drained})";
        if (why.Length == 0 && !own.TryFind(frames))
            why = "/proc/self/pagemap does not show the frames of our own pages";
        if (why.Length > 0)
            return false;
        ReadOnlySpan<int> spliced = [1, 2, 3, 2, 3, 3];
        (FileDescriptor reading, FileDescriptor writing) = own.Splice(spliced);
        using (reading)
        using (writing)
        {
            if (!TryFollow(words, offsets, reading.Number, spliced, frames, out records))
                why = "the records of our own pages are not where a pipe's buffers say";
            else if (!records.Show(words, frames, [0, 1, 2, 3]))
                why = "the counts of pages in a pipe do not show that";
        }

        if (why.Length == 0 && !records.Show(words, frames, [0, 0, 0, 0]))
            why = "the counts of pages do not show that they are no longer in a pipe";
        if (why.Length == 0)
            why = records.TryPins(words, own, frames);
        if (why.Length == 0 && !(own.TryFind(after) && after.SequenceEqual(frames)))
            why = "pages of our own were moved meanwhile";
        return why.Length == 0;
    }

    /// <summary>Whether pins, as devices have them, show in the counts as they must; nothing is known where none can be taken.</summary>
    private string TryPins(KernelWords words, OwnPages own, ReadOnlySpan<ulong> frames)
    {
        const int Pin = (int)PageReferences.Pin;
        using FileDescriptor? ring = own.TryPin([0, 2, 2]);
        if (ring is null)
            return "";
        bool shown = Show(words, frames, [Pin, 0, 2 * Pin, 0]);
        OwnPages.Unpin(ring);
        return !shown ? "the counts of pages do not show that io_uring has pinned them" : Show(words, frames, [0, 0, 0, 0]) ? "" : "the counts of pages do not show that they are no longer pinned";
    }

    /// <summary>Goes from this thread over its file descriptor to the pages in a pipe.</summary>
    private static bool TryFollow(KernelWords words, Offsets at, int descriptor, ReadOnlySpan<int> spliced, ReadOnlySpan<ulong> frames, out FrameRecords records)
    {
        records = default;
        if (words.Read(0) != Errno.None)
            return false;
        ulong files = Follow(words, words.Task, at.Files), table = Follow(words, files, at.Table), row = Follow(words, table, at.Row);
        ulong file = Follow(words, row, descriptor * sizeof(ulong)), pipe = Follow(words, file, at.Private), buffers = Follow(words, pipe, at.Buffers);
        for (int i = 0; i < spliced.Length; i++)
        {
            ulong record = Follow(words, buffers, i * at.BufferBytes + at.Page), first = record - frames[spliced[i]] * (ulong)at.PageBytes;
            if (record == 0 || first % Alignment != 0 || first < 1UL << 63 || (i > 0 && first != records.First))
                return false;
            records = new FrameRecords(first, (uint)at.PageBytes, (uint)at.Counts);
        }

        return true;
    }

    /// <summary>What a pointer leads to; 0 where it is none of the kernel's.</summary>
    private static ulong Follow(KernelWords words, ulong pointer, int offset) => pointer >> 63 == 0 ? 0 : words.ReadOne(pointer + (ulong)offset);

    /// <summary>Whether the private pages have one mapping each and so many references besides, and the shared one two mappings, and a reference for being in its file.</summary>
    private bool Show(KernelWords words, ReadOnlySpan<ulong> frames, ReadOnlySpan<int> besides)
    {
        for (int i = 0; i < frames.Length; i++)
            words.Slots[i] = CountsOf(frames[i]);
        if (words.Read(frames.Length) != Errno.None)
            return false;
        bool shows = PageCounts.Of(words.Slots[OwnPages.Private]) == new PageCounts(2, 3);
        for (int i = 0; i < OwnPages.Private; i++)
            shows &= PageCounts.Of(words.Slots[i]) == new PageCounts(1, 1 + (uint)besides[i]);
        return shows;
    }

    /// <summary>Fields on the way from a thread to a page's counts.</summary>
    private sealed class Offsets
    {
        public readonly int Files, Table, Row, Private, Buffers, BufferBytes, Page, PageBytes, Counts;

        public Offsets(KernelTypes types)
        {
            Files = types.OffsetOf("task_struct"u8, "files"u8);
            Table = types.OffsetOf("files_struct"u8, "fdt"u8);
            Row = types.OffsetOf("fdtable"u8, "fd"u8);
            Private = types.OffsetOf("file"u8, "private_data"u8);
            Buffers = types.OffsetOf("pipe_inode_info"u8, "bufs"u8);
            (BufferBytes, Page) = (types.SizeOf("pipe_buffer"u8), types.OffsetOf("pipe_buffer"u8, "page"u8));
            (PageBytes, Counts) = (types.SizeOf("page"u8), types.OffsetOf("page"u8, "_mapcount"u8));
            int references = types.OffsetOf("page"u8, "_refcount"u8);
            if (new[] { Files, Table, Row, Private, Buffers, BufferBytes, Page, PageBytes, Counts, references }.Min() < 0)
                Why = $"the kernel's type information ({KernelTypes.Path}) lacks a field on the way to a page's counts";
            else if (Counts % 8 != 0 || PageBytes % 8 != 0 || references != Counts + 4)
                Why = "this kernel does not keep a page's counts in one word";
        }

        /// <summary>What is missing, for people.</summary>
        public string Why { get; } = "";
    }
}
