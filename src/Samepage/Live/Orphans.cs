using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Userfault;

namespace Samepage.Live;

/// <summary>Children without a warden: their parent has ended with the one that they had, or it could take no more. The daemon answers their faults itself,
/// as soon as they come, until they end.</summary>
/// <remarks>To answer may have to wait for the lock of a child's address space. So one attendant answers for all, one after the other; a child that keeps it keeps that attendant, and another goes on with
/// the rest. There are as many threads at it as there are children that keep one, and one more, however many children a program forks. A child that makes events as fast as they are read has some read at a
/// time, and the others come between. Where no descriptor is left for programs, a child that forks is left alone until there is one: its fork waits, and its faults with it, for none can be answered before.</remarks>
/// <param name="attendants">Answer.</param>
/// <param name="changed">Set when there is another, or one may be waited on again.</param>
/// <param name="store">Keeps their descriptors beyond our death; null where nothing does.</param>
internal sealed class Orphans(Attendants attendants, EventSignal changed, DescriptorStore? store) : IDisposable
{
    private static readonly TimeSpan StandsStill = TimeSpan.FromMilliseconds(100), TellsAfter = TimeSpan.FromMilliseconds(5), TriesAgain = TimeSpan.FromSeconds(1);
    private readonly HashSet<FileDescriptor> _watched = [];

    /// <summary>Those whose children have no frames any more.</summary>
    private readonly HashSet<FileDescriptor> _bare = [];

    /// <summary>Those that are answered, or are to be.</summary>
    private readonly HashSet<FileDescriptor> _answered = [];
    private readonly Queue<FileDescriptor> _due = [];

    /// <summary>Those whose forks wait for a descriptor. To wait on them would be to come back at once.</summary>
    private readonly HashSet<FileDescriptor> _forking = [];
    private long _tried;
    private int _workers;

    /// <summary>Who is at it: its number, 0 for nobody, and since when it is at the one that it answers.</summary>
    private int _worker;
    private long _since;

    /// <summary>Takes a descriptor. Any thread.</summary>
    public void Add(FileDescriptor m) => Add(m, isBare: false);

    /// <inheritdoc cref="Add(FileDescriptor)"/>
    /// <param name="m">It.</param>
    /// <param name="isBare">Its child has no frames any more: nobody need be kept waiting for its end.</param>
    public void Add(FileDescriptor m, bool isBare)
    {
        _ = store?.TryPut(m, owner: 0);
        lock (_watched)
        {
            _ = _watched.Add(m);
            if (isBare)
                _ = _bare.Add(m);
        }
    }

    /// <summary>Gives a descriptor up; there need be none. Any thread.</summary>
    /// <returns>False while it is answered, or is to be.</returns>
    public bool TryForget(FileDescriptor m)
    {
        lock (_watched)
        {
            if (_answered.Contains(m))
                return false;
            // It may be waited on: who waits has it still, and it is closed when nobody has.
            _ = _watched.Remove(m);
            _ = _bare.Remove(m);
            _ = _forking.Remove(m);
        }

        changed.Set();
        store?.Forget(m);
        return true;
    }

    /// <summary>There are none.</summary>
    public bool IsEmpty
    {
        get
        {
            lock (_watched)
                return _watched.Count == 0;
        }
    }

    /// <summary>There are some that may have frames.</summary>
    public bool HaveFrames
    {
        get
        {
            lock (_watched)
                return _watched.Count > _bare.Count;
        }
    }

    /// <summary>Some wait for another to be answered, or for a descriptor: whether they still do is to be looked at soon.</summary>
    public bool AreWaiting
    {
        get
        {
            lock (_watched)
                return _due.Count + _forking.Count > 0;
        }
    }

    /// <summary>The descriptors that may be waited on: those over which nobody is answering, for who does may close one, and nobody forks in vain.</summary>
    public List<FileDescriptor> Watched()
    {
        lock (_watched)
            return [.. _watched.Where(m => !_answered.Contains(m) && !_forking.Contains(m))];
    }

    /// <summary>Has answered what waits, and what is dead let go of. One thread; to be called now and then also with nothing, while <see cref="AreWaiting"/>.</summary>
    /// <param name="waited">Those that were waited on.</param>
    public void Serve(List<FileDescriptor> waited)
    {
        int begun;
        lock (_watched)
        {
            foreach (FileDescriptor m in waited)
            {
                if (_watched.Contains(m) && _answered.Add(m))
                    _due.Enqueue(m);
            }

            TakeUpForking();
            if (_due.Count == 0 || (_worker != 0 && Stopwatch.GetElapsedTime(_since) < StandsStill))
                return;
            (_worker, _since) = (begun = ++_workers, Stopwatch.GetTimestamp());
        }

        _ = attendants.Begin(Lanes.OfOrphans(begun), () => Work(begun));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_watched)
        {
            foreach (FileDescriptor descriptor in _watched.Where(m => !_answered.Contains(m)))
                descriptor.Dispose();
        }
    }

    /// <summary>Forks that wait are looked at anew when there are descriptors again, and now and then without: whoever waits may have been killed.</summary>
    private void TakeUpForking()
    {
        if (_forking.Count == 0 || (OpenFiles.LeftForPrograms() <= 0 && Stopwatch.GetElapsedTime(_tried) < TriesAgain))
            return;
        _tried = Stopwatch.GetTimestamp();
        foreach (FileDescriptor m in _forking)
        {
            if (_answered.Add(m))
                _due.Enqueue(m);
        }

        _forking.Clear();
    }

    private void Work(int worker)
    {
        long told = Stopwatch.GetTimestamp();
        while (TryNext(worker, out FileDescriptor? m))
        {
            Answer(m);
            // Those that were answered can be waited on again; but not each is worth a round of whoever waits.
            if (Stopwatch.GetElapsedTime(told) < TellsAfter)
                continue;
            told = Stopwatch.GetTimestamp();
            changed.Set();
        }

        changed.Set();
    }

    /// <returns>False when nothing is left, or another has taken its place.</returns>
    private bool TryNext(int worker, [NotNullWhen(true)] out FileDescriptor? m)
    {
        lock (_watched)
        {
            m = null;
            if (_worker != worker)
                return false;
            if (_due.TryDequeue(out m))
            {
                _since = Stopwatch.GetTimestamp();
                return true;
            }

            _worker = 0;
            return false;
        }
    }

    private void Answer(FileDescriptor m)
    {
        // Who brought it may close it meanwhile.
        bool dead = true;
        Unread left = Unread.Nothing;
        if (m.TryKeep())
        {
            try
            {
                left = Userfaultfd.AnswerDiscards(m, isUnfilled: null, Add);
                dead = Userfaultfd.IsDead(m);
            }
            finally
            {
                m.DangerousRelease();
            }
        }

        lock (_watched)
        {
            if (left == Unread.More && !dead)
            {
                _due.Enqueue(m);
                return;
            }

            _answered.Remove(m);
            if (dead)
                _ = _watched.Remove(m) && _bare.Remove(m);
            else if (left == Unread.NoRoom)
                _forking.Add(m);
        }

        if (dead)
            m.Dispose();
    }
}
