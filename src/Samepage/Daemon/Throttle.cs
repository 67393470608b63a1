using System.Diagnostics;
using System.Globalization;
using Samepage.Engine.Control;
using Samepage.Linux.Kernels;
using Samepage.Linux.ProcFs;
using Samepage.Metrics;
using Samepage.Rules;

namespace Samepage.Daemon;

/// <summary>What keeps the scanner back: a budget of processor time, waiting until memory is short, and swap on a kernel that cannot move pages beside it. On the scanner's thread.</summary>
internal sealed class Throttle
{
    /// <summary>A piece of work under a budget, pages: some tens of milliseconds where all of them are merged.</summary>
    private const long PiecePages = 4096;

    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(1);
    private readonly ProcessorBudget _budget = new();
    private PressureGate _gate = new();
    private long _lookedAt;
    private bool _swapIsInTheWay;
    private MemoryPressure _pressure;

    /// <summary>Scanning waits for nothing.</summary>
    public bool IsOpen => _gate.IsOpen && !_swapIsInTheWay;

    /// <summary>That it waits for swap to be off, for people; empty while it does not.</summary>
    public string WaitsForSwap => _swapIsInTheWay ? "swap is on, and this kernel cannot move pages that may be swapped out meanwhile (samepage doctor: move-swap-cache)" : "";

    /// <summary>What it waits for, for people; empty while it does not.</summary>
    public string WaitsFor
    {
        get
        {
            if (_gate.IsOpen)
                return "";
            List<string> parts = [];
            if (_gate.Available is { } available)
                parts.Add(string.Create(CultureInfo.InvariantCulture, $"less than {available.Start:0.##} % of memory available, {_pressure.AvailablePercent:0.##} % is"));
            if (_gate.Some is { } some)
            {
                string now = _pressure.SomeAverage is double average ? string.Create(CultureInfo.InvariantCulture, $"{average:0.##} % is") : "which cannot be read";
                parts.Add(string.Create(CultureInfo.InvariantCulture, $"more than {some.Start:0.##} % of the last 10 s waited for memory, {now}"));
            }

            return string.Join("; or ", parts);
        }
    }

    /// <summary>How long to rest before the next piece of work.</summary>
    public TimeSpan Rest => _budget.Percent == 0 ? TimeSpan.Zero : _budget.Rest(Stopwatch.GetElapsedTime(0), Environment.CpuUsage.TotalTime + HoldMeter.Total);

    /// <summary>Puts other rules in force.</summary>
    public void Use(RuleSet rules)
    {
        _budget.Percent = rules.ProcessorPercent;
        if ((rules.Available, rules.Some) != (_gate.Available, _gate.Some))
            _gate = new PressureGate { Available = rules.Available, Some = rules.Some };
        _lookedAt = 0;
        LookNowAndThen();
    }

    /// <summary>Looks at the pressure and at swap, if it is time to.</summary>
    /// <remarks>Whoever moves pages looks at swap once more, right before: see <see cref="Live.LiveSpace.Run"/>. Here it is looked at so that nobody plans in vain.</remarks>
    public void LookNowAndThen()
    {
        if ((!_gate.HasLimits && KernelRestraints.Here.MayMoveWithSwap) || (_lookedAt != 0 && Stopwatch.GetElapsedTime(_lookedAt) < s_interval))
            return;
        _lookedAt = Stopwatch.GetTimestamp();
        _swapIsInTheWay = !KernelRestraints.Here.MayMoveNow();
        if (!_gate.HasLimits)
            return;
        _pressure = PressureReader.Read();
        _ = _gate.Look(_pressure);
    }

    /// <summary>How many of so many pages may be looked at in one piece.</summary>
    public long Piece(long pages) => _budget.Percent > 0 ? Math.Min(pages, PiecePages) : pages;
}
