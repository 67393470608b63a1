using System.Diagnostics;
using Samepage.Api;
using Samepage.Engine;
using Samepage.Engine.Control;
using Samepage.Linux;
using Samepage.Linux.Kernels;
using Samepage.Linux.Processes;
using Samepage.Metrics;
using Samepage.Rules;
using Samepage.Web;

namespace Samepage.Daemon;

/// <summary>The scanner's thread: passes over all processes in batches, and the requests that come in between. Everything that touches a target runs here.</summary>
/// <remarks>Requests are served between two visits, and so is what goes on beside the scanner (<see cref="ThreadPump"/>): nothing here waits for one program. <see cref="Status"/> and <see cref="Read"/> show the last moment between visits, and are any thread's.</remarks>
internal sealed class ScannerService(ILogger<ScannerService> logger, Guardian guardian, IHostApplicationLifetime lifetime, IWaitingThreads waiting, RuleSet rules, DescriptorStore store) : IDisposable
{
    /// <summary>A daemon is started to scan, and tracks writes: its batches are larger than the kernel's by default, for a page costs it much less.</summary>
    private static readonly ScanDefaults Defaults = new(RunState.Running, PagesToScan: 262_144, SleepMilliseconds: 20, UsesZeroPage: true);

    /// <summary>With nothing left to do a pass a second is enough.</summary>
    private static readonly TimeSpan IdlePause = TimeSpan.FromSeconds(1);

    private const int PausesToAwaitedPass = 4;

    /// <summary>How often everybody is looked after at least while a pass lasts, or none is made; longer than the pause between two, in which nobody need be.</summary>
    private static readonly TimeSpan KeepInterval = TimeSpan.FromSeconds(1.1);

    /// <summary>For so long everybody who is given back at the end may stand still; and, after so long in all, for so long none of them may come to his end: one that gets next to no processor time comes forward for ever.</summary>
    private static readonly TimeSpan LastWait = TimeSpan.FromSeconds(10), LastWaitInAll = TimeSpan.FromSeconds(30), LookAgain = TimeSpan.FromMilliseconds(50), LastLook = TimeSpan.FromSeconds(3);

    private static readonly string[] s_leftOff = KernelRestraints.Here.Words;
    private readonly Throttle _throttle = new();
    private readonly ThreadPump _pump = new();
    private readonly TaskCompletionSource<bool> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile Published? _published;
    private volatile ScanControl? _control;
    private Discovery? _discovery;
    private ScanCount? _scans;
    private Coordinator? _coordinator;
    private Task? _unmerging;
    private long _keptAt;
    private volatile bool _stopping;
    private volatile string _controlDirectory = "";
    private FigureReads? _reads;

    /// <summary>The latest figures, and the processor time up to now; null before the thread runs.</summary>
    public StatusReport? Status => _published?.Status is { } status
        ? status with { ControlDirectory = _controlDirectory, Daemon = status.Daemon with { ProcessorSeconds = ProcessorTime.TotalSeconds }, AgeSeconds = Stopwatch.GetElapsedTime(_published!.At).TotalSeconds }
        : null;

    /// <summary>Where the control files are served; empty while they are not.</summary>
    public string ControlDirectory
    {
        get => _controlDirectory;
        set => _controlDirectory = value;
    }

    /// <summary>Where savings over time are kept; null where nobody wants to see them. Set before the thread is started.</summary>
    public SavingsHistory? History { get; set; }

    /// <summary>Says of a process that a daemon that died has left it, and it is not given back yet. Set before the thread is started.</summary>
    public Predicate<int> IsLeft { get; set; } = static _ => false;

    /// <summary>Says of a process that it shares frames with one of those; to be set before <see cref="Start"/>.</summary>
    public Predicate<int> IsOfLeft { get; set; } = static _ => false;

    /// <summary>The clock of the history, which never goes back: time since the machine was started.</summary>
    public static TimeSpan Now => Stopwatch.GetElapsedTime(0);

    private static TimeSpan ProcessorTime => Environment.CpuUsage.TotalTime;

    private TimeSpan Sleep => TimeSpan.FromMilliseconds(_control!.SleepMilliseconds);

    private bool Scans => _control is { Run: RunState.Running, PagesToScan: > 0 } && _throttle.IsOpen && _unmerging is null;

    /// <summary>Starts the thread; when the task ends there are figures, and it takes requests.</summary>
    /// <param name="start">Starts a thread; null as the runtime does.</param>
    /// <exception cref="SyscallException">There is no thread for it. It has ended then, and had nobody.</exception>
    public Task Start(Action<Thread>? start = null)
    {
        try
        {
            OwnThread.Start(new Thread(Run) { Name = "scanner", IsBackground = false }, start);
        }
        catch (SyscallException)
        {
            _ended.SetResult(true);
            throw;
        }

        return _ready.Task;
    }

    /// <summary>What a control file says; null when there is no such file.</summary>
    public string? Read(string file) => _published is { } published ? _control?.Read(file, published.Control) : null;

    /// <summary>Ends when the figures tell what programs did before this was called, as far as that can be waited for. Any thread, once there are figures.</summary>
    /// <param name="scans">The number of scans is asked for.</param>
    public Task FiguresAreOfNow(bool scans)
    {
        if (_reads is not { } reads)
            return Task.CompletedTask;
        if (scans)
            reads.NoteScansRead();
        return reads.Next();
    }

    /// <summary>Writes a control file. When the task ends it is so.</summary>
    public Task<ControlOutcome> WriteAsync(string file, string text) => AskFor(async coordinator =>
    {
        if (_control!.Unmerges(file, text))
        {
            // A writer whose own threads are held for this writes a second time: one unmerging serves both.
            await (_unmerging ??= UnmergeAll(coordinator));
        }

        return _control.Write(file, text);
    });

    /// <summary>The scanner stands still meanwhile; everybody is worked on at once, and others are answered.</summary>
    private async Task UnmergeAll(Coordinator coordinator)
    {
        await Task.Yield();
        try
        {
            await coordinator.UnmergeAll();
        }
        finally
        {
            _unmerging = null;
        }
    }

    /// <summary>Puts other rules in force. When the task ends, those that they would not have taken in are given back, and those whose trust domain is another are there.</summary>
    public Task UseAsync(RuleSet changed) => AskFor(async _ =>
    {
        _throttle.Use(changed);
        await _discovery!.Use(changed);
        return true;
    });

    /// <summary>Runs a request on the scanner's thread. When the task ends, the figures tell of it.</summary>
    public Task<T> Ask<T>(Func<Coordinator, T> request) => AskFor(coordinator => Task.FromResult(request(coordinator)));

    /// <summary>Runs a request on the scanner's thread that may have to wait for programs: others are served meanwhile. When the task ends, the figures tell of it.</summary>
    public Task<T> AskFor<T>(Func<Coordinator, Task<T>> request)
    {
        TaskCompletionSource<T> answer = new(TaskCreationOptions.RunContinuationsAsynchronously);
        _pump.Post(async _ =>
        {
            try
            {
                T result = await request(_coordinator!);
                Publish(_coordinator!);
                answer.SetResult(result);
            }
            catch (Exception failed)
            {
                logger.LogError(failed, "a request failed");
                answer.SetException(failed);
            }
        }, null);
        return answer.Task;
    }

    /// <summary>Gives everybody back, then ends the thread.</summary>
    /// <returns>Whether everybody was given back.</returns>
    public Task<bool> StopAsync()
    {
        _stopping = true;
        _pump.Wake();
        return _ended.Task;
    }

    /// <inheritdoc/>
    public void Dispose() => _pump.Dispose();

    private void Run()
    {
        try
        {
            Scheduling.BeNice(5);
            Incidents.Told = (pid, what, count) => logger.LogInformation("process {Pid}: {What} ({Count} so far, of all processes)", pid, what, count);
            using Coordinator coordinator = new(logger, new AgentRecords(RunDirectory.Current), store)
            {
                CompanionBytes = guardian.ResidentBytes,
                Waiting = waiting,
                HasAgentOfItsOwn = IsLeft,
                SharesWithSuch = IsOfLeft,
            };
            _coordinator = coordinator;
            SynchronizationContext.SetSynchronizationContext(_pump);
            _control = new ScanControl(coordinator.Engine, Defaults, coordinator.ForgetMerged);
            _throttle.Use(rules);
            coordinator.Use(rules.Domains).GetAwaiter().GetResult(); // nobody is taken in yet
            _discovery = new Discovery(coordinator, rules);
            _scans = new ScanCount(coordinator, _discovery);
            Publish(coordinator);
            _reads = new FigureReads(_pump, async () =>
            {
                await coordinator.SeeAdvice(Scans);
                Publish(coordinator);
            });
            _ready.SetResult();
            while (!_stopping)
            {
                if (Scans)
                    Pass(coordinator, _control);
                else
                    Pause(coordinator, _ => Scans ? TimeSpan.Zero : TimeSpan.MaxValue);
            }

            bool all = GiveAllBack(coordinator);
            _ended.SetResult(all);
        }
        catch (Exception failed)
        {
            // The guardian gives everybody back when this process ends: better than going on with a state that nobody understands.
            logger.LogCritical(failed, "the scanner failed; the daemon ends, and its guardian gives every process back");
            _ended.SetException(failed);
            _ready.TrySetException(failed);
            Environment.ExitCode = 1;
            lifetime.StopApplication();
        }
    }

    /// <summary>Gives everybody back at the end, all at once. Who keeps it is left to the guardian.</summary>
    private bool GiveAllBack(Coordinator coordinator)
    {
        coordinator.BeginToEnd();
        HashSet<Participant> begun = [];
        List<(int Pid, Task<ProcessOutcome> Back)> all = [];
        long since = Stopwatch.GetTimestamp(), endedAt = since;
        int ended = 0;
        bool isHopeless = false;
        for (List<(int Pid, Task<ProcessOutcome> Back)> more = coordinator.DetachAll(begun); !isHopeless && (more.Count > 0 || !all.TrueForAll(one => one.Back.IsCompleted)); more = coordinator.DetachAll(begun))
        {
            all.AddRange(more);
            _pump.Serve(LookAgain);
            if (all.Count(one => one.Back.IsCompleted) is var now && now != ended)
                (ended, endedAt) = (now, Stopwatch.GetTimestamp());
            isHopeless = Stopwatch.GetElapsedTime(Math.Max(since, coordinator.ProgressAt)) > LastWait || (Stopwatch.GetElapsedTime(since) > LastWaitInAll && Stopwatch.GetElapsedTime(endedAt) > LastWait);
        }

        // What was watched may have ended, which nobody announces, or be taken out.
        for (long behind = Stopwatch.GetTimestamp(); !isHopeless && (coordinator.HasOrphans || coordinator.BeingTakenOut.Any()) && Stopwatch.GetElapsedTime(behind) < LastLook;)
            _pump.Serve(LookAgain);
        foreach ((int pid, Task<ProcessOutcome> back) in all)
        {
            if (!back.IsCompletedSuccessfully)
                logger.LogError(back.Exception, "process {Pid} is left as it is, and given back later by the guardian: it does not let itself be given back", pid);
            // One that is gone was given back by somebody else, or has ended.
            else if (back.Result is { Done: false, State: not "gone" } left)
                logger.LogError("process {Pid} is left as it is, and given back later by the guardian: {Reason}", pid, left.Reason);
        }

        foreach (int pid in coordinator.BeingTakenOut)
            logger.LogError("process {Pid} is left as it is, and given back later by the guardian: what a failed attach has left in it is not taken out yet", pid);
        if (coordinator.HasOrphans)
            logger.LogError("{What}", guardian.Kept is null ? Coordinator.Unwatched : Coordinator.WatchedOn);
        return coordinator.HasGivenAllBack;
    }

    /// <summary>One pass over all processes, in batches. It is given up when the scanner is to stand still.</summary>
    private void Pass(Coordinator coordinator, ScanControl control)
    {
        long start = Stopwatch.GetTimestamp();
        TimeSpan processor = ProcessorTime;
        long left = control.PagesToScan;
        _scans!.BeginPass(_reads!.AreScansAwaited);
        foreach (int pid in coordinator.Pids())
        {
            for (VisitProgress progress = VisitProgress.Unfinished; progress == VisitProgress.Unfinished;)
            {
                _pump.Serve(TimeSpan.Zero);
                _throttle.LookNowAndThen();
                if (_stopping || !Scans)
                    return;
                long pages = _throttle.Piece(left), rest = left - pages;
                progress = coordinator.VisitInTurn(pid, ref pages);
                left = pages + rest;
                if (progress != VisitProgress.Nothing)
                    Publish(coordinator);
                if (_throttle.Rest > TimeSpan.Zero)
                    Pause(coordinator, since => since + (Scans ? _throttle.Rest : TimeSpan.Zero));
                if (left > 0)
                    continue;
                Pause(coordinator, _ => Sleep);
                left = control.PagesToScan;
            }
        }

        _discovery!.TakeWhatWasFound();
        if (coordinator.EndPass(_scans.EndPass()))
            control.PassEnded(Stopwatch.GetElapsedTime(start), ProcessorTime - processor);
        Publish(coordinator);
        _keptAt = Stopwatch.GetTimestamp();
        guardian.LookAfter();
        // Anybody may poll the number of scans: passes that are made for that alone take a fifth of the time.
        TimeSpan share = PausesToAwaitedPass * Stopwatch.GetElapsedTime(start), awaited = share < IdlePause ? share : IdlePause;
        Pause(coordinator, _ => coordinator.IsBusy || Sleep > IdlePause || !Scans ? Sleep : !_reads.AreScansAwaited ? IdlePause : awaited > Sleep ? awaited : Sleep);
    }

    /// <summary>Waits, serves what comes meanwhile, and looks after the processes now and then.</summary>
    /// <param name="coordinator">Whose they are.</param>
    /// <param name="length">How long in all, of how long it has been; asked again after each request.</param>
    private void Pause(Coordinator coordinator, Func<TimeSpan, TimeSpan> length)
    {
        long start = Stopwatch.GetTimestamp();
        while (!_stopping && Stopwatch.GetElapsedTime(start) is var since && length(since) - since is var left && left > TimeSpan.Zero)
        {
            _throttle.LookNowAndThen();
            TimeSpan untilKept = KeepInterval - Stopwatch.GetElapsedTime(_keptAt);
            if (untilKept <= TimeSpan.Zero)
            {
                coordinator.KeepAll();
                guardian.LookAfter();
                _discovery!.LookNowAndThen();
                Publish(coordinator);
                _keptAt = Stopwatch.GetTimestamp();
                continue;
            }

            _pump.Serve(left < untilKept ? left : untilKept);
        }
    }

    private void Publish(Coordinator coordinator)
    {
        StatusReport status = coordinator.Report(_control!.Run, _controlDirectory, out ControlFigures control) with
        {
            WaitsFor = _throttle.WaitsFor,
            WaitsForSwap = _throttle.WaitsForSwap,
            LeftOff = s_leftOff,
        };
        _published = new Published(status, control, Stopwatch.GetTimestamp());
        History?.Note(Now, status);
    }

    /// <summary>What any thread may see.</summary>
    private sealed record Published(StatusReport Status, ControlFigures Control, long At);
}
