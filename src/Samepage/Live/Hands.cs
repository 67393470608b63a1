using System.Diagnostics;
using Samepage.Linux.Processes;

namespace Samepage.Live;

/// <summary>Works on several processes at a time, one attendant to each, and waits for none of them too long.</summary>
/// <remarks>What is done to one process is all done by one thread, because ptrace(2) belongs to the thread that seized. As many work at a time as there are processors to spare. A piece that makes no
/// progress for a second, or takes longer than some seconds in all, is late: its attendant goes on with it alone. A program that is late once is waited for half as long the next time, down to half
/// a second, until it is quick again.</remarks>
internal sealed class Hands
{
    private const int Most = 3;
    private static readonly TimeSpan LongestStill = TimeSpan.FromSeconds(1), LookAgain = TimeSpan.FromMilliseconds(100);
    private readonly object _changed = new();
    private List<Piece> _pieces = [];
    private int _next, _busy;

    /// <summary>Begins pieces of work, of which none may be under way. The caller goes on, on a processor of its own if there are two, and then calls <see cref="End"/>.</summary>
    /// <param name="work">By process. A piece owns what it writes to until it has ended.</param>
    public void Begin(IEnumerable<(LiveSpace Space, Action Work)> work)
    {
        lock (_changed)
        {
            (_pieces, _next, _busy) = ([.. work.Select(piece => new Piece(piece.Space, piece.Work))], 0, 0);
            BeginMore(_pieces);
        }
    }

    /// <summary>Returns when all that was begun is done, or is late.</summary>
    /// <returns>By piece, the work that is late; null for what is done. A job that is null as well could not be begun: earlier work for that process is late.</returns>
    public (bool IsLate, Attendants.Job? Job)[] End()
    {
        foreach (Piece piece in _pieces)
            Await(piece);
        (bool, Attendants.Job?)[] ended = [.. _pieces.Select(piece => (piece.IsLate, piece.Job))];
        _pieces = [];
        return ended;
    }

    private void Await(Piece piece)
    {
        lock (_changed)
        {
            while (!piece.HasEnded && !piece.IsLate)
            {
                _ = Monitor.Wait(_changed, LookAgain);
                foreach (Piece begun in _pieces)
                {
                    if (begun.Job is null || begun.HasEnded || begun.IsLate || !begun.TakesTooLong)
                        continue;
                    begun.IsLate = true;
                    begun.Space.NotePlan(Stopwatch.GetElapsedTime(begun.Since), isLate: true);
                    _busy--;
                    BeginMore(_pieces);
                }
            }
        }

        // What it throws is thrown here; and behind this other work can be begun for that process.
        if (!piece.IsLate)
            _ = piece.Job!.Wait(LongestStill);
    }

    /// <summary>Begins what waits, as far as there are processors; to be called with the lock held.</summary>
    private void BeginMore(List<Piece> pieces)
    {
        while (_next < pieces.Count && _busy < Math.Clamp(Environment.ProcessorCount - 1, 1, Most))
        {
            Piece piece = pieces[_next++];
            piece.Since = Stopwatch.GetTimestamp();
            piece.Space.NoteProgress();
            piece.Job = piece.Space.TryBegin(Lane.Hold, () => Do(pieces, piece));
            if (piece.Job is null)
                piece.IsLate = true;
            else
                _busy++;
        }
    }

    private void Do(List<Piece> pieces, Piece piece)
    {
        try
        {
            piece.Work();
        }
        finally
        {
            Ended(pieces, piece);
        }
    }

    private void Ended(List<Piece> pieces, Piece piece)
    {
        lock (_changed)
        {
            if (piece.IsLate)
                return;
            piece.HasEnded = true;
            piece.Space.NotePlan(Stopwatch.GetElapsedTime(piece.Since), isLate: false);
            _busy--;
            BeginMore(pieces);
            Monitor.PulseAll(_changed);
        }
    }

    private sealed class Piece(LiveSpace space, Action work)
    {
        public LiveSpace Space => space;

        public Action Work => work;

        public Attendants.Job? Job { get; set; }

        public long Since { get; set; }

        public bool HasEnded { get; set; }

        public bool IsLate { get; set; }

        public bool TakesTooLong => Stopwatch.GetElapsedTime(Since) > space.PlanBound || Stopwatch.GetElapsedTime(Math.Max(Since, space.ProgressAt)) > LongestStill;
    }
}
