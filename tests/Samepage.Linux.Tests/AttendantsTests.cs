using System.Collections.Concurrent;
using Samepage.Linux.Processes;

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
}
