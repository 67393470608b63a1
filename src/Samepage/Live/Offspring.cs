using System.Diagnostics;
using System.Globalization;
using Samepage.Agent;
using Samepage.Engine;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Userfault;

namespace Samepage.Live;

/// <summary>A living child with the descriptor over which its mappings of frames are watched.</summary>
/// <param name="Pid">The child.</param>
/// <param name="Slot">The slot of its parent's warden, which watches it so far.</param>
/// <param name="Ticket">What tells it from others that have had that slot.</param>
/// <param name="M">Its M; the parent's space owns it until it is taken.</param>
internal readonly record struct Child(int Pid, int Slot, uint Ticket, FileDescriptor M);

/// <summary>Children that a process forked after it was taken in. They share its frames (F1), and its warden watches them over descriptors of their
/// own, until they die, call exec, or are taken in themselves.</summary>
internal static class Offspring
{
    /// <summary>How long a look at a process that may be anybody's is waited for.</summary>
    internal static readonly TimeSpan LookBound = TimeSpan.FromMilliseconds(100);

    private static readonly TimeSpan Settled = TimeSpan.FromSeconds(2), ForkBound = TimeSpan.FromSeconds(1);

    /// <summary>Takes note of new children, and closes the descriptors of dead ones: nobody announces that a child has ended or called exec. Any thread that may wait for the process.</summary>
    /// <returns>False when another thread is about that, and does not come to its end: nothing is known then.</returns>
    public static bool TryLook(LiveSpace space)
    {
        CloseDead(space);
        return TryTakeNew(space, LookBound);
    }

    /// <summary>Takes copies of the descriptors that are new, as long as there are descriptors for it: a program may have any number of children. Any thread.</summary>
    /// <param name="space">The parent.</param>
    /// <param name="bound">How long to wait for another thread that is about that: to take one may have to wait for the parent, if that calls exec.</param>
    /// <returns>False where it does not come to its end.</returns>
    public static bool TryTakeNew(LiveSpace space, TimeSpan bound)
    {
        if (!Monitor.TryEnter(space.Inherited, bound))
            return false;
        try
        {
            if (space.IsClosed || OpenFiles.LeftForPrograms() <= 0)
                return true;
            List<InheritedDescriptor> fresh = [];
            space.Session.TakeInherited(fresh, space.Tickets);
            foreach (InheritedDescriptor child in fresh)
            {
                space.Tickets[child.Slot] = child.Ticket;
                if (space.Inherited.Remove(child.Slot, out Inherited before)) // the warden never does that, but it lives in the program
                    before.M.Dispose();
                space.Inherited.Add(child.Slot, new Inherited(child.M, Stopwatch.GetTimestamp()));
                _ = space.Store?.TryPut(child.M, space.Session.Place.Cookie);
            }

            return true;
        }
        finally
        {
            Monitor.Exit(space.Inherited);
        }
    }

    /// <summary>Reads what a warden could not: the forks for which it has no descriptor, or no slot. Those children are watched by the daemon. For what is left the warden asks again. Any thread that may
    /// wait for the process and its children.</summary>
    public static void TakeUnread(LiveSpace space, Orphans orphans)
    {
        using Brought brought = new(space);
        if (brought.Own is { } own)
            _ = Userfaultfd.AnswerDiscards(own, space.Session.IsUnfilled, orphans.Add);
        foreach ((_, _, Inherited inherited) in brought.All)
            _ = Userfaultfd.AnswerDiscards(inherited.M, isUnfilled: null, orphans.Add);
    }

    /// <summary>Gives a child's descriptor up: it is dead, or has a warden of its own.</summary>
    /// <param name="space">The parent.</param>
    /// <param name="slot">Its slot.</param>
    /// <param name="ticket">What tells it from others that have had that slot.</param>
    /// <param name="isDead">The child is dead.</param>
    /// <returns>Whether there was one.</returns>
    public static bool Drop(LiveSpace space, int slot, uint ticket, bool isDead)
    {
        lock (space.Inherited)
        {
            // The slot may be another child's by now; and where the parent is gone so are its descriptors.
            if (space.IsClosed || space.Tickets[slot] != ticket)
                return false;
            space.Session.CloseInherited(slot, ticket);
            if (!space.Inherited.Remove(slot, out Inherited inherited))
                return false;
            inherited.M.Dispose();
            // A copy of one that lives is not to be found by whoever comes later: two would answer for it.
            if (!isDead)
                space.Store?.Forget(inherited.M);
            return true;
        }
    }

    /// <summary>Whether nobody answers for a child any more over a descriptor of its parent's: neither the parent's warden, which is told so again otherwise, nor the daemon.</summary>
    public static bool IsDropped(in BroughtBy child)
    {
        (LiveSpace parent, int slot, uint ticket) = (child.Parent, child.Child.Slot, child.Child.Ticket);
        if (!Monitor.TryEnter(parent.Inherited, LookBound))
            return false;
        try
        {
            // Not given up yet: its descriptor is needed until it is in the child.
            if (parent.Tickets[slot] == ticket && parent.Inherited.ContainsKey(slot))
                return false;
            if (!parent.IsClosed && !PidFd.HasEnded(parent.PidFd) && Directory.Exists($"/proc/{parent.Pid}/task/{parent.Session.WardenThread}") && parent.Session.Answers(slot, ticket))
            {
                _ = parent.TryBegin(Lane.Hold, () => parent.Session.CloseInheritedOfStopped(slot, ticket));
                return false;
            }
        }
        finally
        {
            Monitor.Exit(parent.Inherited);
        }

        return child.TryForget();
    }

    private static void CloseDead(LiveSpace space)
    {
        using Brought brought = new(space);
        foreach ((int slot, uint ticket, Inherited inherited) in brought.All)
        {
            if (Userfaultfd.IsDead(inherited.M))
                _ = Drop(space, slot, ticket, isDead: true);
        }
    }

    /// <summary>Finds out which processes the children are.</summary>
    /// <param name="space">The parent.</param>
    /// <param name="all">Also those that have only just been born, and will most likely call exec or end.</param>
    /// <param name="orphan">Takes the descriptor of a grandchild that was born meanwhile.</param>
    /// <param name="attendants">Look at processes that may be anybody's: one that keeps them is passed over.</param>
    public static List<Child> Find(LiveSpace space, bool all, Action<FileDescriptor> orphan, Attendants attendants)
    {
        List<Child> children = [];
        using Brought brought = new(space);
        if (!brought.All.Select(one => one.Inherited).Any(inherited => all || Stopwatch.GetElapsedTime(inherited.Since) > Settled))
            return children;
        TimeSpan patience = LookBound;
        foreach (int pid in Descendants(space.Pid))
        {
            ulong? first = null;
            if (!TryLookAt(attendants, pid, ref patience, () => first = FirstFrame(pid, space)) || first is not ulong address)
                continue;
            foreach ((int slot, uint ticket, Inherited inherited) in brought.All)
            {
                if ((all || Stopwatch.GetElapsedTime(inherited.Since) > Settled) && children.TrueForAll(child => child.Slot != slot) &&
                    IsOf(pid, inherited.M, address, orphan))
                {
                    children.Add(new Child(pid, slot, ticket, inherited.M));
                    break;
                }
            }
        }

        return children;
    }

    /// <summary>Looks at a process that may keep whoever does. Others look for children of theirs at the same time, and at the same processes: one whom somebody else looks at is waited for.</summary>
    /// <remarks>One that keeps us is waited for once, and passed over until it has let go: what is under way for it shows for how long it has. Where there is no thread to be had, that says nothing of the
    /// process. It is waited for as long, and where that was in vain each further process is only tried: there may be thousands.</remarks>
    /// <param name="attendants">Look.</param>
    /// <param name="pid">The process.</param>
    /// <param name="patience">How long to wait for a thread; none any more once that was in vain.</param>
    /// <param name="look">Looks; where it is late, what it fills is its own.</param>
    /// <returns>False when it was not looked at, or not in time.</returns>
    internal static bool TryLookAt(Attendants attendants, int pid, ref TimeSpan patience, Action look)
    {
        int lane = Lanes.Of(pid, Lane.Look);
        for (long since = Stopwatch.GetTimestamp(); !attendants.IsLate(lane, LookBound); Thread.Sleep(1))
        {
            Attempt came = attendants.Try(lane, look, LookBound);
            if (came is Attempt.Done or Attempt.Late)
                return came == Attempt.Done;
            if (Stopwatch.GetElapsedTime(since) < (came == Attempt.NoThread ? patience : LookBound))
                continue;
            if (came == Attempt.NoThread)
                patience = TimeSpan.Zero;
            return false;
        }

        return false;
    }

    /// <summary>Tells a child's descriptor by what it does: a page protected through it shows as protected in the child's page table, and nowhere else.</summary>
    /// <remarks>The page is a mapping of a frame, so nobody writes it in place; who tries meanwhile waits until the protection is off again. A program can have a page of its own protected by other means, and would
    /// be given another's child's descriptor by it: so the page is seen to follow, on and off, as nobody could guess.</remarks>
    private static bool IsOf(int pid, FileDescriptor m, ulong address, Action<FileDescriptor> orphan)
    {
        using Pagemap? pagemap = Pagemap.TryOpen(pid);
        // It is off to begin with, but in a child that was forked in the middle of an unmerge.
        if (pagemap is null || !Protect(m, address, false, orphan))
            return false;
        try
        {
            foreach (byte one in (byte[])[.. Guid.NewGuid().ToByteArray(), .. Guid.NewGuid().ToByteArray()])
            {
                bool on = one % 2 != 0;
                if (!Protect(m, address, on, orphan) || IsProtected(pagemap, address) != on)
                    return false;
            }

            return true;
        }
        finally
        {
            _ = Protect(m, address, false, orphan);
        }
    }

    private static bool? IsProtected(Pagemap pagemap, ulong address)
    {
        Span<ulong> word = stackalloc ulong[1];
        return pagemap.ReadWords(address, word) == 1 ? (word[0] & Pagemap.WriteProtected) != 0 : null;
    }

    /// <remarks>A child that forks waits until that is read over its descriptor, and until then nothing can be protected over it. Its parent's warden reads it, if there still is
    /// one: between the warden's leave and the end of the space there is none, so it is read here, and the grandchild is watched by the daemon.
    /// Where it cannot be read (no descriptor is left for the grandchild's) this gives up: who watches the child ends a protection that is left on when somebody writes there.</remarks>
    private static bool Protect(FileDescriptor m, ulong address, bool protect, Action<FileDescriptor> orphan)
    {
        Errno errno;
        long since = Stopwatch.GetTimestamp();
        while ((errno = Userfaultfd.TryProtect(m, address, 4096, protect)) == Errno.EAGAIN && Stopwatch.GetElapsedTime(since) < ForkBound &&
            Userfaultfd.AnswerDiscards(m, isUnfilled: null, orphan) != Unread.NoRoom)
        {
            Thread.Yield();
        }

        return errno == Errno.None;
    }

    /// <summary>The address of a page of a frame in the process, or, where it has written all of them since, or thrown them away, of a page in the place of one; null when it maps none.</summary>
    private static ulong? FirstFrame(int pid, LiveSpace parent)
    {
        List<Mapping> mappings = [];
        using Pagemap? pagemap = Pagemap.TryOpen(pid);
        if (pagemap is null || !Mapping.TryReadAll($"/proc/{LivingThread.Of(pid)}/maps", mappings))
            return null;
        List<PageRegion> regions = [];
        ulong? first = null;
        foreach (Mapping mapping in mappings.Where(mapping => parent.Pool.Has(mapping)))
        {
            _ = pagemap.CollectFilePages(mapping.Start, mapping.End, regions);
            if (regions.Count > 0)
                return regions[0].Start;
            first ??= mapping.Start;
        }

        return first;
    }

    /// <summary>Every process below this one, and those whose parent has ended: they may be anybody's children by now.</summary>
    internal static IEnumerable<int> Descendants(int pid) => Directory.EnumerateDirectories("/proc")
        .Select(directory => int.TryParse(directory.AsSpan(6), CultureInfo.InvariantCulture, out int other) ? other : 0)
        .Where(other => other > 1 && other != pid && other != Environment.ProcessId);

    /// <summary>The descriptors of a process's children, and its own. They stay open until this is disposed, whatever becomes of the children meanwhile: the number of one that is closed could be another program's at once.</summary>
    private sealed class Brought : IDisposable
    {
        private readonly List<FileDescriptor> _kept = [];

        public Brought(LiveSpace space)
        {
            lock (space.Inherited)
            {
                if (space.IsClosed)
                    return;
                Own = TryKeep(space.Session.M) ? space.Session.M : null;
                foreach ((int slot, Inherited inherited) in space.Inherited.ToArray())
                {
                    if (TryKeep(inherited.M))
                        All.Add((slot, space.Tickets[slot], inherited));
                    else
                        _ = space.Inherited.Remove(slot); // its child was found dead by who watches it because the parent has ended
                }
            }
        }

        /// <summary>The process's own; null when the space is closed.</summary>
        public FileDescriptor? Own { get; }

        public List<(int Slot, uint Ticket, Inherited Inherited)> All { get; } = [];

        /// <inheritdoc/>
        public void Dispose() => _kept.ForEach(m => m.DangerousRelease());

        private bool TryKeep(FileDescriptor m)
        {
            bool isOpen = m.TryKeep();
            if (isOpen)
                _kept.Add(m);
            return isOpen;
        }
    }
}
