using Samepage.Estimate.Census;

namespace Samepage.Estimate.Sources;

/// <summary>Something whose pages are counted: a live process, a core dump, an image.</summary>
/// <param name="description">What it is.</param>
public abstract class PageSource(SourceDescription description)
{
    /// <summary>Bytes of a page.</summary>
    public const int PageBytes = 4096;

    /// <summary>What it is.</summary>
    public SourceDescription Description { get; } = description;

    /// <summary>Its place among the sources of a census.</summary>
    internal int Index { get; set; }

    /// <summary>It ended while it was read: what was read of it is not there any more.</summary>
    internal bool IsGone { get; private protected set; }

    /// <summary>Why nothing could be read of it; empty where something could.</summary>
    internal string Refusal { get; private protected set; } = "";

    /// <summary>Mappings that it has; 0 for a file.</summary>
    internal int Mappings { get; private protected set; }

    /// <summary>Pages that there are about, to tell how far a census has come.</summary>
    internal abstract long ExpectedPages { get; }

    /// <summary>Lists what is to be read, some pages at a time. One thread; <paramref name="ledger"/> takes what need not be read.</summary>
    internal abstract IEnumerable<Batch> List(Ledger ledger);

    /// <summary>Reads a batch: several threads, each its own batch.</summary>
    /// <param name="batch">What to read.</param>
    /// <param name="pages">Receives what was found, as many as the batch has pages.</param>
    /// <param name="content">Room for a whole batch: the content of each page with <see cref="PageFind.Own"/> at its place.</param>
    /// <returns>False when whom it reads did not let itself be read in time: the two arrays are not the caller's any more, and hold nothing.</returns>
    internal abstract bool TryRead(Batch batch, PageFound[] pages, byte[] content);

    /// <summary>Reads one page again, for a look at it.</summary>
    /// <returns>False when it is gone or may not be read.</returns>
    internal abstract bool TryReadPage(ulong page, Span<byte> content);
}

/// <summary>What a source is.</summary>
/// <param name="Pid">Its process id; 0 for a file.</param>
/// <param name="Name">The command's name, or the file's path.</param>
/// <param name="Domain">Its trust domain, such as <c>uid:1000</c>.</param>
/// <param name="Obstacle">Why <c>attach</c> would not take it in; empty where nothing stands in the way.</param>
/// <param name="Image">The program's file, or the file itself; empty where it cannot be told.</param>
public sealed record SourceDescription(int Pid, string Name, string Domain, string Obstacle, string Image = "");

/// <summary>A stretch of pages of one kind.</summary>
/// <param name="Start">First page number: for a file, its offset in pages.</param>
/// <param name="Count">Pages.</param>
/// <param name="Kind">What they are used for.</param>
/// <param name="Flags"><see cref="PageFlags.Reach"/> and <see cref="PageFlags.Huge"/>.</param>
internal readonly record struct Piece(ulong Start, int Count, MemoryKind Kind, PageFlags Flags);

/// <summary>Pages that one thread reads at a time.</summary>
/// <remarks>Half a mebibyte: what was read is still in the processor's cache when it is digested, and a system call costs little against it.</remarks>
internal sealed class Batch(PageSource source)
{
    public const int PagesMax = 128;

    public PageSource Source => source;

    public List<Piece> Pieces { get; } = [];

    public int Pages { get; private set; }

    /// <summary>Takes as much of a stretch as there is room for.</summary>
    /// <returns>Pages taken.</returns>
    public int Take(Piece piece)
    {
        int count = Math.Min(piece.Count, PagesMax - Pages);
        if (count > 0)
            Pieces.Add(piece with { Count = count });
        Pages += count;
        return count;
    }
}

/// <summary>What a page turned out to be.</summary>
internal enum PageFind : byte
{
    /// <summary>It is not there any more.</summary>
    Absent,

    /// <summary>Its content was read.</summary>
    Own,

    /// <summary>Others map the same frame; it was not read.</summary>
    Shared,

    /// <summary>It is there, and could not be read.</summary>
    Unread,
}

/// <param name="Find">What it is.</param>
/// <param name="Frame">The frame's number; 0 where that is hidden from us, or was not asked for.</param>
internal readonly record struct PageFound(PageFind Find, ulong Frame);
