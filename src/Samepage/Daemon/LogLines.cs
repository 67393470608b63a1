using System.Globalization;
using System.Threading.Channels;
using Samepage.Cli;
using Samepage.Linux.Processes;

namespace Samepage.Daemon;

/// <summary>The daemon's log: a line for each entry on standard error, whatever names are in it, and never a reason to wait.</summary>
/// <remarks>What is said is made visible (<see cref="VisibleText"/>), line ends among it: nobody whose name is in an entry can write another. A thread of its own writes; while nobody takes what it
/// writes, entries that find no room are counted, and the count is told afterwards.</remarks>
/// <param name="journal">Lines begin with how grave they are, sd-daemon(3), in place of the time, which a journal has by itself.</param>
/// <param name="output">Where to.</param>
/// <param name="start">Starts that thread; null as the runtime does. Where there is none, entries wait for one.</param>
internal sealed class LogLines(bool journal, TextWriter output, Action<Thread>? start = null) : ILoggerProvider
{
    private const int Waiting = 4096;
    private static readonly TimeSpan LastWords = TimeSpan.FromSeconds(2);
    private readonly Channel<string> _lines = Channel.CreateBounded<string>(new BoundedChannelOptions(Waiting) { SingleReader = true, FullMode = BoundedChannelFullMode.Wait });
    private readonly Lock _starting = new();
    private Thread? _writer;
    private long _lost;

    public ILogger CreateLogger(string categoryName) => new Logger(this, categoryName);

    /// <summary>Waits, for a moment, until all is written.</summary>
    public void Dispose()
    {
        _lines.Writer.TryComplete();
        lock (_starting)
            _ = _writer?.Join(LastWords);
    }

    private void Add(string line)
    {
        lock (_starting)
        {
            if (_writer is null && new Thread(Write) { Name = "log", IsBackground = true } is var made && OwnThread.TryStart(made, start))
                _writer = made;
        }

        if (!_lines.Writer.TryWrite(line))
            Interlocked.Increment(ref _lost);
    }

    private void Write()
    {
        while (_lines.Reader.WaitToReadAsync().AsTask().GetAwaiter().GetResult())
        {
            while (_lines.Reader.TryRead(out string? line))
            {
                output.WriteLine(line);
                if (Interlocked.Exchange(ref _lost, 0) is > 0 and long lost)
                    output.WriteLine(Head(LogLevel.Warning, nameof(LogLines)) + string.Create(CultureInfo.InvariantCulture, $"{lost} entries were lost: nobody took what was written"));
            }
        }
    }

    private string Head(LogLevel level, string category) => journal
        ? $"<{level switch { LogLevel.Trace or LogLevel.Debug => 7, LogLevel.Information => 6, LogLevel.Warning => 4, LogLevel.Error => 3, _ => 2 }}>{category}[0] "
        : $"{DateTime.Now.ToString("HH:mm:ss.fff", CultureInfo.InvariantCulture)} {level switch { LogLevel.Trace => "trce", LogLevel.Debug => "dbug", LogLevel.Information => "info", LogLevel.Warning => "warn", LogLevel.Error => "fail", _ => "crit" }}: {category}[0] ";

    private sealed class Logger(LogLines lines, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel != LogLevel.None;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            lines.Add(lines.Head(logLevel, category) + VisibleText.Of(formatter(state, exception) + (exception is null ? "" : $" {exception}")));
    }
}
