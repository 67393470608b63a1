using System.Runtime.InteropServices;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Processes;

/// <summary>Where a <see cref="DescriptorStore"/> can be found.</summary>
/// <param name="Pid">A process that has its ends.</param>
/// <param name="StartTime">When that started, as <see cref="ProcessStat.StartTime"/> has it.</param>
/// <param name="In">The number there of the end into which descriptors are put.</param>
/// <param name="Out">The number there of the other end.</param>
public readonly record struct StorePlace(int Pid, ulong StartTime, int In, int Out);

/// <summary>Keeps descriptors open beyond the death of whoever put them there: unix(7), messages with descriptors that nobody has received.</summary>
/// <remarks>
/// <para>What is in the queue of a socket stays open for as long as any process has that socket. So a process that has inherited its two ends, and need not know of them, keeps all that is there; who comes later takes
/// the ends from it by number, and finds the rest.</para>
/// <para>Only the head of a queue can be read. So nothing is taken out of it: all that is to stay is put in once more, many in a message, and what was there before is received and closed behind that. A death at any
/// moment leaves each at least once. One process at a time may do so: who has the lock of the run directory.</para>
/// <para>Any thread. What finds no room is not kept: the socket's (some thousand descriptors, with the limits that a kernel has by itself), or that of descriptors under way (RLIMIT_NOFILE, for who has neither
/// CAP_SYS_RESOURCE nor CAP_SYS_ADMIN).</para>
/// </remarks>
public sealed unsafe class DescriptorStore : IDisposable
{
    /// <summary>Descriptors in a message, which are in our table for a moment when it is received; and messages behind which they are put together: some hundred fill half of the room that a socket has.</summary>
    private const int Together = 64, MessagesMost = 128;

    /// <summary>More room than the kernel gives (<c>net.core.wmem_max</c>): as much as it does is asked for.</summary>
    private const int RoomMost = 16 << 20;

    /// <summary>Bytes of the socket's room that are kept free for putting together: some ten messages.</summary>
    private const int Free = 64 << 10;

    private readonly Lock _changed = new();
    private readonly FileDescriptor _in, _out;
    private readonly Dictionary<FileDescriptor, Entry> _stored = [];

    /// <summary>What is to be closed, and found no thread for it.</summary>
    private List<FileDescriptor> _unclosed = [];
    private readonly int _room;
    private ulong _entries;

    /// <summary>Messages since they were put together.</summary>
    private int _messages;

    /// <summary>There is something in it that could not be looked at: nothing is taken out of it any more.</summary>
    private bool _isUnknown;

    private DescriptorStore(FileDescriptor into, FileDescriptor from, int room = RoomMost) => (_in, _out, _room) = (into, from, room);

    /// <summary>Makes an empty one.</summary>
    /// <exception cref="SyscallException">The system refused.</exception>
    public static DescriptorStore Create() => Create(RoomMost);

    /// <inheritdoc cref="Create()"/>
    internal static DescriptorStore Create(int room)
    {
        int* ends = stackalloc int[2];
        return LibC.socketpair(LibC.AF_UNIX, LibC.SOCK_SEQPACKET | LibC.O_CLOEXEC, 0, ends) == 0
            ? new DescriptorStore(new FileDescriptor(ends[0]), new FileDescriptor(ends[1]), room)
            : throw new SyscallException("socketpair", "for descriptors that are kept", (Errno)Marshal.GetLastPInvokeError());
    }

    /// <summary>Opens one that another process has, or had when that was written down. What is in it is there once <see cref="TakeOver"/> has been called.</summary>
    /// <returns>Null where that process, or its descriptors, are gone.</returns>
    public static DescriptorStore? TryOpen(StorePlace place)
    {
        if (!PidFd.TryOpen(place.Pid, out FileDescriptor? process, out _))
            return null;
        using (process)
        {
            // If it is the one that is meant now, it was when it was opened.
            if (!ProcessStat.TryRead(place.Pid, out ProcessStat stat) || stat.StartTime != place.StartTime)
                return null;
            FileDescriptor? into = null;
            try
            {
                into = PidFd.Take(process!, place.In);
                return new DescriptorStore(into, PidFd.Take(process!, place.Out));
            }
            catch (SyscallException)
            {
                into?.Dispose();
                return null;
            }
        }
    }

    /// <summary>Has one whose ends were inherited, under these numbers.</summary>
    /// <returns>Null where they are no sockets.</returns>
    public static DescriptorStore? TryInherit(int into, int from)
    {
        FileDescriptor[] ends = [new(into), new(from)];
        if (Array.TrueForAll(ends, end => ProcLinks.TargetOf($"/proc/self/fd/{end.Number}")?.StartsWith("socket:", StringComparison.Ordinal) == true))
        {
            DescriptorStore store = new(ends[0], ends[1]);
            store.Bequeath(false);
            return store;
        }

        // They are somebody else's, whatever they are.
        Array.ForEach(ends, end => end.SetHandleAsInvalid());
        return null;
    }

    /// <summary>Where it can be found for as long as a process lives that has, or has inherited, its ends.</summary>
    public StorePlace PlaceIn(int pid) => new(pid, ProcessStat.TryRead(pid, out ProcessStat stat) ? stat.StartTime : 0, _in.Number, _out.Number);

    /// <summary>Has programs that are started inherit its ends, under their numbers here; or no longer.</summary>
    public void Bequeath(bool does)
    {
        foreach (FileDescriptor end in (FileDescriptor[])[_in, _out])
            _ = LibC.fcntl(end.Number, LibC.F_SETFD, does ? 0 : LibC.FD_CLOEXEC);
    }

    /// <summary>Keeps a descriptor for whoever comes later, if it is not kept already. It is the caller's still; what he has closed is kept no longer, sooner or later.</summary>
    /// <param name="descriptor">The descriptor.</param>
    /// <param name="owner">Tells whoever finds it what it belongs to.</param>
    /// <returns>False where it is not kept.</returns>
    public bool TryPut(FileDescriptor descriptor, ulong owner)
    {
        lock (_changed)
        {
            if (_stored.ContainsKey(descriptor))
                return true;
            Entry entry = new(++_entries, owner);
            if (_messages >= MessagesMost)
                PutTogether();
            SetRoom(all: false);
            if (!TrySend([descriptor], [entry]))
            {
                if (_messages == 0 && !_stored.Keys.Any(static one => one.IsClosed))
                    return false;
                PutTogether();
                SetRoom(all: false);
                if (!TrySend([descriptor], [entry]))
                    return false;
            }

            _messages++;
            _stored.Add(descriptor, entry);
            return true;
        }
    }

    /// <summary>Keeps a descriptor no longer, and nothing that has been closed either: whoever comes after this has returned finds no copy, but where there was no room to leave it out.</summary>
    /// <param name="descriptor">The very object that was put there, or given out; it need not be kept.</param>
    public void Forget(FileDescriptor descriptor)
    {
        lock (_changed)
        {
            if (_stored.Remove(descriptor))
                PutTogether();
        }
    }

    /// <summary>Gives out copies of all that is in it, which are kept as if they had been put there. To be called once, before anything else, by who has opened one.</summary>
    /// <returns>All of them, but where there is no room for their copies in our table, or for what is looked at in the socket: what is left then stays in it, and is given out to nobody.</returns>
    public List<(FileDescriptor Descriptor, ulong Owner)> TakeOver()
    {
        lock (_changed)
        {
            SetRoom(all: true);
            // What is seen is put in again behind this, so all has been seen when this comes.
            ulong mark = NewMark();
            _isUnknown = true;
            if (!TrySend([], [new Entry(mark, 0)]))
                return [];
            List<FileDescriptor> seen = [], received = [];
            List<Entry> entries = [], others = [];
            while (_isUnknown && OpenFiles.LeftForPrograms() > Together && TryReceive(peek: true, seen, entries))
            {
                bool isMark = seen.Count == 0 && entries.Count == 1;
                if (!isMark && (seen.Count != entries.Count || !TrySend(CollectionsMarshal.AsSpan(seen), CollectionsMarshal.AsSpan(entries))))
                {
                    seen.ForEach(descriptor => descriptor.Dispose());
                    break;
                }

                for (int one = 0; one < seen.Count; one++)
                {
                    _stored.Add(seen[one], entries[one]);
                    _entries = Math.Max(_entries, entries[one].Number);
                }

                // A mark of another was left by a death in the middle of this.
                _isUnknown = !isMark || entries[0].Number != mark;
                _ = TryReceive(peek: false, received, others);
                received.ForEach(descriptor => descriptor.Dispose());
            }

            PutTogether();
            return [.. _stored.Select(one => (one.Key, one.Value.Owner))];
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _in.Dispose();
        _out.Dispose();
    }

    /// <summary>Puts all that is kept in once more, in as few messages as that takes, and closes what was there before: message by message, so that no more room is needed than some take, and so much is kept free.</summary>
    /// <remarks>Of what is kept a copy is there. Of the rest the last one may be among what is closed, and to close that may have to wait for a program: so it is done by a thread that nobody waits for.</remarks>
    private void PutTogether()
    {
        if (_isUnknown)
            return;
        foreach (FileDescriptor closed in _stored.Keys.Where(descriptor => descriptor.IsClosed).ToArray())
            _stored.Remove(closed);
        SetRoom(all: true);
        ulong mark = NewMark();
        if (!TrySend([], [new Entry(mark, 0)]))
            return;
        // What is in the queue came in this order, but for what a death has left there twice.
        Queue<KeyValuePair<FileDescriptor, Entry>> unsent = new(_stored.OrderBy(one => one.Value.Number));
        HashSet<ulong> due = [.. _stored.Values.Select(entry => entry.Number)], sent = [];
        List<FileDescriptor> received = [];
        List<Entry> entries = [];
        bool isMark = false;
        while (!isMark && TryReceive(peek: true, null, entries))
        {
            isMark = entries is [var only] && only.Number == mark;
            while (isMark ? unsent.Count > 0 : entries.Exists(entry => due.Contains(entry.Number)))
            {
                KeyValuePair<FileDescriptor, Entry>[] some = [.. unsent.Take(Together)];
                if (!TrySend(Array.ConvertAll(some, one => one.Key), Array.ConvertAll(some, one => one.Value)))
                    return;
                foreach (KeyValuePair<FileDescriptor, Entry> one in some)
                {
                    _ = unsent.Dequeue();
                    _ = due.Remove(one.Value.Number);
                    // One that was closed meanwhile may have been left out.
                    if (!one.Key.IsClosed)
                        _ = sent.Add(one.Value.Number);
                }
            }

            _ = TryReceive(peek: false, received, entries);
            for (int one = 0; one < received.Count; one++)
            {
                if (one < entries.Count && sent.Contains(entries[one].Number))
                    received[one].Dispose();
                else
                    _unclosed.Add(received[one]);
            }

            if (_unclosed.Count >= Together)
                CloseApart();
        }

        CloseApart();
        _messages = 0;
    }

    /// <summary>Has the socket take as much as the kernel lets it, or leaves something of that free.</summary>
    private void SetRoom(bool all)
    {
        int bytes = _room, length = sizeof(int);
        _ = LibC.setsockopt(_in.Number, LibC.SOL_SOCKET, LibC.SO_SNDBUF, &bytes, sizeof(int));
        if (all || LibC.getsockopt(_in.Number, LibC.SOL_SOCKET, LibC.SO_SNDBUF, &bytes, &length) != 0)
            return;
        // Read, it is twice what it was set to.
        bytes = Math.Max(bytes - Free, bytes / 2) / 2;
        _ = LibC.setsockopt(_in.Number, LibC.SOL_SOCKET, LibC.SO_SNDBUF, &bytes, sizeof(int));
    }

    private void CloseApart()
    {
        List<FileDescriptor> some = _unclosed;
        if (some.Count > 0 && OwnThread.TryStart(new Thread(() => some.ForEach(descriptor => descriptor.Dispose())) { Name = "closing", IsBackground = true }))
            _unclosed = [];
    }

    /// <summary>No other's: one that somebody has left there who died, and whose process number is ours now, must not be taken for it.</summary>
    private static ulong NewMark()
    {
        ulong mark;
        return LibC.getrandom(&mark, sizeof(ulong), 0) == sizeof(ulong) ? mark : throw new SyscallException("getrandom", "a mark of 8 bytes", (Errno)Marshal.GetLastPInvokeError());
    }

    /// <summary>Sends descriptors, or a mark where there are none. What was closed meanwhile is left out.</summary>
    private bool TrySend(ReadOnlySpan<FileDescriptor> descriptors, ReadOnlySpan<Entry> entries)
    {
        Span<bool> kept = stackalloc bool[descriptors.Length];
        List<int> numbers = [];
        List<ulong> said = descriptors.IsEmpty ? [entries[0].Number, entries[0].Owner] : [];
        try
        {
            for (int one = 0; one < descriptors.Length; one++)
            {
                kept[one] = descriptors[one].TryKeep();
                if (!kept[one])
                    continue;
                numbers.Add(descriptors[one].Number);
                said.AddRange([entries[one].Number, entries[one].Owner]);
            }

            return said.Count == 0 || DescriptorPassing.TrySend(_in, CollectionsMarshal.AsSpan(said), CollectionsMarshal.AsSpan(numbers)) == Errno.None;
        }
        finally
        {
            for (int one = 0; one < descriptors.Length; one++)
            {
                if (kept[one])
                    descriptors[one].DangerousRelease();
            }
        }
    }

    /// <param name="peek">Only looks at it.</param>
    /// <param name="descriptors">Null where they are not wanted.</param>
    /// <param name="entries">What is said with them.</param>
    private bool TryReceive(bool peek, List<FileDescriptor>? descriptors, List<Entry> entries)
    {
        descriptors?.Clear();
        entries.Clear();
        List<ulong> words = [];
        if (!DescriptorPassing.TryReceive(_out, peek, 2 * Together, words, descriptors))
            return false;
        for (int word = 0; word + 1 < words.Count; word += 2)
            entries.Add(new Entry(words[word], words[word + 1]));
        return true;
    }

    /// <summary>What is said with a descriptor, or is a mark.</summary>
    /// <param name="Number">Its own, in this store.</param>
    /// <param name="Owner">What it belongs to.</param>
    private readonly record struct Entry(ulong Number, ulong Owner);
}
