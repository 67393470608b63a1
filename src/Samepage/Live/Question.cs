using System.Diagnostics;
using Samepage.Linux.Processes;

namespace Samepage.Live;

/// <summary>Something that is asked of a program again and again, and that it may keep us waiting for.</summary>
/// <remarks>An answer that comes late is kept, and given to who asks next: so a large program on a crowded machine is answered for, if late. The work owns what it fills.
/// One thread asks.</remarks>
internal sealed class Question<T>
{
    private Attendants.Job? _job;
    private T? _answer;

    /// <summary>Asks, or goes on waiting for what was asked before.</summary>
    /// <param name="space">The program.</param>
    /// <param name="lane">Where.</param>
    /// <param name="work">Finds the answer out; not called when an earlier one is still to be had.</param>
    /// <param name="answer">The answer.</param>
    /// <returns>False when it is not there in time, or other work is under way in that lane.</returns>
    public bool TryAsk(LiveSpace space, Lane lane, Func<T> work, out T answer)
    {
        answer = default!;
        _job ??= space.TryBegin(lane, () => _answer = work());
        if (_job is null || !space.Await(_job))
            return false;
        (answer, _job, _answer) = (_answer!, null, default);
        return true;
    }
}

/// <summary>How long one program is waited for by who looks after all.</summary>
/// <remarks>Half a second at first, which a program that is only slow hardly ever takes. One that does take it is waited for half as long the next time, down to some milliseconds, until it answers
/// in time again. So a program that keeps us waiting on purpose, again and again, costs the others next to nothing.</remarks>
internal sealed class Patience
{
    private static readonly TimeSpan Most = TimeSpan.FromMilliseconds(500), Least = TimeSpan.FromMilliseconds(4);
    private TimeSpan _bound = Most;

    /// <summary>Waits.</summary>
    /// <returns>False when it is late.</returns>
    public bool Await(Attendants.Job job)
    {
        if (job.HasEnded)
            return job.Wait(TimeSpan.Zero);
        long since = Stopwatch.GetTimestamp();
        if (!job.Wait(_bound))
        {
            _bound = _bound / 2 > Least ? _bound / 2 : Least;
            return false;
        }

        if (Stopwatch.GetElapsedTime(since) < _bound / 2)
            _bound = _bound * 2 < Most ? _bound * 2 : Most;
        return true;
    }
}
