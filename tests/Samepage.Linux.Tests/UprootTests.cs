using System.Diagnostics;
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
        await using Target target = await Target.Start();
        target.Trace(pid =>
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
            Assert.Contains(Maps(pid), line => line.StartsWith($"{Place:x}-", StringComparison.Ordinal));

            // It comes back: nothing is there any more that anybody needs. On a crowded machine the look above may not have let go of it yet.
            Assert.True(SpinWait.SpinUntil(static () => !AgentSession.LookAfterHeld(), TimeSpan.FromMinutes(1)));
            Assert.Equal(Errno.None, sent.Seize());
            Assert.Equal(Errno.None, sent.Interrupt());
            Tracee again = new(pid, sent.ThreadId);
            Assert.True(SpinWait.SpinUntil(() => again.Poll() == StopKind.Held, TimeSpan.FromMinutes(1)));
            again.SetRegisters(again.Resumption(saved));
            again.Release();
            Assert.True(Injector.Uproot(pid, Place, Cookie));
            Assert.DoesNotContain(Maps(pid), line => line.StartsWith($"{Place:x}-", StringComparison.Ordinal));
        });
        await target.Says("alive");
    }

    /// <summary>Of what another agent put there nothing is unmapped.</summary>
    [Fact]
    public async Task WhatBelongsToAnotherStays()
    {
        await using Target target = await Target.Start();
        target.Trace(pid =>
        {
            Map(pid);
            using (BorrowedThread thread = BorrowedThread.Borrow(pid))
                Assert.Equal(0UL, thread.Call(AgentAssembler.SYS_mprotect, Place + AgentLayout.DataOffset, AgentLayout.Size - AgentLayout.DataOffset, LibC.PROT_READ | LibC.PROT_WRITE));
            Assert.True(new AgentData(pid, Place).WriteWord(OwnWord.Cookie, Cookie + 1));
            Assert.True(Injector.Uproot(pid, Place, Cookie));
            Assert.Contains(Maps(pid), line => line.StartsWith($"{Place:x}-", StringComparison.Ordinal));
            // Known by nothing but its form it is cleared away.
            Injector.TryClear(pid, Place);
            Assert.DoesNotContain(Maps(pid), line => line.StartsWith($"{Place:x}-", StringComparison.Ordinal));
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

    private static IEnumerable<string> Maps(int pid) => File.ReadLines($"/proc/{pid}/maps");

    /// <summary>A program with two threads that says what it is told; not a child of ours, of which the runtime would take the news.</summary>
    private sealed class Target : IAsyncDisposable
    {
        private readonly Process _shell;

        private Target(Process shell) => _shell = shell;

        private int Pid => Samepage.Linux.ProcFs.Threads.Children(_shell.Id, _shell.Id).Single();

        /// <summary>The first, and the other.</summary>
        public int[] Threads
        {
            get
            {
                List<int> threads = [];
                Assert.True(Samepage.Linux.ProcFs.Threads.TryListAll(Pid, threads));
                return [.. threads.Order()];
            }
        }

        public static async Task<Target> Start()
        {
            Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root: a program is traced");
            Target target = new(Process.Start(new ProcessStartInfo("sh", ["-c", "\"$@\"; exit $?", "sh", "python3", "-c", TwoThreads]) { RedirectStandardInput = true, RedirectStandardOutput = true })!);
            Assert.Equal("ready", await target.Line());
            return target;
        }

        /// <summary>Tracing belongs to one thread.</summary>
        public void Trace(Action<int> does)
        {
            Exception? failed = null;
            Thread tracer = new(() => failed = Record.Exception(() => does(Pid)));
            tracer.Start();
            tracer.Join();
            if (failed is not null)
                System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failed);
        }

        public async Task Says(string line)
        {
            await _shell.StandardInput.WriteLineAsync(line);
            await _shell.StandardInput.FlushAsync(TestContext.Current.CancellationToken);
            Assert.Equal(line, await Line());
        }

        private Task<string?> Line() => _shell.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken);

        public async ValueTask DisposeAsync()
        {
            if (!_shell.HasExited)
                _shell.Kill(entireProcessTree: true);
            await _shell.WaitForExitAsync();
            _shell.Dispose();
        }
    }
}
