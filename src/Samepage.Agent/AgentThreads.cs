using System.Diagnostics;
using Samepage.Agent.Tracing;
using Samepage.Linux;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent;

/// <summary>The agent's two threads while they are needed: in a process that is stopped by SIGSTOP they are set going for that time, and nobody else is.</summary>
/// <remarks>They are seized out of the stop and continued; the parent's waitpid(2) sees nothing. All calls from the one OS thread that traces.</remarks>
internal sealed class AgentThreads : IDisposable
{
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(1);
    private readonly int _pid;
    private Tracee _executor, _warden;
    private bool _executorThawed, _wardenThawed;

    private AgentThreads(int pid, int executor, int warden) => (_pid, _executor, _warden) = (pid, new Tracee(pid, executor), new Tracee(pid, warden));

    /// <summary>They run until this is disposed.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="executor">The executor's thread id; 0 when it has ended.</param>
    /// <param name="warden">The warden's; it may have ended, too: the other is set going all the same.</param>
    /// <param name="suspended">The process is known to be stopped, or not to be; null: whether it is, is seen from the executor.</param>
    public static AgentThreads KeepAwake(int pid, int executor, int warden, bool? suspended = null)
    {
        AgentThreads threads = new(pid, executor, warden);
        if (suspended ?? threads.AreStopped)
            threads.Thaw();
        return threads;
    }

    private bool AreStopped => ProcessStatus.TryRead($"/proc/{_pid}/task/{_executor.ThreadId}/status") is { State: 'T' };

    /// <summary>To be called while they are waited for. One that was seized out of a stop may come to a second one: it is set going again.</summary>
    public void KeepGoing()
    {
        if (_executorThawed)
            Restart(ref _executor);
        if (_wardenThawed)
            Restart(ref _warden);
    }

    /// <summary>The process was stopped only now: they are set going.</summary>
    public void Thaw()
    {
        _executorThawed = _executorThawed || TryThaw(ref _executor);
        _wardenThawed = _wardenThawed || TryThaw(ref _warden);
    }

    /// <summary>They stand still with their process again.</summary>
    public void Dispose()
    {
        if (_executorThawed)
            Freeze(ref _executor);
        if (_wardenThawed)
            Freeze(ref _warden);
        (_executorThawed, _wardenThawed) = (false, false);
    }

    /// <summary>Seizes a thread and sets it going again at its first stop, from which on no filter looks at its calls. Where it stops late it is <see cref="Restart"/> that does.</summary>
    public static void Free(ref Tracee thread)
    {
        if (thread.Seize() == Errno.None && Halt(ref thread) is StopKind.Held or StopKind.Suspended)
            _ = thread.Continue();
    }

    /// <summary>Sets a seized thread going again, if it has come to a stop.</summary>
    public static void Restart(ref Tracee thread)
    {
        if (thread.Poll() is StopKind.Held or StopKind.Suspended)
            _ = thread.Continue();
    }

    private static bool TryThaw(ref Tracee thread)
    {
        if (thread.ThreadId == 0 || thread.Seize() != Errno.None)
            return false;
        if (Halt(ref thread) is StopKind.Held or StopKind.Suspended && thread.Continue() == Errno.None)
            return true;
        thread.Release();
        return false;
    }

    private static void Freeze(ref Tracee thread)
    {
        _ = Halt(ref thread);
        thread.Release();
    }

    private static StopKind Halt(ref Tracee thread)
    {
        _ = thread.Interrupt();
        return thread.Await(Bound);
    }
}
