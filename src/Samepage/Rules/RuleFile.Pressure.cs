using Samepage.Engine.Control;
using Samepage.Linux.ProcFs;
using Tomlyn.Parsing;

namespace Samepage.Rules;

/// <content>When to scan.</content>
/// <remarks><code>
///   [pressure]
///   start_below_available_percent = 20   stop_above_available_percent = 25    of MemTotal, 0 to 100; stop is 5 more than start by default
///   start_above_some_avg10 = 10.0        stop_below_some_avg10 = 5.0          percent, 0 to 100; stop is half of start by default
/// </code></remarks>
internal sealed partial class RuleFile
{
    private const string StartAvailable = "start_below_available_percent", StopAvailable = "stop_above_available_percent",
        StartSome = "start_above_some_avg10", StopSome = "stop_below_some_avg10";

    private const double AvailableGap = 5;

    private RuleSet ReadPressure(RuleSet rules)
    {
        RuleFileException never = Wrong($"[pressure] wants {StartAvailable} or {StartSome}: without, nothing would ever be merged");
        Dictionary<string, double> given = [];
        Expect(TomlParseEventKind.StartTable, "a table: write [pressure], and its lines below,");
        while (Next().Kind == TomlParseEventKind.PropertyName)
        {
            string key = _parser.GetPropertyName();
            if (key is not (StartAvailable or StopAvailable or StartSome or StopSome))
                throw Wrong($"'{key}' is not known in [pressure]; known are {StartAvailable}, {StopAvailable}, {StartSome} and {StopSome}");
            if (!given.TryAdd(key, 0))
                throw Wrong($"'{key}' is given twice");
            if (key == StartSome && !PressureReader.SaysStalls)
                throw Wrong($"{key}: {PressureReader.StallPath} cannot be read: the kernel is built without CONFIG_PSI, or has it off (start it with psi=1); use {StartAvailable}");
            given[key] = ReadPercent();
            if (given.TryGetValue(StartAvailable, out double low) && given.TryGetValue(StopAvailable, out double high) && high <= low)
                throw Wrong($"{StopAvailable} must be more than {StartAvailable}, or merging would start and stop at once");
            if (given.TryGetValue(StartSome, out high) && given.TryGetValue(StopSome, out low) && low >= high)
                throw Wrong($"{StopSome} must be less than {StartSome}, or merging would start and stop at once");
        }

        if (given.Count == 0)
            throw never;
        return rules with
        {
            Available = Limits(given, StartAvailable, StopAvailable, static start => Math.Min(100, start + AvailableGap)),
            Some = Limits(given, StartSome, StopSome, static start => start / 2),
        };
    }

    private PressureLimits? Limits(Dictionary<string, double> given, string startKey, string stopKey, Func<double, double> stopFor)
    {
        bool stops = given.TryGetValue(stopKey, out double stop);
        if (given.TryGetValue(startKey, out double start))
            return new PressureLimits(start, stops ? stop : stopFor(start));
        return stops ? throw Wrong($"{stopKey} wants {startKey} besides") : null;
    }

    private double ReadPercent()
    {
        double value = Next().Kind switch
        {
            TomlParseEventKind.Integer => _parser.Current.GetInt64(),
            TomlParseEventKind.Float => _parser.Current.GetDouble(),
            _ => double.NaN,
        };
        return value is >= 0 and <= 100 ? value : throw Wrong("a number from 0 to 100 is wanted");
    }
}
