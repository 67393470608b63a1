using System.Diagnostics;
using Samepage.Agent;
using Samepage.Agent.Tracing;
using Samepage.Engine;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Kernels;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Metrics;

namespace Samepage.Live;

/// <summary>Pages that were collected.</summary>
/// <param name="Runs">The pages; null when the space is gone.</param>
/// <param name="Everything">All that were there to be collected, and not only what has changed.</param>
internal readonly record struct Collected<T>(List<T>? Runs, bool Everything);

/// <summary>What came with a forked child.</summary>
/// <param name="M">The userfaultfd over which its mappings of frames are watched.</param>
/// <param name="Since">When it was first seen, as a timestamp.</param>
internal readonly record struct Inherited(FileDescriptor M, long Since)
{
    /// <summary>Its child has no frames any more: see <see cref="BareChildren"/>.</summary>
    public bool IsBare { get; init; }
}

/// <summary>Who answers for a child that is taken in.</summary>
/// <param name="Parent">The parent, whose warden does.</param>
/// <param name="Child">The child.</param>
/// <param name="TryForget">Has the daemon, where it watches the child since its parent has ended, do so no more; false while it answers.</param>
internal readonly record struct BroughtBy(LiveSpace Parent, Child Child, Func<bool> TryForget);

/// <summary>One process that was taken in, as the live machine sees it.</summary>
internal sealed partial class LiveSpace : IDisposable
{
    private static readonly TimeSpan ShortHold = TimeSpan.FromMilliseconds(2), LongHold = TimeSpan.FromMilliseconds(8);
    private static readonly TimeSpan MostPlan = TimeSpan.FromSeconds(4), LeastPlan = TimeSpan.FromMilliseconds(500), FilesBound = TimeSpan.FromMilliseconds(2), FramesBound = TimeSpan.FromMilliseconds(500);
    private const int VisitsBetweenScans = 60, FilesShare = 20;
    private const string Silence = "the agent in the process does not answer";
    private readonly WorldStop _world;
    private readonly Attendants _attendants;
    private readonly Patience _patience = new();
    private long _progressAt = Stopwatch.GetTimestamp();
    private readonly HoldBackoff _backoff = new();
    private MoveSieve _sieve;
    private Attendants.Job? _files;
    private bool _usesUserfaultfd;
    private long _filesLookedAt;
    private TimeSpan _filesTook;
    private Look _look;
    private int _visitsSinceScan, _visitsSinceListing;

    /// <summary>What this machine takes for what was estimated: learned from hold to hold.</summary>
    private double _pace = 1.5;

    public LiveSpace(
        SpaceId id, int pid, FileDescriptor pidfd, DomainId domain, FramePool pool, AgentSession session, Pagemap pagemap, IWaitingThreads? waiting, Attendants attendants)
    {
        _attendants = attendants;
        _world = new WorldStop(waiting);
        (Id, Pid, PidFd, Domain, Pool, Session, Pagemap) = (id, pid, pidfd, domain, pool, session, pagemap);
        Map = new AddressSpaceMap(session.ExecutorThread, pool);
        _sieve = new MoveSieve(this);
    }

    public SpaceId Id { get; }

    public int Pid { get; }

    /// <summary>A thread of the program's own that lives, by which it can be looked at; the process's id where there is none.</summary>
    public int OwnThread => LivingThread.Of(Pid, Session.ExecutorThread, Session.WardenThread);

    public FileDescriptor PidFd { get; }

    public DomainId Domain { get; }

    public FramePool Pool { get; }

    public AgentSession Session { get; }

    public Pagemap Pagemap { get; }

    public AddressSpaceMap Map { get; }

    /// <summary>Where we have worked in it.</summary>
    public Footprint Footprint { get; } = new();

    /// <summary>Its transparent huge pages, where it asked for merging.</summary>
    public HugePages Huge { get; } = new();

    /// <summary>Descriptors that forked children brought, by the warden's slot.</summary>
    public Dictionary<int, Inherited> Inherited { get; } = [];

    /// <summary>By the warden's slot, the ticket of the child that was last known to have it; to be used with <see cref="Inherited"/> locked.</summary>
    public uint[] Tickets { get; } = new uint[AgentSession.MaxInherited];

    /// <summary>Times that the threads were held.</summary>
    public long Stops { get; private set; }

    /// <summary>The longest hold, nanoseconds.</summary>
    public long StallNsMax { get; private set; }

    /// <summary>For a child that came with a descriptor of its parent's: who answers for it, until that is known to have ended. To be set before anything is done with it.</summary>
    public BroughtBy? Brought { private get; set; }

    /// <summary>Keeps its children's descriptors beyond our death; null where nothing does.</summary>
    public DescriptorStore? Store { get; set; }

    /// <summary>It was given up, and has no descriptor any more; to be read with <see cref="Inherited"/> locked.</summary>
    public bool IsClosed { get; private set; }

    /// <summary>What holds merging back at the moment; empty when nothing does.</summary>
    public string Obstacle { get; set; } = "";

    /// <summary>It is to be given back as soon as it can be: nothing is merged in it any more, whoever's page has the same content.</summary>
    public bool MustLeave { get; set; }

    /// <summary>Children of it share frames, and have no warden of their own yet; also such as are not known yet.</summary>
    public bool HasChildren
    {
        get
        {
            // Whoever takes descriptors of children at this moment may wait for the program.
            if (!Monitor.TryEnter(Inherited))
                return true;
            try
            {
                return Inherited.Values.Any(static one => !one.IsBare) || ((Session.WardenThread == 0 || Directory.Exists($"/proc/{Pid}/task/{Session.WardenThread}")) && Session.HasUntakenChildren(Tickets));
            }
            finally
            {
                Monitor.Exit(Inherited);
            }
        }
    }

    /// <summary>The descriptors of all its children have been taken, and it is there still: none was lost before that. To be asked by who looks after its children.</summary>
    public bool HasTakenAllChildren => !Session.HasUntakenChildren(Tickets) && !Session.HasExecutorEnded && !Samepage.Linux.Processes.PidFd.HasEnded(PidFd);

    /// <summary>The program has asked that all that is mapped from now on be locked: nothing can be merged in it.</summary>
    public bool LocksWhatItMaps { get; private set; }

    /// <summary>Batches in a row that the agent did not answer, or was not there to.</summary>
    public int Unanswered { get; private set; }

    /// <summary>Nothing has happened in it since the visit before.</summary>
    public bool IsIdle { get; private set; }

    /// <summary>Its mappings may have changed since they were read.</summary>
    public bool MustList { get; set; }

    /// <summary>Its areas were not what they had been when it was visited last.</summary>
    public bool HaveAreasChanged { get; set; }

    /// <summary>Our own merges have changed the segments since the areas were listed.</summary>
    public bool AreasFromMap { get; set; }

    /// <summary>The engine was not told all that has changed: pages that are not listed may have been written, or be mapped to frames by now.</summary>
    public bool LostSight { get; set; }

    /// <summary>The next collection of merged pages must list them all.</summary>
    public bool MustCollectMerged { get; set; }

    /// <summary>Questions that the scanner asks at each visit.</summary>
    public Question<List<Area>?> AreasAsked { get; } = new();

    /// <inheritdoc cref="AreasAsked"/>
    public Question<Collected<WrittenRun>> WrittenAsked { get; } = new();

    /// <inheritdoc cref="AreasAsked"/>
    public Question<Collected<MergedRun>> MergedAsked { get; } = new();

    /// <summary>Work for it is under way that nobody waits for any more, or that goes on beside the scanner: what is known of it is that work's.</summary>
    public bool IsBusy => _attendants.IsBusy(Lanes.Of(Pid, Lane.Hold));

    /// <summary>When work in it last came forward, as a timestamp.</summary>
    public long ProgressAt => Volatile.Read(ref _progressAt);

    /// <summary>Work in it comes forward. Any thread.</summary>
    public void NoteProgress() => Volatile.Write(ref _progressAt, Stopwatch.GetTimestamp());

    /// <summary>Begins work for it, unless there is some in that lane.</summary>
    public Attendants.Job? TryBegin(Lane lane, Action work) => _attendants.TryBegin(Lanes.Of(Pid, lane), work);

    /// <summary>Has work done for it behind what is under way in that lane. The task may never end.</summary>
    public Task<T> Do<T>(Lane lane, Func<T> work) => _attendants.Begin(Lanes.Of(Pid, lane), work);

    /// <summary>Waits for work, for as long as this program is waited for. The scanner's thread.</summary>
    /// <returns>False when it is late.</returns>
    public bool Await(Attendants.Job job) => _patience.Await(job);

    /// <summary>How long a plan that comes forward is waited for.</summary>
    public TimeSpan PlanBound { get; private set; } = MostPlan;

    /// <summary>Notes how long a plan has taken. Under the lock of <see cref="Hands"/>.</summary>
    public void NotePlan(TimeSpan took, bool isLate)
    {
        if (isLate)
            PlanBound = PlanBound / 2 > LeastPlan ? PlanBound / 2 : LeastPlan;
        else if (took < PlanBound / 4)
            PlanBound = PlanBound * 2 < MostPlan ? PlanBound * 2 : MostPlan;
    }

    /// <summary>What the engine knows of it is no longer all that there is to know: the next visit lists everything.</summary>
    public void LoseSight()
    {
        (LostSight, MustCollectMerged, MustList) = (true, true, true);
        ForgetLook();
    }

    /// <summary>Looks, once at the beginning of a visit, whether anything has happened since the visit before.</summary>
    /// <remarks>A program that has not faulted has written nothing, and one whose size is the same has hardly mapped anything. What this misses
    /// (writes of other processes into its memory, discards without a fault, an exchange of equal size, one descriptor closed and another opened) is found
    /// some visits later, and no page depends on it before: every plan looks at the mappings anew, and compares contents.</remarks>
    public void Observe()
    {
        Look look = Look.At(Pid, OwnThread);
        IsIdle = look == _look && _visitsSinceScan < VisitsBetweenScans;
        _visitsSinceScan = IsIdle ? _visitsSinceScan + 1 : 0;
        MustList |= look.Size != _look.Size || ++_visitsSinceListing > VisitsBetweenScans;
        if (MustList)
            _visitsSinceListing = 0;
        _look = look;
    }

    /// <summary>Whether it uses userfaultfd itself, as far as is known: at each visit in which something has happened its descriptors are looked at, beside the scanner, and what that finds later is said later.</summary>
    /// <remarks>A program may have any number of descriptors, half a million by the usual limit, and a look at each takes a microsecond or two. No more than a twentieth of a processor is spent on it.</remarks>
    public bool UsesUserfaultfd()
    {
        if (_files is { HasEnded: true })
            _files = null;
        if (_files is null && !IsIdle && Stopwatch.GetElapsedTime(_filesLookedAt) > _filesTook * FilesShare)
        {
            _files = TryBegin(Lane.Files, () =>
            {
                long since = Stopwatch.GetTimestamp();
                Volatile.Write(ref _usesUserfaultfd, Samepage.Linux.ProcFs.OpenFiles.HoldUserfaultfd(OwnThread));
                (_filesLookedAt, _filesTook) = (Stopwatch.GetTimestamp(), Stopwatch.GetElapsedTime(since));
            });
            _ = _files?.Wait(FilesBound);
        }

        return Volatile.Read(ref _usesUserfaultfd);
    }

    /// <summary>The next visit takes it that something has happened.</summary>
    public void ForgetLook() => _look = default;

    /// <summary>Runs operations with the program's threads held, some milliseconds at a time.</summary>
    /// <param name="operations">All that is to be done; each comes back with its outcome.</param>
    /// <returns>How many were tried: the threads of a program cannot always be held.</returns>
    public int Run(Span<AgentOperation> operations)
    {
        int done = 0, attempts = 0;
        // Others are visited while it is given back, and what they have in common with it may have been planned before that was known.
        if (HasParted)
        {
            Obstacle = "it is being given back, and nothing is exchanged in it any more";
            return done;
        }

        // What is to be given back is wanted, and so is that it joins what it was a part of, but not for a call that comes back half done; merging can wait.
        OperationKind? kind = operations.Length > 0 ? operations[0].Kind : null;
        bool insist = kind == OperationKind.Unmerge, waits = !insist && kind != OperationKind.Join, moves = Moves(operations);
        if (!IsHandedOver())
        {
            Obstacle = "the warden of its parent still answers for it, and does not let go: that process is stopped or frozen";
            return done;
        }

        while (done < operations.Length)
        {
            if (waits && _backoff.IsOn)
                return done;
            // Finding out whether references can be counted takes a while, the first time.
            bool sifts = moves && (HeldPages.CanBeTold || !KernelRestraints.Here.MayMoveLargeFolios);
            if (!Session.IsAnswered())
            {
                (Obstacle, Unanswered) = (Silence, Unanswered + 1);
                return done;
            }

            long since = Stopwatch.GetTimestamp();
            HoldOutcome outcome = _world.TryHold(Session, out string why, insist);
            // Many threads, or a crowded machine, make a hold long before anything is done in it: then more is, and there are fewer of them.
            long budget = _world.AllSlept ? LongHold.Ticks : Math.Clamp(Stopwatch.GetElapsedTime(since).Ticks / 2, ShortHold.Ticks, LongHold.Ticks);
            _backoff.Note(outcome, _world.GivenUp);
            Obstacle = why;
            if (outcome != HoldOutcome.Held)
            {
                if (outcome != HoldOutcome.Busy || ++attempts == 5)
                {
                    Incidents.Note(Incident.HoldGivenUp, Pid);
                    return done;
                }

                Thread.Sleep(1 << attempts);
                continue;
            }

            // A filter that has come over the agent's threads since the mappings were read may forbid what an operation's flags ask for, and kill for it. None comes while they are held.
            if (Session.Abilities != Map.ReadFor)
            {
                _world.Release();
                MustList = true;
                Obstacle = "what filters allow its agent has changed since its memory was looked at";
                return done;
            }

            Span<AgentOperation> batch = [];
            double estimate = 0;
            bool mayMove = true, isSifted = true, any = true, alive = true, isQuestionLate = false;
            long held;
            try
            {
                // Some kernels stop, or lose count, when a page that is moved is being swapped out at that moment, which no look at the page beforehand can rule out: it is swapped out when the kernel likes.
                // Without swap it cannot be. What is left is swap that is turned on within the milliseconds of this very batch.
                mayMove = !moves || KernelRestraints.Here.MayMoveNow();
                batch = operations.Slice(done, CountWithin(operations[done..], TimeSpan.FromTicks(budget).TotalMicroseconds / _pace, out estimate));
                if (mayMove && sifts)
                    isSifted = TrySift(batch, out any);
                AgentOperation[] asked = AgentSession.Asks(batch) ? batch.ToArray() : [];
                if (mayMove && isSifted && any)
                {
                    alive = Session.Run(batch, _world.Suspended, LetGo, () =>
                    {
                        List<int>? found = FindHeld(asked);
                        isQuestionLate = found is null;
                        return found;
                    });
                }
            }
            finally
            {
                held = _world.HeldNanoseconds;
                _world.Release();
            }

            if (!mayMove)
            {
                Obstacle = "swap is on, and this kernel cannot move pages beside it";
                return done;
            }

            if (!isSifted)
            {
                Obstacle = "its page tables could not be looked at in time: something keeps the lock of its address space";
                Incidents.Note(Incident.LookLate, Pid);
                return done;
            }

            _sieve.Restore(batch);
            NoteProgress();
            if (any)
                _pace = Math.Clamp(0.5 * _pace + 0.5 * _pace * held / 1000 / Math.Max(estimate * _pace, 100), 0.5, 20);
            Stops++;
            StallNsMax = Math.Max(StallNsMax, held);
            Unanswered = alive ? 0 : Unanswered + 1;
            HoldMeter.Record(held);
            if (!alive)
            {
                Obstacle = Session.IsStuck ? Silence : "";
                Incidents.Note(Incident.Unanswered, Pid);
                return done;
            }

            // What comes behind is not to be given back before it: areas join in that order only.
            if (isQuestionLate)
            {
                Obstacle = "who holds its pages could not be found out in time: the machine is crowded, or something keeps the lock of its address space";
                return done;
            }

            NoteRefusals(batch);

            LocksWhatItMaps |= operations[done].Error == (long)Errno.ENOMEM && Session.LocksWhatItMaps;
            done += batch.Length;
            // A program that was running gets as long to run as it was held.
            if (!_world.AllSlept && done < operations.Length)
                Thread.Sleep(TimeSpan.FromTicks(Math.Max(held / 100, TimeSpan.TicksPerMillisecond)));
        }

        return done;
    }

    /// <summary>Withholds from a batch what must not be moved. Its threads are held meanwhile, and whoever reads page tables may wait for a lock that somebody has: so another does.</summary>
    /// <returns>False when it took too long, or one that did is at it still: nothing may be moved.</returns>
    private bool TrySift(Span<AgentOperation> batch, out bool any)
    {
        AgentOperation[] sifted = batch.ToArray();
        MoveSieve sieve = _sieve;
        bool isAnyLeft = any = false;
        if (TryBegin(Lane.Frames, () => isAnyLeft = sieve.Sift(sifted)) is not { } job)
            return false;
        if (!job.Wait(FramesBound))
        {
            _sieve = new MoveSieve(this); // that one is its
            return false;
        }

        sifted.CopyTo(batch);
        any = isAnyLeft;
        return true;
    }

    /// <summary>Gives up all that is held of it, behind the work that is under way: that may still use it.</summary>
    public void Dispose() => Behind(Lane.Hold, () => Behind(Lane.Read, () => Behind(Lane.Frames, () => Behind(Lane.Fork, Close))));

    private void Behind(Lane lane, Action work) => _attendants.Begin(Lanes.Of(Pid, lane), work);

    private void Close()
    {
        // Whoever takes descriptors of children at this moment has this locked.
        lock (Inherited)
        {
            IsClosed = true;
            foreach (Inherited inherited in Inherited.Values)
                inherited.M.Dispose();
            Inherited.Clear();
        }

        Session.Dispose();
        Pagemap.Dispose();
        PidFd.Dispose();
    }

    /// <summary>Whether pages are moved by one of them: by all but those that give back, which copy.</summary>
    private static bool Moves(ReadOnlySpan<AgentOperation> operations)
    {
        foreach (ref readonly AgentOperation operation in operations)
        {
            if (operation.Kind != OperationKind.Unmerge)
                return true;
        }

        return false;
    }

    /// <summary>How many operations fit into a hold: measured costs are some 12 µs an operation and 0.8 µs a page; unmerging copies, 2 µs a page.
    /// A stretch is never parted: while it is moved out, nobody may run.</summary>
    private static int CountWithin(Span<AgentOperation> operations, double budget, out double estimate)
    {
        double left = budget;
        int count = 0;
        while (count < operations.Length && (count == 0 || left > 0))
        {
            int end = count + Stretches.Inseparable(operations[count]);
            if (end > AgentSession.MaxOperations)
                break;
            for (; count < end; count++)
            {
                double pages = operations[count].Length / 4096.0;
                left -= operations[count].Kind is OperationKind.Unmerge or OperationKind.Join ? 40 + 2 * pages : 12 + 0.8 * pages;
                if ((operations[count].Flags & OperationFlags.Ask) != 0)
                    left -= 8;
            }
        }

        estimate = budget - left;
        return count;
    }
}
