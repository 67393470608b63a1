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

/// <summary>What came of writing a control value.</summary>
public enum ControlOutcome
{
    /// <summary>It is so.</summary>
    Done,

    /// <summary>There is no such value, or the text is none that it takes: nothing has changed (EINVAL).</summary>
    Invalid,

    /// <summary>There was no memory to unmerge everything; the scanner is stopped, and asking again goes on (ENOMEM).</summary>
    NoMemory,

    /// <summary>Not everything could be unmerged at this moment; the scanner is stopped, and asking again goes on (EINTR).</summary>
    Interrupted,
}

/// <summary>Starting, stopping and pacing a scanner, by the kernel's names and texts (G1–G3).</summary>
/// <remarks>A value is a whole number in base 10: a leading <c>+</c>, leading zeros and one newline at the end are taken, what follows a NUL is not looked
/// at, and an empty text changes nothing; anything else is refused and changes nothing. One thread, the engine's.</remarks>
/// <param name="engine">The engine to drive.</param>
public sealed class ScanControl(ScanEngine engine)
{
    /// <summary>The file that starts and stops; see <see cref="RunState"/>.</summary>
    public const string RunFile = "run";

    /// <summary>The file of <see cref="PagesToScan"/>.</summary>
    public const string PagesToScanFile = "pages_to_scan";

    /// <summary>The file of <see cref="SleepMilliseconds"/>.</summary>
    public const string SleepMillisecondsFile = "sleep_millisecs";

    /// <summary>What the scanner does.</summary>
    public RunState Run { get; private set; }

    /// <summary>Pages that one batch looks at, at most; 0 stands still.</summary>
    public uint PagesToScan { get; private set; } = 100;

    /// <summary>The pause between two batches, milliseconds. Whoever has a clock keeps it.</summary>
    public uint SleepMilliseconds { get; private set; } = 20;

    /// <summary>What a file says: its value and a newline; null when there is no such file.</summary>
    public string? Read(string file) => file switch
    {
        RunFile => $"{(uint)Run}\n",
        PagesToScanFile => $"{PagesToScan}\n",
        SleepMillisecondsFile => $"{SleepMilliseconds}\n",
        _ => null,
    };

    /// <summary>Writes a file. When this returns it is so: with <c>run</c> 2, everything is unmerged.</summary>
    public ControlOutcome Write(string file, ReadOnlySpan<char> text)
    {
        if (text.IsEmpty)
            return Read(file) is null ? ControlOutcome.Invalid : ControlOutcome.Done;
        if (!TryParse(text, out uint value))
            return ControlOutcome.Invalid;
        switch (file)
        {
            case RunFile when value <= (uint)RunState.Unmerged:
                return Become((RunState)value);
            case PagesToScanFile:
                PagesToScan = value;
                return ControlOutcome.Done;
            case SleepMillisecondsFile:
                SleepMilliseconds = value;
                return ControlOutcome.Done;
            default:
                return ControlOutcome.Invalid;
        }
    }

    /// <summary>One batch, if the scanner runs and has anything to do: without, nothing is asked of the machine.</summary>
    public BatchReport Batch() => Run == RunState.Running && PagesToScan > 0
        ? engine.Scan((int)Math.Min(PagesToScan, int.MaxValue))
        : new BatchReport(0, 0, [], []);

    private ControlOutcome Become(RunState state)
    {
        if (state == Run)
            return ControlOutcome.Done;
        Run = state;
        if (state != RunState.Unmerged)
            return ControlOutcome.Done;
        BreakOutcome outcome = engine.UnmergeAll();
        if (outcome is BreakOutcome.Done or BreakOutcome.Gone)
            return ControlOutcome.Done;
        Run = RunState.Stopped;
        return outcome == BreakOutcome.NoMemory ? ControlOutcome.NoMemory : ControlOutcome.Interrupted;
    }

    private static bool TryParse(ReadOnlySpan<char> text, out uint value)
    {
        int end = text.IndexOf('\0');
        if (end >= 0)
            text = text[..end];
        if (text.EndsWith('\n'))
            text = text[..^1];
        if (text.StartsWith('+'))
            text = text[1..];
        value = 0;
        return !text.IsEmpty && !text.ContainsAnyExceptInRange('0', '9') && uint.TryParse(text, System.Globalization.CultureInfo.InvariantCulture, out value);
    }
}
