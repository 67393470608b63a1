using System.Diagnostics;
using System.Runtime.InteropServices;
using Samepage.Agent;
using Samepage.Agent.Tracing;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>Any number of threads that hold, or have some that they cannot let go of, keep no other from holding, and the guardian of a stopped daemon sees to both.</summary>
[Collection(nameof(Alone))]
public sealed partial class HoldBoardTests
{
    private const int SIGCONT = 18, SIGSTOP = 19, Many = 300, LingerersAt = HoldBoard.PauseAt - sizeof(ulong);

    [Fact]
    public async Task NoNumberOfThreadsThatLingerKeepsOthersFromBeingHeld()
    {
        await using ForeignProgram program = await ForeignProgram.Python($"""
            import threading, time
            for _ in range({Many}):
                threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            print('ready', flush=True)
            time.sleep(600)
            """);
        int pid = program.Pid;
        int[] threads = program.Threads;
        Assert.False(IsOdd(LingerersAt));
        int allowed = TogetherWith(threads.Length, index =>
        {
            bool may = HoldBoard.MayHold;
            HoldBoard.Begin();
            Tracee thread = new(pid, threads[index]);
            Assert.Equal(Samepage.Linux.Errno.None, thread.Seize());
            Lingering.Add(thread);
            HoldBoard.End();
            return may;
        }, () => Assert.True(IsOdd(LingerersAt)), () =>
        {
            for (; Lingering.Any; Thread.Sleep(1))
                Lingering.Look();
            HoldBoard.End();
        }, program);
        Assert.Equal(threads.Length, allowed);
        Assert.False(IsOdd(LingerersAt));
    }

    [Fact]
    public void NoNumberOfThreadsThatHoldKeepsOthersFromHolding()
    {
        ulong common = Word(LingerersAt - sizeof(ulong));
        // Threads of other tests have ended in the middle of a hold, as they should there.
        int[] before = Odd();
        int allowed = TogetherWith(Many, _ =>
        {
            bool may = HoldBoard.MayHold;
            HoldBoard.Begin();
            return may;
        }, () => Assert.Equal(common + 1, Word(LingerersAt - sizeof(ulong))), HoldBoard.End, null);
        Assert.Equal(Many, allowed);
        Assert.Equal(common + 2, Word(LingerersAt - sizeof(ulong)));
        Assert.Equal(before, Odd());

        static int[] Odd() => [.. Enumerable.Range(0, HoldBoard.PauseAt / sizeof(ulong)).Where(static slot => IsOdd(slot * sizeof(ulong)))];
    }

    /// <summary>The guardian is given a daemon that is none: a program with a board, by which some linger for ever.</summary>
    [Fact]
    public async Task AStoppedDaemonIsWokenNowAndThenForThreadsThatLingerAndStaysStopped()
    {
        string board = Path.GetTempFileName();
        byte[] page = new byte[HoldBoard.Bytes];
        page[LingerersAt] = 1;
        await File.WriteAllBytesAsync(board, page, TestContext.Current.CancellationToken);
        using GuardianProgram guardian = new();
        try
        {
            await using ForeignProgram daemon = await ForeignProgram.Python($"""
                import os, subprocess, sys
                guardian = subprocess.Popen(['{guardian.Path}', 'samepage-guardian', '{board}', '/proc/%d/stat' % os.getpid(), '/bin/true'], stdin=subprocess.PIPE)
                print('ready', flush=True)
                for line in sys.stdin:
                    print(line, end='', flush=True)
                guardian.stdin.write(b'well')
                guardian.stdin.close()
                guardian.wait()
                """);
            await daemon.Says("runs");
            Assert.Equal(0, kill(daemon.Pid, SIGSTOP));
            (int woken, int ran, int looks) = (0, 0, 0);
            bool wasStopped = true;
            for (long since = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(since) < TimeSpan.FromSeconds(8); looks++)
            {
                bool isStopped = ProcessStatus.TryRead($"/proc/{daemon.Pid}/status")?.State == 'T';
                woken += wasStopped && !isStopped ? 1 : 0;
                ran += isStopped ? 0 : 1;
                wasStopped = isStopped;
                await Task.Delay(5, TestContext.Current.CancellationToken);
            }

            Assert.True(woken is >= 2 and <= 5, $"it was woken {woken} times in eight seconds");
            Assert.True(ran * 2 < looks, $"it ran at {ran} of {looks} looks");

            // Whoever wakes it finds that holds are begun again.
            for (bool runs = false; !runs;)
            {
                Assert.Equal(0, kill(daemon.Pid, SIGCONT));
                await Task.Delay(500, TestContext.Current.CancellationToken);
                runs = ProcessStatus.TryRead($"/proc/{daemon.Pid}/status")?.State != 'T';
            }

            ulong pause = BitConverter.ToUInt64(await File.ReadAllBytesAsync(board, TestContext.Current.CancellationToken), HoldBoard.PauseAt);
            await Task.Delay(3000, TestContext.Current.CancellationToken);
            Assert.Equal(pause, BitConverter.ToUInt64(await File.ReadAllBytesAsync(board, TestContext.Current.CancellationToken), HoldBoard.PauseAt));
            await daemon.Says("runs still");
            Assert.Equal(0, await daemon.Ends());
        }
        finally
        {
            File.Delete(board);
        }
    }

    /// <summary>Has as many threads do something, which all go on living until another has looked.</summary>
    /// <returns>How many of them, and one thread more, were allowed to hold.</returns>
    private static int TogetherWith(int count, Func<int, bool> does, Action look, Action after, ForeignProgram? program)
    {
        int allowed = 0;
        Exception? failed = null;
        using CountdownEvent done = new(count);
        using ManualResetEventSlim go = new();
        Thread[] threads = [.. Enumerable.Range(0, count).Select(index => new Thread(() =>
        {
            try
            {
                if (does(index))
                    Interlocked.Increment(ref allowed);
            }
            catch (Exception wrong)
            {
                failed = wrong;
            }

            done.Signal();
            go.Wait();
            after();
        }, 256 << 10))];
        foreach (Thread thread in threads)
            thread.Start();
        done.Wait(TestContext.Current.CancellationToken);
        Exception? looked = Record.Exception(look);
        Exception? last = Record.Exception(() => Assert.True(HoldBoard.MayHold));
        program?.Kill();
        go.Set();
        foreach (Thread thread in threads)
            thread.Join();
        Assert.Null(failed);
        Assert.Null(looked);
        Assert.Null(last);
        return allowed;
    }

    private static bool IsOdd(int at) => Word(at) % 2 != 0;

    private static ulong Word(int at)
    {
        using FileStream board = new(HoldBoard.Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        byte[] page = new byte[HoldBoard.Bytes];
        board.ReadExactly(page);
        return BitConverter.ToUInt64(page, at);
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);
}
