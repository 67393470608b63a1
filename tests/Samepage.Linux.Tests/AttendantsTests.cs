using System.Collections.Concurrent;
using Samepage.Linux.Processes;
using Samepage.Live;

namespace Samepage.LinuxTests;

/// <summary>Work that may never end is left behind, and nobody else waits for it.</summary>
public sealed class AttendantsTests : IDisposable
{
    private static readonly TimeSpan Long = TimeSpan.FromMinutes(2), Short = TimeSpan.FromMilliseconds(20);
    private readonly ManualResetEventSlim _stuck = new();
    private readonly Attendants _attendants = new();

    public void Dispose()
    {
        _stuck.Set();
        _attendants.Dispose();
    }

    [Fact]
    public void WorkThatEndsInTimeIsDone()
    {
        int done = 0;
        for (int i = 0; i < 1000; i++)
            Assert.True(_attendants.TryDo(i % 7, () => done++, Long, out bool begun) && begun);
        Assert.Equal(1000, done);
        Assert.False(_attendants.IsBusy(3));
    }

    [Fact]
    public async Task LateWorkKeepsItsOwnProgramOnly()
    {
        int done = 0;
        Assert.False(_attendants.TryDo(1, () => { _stuck.Wait(); done++; }, Short, out bool begun));
        Assert.True(begun);
        Assert.True(_attendants.IsBusy(1));
        Assert.False(_attendants.TryDo(1, () => done += 100, Long, out begun));
        Assert.False(begun);
        for (int other = 2; other < 50; other++)
            Assert.True(_attendants.TryDo(other, () => { }, Long, out _));
        Task behind = _attendants.Begin(1, () => done *= 10);
        _stuck.Set();
        await behind.WaitAsync(Long, TestContext.Current.CancellationToken);
        Assert.Equal(10, done);
        Assert.False(_attendants.IsBusy(1));
    }

    [Fact]
    public async Task WhatWorkThrowsIsThrownToWhoWaits()
    {
        Assert.Throws<InvalidOperationException>(() => _attendants.TryDo(1, () => throw new InvalidOperationException(), Long, out _));
        await Assert.ThrowsAsync<InvalidOperationException>(() => _attendants.Begin(1, () => throw new InvalidOperationException()));
        Assert.True(_attendants.TryDo(1, () => { }, Long, out _));
    }

    [Fact]
    public async Task WhoHasSomethingInHandDoesAllWorkForThatProgram()
    {
        ConcurrentDictionary<int, bool> inHand = [];
        using Attendants attendants = new(() => inHand.GetValueOrDefault(Environment.CurrentManagedThreadId));
        int first = await attendants.Begin(1, () => { inHand[Environment.CurrentManagedThreadId] = true; return Environment.CurrentManagedThreadId; });
        for (int i = 0; i < 20; i++)
        {
            Assert.NotEqual(first, await attendants.Begin(2, () => Environment.CurrentManagedThreadId));
            Assert.Equal(first, await attendants.Begin(1, () => Environment.CurrentManagedThreadId));
        }

        inHand[first] = false;
        Assert.True(await attendants.Begin(1, () => Environment.CurrentManagedThreadId) > 0);
    }

    [Fact]
    public async Task WorkForWhichNoThreadCanBeStartedIsLateOrWaitsForOneThatBecomesFree()
    {
        int most = 1, started = 0;
        using Attendants attendants = new(null, thread =>
        {
            if (Interlocked.Increment(ref started) > Volatile.Read(ref most))
                throw new InsufficientMemoryException();
            thread.Start();
        });
        using ManualResetEventSlim first = new();
        Task kept = attendants.Begin(1, () => first.Wait(TestContext.Current.CancellationToken));
        Assert.Null(attendants.TryBegin(2, () => { }));
        Assert.False(attendants.IsBusy(2));
        int[] done = new int[2];
        Task queued = attendants.Begin(3, () => done[0]++), behind = attendants.Begin(3, () => done[1] += done[0]);
        Assert.False(queued.IsCompleted);
        first.Set();
        await Task.WhenAll(kept, queued, behind).WaitAsync(Long, TestContext.Current.CancellationToken);
        Assert.Equal([1, 1], done);

        using ManualResetEventSlim second = new();
        Task keeps = attendants.Begin(1, () => second.Wait(TestContext.Current.CancellationToken)), waits = attendants.Begin(2, () => { });
        Volatile.Write(ref most, int.MaxValue);
        Assert.True(attendants.TryDo(4, () => { }, Long, out _));
        await waits.WaitAsync(Long, TestContext.Current.CancellationToken);
        second.Set();
        await keeps.WaitAsync(Long, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task WorkForWhichThereWasNoThreadOnceIsDoneThoughNobodyComesBy()
    {
        Starts starts = new() { Most = 0 };
        using Attendants attendants = new(null, starts.Start);
        int done = 0;
        Task[] all = [attendants.Begin(1, () => Interlocked.Increment(ref done)), attendants.Begin(2, () => Interlocked.Increment(ref done)), attendants.Begin(1, () => Interlocked.Increment(ref done))];
        // And not at the first try either.
        Assert.True(SpinWait.SpinUntil(() => starts.Tried > 10, Long));
        Assert.Equal(0, done);
        starts.Most = int.MaxValue;
        await Task.WhenAll(all).WaitAsync(Long, TestContext.Current.CancellationToken);
        Assert.Equal(3, done);
        Assert.False(attendants.IsBusy(1) || attendants.IsBusy(2));
    }

    [Fact]
    public async Task WorkThatIsNotBegunSaysWhetherThereWasAThread()
    {
        Starts starts = new() { Most = 1 };
        using Attendants attendants = new(null, starts.Start);
        Assert.Equal(Attempt.Late, attendants.Try(1, _stuck.Wait, Short));
        Assert.Equal(Attempt.Busy, attendants.Try(1, () => { }, Long));
        Assert.True(SpinWait.SpinUntil(() => attendants.IsLate(1, Short), Long));
        Assert.False(attendants.IsLate(1, Long));
        Assert.Equal(Attempt.NoThread, attendants.Try(2, () => { }, Long));
        Task waits = attendants.Begin(3, () => { });
        // While it is tried to start one it may look as if there were one.
        Assert.True(SpinWait.SpinUntil(() => attendants.Try(3, () => { }, Long) == Attempt.NoThread, Long));
        // Nobody has begun with it, so the program is not late.
        Assert.False(attendants.IsLate(3, TimeSpan.Zero));
        _stuck.Set();
        await waits.WaitAsync(Long, TestContext.Current.CancellationToken);
        Assert.Equal(Attempt.Done, attendants.Try(1, () => { }, Long));
        Assert.False(attendants.IsLate(1, TimeSpan.Zero));
    }

    [Fact]
    public void WhoWaitsIsToldBeforeTheThreadLooksAfterWhatItHasInHand()
    {
        using Attendants attendants = new(() => { _stuck.Wait(); return false; });
        Assert.Equal(Attempt.Done, attendants.Try(1, () => { }, Long));
    }

    [Fact]
    public void AProcessIsNotPassedOverForWantOfAThreadAtOneMoment()
    {
        Starts starts = new() { Most = 0 };
        starts.Refused = () => starts.Most = starts.Tried > 5 ? int.MaxValue : 0;
        using Attendants attendants = new(null, starts.Start);
        TimeSpan patience = Long;
        bool looked = false;
        Assert.True(Offspring.TryLookAt(attendants, 1, ref patience, () => looked = true));
        Assert.True(looked);

        // Where that lasts, it is waited for once.
        Starts none = new() { Most = 0 };
        using Attendants without = new(null, none.Start);
        patience = Short;
        Assert.False(Offspring.TryLookAt(without, 1, ref patience, () => { }));
        Assert.Equal(TimeSpan.Zero, patience);
        int tried = none.Tried;
        Assert.False(Offspring.TryLookAt(without, 2, ref patience, () => { }));
        Assert.Equal(tried + 1, none.Tried);
        none.Most = int.MaxValue;
        Assert.True(Offspring.TryLookAt(without, 1, ref patience, () => { }));
    }

    [Fact]
    public void AProcessThatKeepsWhoLooksAtItIsPassedOverUntilItLetsGoByThoseWhomItKeeps()
    {
        using Attendants others = new();
        TimeSpan patience = Long;
        Assert.False(Offspring.TryLookAt(_attendants, 1, ref patience, _stuck.Wait));
        Assert.True(Offspring.TryLookAt(others, 1, ref patience, () => { }));
        Assert.False(Offspring.TryLookAt(_attendants, 1, ref patience, () => { }));
        _stuck.Set();
        Assert.True(SpinWait.SpinUntil(() => Offspring.TryLookAt(_attendants, 1, ref patience, () => { }), Long));
        Assert.Equal(Long, patience);
    }

    [Fact]
    public async Task ManyCallersAtOnceAreServedInOrderForEachProgram()
    {
        List<int>[] order = [.. Enumerable.Range(0, 5).Select(_ => new List<int>())];
        List<Task> all = [];
        for (int i = 0; i < 500; i++)
        {
            int number = i;
            all.Add(_attendants.Begin(number % 5, () => order[number % 5].Add(number)));
        }

        await Task.WhenAll(all).WaitAsync(Long, TestContext.Current.CancellationToken);
        foreach (List<int> one in order)
            Assert.Equal(one.Order(), one);
    }

    /// <summary>Starts so many threads at most.</summary>
    private sealed class Starts
    {
        private int _tried, _started;
        private volatile int _most;

        public int Tried => Volatile.Read(ref _tried);

        public int Most
        {
            get => _most;
            set => _most = value;
        }

        public Action Refused { get; set; } = () => { };

        public void Start(Thread thread)
        {
            _ = Interlocked.Increment(ref _tried);
            if (Interlocked.Increment(ref _started) <= Most)
            {
                thread.Start();
                return;
            }

            _ = Interlocked.Decrement(ref _started);
            Refused();
            throw new InsufficientMemoryException();
        }
    }
}
