using System.Buffers.Binary;
using Samepage.Estimate.Census;
using Samepage.Estimate.Figures;
using Samepage.Linux;

namespace Samepage.Estimate.Sources;

/// <summary>A core dump, a guest's dump or a raw image of memory, as a file.</summary>
/// <remarks>An ELF core file (core(5), QEMU's <c>dump-guest-memory</c>) is read by its loadable segments, which need not begin at a multiple of a page in the
/// file; everything else is taken as memory from its first byte, and what is left behind its last whole page is not counted. Nothing is mapped. Whatever a file says of itself, each of its bytes is
/// counted once: where segments overlap (QEMU dumps the same memory under several addresses) it is the same memory, and what lies in a hole is zeros, counted and not read. So the work is
/// bounded by the data that the file holds.</remarks>
public sealed class ImageSource : PageSource, IDisposable
{
    private const int ElfHeader = 64, ProgramHeader = 56, SectionHeader = 64, ManySegments = 0xffff, Load = 1, Core = 4, SegmentsMax = 1 << 20;
    private readonly FileStream _file;
    private readonly string _path;
    private readonly List<Segment> _segments = [];

    /// <summary>Opens a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="domain">The trust domain that its pages are counted in.</param>
    /// <exception cref="IOException">It cannot be read.</exception>
    /// <exception cref="InvalidDataException">It is of a kind that cannot be read as memory, or damaged; the message says which.</exception>
    public ImageSource(string path, string domain)
        : base(new SourceDescription(0, path, domain, "", path))
    {
        _path = path;
        _file = PlainFile.OpenToRead(path);
        try
        {
            ReadSegments();
        }
        catch
        {
            _file.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    internal override long ExpectedPages => _segments.Sum(segment => segment.Pages);

    /// <inheritdoc/>
    internal override IEnumerable<Batch> List(Ledger ledger)
    {
        Batch batch = new(this);
        foreach (Segment segment in _segments)
        {
            for (long done = 0; done < segment.Pages;)
            {
                (long first, long end) = DataOf(segment, done);
                if (first > done)
                    ledger.Enter(Index, MemoryKind.Image, Zeros(first - done));
                if (end > first)
                    ledger.Enter(Index, MemoryKind.Image, new PageFigures { Resident = end - first });
                for (done = first; done < end;)
                {
                    int most = (int)Math.Min(end - done, Batch.PagesMax);
                    done += batch.Take(new Piece(segment.FirstPage + (ulong)done, most, MemoryKind.Image, PageFlags.Reach));
                    if (batch.Pages < Batch.PagesMax)
                        continue;
                    yield return batch;
                    batch = new Batch(this);
                }
            }
        }

        if (batch.Pages > 0)
            yield return batch;
    }

    /// <inheritdoc/>
    internal override bool TryRead(Batch batch, PageFound[] pages, byte[] content)
    {
        int at = 0;
        foreach (Piece piece in batch.Pieces)
        {
            int whole = ReadWhole(OffsetOf(piece.Start), content.AsSpan(at * PageBytes, piece.Count * PageBytes)) / PageBytes;
            pages.AsSpan(at, whole).Fill(new PageFound(PageFind.Own, 0));
            pages.AsSpan((at + whole)..(at + piece.Count)).Fill(new PageFound(PageFind.Unread, 0));
            at += piece.Count;
        }

        return true;
    }

    /// <inheritdoc/>
    internal override bool TryReadPage(ulong page, Span<byte> content) => ReadWhole(OffsetOf(page), content) == content.Length;

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private int ReadWhole(long offset, Span<byte> destination)
    {
        int done = 0;
        try
        {
            while (done < destination.Length && RandomAccess.Read(_file.SafeFileHandle, destination[done..], offset + done) is > 0 and int read)
                done += read;
        }
        catch (IOException e)
        {
            Refusal = e.Message;
        }

        return done;
    }

    /// <summary>Segments are given page numbers one behind the other: where memory lay does not matter to what it shares.</summary>
    private long OffsetOf(ulong page)
    {
        int low = 0, high = _segments.Count - 1;
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            if (_segments[middle].FirstPage <= page)
                low = middle;
            else
                high = middle - 1;
        }

        int segment = low;
        return _segments[segment].Offset + (long)(page - _segments[segment].FirstPage) * PageBytes;
    }

    private void ReadSegments()
    {
        Span<byte> header = stackalloc byte[ElfHeader];
        int length = ReadWhole(0, header);
        if (length >= 8 && (header.StartsWith("KDUMP   "u8) || header.StartsWith("makedumpfile"u8)))
            throw new InvalidDataException($"{_path} is a compressed kernel dump; write it as ELF instead (dump-guest-memory without -z, -l or -s; makedumpfile -E)");
        if (length < ElfHeader || !header.StartsWith("\u007fELF"u8))
        {
            Add(0, _file.Length, covered: 0);
            return;
        }

        if (header[4] != 2 || header[5] != 1)
            throw new InvalidDataException($"{_path} is an ELF file of another class than 64-bit little-endian");
        if (BinaryPrimitives.ReadUInt16LittleEndian(header[16..]) != Core)
            throw new InvalidDataException($"{_path} is an ELF file, and not a core dump");
        ReadProgramHeaders(header);
    }

    private void ReadProgramHeaders(ReadOnlySpan<byte> header)
    {
        long table = BinaryPrimitives.ReadInt64LittleEndian(header[32..]), sections = BinaryPrimitives.ReadInt64LittleEndian(header[40..]);
        long count = BinaryPrimitives.ReadUInt16LittleEndian(header[56..]);
        Span<byte> entry = stackalloc byte[SectionHeader];
        if (count == ManySegments) // Then the first section header has the number in sh_info, elf(5).
            count = ReadWhole(sections, entry) == SectionHeader ? BinaryPrimitives.ReadUInt32LittleEndian(entry[44..]) : throw Damaged("the number of segments");
        if (count > SegmentsMax)
            throw Damaged($"{count} segments (at most {SegmentsMax} are read)");
        List<(long Offset, long Bytes)> found = [];
        for (long i = 0; i < count; i++)
        {
            if (table < 0 || table > _file.Length || ReadWhole(table + i * ProgramHeader, entry[..ProgramHeader]) < ProgramHeader)
                throw Damaged($"program header {i} of {count}");
            if (BinaryPrimitives.ReadUInt32LittleEndian(entry) != Load)
                continue;
            long offset = BinaryPrimitives.ReadInt64LittleEndian(entry[8..]), bytes = BinaryPrimitives.ReadInt64LittleEndian(entry[32..]);
            if (offset < 0 || bytes < 0 || offset > _file.Length || bytes > _file.Length - offset)
                throw Damaged($"segment {i}: bytes {offset} to {offset + bytes} of a file of {_file.Length}");
            found.Add((offset, bytes));
        }

        long covered = 0;
        foreach ((long offset, long bytes) in found.Order())
            covered = Add(offset, bytes, covered);
    }

    /// <param name="offset">First byte of a segment.</param>
    /// <param name="bytes">Its length.</param>
    /// <param name="covered">Everything before this belongs to segments before it.</param>
    /// <returns>The same for the next.</returns>
    private long Add(long offset, long bytes, long covered)
    {
        long end = offset + bytes;
        if (offset < covered) // On its own grid of pages, behind what is counted already.
            offset += (covered - offset + PageBytes - 1) / PageBytes * PageBytes;
        bytes = end - offset;
        if (bytes >= PageBytes)
            _segments.Add(new Segment(_segments.Count == 0 ? 0 : _segments[^1].FirstPage + (ulong)_segments[^1].Pages, offset, bytes / PageBytes));
        return Math.Max(covered, end);
    }

    /// <summary>The first stretch of a segment, from one of its pages on, that has data: a page is in a hole if all of it is.</summary>
    private (long First, long End) DataOf(Segment segment, long from)
    {
        long end = segment.Offset + segment.Pages * PageBytes;
        (long start, long stop) = FileExtents.FirstData(_file.SafeFileHandle, segment.Offset + from * PageBytes, end);
        return (Math.Max(from, (start - segment.Offset) / PageBytes), Math.Min(segment.Pages, (stop - segment.Offset + PageBytes - 1) / PageBytes));
    }

    /// <summary>Pages of zeros that are in no table.</summary>
    private static PageFigures Zeros(long pages) =>
        new() { Resident = pages, Zero = pages, SavedShare = pages, Stable = pages, StableZero = pages, Unchanged = pages };

    private InvalidDataException Damaged(string what) => new($"{_path} is not a whole core dump: {what} cannot be");

    private readonly record struct Segment(ulong FirstPage, long Offset, long Pages);
}
