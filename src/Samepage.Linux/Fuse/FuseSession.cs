using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Fuse;

/// <summary>Serves a tree of small live files over <c>/dev/fuse</c>, fuse(4): direct I/O, nothing cached by the kernel.</summary>
/// <remarks><para>One thread reads requests and answers them at once, but for reads and writes: those are answered when their end has come, and any number of them wait without
/// holding up anybody. A signal does not end the wait for an answer, as it does not in sysfs; only being killed does, once the answer has come or nobody is left to give it.</para>
/// <para>The kernel checks permissions by the modes we state, and we refuse to open a read-only file for writing, to root as well. The death of this process
/// closes the descriptor, and whoever uses the files, or waits, is told ENOTCONN: nobody hangs.</para></remarks>
public sealed unsafe class FuseSession : IWaitingThreads, IDisposable
{
    private const int BufferBytes = 1 << 16, ValueBytesMax = 4096;
    private const uint MinorVersion = 31;
    private const ulong Root = 1;

    /// <summary>Requests that are not answered yet, with the threads that wait for them, and by those: whoever holds threads asks for each.</summary>
    private readonly ConcurrentDictionary<ulong, (int ThreadId, bool Reads)> _waiting = [];
    private readonly ConcurrentDictionary<int, ulong> _waiters = [];

    /// <summary>Threads that were let go, since when again and again, and when last. One that is held over and over would begin its read anew for ever: at some time it is told what is known.</summary>
    private readonly ConcurrentDictionary<int, (long First, long Last)> _letGo = [];
    private static readonly TimeSpan s_soon = TimeSpan.FromSeconds(2), s_longEnough = TimeSpan.FromSeconds(10);

    /// <summary>What was read over each handle last.</summary>
    private readonly ConcurrentDictionary<ulong, string> _opened = [];
    private readonly EventSignal _ended = new();
    private readonly ulong _mountedAt = (ulong)DateTimeOffset.UtcNow.ToUnixTimeSeconds();
    private ulong _lastHandle;
    private FileDescriptor? _device;
    private IFuseFiles? _files;
    private Thread? _thread;
    private string _path = "";

    /// <summary>Mounts the tree and serves it until disposed. Once.</summary>
    /// <param name="path">An empty directory, absolute and without links.</param>
    /// <param name="files">What is served.</param>
    /// <param name="start">Starts the thread that serves it; null as the runtime does.</param>
    /// <exception cref="SyscallException">The system refused: no <c>/dev/fuse</c>, no CAP_SYS_ADMIN, or no thread.</exception>
    public void Serve(string path, IFuseFiles files, Action<Thread>? start = null)
    {
        FileDescriptor device = FileDescriptor.Open("/dev/fuse", writable: true);
        try
        {
            FuseMount.Mount(device, path);
        }
        catch
        {
            device.Dispose();
            throw;
        }

        (_path, _device, _files) = (path, device, files);
        _thread = new Thread(Run) { Name = "control files", IsBackground = true };
        if (OwnThread.TryStart(_thread, start))
            return;
        // A mount without a server would keep whoever looks at it.
        _ = LibC.umount2(path, LibC.MNT_DETACH | LibC.UMOUNT_NOFOLLOW);
        device.Dispose();
        throw new SyscallException("clone", $"a thread, {_thread.Name}", Errno.EAGAIN);
    }

    /// <inheritdoc/>
    /// <remarks>A read that is told EINTR must be a call that reads, and can begin again. Of a page fault (the file is mapped, MAP_PRIVATE) the kernel would make SIGBUS, inside of another call EFAULT, and what is
    /// copied on (sendfile, splice) may come back half done: those wait until they are answered.</remarks>
    public bool Waits(int threadId) => _waiters.TryGetValue(threadId, out ulong unique) && _waiting.TryGetValue(unique, out (int ThreadId, bool Reads) waiting) &&
        (!waiting.Reads || Threads.Look(threadId, threadId) is { Blocked: true, Number: 0 or 17 or 19 or 295 or 327 });

    /// <inheritdoc/>
    public void LetGo(int threadId)
    {
        if (!Waits(threadId) || !_waiters.TryGetValue(threadId, out ulong unique) || !TryEndWait(unique))
            return;
        long now = Stopwatch.GetTimestamp();
        _ = _letGo.AddOrUpdate(threadId, (now, now), (_, before) => (Stopwatch.GetElapsedTime(before.Last, now) < s_soon ? before.First : now, now));
        Answer(unique, Errno.EINTR, []);
    }

    /// <summary>A thread is in one call at a time.</summary>
    private void BeginWait(ulong unique, int threadId, bool reads) => (_waiting[unique], _waiters[threadId]) = ((threadId, reads), unique);

    /// <returns>False where somebody else answers, or has.</returns>
    private bool TryEndWait(ulong unique)
    {
        if (!_waiting.TryRemove(unique, out (int ThreadId, bool Reads) waiting))
            return false;
        _ = _waiters.TryRemove(KeyValuePair.Create(waiting.ThreadId, unique));
        return true;
    }

    /// <summary>Unmounts the tree, also where else it is shown (<see cref="FuseMount.ClearEverywhere"/>); whoever still uses it is told ENOTCONN.</summary>
    public void Dispose()
    {
        if (_device is { IsClosed: false })
        {
            // Served until it is out of sight, so that nobody sees a mount without a server.
            FuseMount.ClearEverywhere(_path);
            _ended.Set();
            _thread!.Join();
            _device.Dispose();
            _ended.Dispose();
        }
    }

    private void Run()
    {
        byte[] buffer = GC.AllocateUninitializedArray<byte>(BufferBytes, pinned: true);
        LibC.pollfd* polls = stackalloc LibC.pollfd[2];
        for (; ; )
        {
            polls[0] = new LibC.pollfd { fd = _device!.Number, events = LibC.POLLIN };
            polls[1] = new LibC.pollfd { fd = _ended.Number, events = LibC.POLLIN };
            if (LibC.poll(polls, 2, -1) < 0)
                continue; // EINTR
            if (polls[1].revents != 0)
                return;
            nint length;
            fixed (byte* bytes = buffer)
                length = LibC.read(_device.Number, bytes, BufferBytes);
            if (length < 0 && (Errno)Marshal.GetLastPInvokeError() is Errno.ENODEV)
                return; // somebody unmounted it
            // ENOENT: whoever asked was killed before we read it.
            if (length >= sizeof(LibC.fuse_in_header))
                Serve(buffer.AsSpan(0, (int)length));
        }
    }

    private void Serve(Span<byte> request)
    {
        LibC.fuse_in_header header = MemoryMarshal.Read<LibC.fuse_in_header>(request);
        ReadOnlySpan<byte> body = request[sizeof(LibC.fuse_in_header)..];
        switch (header.opcode)
        {
            case LibC.FUSE_INIT: Init(header, MemoryMarshal.Read<LibC.fuse_init_in>(body)); break;
            case LibC.FUSE_LOOKUP: LookUp(header, body); break;
            case LibC.FUSE_GETATTR: GetAttributes(header); break;
            case LibC.FUSE_SETATTR: SetAttributes(header, MemoryMarshal.Read<LibC.fuse_setattr_in>(body)); break;
            case LibC.FUSE_OPEN: Open(header, MemoryMarshal.Read<LibC.fuse_open_in>(body)); break;
            case LibC.FUSE_READ: Read(header, MemoryMarshal.Read<LibC.fuse_read_in>(body)); break;
            case LibC.FUSE_WRITE: Write(header, body); break;
            case LibC.FUSE_READDIR: ReadDirectory(header, MemoryMarshal.Read<LibC.fuse_read_in>(body)); break;
            case LibC.FUSE_RELEASE:
                _ = _opened.TryRemove(MemoryMarshal.Read<LibC.fuse_release_in>(body).fh, out _);
                Answer(header.unique, Errno.None, []);
                break;
            case LibC.FUSE_OPENDIR: Answer(header, new LibC.fuse_open_out()); break;
            case LibC.FUSE_STATFS: Answer(header, new LibC.fuse_kstatfs { bsize = ValueBytesMax, namelen = 255 }); break;
            case LibC.FUSE_RELEASEDIR or LibC.FUSE_FSYNC or LibC.FUSE_FSYNCDIR or LibC.FUSE_FLUSH or LibC.FUSE_DESTROY:
                Answer(header.unique, Errno.None, []);
                break;
            case LibC.FUSE_FORGET or LibC.FUSE_BATCH_FORGET or LibC.FUSE_INTERRUPT: break; // nobody waits for an answer
            case LibC.FUSE_CREATE: Answer(header.unique, Errno.EACCES, []); break;
            case LibC.FUSE_MKNOD or LibC.FUSE_MKDIR or LibC.FUSE_SYMLINK or LibC.FUSE_LINK or LibC.FUSE_UNLINK or LibC.FUSE_RMDIR or LibC.FUSE_RENAME or LibC.FUSE_RENAME2 or LibC.FUSE_TMPFILE:
                Answer(header.unique, Errno.EPERM, []);
                break;
            case LibC.FUSE_IOCTL: Answer(header.unique, Errno.ENOTTY, []); break;
            default: Answer(header.unique, Errno.ENOSYS, []); break;
        }
    }

    private void Init(in LibC.fuse_in_header header, in LibC.fuse_init_in asked) => Answer(header, new LibC.fuse_init_out
    {
        major = LibC.FUSE_KERNEL_VERSION,
        minor = Math.Min(asked.minor, MinorVersion),
        max_background = 16,
        congestion_threshold = 12,
        max_write = ValueBytesMax,
        time_gran = 1,
    });

    private void LookUp(in LibC.fuse_in_header header, ReadOnlySpan<byte> name)
    {
        // With no time to keep it, the kernel asks each time.
        if (_files!.TryFind(header.nodeid, Encoding.UTF8.GetString(name[..name.IndexOf((byte)0)]), out FuseNode node))
            Answer(header, new LibC.fuse_entry_out { nodeid = node.Id, attr = AttributesOf(node) });
        else
            Answer(header.unique, Errno.ENOENT, []);
    }

    private void GetAttributes(in LibC.fuse_in_header header)
    {
        if (TryGet(header.nodeid, out FuseNode node))
            Answer(header, new LibC.fuse_attr_out { attr = AttributesOf(node) });
        else
            Answer(header.unique, Errno.ENOENT, []);
    }

    /// <summary>A size is taken, as a shell sets it before it writes, and means nothing; so do times.</summary>
    private void SetAttributes(in LibC.fuse_in_header header, in LibC.fuse_setattr_in asked)
    {
        if ((asked.valid & (LibC.FATTR_MODE | LibC.FATTR_UID | LibC.FATTR_GID)) != 0)
            Answer(header.unique, Errno.EPERM, []);
        else
            GetAttributes(header);
    }

    /// <summary>Writers of one file do not wait for each other: behind another's a write could be neither answered nor interrupted.</summary>
    private void Open(in LibC.fuse_in_header header, in LibC.fuse_open_in asked)
    {
        if (!TryGet(header.nodeid, out FuseNode node))
            Answer(header.unique, Errno.ENOENT, []);
        else if ((asked.flags & LibC.O_ACCMODE) != LibC.O_RDONLY && node.Kind != FuseKind.Writable)
            Answer(header.unique, Errno.EACCES, []);
        else
            Answer(header, new LibC.fuse_open_out { fh = ++_lastHandle, open_flags = LibC.FOPEN_DIRECT_IO | LibC.FOPEN_PARALLEL_DIRECT_WRITES });
    }

    /// <summary>What is read from the beginning is live; who reads on reads the rest of that.</summary>
    private void Read(in LibC.fuse_in_header header, in LibC.fuse_read_in asked)
    {
        if (asked.offset != 0 && _opened.TryGetValue(asked.fh, out string? text))
        {
            Say(header.unique, text, asked);
            return;
        }

        int reader = (int)header.pid;
        bool atOnce = _letGo.TryGetValue(reader, out (long First, long Last) letGo) && Stopwatch.GetElapsedTime(letGo.Last) < s_soon && Stopwatch.GetElapsedTime(letGo.First) > s_longEnough;
        ValueTask<string?> read = _files!.ReadAsync(header.nodeid, atOnce);
        if (read.IsCompletedSuccessfully)
        {
            _ = _letGo.TryRemove(reader, out _);
            HaveRead(header.unique, read.Result, asked);
            return;
        }

        (ulong unique, LibC.fuse_read_in what) = (header.unique, asked);
        BeginWait(unique, reader, reads: true);
        read.AsTask().ContinueWith(done =>
        {
            if (!TryEndWait(unique))
                return;
            _ = _letGo.TryRemove(reader, out _);
            HaveRead(unique, done.IsCompletedSuccessfully ? done.Result : null, what);
        }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
    }

    private void HaveRead(ulong unique, string? text, in LibC.fuse_read_in asked)
    {
        if (text is null)
        {
            Answer(unique, Errno.ENODEV, []);
            return;
        }

        // Before the answer: behind it the handle may be closed.
        _opened[asked.fh] = text;
        Say(unique, text, asked);
    }

    private void Say(ulong unique, string text, in LibC.fuse_read_in asked)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        int start = (int)Math.Min(asked.offset, (ulong)bytes.Length);
        Answer(unique, Errno.None, bytes.AsSpan(start, (int)Math.Min(asked.size, (uint)(bytes.Length - start))));
    }

    private void Write(in LibC.fuse_in_header header, ReadOnlySpan<byte> body)
    {
        uint size = MemoryMarshal.Read<LibC.fuse_write_in>(body).size;
        string text = Encoding.Latin1.GetString(body.Slice(sizeof(LibC.fuse_write_in), (int)size));
        ulong unique = header.unique;
        BeginWait(unique, (int)header.pid, reads: false);
        _files!.WriteAsync(header.nodeid, text).ContinueWith(written => Wrote(unique, size, written), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
    }

    private void Wrote(ulong unique, uint size, Task<Errno> written)
    {
        if (!TryEndWait(unique))
            return; // it was let go
        Errno errno = written.IsCompletedSuccessfully ? written.Result : Errno.EIO;
        LibC.fuse_write_out answer = new() { size = size };
        Answer(unique, errno, errno == Errno.None ? MemoryMarshal.AsBytes(new ReadOnlySpan<LibC.fuse_write_out>(in answer)) : []);
    }

    private void ReadDirectory(in LibC.fuse_in_header header, in LibC.fuse_read_in asked)
    {
        byte[] entries = new byte[Math.Min(asked.size, BufferBytes)];
        int length = 0;
        ulong place = 0;
        IEnumerable<FuseNode> self = [new(header.nodeid, ".", FuseKind.Directory), new(Root, "..", FuseKind.Directory)];
        foreach (FuseNode node in self.Concat(_files!.List(header.nodeid)))
        {
            if (place++ < asked.offset)
                continue;
            byte[] name = Encoding.UTF8.GetBytes(node.Name);
            int room = (sizeof(LibC.fuse_dirent) + name.Length + 7) & ~7;
            if (length + room > entries.Length)
                break;
            LibC.fuse_dirent entry = new() { ino = node.Id, off = place, namelen = (uint)name.Length, type = ModeOf(node.Kind) >> 12 };
            MemoryMarshal.Write(entries.AsSpan(length), entry);
            name.CopyTo(entries, length + sizeof(LibC.fuse_dirent));
            length += room;
        }

        Answer(header.unique, Errno.None, entries.AsSpan(0, length));
    }

    private bool TryGet(ulong id, out FuseNode node)
    {
        node = new FuseNode(Root, "", FuseKind.Directory);
        return id == Root || _files!.TryGet(id, out node);
    }

    private LibC.fuse_attr AttributesOf(in FuseNode node) => new()
    {
        ino = node.Id,
        size = node.Kind == FuseKind.Directory ? 0u : ValueBytesMax,
        mode = ModeOf(node.Kind),
        nlink = node.Kind == FuseKind.Directory ? 2u : 1,
        blksize = ValueBytesMax,
        atime = _mountedAt,
        mtime = _mountedAt,
        ctime = _mountedAt,
    };

    private static uint ModeOf(FuseKind kind) => kind switch
    {
        FuseKind.Directory => LibC.S_IFDIR | 0x1ed, // 0755
        FuseKind.ReadOnly => LibC.S_IFREG | 0x124, // 0444
        _ => LibC.S_IFREG | 0x1a4, // 0644
    };

    private void Answer<T>(in LibC.fuse_in_header header, T answer)
        where T : unmanaged => Answer(header.unique, Errno.None, MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in answer)));

    /// <summary>One write is one answer, whichever thread makes it. A refusal is no concern of ours: who asked was killed.</summary>
    private void Answer(ulong unique, Errno errno, ReadOnlySpan<byte> answer)
    {
        byte[] bytes = new byte[sizeof(LibC.fuse_out_header) + answer.Length];
        LibC.fuse_out_header header = new() { len = (uint)bytes.Length, error = -(int)errno, unique = unique };
        MemoryMarshal.Write(bytes, header);
        answer.CopyTo(bytes.AsSpan(sizeof(LibC.fuse_out_header)));
        // A write may end after the session: then its number may be another's already.
        bool isOpen = false;
        try
        {
            _device!.DangerousAddRef(ref isOpen);
            fixed (byte* start = bytes)
                _ = LibC.write(_device.Number, start, (nuint)bytes.Length);
        }
        catch (ObjectDisposedException)
        {
            // Who waited has been told ENOTCONN.
        }
        finally
        {
            if (isOpen)
                _device!.DangerousRelease();
        }
    }
}
