using Samepage.Engine;

namespace Samepage.Live;

/// <summary>A thread that reads pages while the scanner's looks others up.</summary>
/// <remarks>All calls are the scanner's thread's. The reader's thread has its priority, because that makes it.</remarks>
internal sealed class ReadAhead : IDisposable
{
    /// <summary>Fewer pages are read by the caller at once: to wake somebody takes as long.</summary>
    private const int Few = 32;

    private readonly PageReader _reader = new();
    private readonly SemaphoreSlim _begun = new(0), _read = new(0);
    private Thread? _thread;
    private Work _work;
    private bool _isUnderWay;
    private Exception? _failure;
    private volatile bool _ended;

    /// <summary>Begins to read. Nothing may be under way.</summary>
    /// <inheritdoc cref="IMachine.BeginRead" path="/param"/>
    public void Begin(LiveSpace space, PageRun range, Memory<byte> content, Memory<PageFact> facts)
    {
        if (range.Count < Few || Environment.ProcessorCount == 1)
        {
            _reader.Read(space, range, content.Span, facts.Span);
            return;
        }

        if (_thread is null)
        {
            _thread = new Thread(Run) { Name = "reader", IsBackground = true };
            _thread.Start();
        }

        _work = new Work(space, range, content, facts);
        _isUnderWay = true;
        _begun.Release();
    }

    /// <summary>Returns when nothing is under way.</summary>
    public void End()
    {
        if (!_isUnderWay)
            return;
        _read.Wait();
        _isUnderWay = false;
        if (Interlocked.Exchange(ref _failure, null) is { } failure)
            throw new InvalidOperationException("a process could not be read", failure);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ended = true;
        _begun.Release();
        _thread?.Join();
        _begun.Dispose();
        _read.Dispose();
    }

    private void Run()
    {
        for (; ; )
        {
            _begun.Wait();
            if (_ended)
                return;
            try
            {
                _reader.Read(_work.Space, _work.Range, _work.Content.Span, _work.Facts.Span);
            }
            catch (Exception failed)
            {
                _failure = failed;
            }

            _read.Release();
        }
    }

    private readonly record struct Work(LiveSpace Space, PageRun Range, Memory<byte> Content, Memory<PageFact> Facts);
}
