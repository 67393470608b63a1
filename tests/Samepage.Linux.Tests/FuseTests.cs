using System.Runtime.InteropServices;
using Samepage.Linux;
using Samepage.Linux.Fuse;

namespace Samepage.LinuxTests;

/// <summary>A tree of live files over /dev/fuse, as programs meet it.</summary>
public sealed partial class FuseTests : IFuseFiles, IDisposable
{
    private readonly string _path = Directory.CreateTempSubdirectory("samepage-fuse-").FullName;
    private readonly FuseSession _session = new();
    private readonly TaskCompletionSource<Errno> _slow = new();
    private readonly TaskCompletionSource<string?> _late = new();
    private readonly List<string> _written = [];
    private int _reads, _asked;

    public FuseTests()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess && File.Exists("/dev/fuse"), "needs root and /dev/fuse: a file system is mounted");
        _session.Serve(_path, this);
    }

    public bool TryFind(ulong directory, string name, out FuseNode node)
    {
        node = List(directory).FirstOrDefault(entry => entry.Name == name);
        return node.Id != 0;
    }

    public bool TryGet(ulong id, out FuseNode node)
    {
        node = List(1).FirstOrDefault(entry => entry.Id == id);
        return node.Id != 0;
    }

    public IEnumerable<FuseNode> List(ulong directory) => [new(2, "live", FuseKind.ReadOnly), new(3, "value", FuseKind.Writable), new(4, "slow", FuseKind.Writable), new(5, "late", FuseKind.ReadOnly)];

    public ValueTask<string?> ReadAsync(ulong file, bool atOnce)
    {
        if (file != 5)
            return ValueTask.FromResult<string?>(file == 2 ? $"{++_reads}0000\n" : "value\n");
        _ = Interlocked.Increment(ref _asked);
        return new(_late.Task);
    }

    public Task<Errno> WriteAsync(ulong file, string text)
    {
        lock (_written)
            _written.Add(text);
        return file == 4 ? _slow.Task : Task.FromResult(text == "bad" ? Errno.ERANGE : Errno.None);
    }

    [Fact]
    public void AValueIsReadAnewFromItsBeginningAndItsRestIsOfOnePiece()
    {
        int file = Open("live", O_RDONLY);
        Assert.Equal("10000\n", PRead(file, 100, 0));
        Assert.Equal("20", PRead(file, 2, 0));
        Assert.Equal("000\n", PRead(file, 100, 2));
        Assert.Equal("", PRead(file, 100, 6));
        Assert.Equal("30000\n", PRead(file, 100, 0));
        _ = close(file);
        Assert.Equal("40000\n", File.ReadAllText(Path.Combine(_path, "live")));
        Assert.Equal(["late", "live", "slow", "value"], Directory.GetFiles(_path).Select(Path.GetFileName).Order());
        Assert.Equal(4096, new FileInfo(Path.Combine(_path, "live")).Length);
    }

    [Fact]
    public void WhatCannotBeDoneIsRefusedAsInSysfs()
    {
        Assert.Equal(-(int)Errno.EACCES, Open("live", O_WRONLY));
        Assert.Equal(-(int)Errno.EACCES, Open("live", O_RDWR));
        Assert.Equal(-(int)Errno.EACCES, Open("new", O_WRONLY | O_CREAT));
        Assert.Equal(-(int)Errno.ENOENT, Open("new", O_RDONLY));
        Assert.Equal(-(int)Errno.EPERM, Result(mkdir(Path.Combine(_path, "folder"), 511)));
        Assert.Equal(-(int)Errno.EPERM, Result(unlink(Path.Combine(_path, "live"))));
        Assert.Equal(0, access(Path.Combine(_path, "live"), 2));
        int file = Open("value", O_WRONLY | O_TRUNC);
        Assert.Equal(-(int)Errno.ERANGE, PWrite(file, "bad", 0));
        Assert.Equal(3, PWrite(file, "one", 0));
        Assert.Equal(3, PWrite(file, "two", 77));
        _ = close(file);
        Assert.Equal(["bad", "one", "two"], _written);
    }

    [Fact]
    public async Task WhileWritesWaitOthersAreServedAndEachIsAnsweredWhenItIsDone()
    {
        Task<int>[] writers = [.. Enumerable.Range(0, 3).Select(_ => Writer())];
        await Written(3);
        Assert.Equal("10000\n", File.ReadAllText(Path.Combine(_path, "live")));
        int file = Open("value", O_WRONLY);
        Assert.Equal(1, PWrite(file, "1", 0));
        _ = close(file);
        Assert.All(writers, writer => Assert.False(writer.IsCompleted));
        _slow.SetResult(Errno.EBUSY);
        foreach (Task<int> writer in writers)
            Assert.Equal(-(int)Errno.EBUSY, await writer.WaitAsync(TimeSpan.FromSeconds(20)));
    }

    [Fact]
    public async Task AThreadThatWaitsIsKnownAndCanBeLetGo()
    {
        int tid = 0;
        Task<int> one = Writer(id => tid = id), other = Writer();
        await Written(2);
        Assert.True(_session.Waits(tid));
        _session.LetGo(tid);
        Assert.Equal(-(int)Errno.EINTR, await one.WaitAsync(TimeSpan.FromSeconds(20)));
        Assert.False(_session.Waits(tid));
        Assert.False(other.IsCompleted);
        _slow.SetResult(Errno.None);
        Assert.Equal(1, await other.WaitAsync(TimeSpan.FromSeconds(20)));
    }

    /// <summary>A reader that waits keeps nobody, and can be let go like a writer.</summary>
    [Fact]
    public async Task AReadMayWaitForItsAnswer()
    {
        int tid = 0;
        Task<string> one = Reader(id => tid = id), other = Reader(_ => { });
        for (int i = 0; i < 1000 && !(tid != 0 && _session.Waits(tid)); i++)
            await Task.Delay(10);
        Assert.Equal("value\n", File.ReadAllText(Path.Combine(_path, "value")));
        _session.LetGo(tid);
        Assert.Equal($"-{(int)Errno.EINTR}", await one.WaitAsync(TimeSpan.FromSeconds(20)));
        Assert.False(_session.Waits(tid));
        Assert.False(other.IsCompleted);
        _late.SetResult("at last\n");
        Assert.Equal("at last\n", await other.WaitAsync(TimeSpan.FromSeconds(20)));
    }

    /// <summary>Who touches a file that he has mapped waits in a fault. Of EINTR the kernel would make SIGBUS.</summary>
    [Fact]
    public async Task WhoWaitsInAFaultIsNotLetGo()
    {
        await using ForeignProgram mapper = await ForeignProgram.Python($"""
            import mmap, sys
            with open('{_path}/late', 'rb') as file:
                memory = mmap.mmap(file.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
            print('ready', flush=True)
            for line in sys.stdin:
                print(memory[:7].decode(), flush=True)
            """);
        Task<string> touched = mapper.Answers("touch");
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref _asked) > 0, TimeSpan.FromMinutes(1)));
        for (int i = 0; i < 20; i++, await Task.Delay(10, TestContext.Current.CancellationToken))
        {
            Assert.False(_session.Waits(mapper.Pid));
            _session.LetGo(mapper.Pid);
        }

        _late.SetResult("at last\n");
        Assert.Equal("at last", await touched);
    }

    [Fact]
    public async Task ItsEndLeavesNobodyWaitingAndNoMount()
    {
        int open = Open("live", O_RDONLY);
        Task<int> writer = Writer();
        await Written(1);
        Assert.True(FuseMount.IsOurs(_path));
        _session.Dispose();
        Assert.Equal(-(int)Errno.ECONNABORTED, await writer.WaitAsync(TimeSpan.FromSeconds(20)));
        Assert.Equal($"-{(int)Errno.ENOTCONN}", PRead(open, 10, 0));
        Assert.False(FuseMount.IsOurs(_path));
        Assert.Empty(Directory.GetFiles(_path));
        _slow.SetResult(Errno.None); // an answer that comes too late harms nobody
        _ = close(open);
    }

    public void Dispose()
    {
        _session.Dispose();
        Directory.Delete(_path, recursive: true);
    }

    private Task<int> Writer(Action<int>? started = null)
    {
        TaskCompletionSource<int> result = new();
        new Thread(() =>
        {
            started?.Invoke(gettid());
            int file = Open("slow", O_WRONLY);
            result.SetResult(PWrite(file, "1", 0));
            _ = close(file);
        })
        { IsBackground = true }.Start();
        return result.Task;
    }

    private Task<string> Reader(Action<int> started)
    {
        TaskCompletionSource<string> result = new();
        new Thread(() =>
        {
            int file = Open("late", O_RDONLY);
            started(gettid());
            result.SetResult(PRead(file, 100, 0));
            _ = close(file);
        })
        { IsBackground = true }.Start();
        return result.Task;
    }

    private async Task Written(int count)
    {
        for (int i = 0; i < 1000; i++)
        {
            lock (_written)
            {
                if (_written.Count == count)
                    return;
            }

            await Task.Delay(10);
        }

        Assert.Fail($"{count} writes did not arrive");
    }

    private int Open(string name, int flags) => Result(open(Path.Combine(_path, name), flags, 420));

    private static string PRead(int file, int count, long offset)
    {
        byte[] buffer = new byte[count];
        int read = Result((int)pread(file, buffer, count, offset));
        return read < 0 ? $"{read}" : System.Text.Encoding.ASCII.GetString(buffer, 0, read);
    }

    private static int PWrite(int file, string text, long offset) => Result((int)pwrite(file, System.Text.Encoding.ASCII.GetBytes(text), text.Length, offset));

    private static int Result(int result) => result < 0 ? -Marshal.GetLastPInvokeError() : result;

    private const int O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_CREAT = 0x40, O_TRUNC = 0x200;

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int open(string path, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int close(int file);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint pread(int file, byte[] buffer, nint count, long offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint pwrite(int file, byte[] buffer, nint count, long offset);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int mkdir(string path, uint mode);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int unlink(string path);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int access(string path, int mode);

    [LibraryImport("libc")]
    private static partial int gettid();
}
