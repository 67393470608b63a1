namespace Samepage.Linux.ProcFs;

/// <summary>Finds pages of large folios among a process's own: transparent huge pages, whole or mapped by entries, and what else the kernel keeps in one piece.</summary>
/// <remarks>One thread at a time. What was read is kept until <see cref="Forget"/>: it holds as long as nobody can change it.</remarks>
/// <param name="flags">What the kernel says of physical pages; null where it does not: every page counts as one of a large folio then.</param>
public sealed class LargeFolios(FrameFlags? flags)
{
    /// <summary>Words that are read at a time.</summary>
    public const int WordsMost = 512;

    /// <summary>Physical pages that are looked at together, at least: neighbours in an address space often are neighbours in memory, and one more costs next to nothing.</summary>
    private const int WindowLeast = 8;
    private const ulong Page = 4096;

    private readonly ulong[] _words = new ulong[WordsMost], _window = new ulong[WordsMost];
    private ulong _wordsStart, _windowFirst;
    private int _wordsKnown, _windowCount;

    /// <summary>Forgets what was read: the pages may be others by now.</summary>
    public void Forget() => (_wordsKnown, _windowCount) = (0, 0);

    /// <summary>Looks for the first page of a large folio in a range, and lists the physical pages before it that are the process's own: not pages of files, and not the kernel's page of zeros.</summary>
    /// <param name="pagemap">The process's.</param>
    /// <param name="start">First byte.</param>
    /// <param name="end">One past the last byte.</param>
    /// <param name="readTo">Up to where it will be asked about next; <paramref name="end"/> or behind it.</param>
    /// <param name="frames">Receives the numbers of those pages; not cleared.</param>
    /// <param name="pages">Receives their addresses; not cleared.</param>
    /// <returns>Its address; <paramref name="end"/> when there is none. What cannot be told counts as one.</returns>
    public ulong FindFirst(Pagemap pagemap, ulong start, ulong end, ulong readTo, List<ulong> frames, List<ulong> pages)
    {
        ulong at = start;
        for (; at < end && !IsLarge(pagemap, at, readTo, out (ulong Number, ulong Flags) frame); at += Page)
        {
            if (frame.Number == 0 || (frame.Flags & FrameFlags.ZeroPage) != 0)
                continue;
            frames.Add(frame.Number);
            pages.Add(at);
        }

        return at;
    }

    /// <summary>Where the pages of large folios end that begin at an address.</summary>
    /// <param name="pagemap">The process's.</param>
    /// <param name="start">The first page.</param>
    /// <param name="end">One past the last byte that is asked about.</param>
    /// <returns><paramref name="start"/> when there is none.</returns>
    public ulong EndOf(Pagemap pagemap, ulong start, ulong end)
    {
        ulong at = start;
        while (at < end && IsLarge(pagemap, at, end, out _))
            at += Page;
        return at;
    }

    /// <summary>Lists a page of each large folio that has any in a range: its first, and any that does not go on from the one before.</summary>
    /// <param name="pagemap">The process's.</param>
    /// <param name="start">First byte.</param>
    /// <param name="end">One past the last byte.</param>
    /// <param name="pages">Receives addresses, by rising address; not cleared.</param>
    public void List(Pagemap pagemap, ulong start, ulong end, List<ulong> pages)
    {
        ulong before = 0;
        for (ulong at = start; at < end; at += Page)
        {
            bool isLarge = IsLarge(pagemap, at, end, out (ulong Number, ulong Flags) frame);
            if (isLarge && (before == 0 || frame.Number != before + 1 || (frame.Flags & FrameFlags.FirstOfLarge) != 0))
                pages.Add(at);
            before = isLarge ? frame.Number : 0;
        }
    }

    /// <summary>Whether a page is one of a large folio; what cannot be told is.</summary>
    /// <param name="pagemap">The process's.</param>
    /// <param name="address">The page.</param>
    /// <param name="readTo">Up to where it will be asked about next.</param>
    /// <param name="frame">The physical page, and what the kernel says of it; none, 0, where there is no page of the process's own.</param>
    private bool IsLarge(Pagemap pagemap, ulong address, ulong readTo, out (ulong Number, ulong Flags) frame)
    {
        frame = default;
        if (!TryReadWord(pagemap, address, readTo, out ulong word))
            return true;
        if ((word & (Pagemap.Present | Pagemap.FilePage)) != Pagemap.Present)
            return false;
        frame.Number = word & Pagemap.FrameMask;
        if (frame.Number == 0 || !TryReadFlags(frame.Number, address, out frame.Flags))
            return true;
        return (frame.Flags & FrameFlags.InLarge) != 0 && (frame.Flags & FrameFlags.ZeroPage) == 0;
    }

    private bool TryReadWord(Pagemap pagemap, ulong address, ulong readTo, out ulong word)
    {
        if (address < _wordsStart || address >= _wordsStart + ((ulong)_wordsKnown * Page))
        {
            _wordsStart = address;
            _wordsKnown = pagemap.ReadWords(address, _words.AsSpan(0, (int)Math.Min((readTo - address) / Page, WordsMost)));
        }

        word = _wordsKnown == 0 ? 0 : _words[(address - _wordsStart) / Page];
        return _wordsKnown > 0;
    }

    /// <summary>As many are looked at as there are physical neighbours among the words that were read, from this one on.</summary>
    private bool TryReadFlags(ulong number, ulong address, out ulong found)
    {
        if (number < _windowFirst || number >= _windowFirst + (ulong)_windowCount)
        {
            int first = (int)((address - _wordsStart) / Page), count = 1;
            while (first + count < _wordsKnown && (_words[first + count] & (Pagemap.Present | Pagemap.FrameMask)) == (Pagemap.Present | (number + (ulong)count)))
                count++;
            _windowFirst = number;
            _windowCount = flags?.Read(number, _window.AsSpan(0, Math.Max(count, WindowLeast))) ?? 0;
        }

        found = _windowCount == 0 ? 0 : _window[number - _windowFirst];
        return _windowCount > 0;
    }
}
