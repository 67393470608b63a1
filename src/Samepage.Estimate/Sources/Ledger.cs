using Samepage.Estimate.Figures;

namespace Samepage.Estimate.Sources;

/// <summary>What is counted of the sources without a record for each page.</summary>
/// <remarks>Thread-safe: batches are entered as a whole.</remarks>
internal sealed class Ledger
{
    private readonly Lock _lock = new();
    private readonly Dictionary<(int Source, MemoryKind Kind), PageFigures> _cells = [];
    private readonly Dictionary<(int Source, string Reason), (long Areas, long Pages)> _left = [];

    /// <summary>Pages listed so far, read or not.</summary>
    public long PagesListed { get; private set; }

    /// <summary>Adds figures to those of a source's memory of a kind.</summary>
    public void Enter(int source, MemoryKind kind, PageFigures figures)
    {
        lock (_lock)
        {
            CellOf(source, kind).Add(figures);
            PagesListed += figures.Resident;
        }
    }

    /// <summary>Notes pages that merging does not reach, or that were not read, and why.</summary>
    public void EnterLeft(int source, string reason, long pages)
    {
        lock (_lock)
        {
            (long areas, long before) = _left.GetValueOrDefault((source, reason));
            _left[(source, reason)] = (areas + 1, before + pages);
        }
    }

    /// <summary>The figures of a source's memory of a kind; to be changed while nobody enters.</summary>
    public PageFigures CellOf(int source, MemoryKind kind)
    {
        if (!_cells.TryGetValue((source, kind), out PageFigures? figures))
            _cells.Add((source, kind), figures = new PageFigures());
        return figures;
    }

    /// <summary>Forgets the figures of a source that has ended.</summary>
    public void Drop(int source)
    {
        lock (_lock)
        {
            foreach ((int Source, MemoryKind Kind) cell in _cells.Keys.Where(cell => cell.Source == source).ToArray())
                _cells.Remove(cell);
        }
    }

    /// <summary>What was left out of a source, and why.</summary>
    public IEnumerable<LeftOut> LeftOf(int source) =>
        from entry in _left
        where entry.Key.Source == source
        orderby entry.Value.Pages descending
        select new LeftOut(entry.Key.Reason, entry.Value.Areas, entry.Value.Pages);

    /// <summary>The cells of all sources that count.</summary>
    public IEnumerable<(int Source, MemoryKind Kind, PageFigures Figures)> Cells =>
        from cell in _cells
        orderby cell.Key.Source, cell.Key.Kind
        select (cell.Key.Source, cell.Key.Kind, cell.Value);
}
