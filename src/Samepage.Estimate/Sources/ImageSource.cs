using System.Buffers.Binary;
using Samepage.Estimate.Census;
using Samepage.Estimate.Figures;

namespace Samepage.Estimate.Sources;

/// <summary>A core dump, a guest's dump or a raw image of memory, as a file.</summary>
/// <remarks>An ELF core file (core(5), QEMU's <c>dump-guest-memory</c>) is read by its loadable segments, which need not begin at a multiple of a page in the
/// file; everything else is taken as memory from its first byte, and what is left behind its last whole page is not counted. Nothing is mapped.</remarks>
public sealed class ImageSource : PageSource, IDisposable
{
    private const int ElfHeader = 64, ProgramHeader = 56, SectionHeader = 64, ManySegments = 0xffff, Load = 1, Core = 4;
    private readonly FileStream _file;
    private readonly List<Segment> _segments = [];

    /// <summary>Opens a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="domain">The trust domain that its pages are counted in.</param>
    /// <exception cref="IOException">It cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    /// <exception cref="InvalidDataException">It is of a kind that cannot be read as memory, or damaged; the message says which.</exception>
    public ImageSource(string path, string domain)
        : base(new SourceDescription(0, path, domain, "", path))
    {
        _file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
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
            ledger.Enter(Index, MemoryKind.Image, new PageFigures { Resident = segment.Pages });
            for (long done = 0; done < segment.Pages;)
            {
                int most = (int)Math.Min(segment.Pages - done, Batch.PagesMax);
                done += batch.Take(new Piece(segment.FirstPage + (ulong)done, most, MemoryKind.Image, PageFlags.Reach));
                if (batch.Pages < Batch.PagesMax)
                    continue;
                yield return batch;
                batch = new Batch(this);
            }
        }

        if (batch.Pages > 0)
            yield return batch;
    }

    /// <inheritdoc/>
    internal override void Read(Batch batch, Span<PageFound> pages, Span<byte> content)
    {
        int at = 0;
        foreach (Piece piece in batch.Pieces)
        {
            int whole = ReadWhole(OffsetOf(piece.Start), content.Slice(at * PageBytes, piece.Count * PageBytes)) / PageBytes;
            pages.Slice(at, whole).Fill(new PageFound(PageFind.Own, 0));
            pages[(at + whole)..(at + piece.Count)].Fill(new PageFound(PageFind.Unread, 0));
            at += piece.Count;
        }
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
        int segment = _segments.FindLastIndex(candidate => candidate.FirstPage <= page);
        return _segments[segment].Offset + (long)(page - _segments[segment].FirstPage) * PageBytes;
    }

    private void ReadSegments()
    {
        Span<byte> header = stackalloc byte[ElfHeader];
        int length = ReadWhole(0, header);
        if (length >= 8 && (header.StartsWith("KDUMP   "u8) || header.StartsWith("makedumpfile"u8)))
            throw new InvalidDataException($"{_file.Name} is a compressed kernel dump; write it as ELF instead (dump-guest-memory without -z, -l or -s; makedumpfile -E)");
        if (length < ElfHeader || !header.StartsWith("\u007fELF"u8))
        {
            Add(0, _file.Length);
            return;
        }

        if (header[4] != 2 || header[5] != 1)
            throw new InvalidDataException($"{_file.Name} is an ELF file of another class than 64-bit little-endian");
        if (BinaryPrimitives.ReadUInt16LittleEndian(header[16..]) != Core)
            throw new InvalidDataException($"{_file.Name} is an ELF file, and not a core dump");
        ReadProgramHeaders(header);
    }

    private void ReadProgramHeaders(ReadOnlySpan<byte> header)
    {
        long table = BinaryPrimitives.ReadInt64LittleEndian(header[32..]), sections = BinaryPrimitives.ReadInt64LittleEndian(header[40..]);
        long count = BinaryPrimitives.ReadUInt16LittleEndian(header[56..]);
        Span<byte> entry = stackalloc byte[SectionHeader];
        if (count == ManySegments) // Then the first section header has the number in sh_info, elf(5).
            count = ReadWhole(sections, entry) == SectionHeader ? BinaryPrimitives.ReadUInt32LittleEndian(entry[44..]) : throw Damaged("the number of segments");
        for (long i = 0; i < count; i++)
        {
            if (table < 0 || table > _file.Length || ReadWhole(table + i * ProgramHeader, entry[..ProgramHeader]) < ProgramHeader)
                throw Damaged($"program header {i} of {count}");
            if (BinaryPrimitives.ReadUInt32LittleEndian(entry) != Load)
                continue;
            long offset = BinaryPrimitives.ReadInt64LittleEndian(entry[8..]), bytes = BinaryPrimitives.ReadInt64LittleEndian(entry[32..]);
            if (offset < 0 || bytes < 0 || offset > _file.Length || bytes > _file.Length - offset)
                throw Damaged($"segment {i}: bytes {offset} to {offset + bytes} of a file of {_file.Length}");
            Add(offset, bytes);
        }
    }

    private void Add(long offset, long bytes)
    {
        if (bytes >= PageBytes)
            _segments.Add(new Segment(_segments.Count == 0 ? 0 : _segments[^1].FirstPage + (ulong)_segments[^1].Pages, offset, bytes / PageBytes));
    }

    private InvalidDataException Damaged(string what) => new($"{_file.Name} is not a whole core dump: {what} cannot be");

    private readonly record struct Segment(ulong FirstPage, long Offset, long Pages);
}
