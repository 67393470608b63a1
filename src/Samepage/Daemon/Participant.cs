using Samepage.Engine;
using Samepage.Engine.Control;
using Samepage.Live;

namespace Samepage.Daemon;

/// <summary>A process that somebody asked for, taken in or not.</summary>
internal sealed class Participant(int pid)
{
    private TaskCompletionSource? _work;

    public int Pid => pid;

    public string Name { get; set; } = "";

    /// <summary>What its trust domain was without rules when it was taken in; null when it was gone.</summary>
    public TrustDomain? Trust { get; set; }

    /// <summary>The trust domain that its frames are of.</summary>
    public string Domain { get; set; } = "";

    /// <summary>Why it is skipped; empty while it is taken in.</summary>
    public string Reason { get; set; } = "";

    /// <summary>Why it is taken in.</summary>
    public Origin Origin { get; set; }

    /// <summary>When its advice was last looked at, as a timestamp; see <see cref="Origin.Advice"/>.</summary>
    public long AdviceReadAt { get; set; }

    /// <summary>The processor time that it had taken before its advice was last seen, and all of it honoured; null where that is not so. It has not changed its advice since if it has not run.</summary>
    public long? RanAtAdvice { get; set; }

    /// <summary>Visits to it that have ended since the scan began that is under way.</summary>
    public int VisitsInScan { get; set; }

    /// <summary>How long those who read figures wait for what it does not advise any more to be given back.</summary>
    public TimeSpan AdvicePatience { get; set; } = FigureReads.Patience;

    /// <summary>When that was last reckoned, as a timestamp.</summary>
    public long PatienceAt { get; set; } = System.Diagnostics.Stopwatch.GetTimestamp();

    /// <summary>The last look at its advice, with which what it did not advise any more was given back.</summary>
    public Task? AdviceLook { get; set; }

    /// <summary>Readers have given up waiting for that, and it goes on.</summary>
    public bool IsAdviceLate { get; set; }

    /// <summary>Its space while it is taken in.</summary>
    public SpaceId? Space { get; set; }

    /// <summary>A visit to it has begun and not ended.</summary>
    public bool InVisit { get; set; }

    /// <summary>How long it is let alone between visits.</summary>
    public VisitPacing Pacing { get; } = new();

    /// <summary>What the parts of its visit have cost so far.</summary>
    public TimeSpan VisitTook { get; set; }

    /// <summary>When its last visit ended, and when it was looked after last, as timestamps.</summary>
    public long VisitedAt { get; set; }

    /// <inheritdoc cref="VisitedAt"/>
    public long KeptAt { get; set; }

    /// <summary>When it was last tried to leave it, as a timestamp.</summary>
    public long LeaveTriedAt { get; set; }

    /// <summary>How often that came so far, and no further, that its warden is gone.</summary>
    public int LeaveTries { get; set; }

    /// <summary>It is being given back.</summary>
    public bool Detaching { get; set; }

    /// <summary>It is being taken in.</summary>
    public bool Arriving { get; set; }

    /// <summary>Why it is skipped may pass: it is tried again, if it is still wanted, at this time; a timestamp, 0 for never.</summary>
    public long TryAgainAt { get; set; }

    /// <summary>How often it was tried in vain.</summary>
    public int Tries { get; set; }

    /// <summary>Something is done with it beside the scanner, which keeps its hands off meanwhile.</summary>
    public bool IsAtWork => _work is not null;

    /// <summary>Its children are being taken in.</summary>
    public bool AdoptsChildren { get; set; }

    /// <summary>Ends when nothing is done with it any more.</summary>
    public Task Rest => _work?.Task ?? Task.CompletedTask;

    /// <summary>Something is done with it until what this returns is disposed of. Nothing may be under way.</summary>
    public IDisposable Work()
    {
        if (_work is not null)
            throw new InvalidOperationException($"process {Pid} is at work already");
        _work = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        return new Worker(this);
    }

    private void EndWork()
    {
        TaskCompletionSource work = _work!;
        _work = null;
        work.SetResult();
    }

    private sealed class Worker(Participant participant) : IDisposable
    {
        public void Dispose() => participant.EndWork();
    }
}

/// <summary>What came of a visit.</summary>
internal enum VisitProgress
{
    /// <summary>Nothing has happened in it: the figures are what they were.</summary>
    Nothing,

    /// <summary>It has come to its end, one way or the other.</summary>
    Something,

    /// <summary>It goes on where it stopped.</summary>
    Unfinished,
}
