using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

public sealed partial class ThreadListTests
{
    private const int Lives = 48, Lists = 3000;

    /// <summary>While others end, the kernel's list passes living threads over, one in some hundred times: 54 of 20,000 lists, with 64 threads that live for 20 ms beside some that live for less.</summary>
    [Fact]
    public void AListHasAllThatLiveWhoeverEndsMeanwhile()
    {
        int[] living = new int[Lives];
        using var ended = new CancellationTokenSource();
        Thread[] makers = [.. Enumerable.Range(0, Lives).Select(slot => new Thread(() => LiveAgainAndAgain(living, slot, ended.Token), 65536)), .. Enumerable.Range(0, 4).Select(seed => new Thread(() => ComeAndGo(seed, ended.Token), 65536))];
        Array.ForEach(makers, maker => maker.Start());
        List<int> listed = [];
        int partial = 0, whole = 0;
        ConcurrentBag<int> lacked = [];
        for (int lists = 0; lists < Lists; lists++)
        {
            int[] before = [.. living.Select((_, slot) => Volatile.Read(ref living[slot]))];
            int[] Lacking() => [.. Enumerable.Range(0, Lives).Where(slot => before[slot] != 0 && before[slot] == Volatile.Read(ref living[slot]) && !listed.Contains(before[slot])).Select(slot => before[slot])];
            Assert.True(Threads.TryList(Environment.ProcessId, listed));
            partial += Lacking().Length > 0 ? 1 : 0;
            before = [.. living.Select((_, slot) => Volatile.Read(ref living[slot]))];
            if (!Threads.TryListAll(Environment.ProcessId, listed))
                continue;
            whole++;
            Array.ForEach(Lacking(), lacked.Add);
        }

        ended.Cancel();
        Array.ForEach(makers, maker => maker.Join());
        TestContext.Current.SendDiagnosticMessage("{0} of {1} lists lacked a living thread; {2} were known to be whole", partial, Lists, whole);
        Assert.Empty(lacked);
        Assert.True(whole > 0);
    }

    [Fact]
    public void AThreadIsFoundByItsOwnId()
    {
        Assert.Equal(Environment.ProcessId, Threads.FindByOwnId(Environment.ProcessId, Environment.ProcessId));
        Assert.Equal(0, Threads.FindByOwnId(Environment.ProcessId, 1));
        Assert.Equal(0, Threads.FindByOwnId(Environment.ProcessId, 0));
    }

    private static void LiveAgainAndAgain(int[] living, int slot, CancellationToken ended)
    {
        while (!ended.IsCancellationRequested)
        {
            Thread life = new(() =>
            {
                Volatile.Write(ref living[slot], gettid());
                Thread.Sleep(20);
                Volatile.Write(ref living[slot], 0);
            }, 65536);
            life.Start();
            life.Join();
        }
    }

    private static void ComeAndGo(int seed, CancellationToken ended)
    {
        Random random = new(seed);
        while (!ended.IsCancellationRequested)
        {
            int milliseconds = random.Next(3);
            Thread brief = new(() => Thread.Sleep(milliseconds), 65536);
            brief.Start();
            if (random.Next(8) == 0)
                brief.Join();
        }
    }

    [LibraryImport("libc")]
    private static partial int gettid();
}
