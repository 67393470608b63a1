using System.Globalization;
using Samepage.Api;
using Samepage.Engine;
using Samepage.Engine.Records;

namespace Samepage.Daemon;

/// <summary>Goes through the records of one process, area by area, some pages at a step: a large process is not looked at in one go, or nobody would be
/// scanned meanwhile.</summary>
/// <param name="pid">The process.</param>
/// <param name="cells">Letters that the picture may have at most; 0 for none. There is one for each area at least.</param>
/// <param name="first">Areas before this page are left out.</param>
/// <param name="end">Areas from this page on are left out.</param>
internal sealed class AreaWalk(int pid, int cells, ulong first, ulong end)
{
    private const int Kinds = (int)PageKind.Odd + 1, PagesPerStep = 1 << 20, Piece = 512;
    private const string Letters = ".M0uvwfbao";
    private readonly List<Tally> _areas = [];
    private readonly Tally _elsewhere = new(new ObservedArea(0, 0, ""), 0, 0);
    private ulong _next;
    private long _pagesPerCell;
    private bool _begun;

    /// <summary>What came of it; null before the last step, and when the process is not, or no longer, taken in.</summary>
    public AreasReply? Reply { get; private set; }

    /// <summary>Makes a step, on the scanner's thread.</summary>
    /// <returns>True when it was the last one.</returns>
    public bool Step(Coordinator coordinator)
    {
        if (!coordinator.TryObserve(pid, out Observed process))
            return true;
        if (!_begun)
            Begin(process.Areas);
        Span<PageKind> kinds = stackalloc PageKind[Piece];
        for (int left = PagesPerStep; left > 0; left -= Piece)
        {
            if (coordinator.Engine.NextTracked(process.Space, new PageNumber(_next)) is not { } next || next.Value >= end)
            {
                Reply = Tell(process);
                return true;
            }

            ulong behind = Math.Min(end, (next.Value / Piece + 1) * Piece);
            Span<PageKind> piece = kinds[..(int)(behind - next.Value)];
            coordinator.Engine.ReadKinds(process.Space, next, piece);
            Count(next.Value, piece);
            _next = behind;
        }

        return false;
    }

    private void Begin(IReadOnlyList<ObservedArea> areas)
    {
        (_begun, _next) = (true, first);
        ObservedArea[] wanted = [.. areas.Where(area => area.End > first && area.Start < end).Select(area => area with { Start = Math.Max(area.Start, first), End = Math.Min(area.End, end) })];
        if (cells > 0)
        {
            _pagesPerCell = 1;
            while (_pagesPerCell < 1L << 40 && wanted.Sum(area => CellsOf(area, _pagesPerCell)) > Math.Max(cells, wanted.Length))
                _pagesPerCell *= 2;
        }

        _areas.AddRange(wanted.Select(area => new Tally(area, _pagesPerCell, _pagesPerCell == 0 ? 0 : (int)CellsOf(area, _pagesPerCell))));
    }

    private static long CellsOf(in ObservedArea area, long pages) => ((long)(area.End - area.Start) + pages - 1) / pages;

    private void Count(ulong page, ReadOnlySpan<PageKind> kinds)
    {
        int low = 0, high = _areas.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (_areas[middle].Area.End <= page)
                low = middle + 1;
            else
                high = middle;
        }

        while (kinds.Length > 0)
        {
            bool inside = low < _areas.Count && _areas[low].Area.Start <= page;
            ulong stop = low == _areas.Count ? ulong.MaxValue : inside ? _areas[low].Area.End : _areas[low].Area.Start;
            int run = (int)Math.Min((ulong)kinds.Length, stop - page);
            (inside ? _areas[low] : _elsewhere).Add(page, kinds[..run]);
            low += inside && page + (ulong)run == stop ? 1 : 0;
            page += (ulong)run;
            kinds = kinds[run..];
        }
    }

    private AreasReply Tell(Observed process)
    {
        Tally[] all = [.. _areas, _elsewhere];
        Apportioned frames = new(process.FrameBytes, all.Sum(tally => tally.Of(PageKind.Merged))), records = new(process.RecordBytes, all.Sum(tally => tally.Tracked));
        AreaReport[] areas = [.. all.Select(tally => tally.Tell(process.PageSize, frames, records))];
        AreaReport total = new("", "", "", areas.Sum(area => area.PagesTracked), areas.Sum(area => area.PagesMerged), areas.Sum(area => area.ZeroPages), areas.Sum(area => area.PagesUnshared),
            areas.Sum(area => area.PagesVolatile), areas.Sum(area => area.PagesBroken), areas.Sum(area => area.PagesOther), areas.Sum(area => area.ProfitBytes) - process.AgentBytes, "");
        return new AreasReply(pid, process.Name, process.Domain, process.PageSize, _pagesPerCell, areas, process.AgentBytes, total);
    }

    /// <summary>What was counted in an area, and in each of its cells.</summary>
    private sealed class Tally(ObservedArea area, long pagesPerCell, int cells)
    {
        private readonly long[] _counts = new long[Kinds];
        private readonly int[] _cells = new int[cells * Kinds];

        public ObservedArea Area => area;

        public long Tracked => _counts.Sum() - Of(PageKind.Untracked);

        public long Of(PageKind kind) => _counts[(int)kind];

        public void Add(ulong page, ReadOnlySpan<PageKind> kinds)
        {
            foreach (PageKind kind in kinds)
                _counts[(int)kind]++;
            for (int i = 0; cells > 0 && i < kinds.Length; i++)
                _cells[(int)((long)(page + (ulong)i - area.Start) / pagesPerCell) * Kinds + (int)kinds[i]]++;
        }

        public AreaReport Tell(int pageSize, Apportioned frames, Apportioned records)
        {
            long merged = Of(PageKind.Merged), zero = Of(PageKind.Zero);
            return new AreaReport(Address(area.Start, pageSize), Address(area.End, pageSize), area.Name, Tracked, merged, zero, Of(PageKind.Unique), Of(PageKind.Volatile), Of(PageKind.Broken),
                Of(PageKind.Waiting) + Of(PageKind.SharedAlready) + Of(PageKind.Absent) + Of(PageKind.Odd),
                (merged + zero) * pageSize - frames.Take(merged) - records.Take(Tracked), string.Create(cells, this, static (text, tally) => tally.Draw(text)));
        }

        private string Address(ulong page, int pageSize) => area.End == 0 ? "" : (page * (ulong)pageSize).ToString("x", CultureInfo.InvariantCulture);

        /// <summary>What most pages of a cell are that have a record, if any has.</summary>
        private void Draw(Span<char> text)
        {
            for (int cell = 0; cell < text.Length; cell++)
            {
                int most = 0;
                for (int kind = 1; kind < Kinds; kind++)
                {
                    if (_cells[cell * Kinds + kind] > (most == 0 ? 0 : _cells[cell * Kinds + most]))
                        most = kind;
                }

                text[cell] = Letters[most];
            }
        }
    }
}
