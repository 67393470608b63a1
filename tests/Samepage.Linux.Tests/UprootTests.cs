using Samepage.Agent;
using Samepage.Agent.Tracing;
using Samepage.Agent.X64;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>What is left of an agent is unmapped when nobody is about to run in it, whatever the agent says of itself: one that was sent there, or cloned, may not have had a processor since.</summary>
public sealed class UprootTests
{
    private const ulong Place = 0x3123_4567_0000, Cookie = 0x1234_5678_9abc_def0;
    private const string TwoThreads = "import threading, sys, time\nthreading.Thread(target=lambda: time.sleep(1000), daemon=True).start()\nprint('ready', flush=True)\nfor line in sys.stdin: print(line, end='', flush=True)\n";

    /// <summary>As it is when its daemon died right after it had sent a thread there: the range is mapped, and says nothing yet. The thread is the one that is borrowed, or another.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AThreadThatWasSentThereIsNotLeftWithoutCode(bool first)
    {
        await using ForeignProgram target = await ForeignProgram.Python(TwoThreads);
        int pid = target.Pid;
        ForeignProgram.Trace(() =>
        {
            Map(pid);
            Tracee sent = new(pid, target.Threads[first ? 0 : 1]);
            Assert.Equal(Errno.None, sent.Seize());
            Assert.Equal(Errno.None, sent.Interrupt());
            Assert.True(SpinWait.SpinUntil(() => sent.Poll() == StopKind.Held, TimeSpan.FromMinutes(1)));
            Assert.True(sent.TryRegisters(out LibC.user_regs_struct saved));
            sent.SetRegisters(BorrowedThread.ForOurs(saved, Place));
            sent.Release();
            Assert.False(Injector.Uproot(pid, Place, Cookie));
            Assert.Contains(target.Maps, line => line.StartsWith($"{Place:x}-", StringComparison.Ordinal));

            // It comes back: nothing is there any more that anybody needs. On a crowded machine the look above may not have let go of it yet.
            Assert.True(SpinWait.SpinUntil(static () => !AgentSession.LookAfterHeld(), TimeSpan.FromMinutes(1)));
            Assert.Equal(Errno.None, sent.Seize());
            Assert.Equal(Errno.None, sent.Interrupt());
            Tracee again = new(pid, sent.ThreadId);
            Assert.True(SpinWait.SpinUntil(() => again.Poll() == StopKind.Held, TimeSpan.FromMinutes(1)));
            again.SetRegisters(again.Resumption(saved));
            again.Release();
            Assert.True(Injector.Uproot(pid, Place, Cookie));
            Assert.DoesNotContain(target.Maps, line => line.StartsWith($"{Place:x}-", StringComparison.Ordinal));
        });
        await target.Says("alive");
    }

    /// <summary>Of what another agent put there nothing is unmapped.</summary>
    [Fact]
    public async Task WhatBelongsToAnotherStays()
    {
        await using ForeignProgram target = await ForeignProgram.Python(TwoThreads);
        int pid = target.Pid;
        ForeignProgram.Trace(() =>
        {
            Map(pid);
            using (BorrowedThread thread = BorrowedThread.Borrow(pid))
                Assert.Equal(0UL, thread.Call(AgentAssembler.SYS_mprotect, Place + AgentLayout.DataOffset, AgentLayout.Size - AgentLayout.DataOffset, LibC.PROT_READ | LibC.PROT_WRITE));
            Assert.True(new AgentData(pid, Place).WriteWord(OwnWord.Cookie, Cookie + 1));
            Assert.True(Injector.Uproot(pid, Place, Cookie));
            Assert.Contains(target.Maps, line => line.StartsWith($"{Place:x}-", StringComparison.Ordinal));
            // Known by nothing but its form it is cleared away.
            Injector.TryClear(pid, Place);
            Assert.DoesNotContain(target.Maps, line => line.StartsWith($"{Place:x}-", StringComparison.Ordinal));
        });
        await target.Says("alive");
    }

    /// <summary>The range, with a loop at its beginning.</summary>
    private static void Map(int pid)
    {
        using BorrowedThread thread = BorrowedThread.Borrow(pid);
        Assert.Equal(Place, thread.Call(AgentAssembler.SYS_mmap, Place, AgentLayout.Size, LibC.PROT_READ | LibC.PROT_EXEC, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_FIXED_NOREPLACE, ulong.MaxValue));
        new RemoteMemory(thread.ThreadId).ForceWrite(Place, [0xEB, 0xFE]);
    }
}
