using Samepage.Api;

namespace Samepage.Cli;

/// <summary>What the rows of <c>samepage top</c> are sorted by.</summary>
internal enum TopOrder
{
    /// <summary>Bytes saved, most first.</summary>
    Saved,

    /// <summary>Pages merged, most first.</summary>
    Merged,

    /// <summary>Pages tracked, most first.</summary>
    Tracked,

    /// <summary>Copy-on-write breaks since the last look, most first.</summary>
    Breaks,

    /// <summary>The longest hold, longest first.</summary>
    Hold,

    /// <summary>Process id.</summary>
    Pid,

    /// <summary>Command name.</summary>
    Name,
}

/// <summary>A process in <c>samepage top</c>.</summary>
/// <param name="Process">As the status has it.</param>
/// <param name="BreaksPerSecond">Copy-on-write breaks since the last look.</param>
internal readonly record struct TopRow(ProcessReport Process, double BreaksPerSecond);

/// <summary>What <c>samepage top</c> remembers from look to look: for rates, and for the line of savings.</summary>
internal sealed class TopView
{
    private const int Remembered = 512;
    private readonly List<long> _savings = [];
    private StatusReport? _before;
    private double _seconds;

    /// <summary>The latest look.</summary>
    public StatusReport? Status { get; private set; }

    /// <summary>Bytes saved, net, at each look, the latest last.</summary>
    public IReadOnlyList<long> Savings => _savings;

    /// <summary>Pages looked up since the last look; 0 after the first.</summary>
    public double PagesPerSecond => Rate(status => status.PagesScanned);

    /// <summary>The part of one processor that the daemon took since the last look.</summary>
    public double ProcessorShare => Rate(status => status.Daemon.ProcessorSeconds);

    /// <summary>Takes a look.</summary>
    /// <param name="status">What was seen.</param>
    /// <param name="seconds">Time since the last look.</param>
    public void Look(StatusReport status, double seconds)
    {
        // Another daemon has begun to count anew.
        bool same = Status?.Daemon.Pid == status.Daemon.Pid;
        (_before, Status, _seconds) = (same ? Status : null, status, seconds);
        _savings.Add(status.ProfitBytes);
        if (_savings.Count > Remembered)
            _savings.RemoveAt(0);
    }

    /// <summary>The processes in an order; equal ones by process id.</summary>
    public TopRow[] Rows(TopOrder order)
    {
        IEnumerable<TopRow> rows = (Status?.Processes ?? []).Select(process => new TopRow(process, BreaksOf(process)));
        return
        [
            .. (order switch
            {
                TopOrder.Merged => rows.OrderByDescending(row => row.Process.PagesMerged),
                TopOrder.Tracked => rows.OrderByDescending(row => row.Process.PagesTracked),
                TopOrder.Breaks => rows.OrderByDescending(row => row.BreaksPerSecond),
                TopOrder.Hold => rows.OrderByDescending(row => row.Process.StallNsMax),
                TopOrder.Pid => rows.OrderBy(row => row.Process.Pid),
                TopOrder.Name => rows.OrderBy(row => row.Process.Name, StringComparer.Ordinal),
                _ => rows.OrderByDescending(row => row.Process.ProfitBytes),
            }).ThenBy(row => row.Process.Pid),
        ];
    }

    private double BreaksOf(ProcessReport process)
    {
        // One that was taken in since counts from nothing.
        long before = _before?.Processes.FirstOrDefault(other => other.Pid == process.Pid)?.CowBreaks ?? 0;
        return _before is null || _seconds <= 0 || process.CowBreaks < before ? 0 : (process.CowBreaks - before) / _seconds;
    }

    private double Rate(Func<StatusReport, double> figure) => _before is null || _seconds <= 0 ? 0 : Math.Max(0, figure(Status!) - figure(_before)) / _seconds;
}
