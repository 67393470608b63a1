using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Samepage.Linux;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace Samepage.Cli;

/// <summary>Where a command's words go: results to standard output, everything else to standard error. All of them pass here, and here what others have chosen is made visible.</summary>
/// <remarks>In three layers, so that none need be remembered: what stands in the holes of a <see cref="Line(ref VisibleLine)"/>, in the cells of a <see cref="Table"/> and in a
/// complaint stays on its line; what is written past these passes <see cref="VisibleWriter"/>; what is drawn passes <see cref="VisibleDrawing"/>.</remarks>
internal static class Output
{
    /// <summary>Takes standard output and standard error over; the first thing that the program does.</summary>
    public static void Install()
    {
        OutputStream.Secure();
        Console.SetOut(new VisibleWriter(OutputStream.Results));
        Console.SetError(new VisibleWriter(OutputStream.Errors));
        // Drawn text holds escapes of ours: it goes past the writer.
        StreamWriter drawn = new(OutputStream.Results, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false)) { AutoFlush = true };
        AnsiConsole.Console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new Terminal(drawn) });
        AnsiConsole.Console.Pipeline.Attach(new VisibleDrawing());
    }

    /// <summary>A line of results. What is in the holes is made visible.</summary>
    public static void Line(ref VisibleLine text) => Console.Out.WriteLine(text.ToString());

    /// <summary>A line, or several, of our own words.</summary>
    public static void Line(string text = "") => Console.Out.WriteLine(text);

    /// <summary>Results for programs.</summary>
    public static void Json<T>(T report, JsonTypeInfo<T> type) => Console.Out.WriteLine(JsonSerializer.Serialize(report, type));

    /// <summary>A remark about something that was not done, or not wholly: one line.</summary>
    public static void Complain(string message) => Console.Error.WriteLine($"samepage: {VisibleText.Of(message)}");
}

/// <summary>The terminal that is drawn on.</summary>
/// <param name="writer">What is drawn goes there.</param>
internal sealed class Terminal(TextWriter writer) : IAnsiConsoleOutput
{
    private const int UsualWidth = 80, UsualHeight = 24;

    public TextWriter Writer => writer;

    public bool IsTerminal => !Console.IsOutputRedirected;

    public int Width => IsTerminal && Console.WindowWidth is > 0 and var width ? width : UsualWidth;

    public int Height => IsTerminal && Console.WindowHeight is > 0 and var height ? height : UsualHeight;

    public void SetEncoding(Encoding encoding)
    {
        // It is UTF-8.
    }
}

/// <summary>An interpolated line whose holes hold text that others may have chosen.</summary>
[InterpolatedStringHandler]
internal readonly ref struct VisibleLine
{
    private readonly StringBuilder _text;

    public VisibleLine(int literalLength, int formattedCount) => _text = new StringBuilder(literalLength + 16 * formattedCount);

    public void AppendLiteral(string literal) => _text.Append(literal);

    public void AppendFormatted<T>(T value) => _text.Append(VisibleText.Of(Convert.ToString(value, CultureInfo.InvariantCulture)));

    public void AppendFormatted<T>(T value, int alignment)
    {
        string text = VisibleText.Of(Convert.ToString(value, CultureInfo.InvariantCulture));
        _text.Append(alignment < 0 ? text.PadRight(-alignment) : text.PadLeft(alignment));
    }

    public override string ToString() => _text.ToString();
}

/// <summary>What is drawn on a terminal, behind everything that draws: the text of each segment is made visible, escapes of ours are left.</summary>
internal sealed class VisibleDrawing : IRenderHook
{
    public IEnumerable<IRenderable> Process(RenderOptions options, IEnumerable<IRenderable> renderables) => renderables.Select(static one => new Visible(one));

    private sealed class Visible(IRenderable drawn) : IRenderable
    {
        public Measurement Measure(RenderOptions options, int maxWidth) => drawn.Measure(options, maxWidth);

        public IEnumerable<Segment> Render(RenderOptions options, int maxWidth) =>
            drawn.Render(options, maxWidth).Select(static part => part.IsControlCode || part.IsLineBreak ? part : new Segment(VisibleText.OfLines(part.Text), part.Style));
    }
}

/// <summary>What <c>attach --json</c> prints: the daemon's outcomes, and what is merged at the time of printing.</summary>
/// <param name="Processes">One entry per process, in the order asked for.</param>
/// <param name="PagesMerged">The sum over the processes.</param>
/// <param name="ZeroPages">The sum over the processes.</param>
/// <param name="ProfitBytes">The sum over the processes.</param>
internal sealed record AttachReport(AttachedProcess[] Processes, long PagesMerged, long ZeroPages, long ProfitBytes);

/// <summary>One process of an <see cref="AttachReport"/>.</summary>
/// <param name="Pid">Its process id.</param>
/// <param name="Name">Its command name; empty when the daemon does not know it.</param>
/// <param name="Done">It was taken in, or was in already.</param>
/// <param name="State">As in <see cref="Api.ProcessReport"/>, or <c>gone</c>.</param>
/// <param name="Reason">Why it was not taken in, or what holds merging back; empty otherwise.</param>
/// <param name="Settled">Nothing more can be merged in it now.</param>
/// <param name="PagesMerged">Pages mapped to a frame.</param>
/// <param name="ZeroPages">Pages given back to the kernel's zero page.</param>
/// <param name="ProfitBytes">Its share of the bytes saved, less the cost of its records and agent; may be negative.</param>
internal sealed record AttachedProcess(
    int Pid, string Name, bool Done, string State, string Reason, bool Settled, long PagesMerged, long ZeroPages, long ProfitBytes);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true)]
[JsonSerializable(typeof(AttachReport))]
[JsonSerializable(typeof(SimulationReply))]
[JsonSerializable(typeof(SortedDictionary<string, string>))]
[JsonSerializable(typeof(FleetReply))]
[JsonSerializable(typeof(AreasReport))]
internal sealed partial class CliJson : JsonSerializerContext;
