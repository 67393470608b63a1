using Samepage.Agent;
using Samepage.Agent.Tracing;
using Samepage.Linux;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>Threads that are seized by number.</summary>
public sealed class TraceeTests
{
    private const string Echo = "import sys\nprint('ready', flush=True)\nfor line in sys.stdin: print(line, end='', flush=True)\n";

    /// <summary>A thread of a program has ended, and its number is another program's by now, as one that is hostile can arrange: that one is let go at once, its filter stays on it, and the hold that it was seized for does not take it over.</summary>
    [Fact]
    public async Task WhoseNumberIsAnothersIsNotHeld()
    {
        await using ForeignProgram meant = await ForeignProgram.Python(Echo), another = await ForeignProgram.Python(Echo);
        (int pid, int tid) = (meant.Pid, another.Pid);
        ForeignProgram.Trace(() =>
        {
            Assert.Equal(Errno.ESRCH, new Tracee(pid, tid) { IsFiltered = true }.Seize());
            Assert.False(Lingering.TryTake(tid, tid, out _));
            Assert.True(SpinWait.SpinUntil(static () => !AgentSession.LookAfterHeld(), TimeSpan.FromMinutes(1)));
            Assert.Equal(0, ProcessStatus.TryRead($"/proc/{tid}/status")!.Tracer);
            Assert.Equal(Errno.None, new Tracee(tid, tid).Seize());
        });
        await another.Says("alive");
        await meant.Says("alive");
    }
}
