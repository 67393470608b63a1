namespace Samepage.Engine.Control;

/// <summary>What the scanner is told to do: the values of the kernel's file <c>run</c>.</summary>
public enum RunState : uint
{
    /// <summary>It stands still; what is merged stays merged.</summary>
    Stopped = 0,

    /// <summary>It scans.</summary>
    Running = 1,

    /// <summary>It stands still, and nothing is merged any more.</summary>
    Unmerged = 2,
}

/// <summary>A file of the control directory.</summary>
/// <param name="Name">Its name, the kernel's.</param>
/// <param name="Writable">It can be written; the others only say something.</param>
public sealed record ControlFile(string Name, bool Writable);

/// <summary>A scanner's values and figures by the kernel's names and texts (G1–G9): starting, stopping and pacing it.</summary>
/// <remarks><para>How texts are read stands in <see cref="ControlText"/>. An empty text changes nothing; what a value does not take is refused and changes nothing.</para>
/// <para>Values are written on the engine's thread. Any thread may read them, and <see cref="Read(string, in ControlFigures)"/> files.</para></remarks>
public sealed class ScanControl
{
    /// <summary>The file that starts and stops; see <see cref="RunState"/>.</summary>
    public const string RunFile = "run";

    /// <summary>The file of <see cref="PagesToScan"/>.</summary>
    public const string PagesToScanFile = "pages_to_scan";

    /// <summary>The file of <see cref="SleepMilliseconds"/>.</summary>
    public const string SleepMillisecondsFile = "sleep_millisecs";

    /// <summary>The file that counts full scans.</summary>
    public const string FullScansFile = "full_scans";

    private const string NoAdvisor = "none", ScanTimeAdvisor = "scan-time";
    private readonly ScanEngine _engine;
    private readonly ScanDefaults _defaults;
    private readonly Func<BreakOutcome> _unmergeAll;
    private bool _acrossNodes = true;
    private uint _pruneMilliseconds = 2000;

    /// <param name="engine">The engine to drive, with the kernel's values to begin with.</param>
    public ScanControl(ScanEngine engine)
        : this(engine, new ScanDefaults(), engine.UnmergeAll)
    {
    }

    /// <param name="engine">The engine to drive.</param>
    /// <param name="defaults">The values to begin with.</param>
    /// <param name="unmergeAll">Gives everything its own copy, where more than the engine is needed for that.</param>
    public ScanControl(ScanEngine engine, ScanDefaults defaults, Func<BreakOutcome> unmergeAll)
    {
        (_engine, _defaults, _unmergeAll) = (engine, defaults, unmergeAll);
        (Run, PagesToScan, SleepMilliseconds) = (defaults.Run, defaults.PagesToScan, defaults.SleepMilliseconds);
        (engine.UsesZeroPage, engine.SmartScan) = (defaults.UsesZeroPage, true);
        engine.MaxPageSharing = 256;
    }

    /// <summary>The files of the directory, by name.</summary>
    public static IReadOnlyList<ControlFile> Files { get; } =
    [
        new("advisor_max_cpu", true), new("advisor_max_pages_to_scan", true), new("advisor_min_pages_to_scan", true), new("advisor_mode", true),
        new("advisor_target_scan_time", true), new(FullScansFile, false), new("general_profit", false), new("ksm_zero_pages", false), new("max_page_sharing", true),
        new("merge_across_nodes", true), new("pages_scanned", false), new("pages_shared", false), new("pages_sharing", false), new("pages_skipped", false),
        new(PagesToScanFile, true), new("pages_unshared", false), new("pages_volatile", false), new(RunFile, true), new(SleepMillisecondsFile, true), new("smart_scan", true),
        new("stable_node_chains", false), new("stable_node_chains_prune_millisecs", true), new("stable_node_dups", false), new("use_zero_pages", true),
    ];

    /// <summary>What the scanner does.</summary>
    public RunState Run { get; private set; }

    /// <summary>Pages that one batch looks at, at most; 0 stands still.</summary>
    public uint PagesToScan { get; private set; }

    /// <summary>The pause between two batches, milliseconds. Whoever has a clock keeps it.</summary>
    public uint SleepMilliseconds { get; private set; }

    /// <summary>Who chooses <see cref="PagesToScan"/> while it is on.</summary>
    public ScanAdvisor Advisor { get; } = new();

    /// <summary>What a file says now: its value and a newline; null when there is no such file. On the engine's thread.</summary>
    public string? Read(string file) => Read(file, _engine.ControlFigures);

    /// <summary>What a file says: its value and a newline; null when there is no such file. On any thread.</summary>
    /// <param name="file">Its name.</param>
    /// <param name="figures">The figures to say, as they were at some moment.</param>
    public string? Read(string file, in ControlFigures figures) => ValueOf(file, figures) is { } value ? $"{value}\n" : null;

    /// <summary>Whether to write this is to unmerge everything.</summary>
    public bool Unmerges(string file, ReadOnlySpan<char> text) =>
        file == RunFile && Run != RunState.Unmerged && ControlText.ReadWhole(text, out ulong value) == ControlOutcome.Done && value == (ulong)RunState.Unmerged;

    /// <summary>Writes a file. When this returns it is so: with <c>run</c> 2, everything is unmerged.</summary>
    public ControlOutcome Write(string file, ReadOnlySpan<char> text)
    {
        if (Files.FirstOrDefault(known => known.Name == file) is not { } found)
            return ControlOutcome.Invalid;
        if (!found.Writable)
            return ControlOutcome.ReadOnly;
        if (text.IsEmpty)
            return ControlOutcome.Done;
        int end = text.IndexOf('\0');
        if (end >= 0)
            text = text[..end];
        return file switch
        {
            "use_zero_pages" or "smart_scan" => WriteTruth(file, text),
            "advisor_mode" => WriteAdvisor(ControlText.WithoutNewline(text)),
            _ => WriteWhole(file, text),
        };
    }

    /// <summary>One batch, if the scanner runs and has anything to do: without, nothing is asked of the machine.</summary>
    public BatchReport Batch() => Run == RunState.Running && PagesToScan > 0
        ? _engine.Scan((int)Math.Min(PagesToScan, int.MaxValue))
        : new BatchReport(0, 0, [], []);

    /// <summary>Tells the advisor of a pass over everything that has ended. On the engine's thread.</summary>
    /// <param name="took">How long it took, pauses included.</param>
    /// <param name="processor">Processor time that it took.</param>
    public void PassEnded(TimeSpan took, TimeSpan processor)
    {
        if (Advisor.IsOn)
            PagesToScan = Advisor.Next(PagesToScan, took, processor);
    }

    private object? ValueOf(string file, in ControlFigures figures) => file switch
    {
        RunFile => (uint)Run,
        PagesToScanFile => PagesToScan,
        SleepMillisecondsFile => SleepMilliseconds,
        "max_page_sharing" => _engine.MaxPageSharing,
        "merge_across_nodes" => _acrossNodes ? 1 : 0,
        "use_zero_pages" => _engine.UsesZeroPage ? 1 : 0,
        "smart_scan" => _engine.SmartScan ? 1 : 0,
        "stable_node_chains_prune_millisecs" => _pruneMilliseconds,
        "advisor_mode" => Advisor.IsOn ? $"{NoAdvisor} [{ScanTimeAdvisor}]" : $"[{NoAdvisor}] {ScanTimeAdvisor}",
        "advisor_max_cpu" => Advisor.ProcessorPercentMax,
        "advisor_min_pages_to_scan" => Advisor.PagesMin,
        "advisor_max_pages_to_scan" => Advisor.PagesMax,
        "advisor_target_scan_time" => Advisor.TargetSeconds,
        "pages_shared" => figures.Engine.PagesShared,
        "pages_sharing" => figures.Engine.PagesSharing,
        "pages_unshared" => figures.Engine.PagesUnshared,
        "pages_volatile" => figures.Engine.PagesVolatile,
        "pages_scanned" => figures.Engine.PagesScanned,
        "pages_skipped" => figures.Engine.PagesSkipped,
        FullScansFile => figures.Engine.FullScans,
        "ksm_zero_pages" => figures.ZeroPages,
        "stable_node_chains" => figures.Chains,
        "stable_node_dups" => figures.ChainFrames,
        // Tools that read the kernel's directory take no negative value here.
        "general_profit" => Math.Max(0, figures.GeneralProfitBytes),
        _ => null,
    };

    private ControlOutcome WriteTruth(string file, ReadOnlySpan<char> text)
    {
        if (!ControlText.TryReadTruth(text, out bool truth))
            return ControlOutcome.Invalid;
        if (file == "smart_scan")
            _engine.SmartScan = truth;
        else
            _engine.UsesZeroPage = truth;
        return ControlOutcome.Done;
    }

    private ControlOutcome WriteAdvisor(ReadOnlySpan<char> word)
    {
        if (word is not (NoAdvisor or ScanTimeAdvisor))
            return ControlOutcome.Invalid;
        bool on = word is ScanTimeAdvisor;
        if (on != Advisor.IsOn)
            PagesToScan = on ? Advisor.First : _defaults.PagesToScan;
        Advisor.IsOn = on;
        return ControlOutcome.Done;
    }

    private ControlOutcome WriteWhole(string file, ReadOnlySpan<char> text)
    {
        ControlOutcome outcome = ControlText.ReadWhole(text, out ulong value);
        if (outcome == ControlOutcome.OutOfRange && file is not ("max_page_sharing" or "merge_across_nodes"))
            return ControlOutcome.Invalid;
        if (outcome != ControlOutcome.Done)
            return outcome;
        switch (file)
        {
            case RunFile:
                return value <= (ulong)RunState.Unmerged ? Become((RunState)value) : ControlOutcome.Invalid;
            case "max_page_sharing":
                return value > int.MaxValue ? ControlOutcome.OutOfRange : value < 2 ? ControlOutcome.Invalid : WriteSharing((int)value);
            case "merge_across_nodes":
                return value > 1 ? ControlOutcome.Invalid : WriteNodes(value == 1);
            // The kernel keeps the low 32 bits, and says so when it is read back.
            case "advisor_max_cpu":
                Advisor.ProcessorPercentMax = (uint)value;
                return ControlOutcome.Done;
            case "advisor_min_pages_to_scan":
                Advisor.PagesMin = value;
                return ControlOutcome.Done;
            case "advisor_max_pages_to_scan":
                Advisor.PagesMax = value;
                return ControlOutcome.Done;
            case "advisor_target_scan_time" when value > 0:
                Advisor.TargetSeconds = value;
                return ControlOutcome.Done;
            default:
                return value <= uint.MaxValue ? WriteWord(file, (uint)value) : ControlOutcome.Invalid;
        }
    }

    /// <summary>The values of 32 bits that take every number.</summary>
    private ControlOutcome WriteWord(string file, uint value)
    {
        switch (file)
        {
            case PagesToScanFile when !Advisor.IsOn:
                PagesToScan = value;
                return ControlOutcome.Done;
            case SleepMillisecondsFile:
                SleepMilliseconds = value;
                return ControlOutcome.Done;
            case "stable_node_chains_prune_millisecs":
                _pruneMilliseconds = value;
                return ControlOutcome.Done;
            default:
                return ControlOutcome.Invalid;
        }
    }

    private ControlOutcome WriteSharing(int most)
    {
        if (most == _engine.MaxPageSharing)
            return ControlOutcome.Done;
        if (_engine.Figures.PagesShared > 0)
            return ControlOutcome.Busy;
        _engine.MaxPageSharing = most;
        return ControlOutcome.Done;
    }

    private ControlOutcome WriteNodes(bool across)
    {
        if (across != _acrossNodes && _engine.Figures.PagesShared > 0)
            return ControlOutcome.Busy;
        _acrossNodes = across;
        return ControlOutcome.Done;
    }

    private ControlOutcome Become(RunState state)
    {
        if (state == Run)
            return ControlOutcome.Done;
        Run = state;
        if (state != RunState.Unmerged)
            return ControlOutcome.Done;
        BreakOutcome outcome = _unmergeAll();
        if (outcome is BreakOutcome.Done or BreakOutcome.Gone)
            return ControlOutcome.Done;
        Run = RunState.Stopped;
        return outcome == BreakOutcome.NoMemory ? ControlOutcome.NoMemory : ControlOutcome.Interrupted;
    }
}
