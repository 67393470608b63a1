using System.Diagnostics;
using Samepage.Agent.Seccomp;
using Samepage.Agent.X64;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent.Tracing;

/// <summary>Threads that are asleep, and have been for a while: what they do next they hardly do at this moment.</summary>
/// <param name="pid">The process.</param>
internal sealed class RestingThreads(int pid)
{
    private static readonly TimeSpan s_while = TimeSpan.FromMilliseconds(20);
    private const int KeptAtMost = 4096;
    private readonly Dictionary<int, (long Switches, long Since)> _seen = [];

    /// <summary>Whether a thread that sleeps has not woken up since it was first asked about it, and that is a while ago.</summary>
    public bool Rests(int tid)
    {
        if (ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status") is not { State: 'S' } status)
            return false;
        if (_seen.TryGetValue(tid, out (long Switches, long Since) seen) && seen.Switches == status.VoluntarySwitches)
            return Stopwatch.GetElapsedTime(seen.Since) >= s_while;
        if (_seen.Count >= KeptAtMost)
            _seen.Clear();
        _seen[tid] = (status.VoluntarySwitches, Stopwatch.GetTimestamp());
        return false;
    }
}

/// <summary>Keeps threads from being interrupted in calls about which the supervisor of their seccomp filter is asked (SECCOMP_RET_USER_NOTIF).</summary>
/// <remarks>
/// <para>Interrupted, such a call begins again, and the supervisor is asked again, and does again what he did: mounts, connects. So a thread is not interrupted that is in such a call, at whatever stage of it; which ones they are is
/// told by the very call and its arguments (<see cref="FilterBook.AsksSupervisor"/>).</para>
/// <para>There is no call that interrupts a thread only if it does what it did when it was looked at. So a thread that may make such calls is interrupted only while it rests: it has slept in another call for some time, and would
/// have to wake up, and come to such a call, within the some ten microseconds between the look and the interruption. To give a program back threads that never rest are interrupted in the end, but not in such a call.</para>
/// <para>The tracing thread alone uses this.</para>
/// </remarks>
internal sealed class SupervisedThreads
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);
    private RestingThreads? _resting;
    private int _pid;
    private long _deniedSince;

    /// <summary>Whether a thread may be interrupted for its supervisor's sake.</summary>
    /// <param name="filters">What is known of the filters of its process.</param>
    /// <param name="pid">Its process.</param>
    /// <param name="tid">The thread.</param>
    /// <param name="call">What it does, looked at just now.</param>
    /// <param name="insist">It is to be given back.</param>
    /// <param name="why">What stands in the way.</param>
    public bool MayInterrupt(FilterBook filters, int pid, int tid, in ThreadCall call, bool insist, out string why)
    {
        why = "";
        if (!filters.HasAny)
            return true;
        if (filters.ForbidsAgain(tid, call))
        {
            why = $"thread {tid} waits in {CallTable.Name(call.Number)}, which a seccomp filter that came meanwhile forbids: it cannot begin again";
            return false;
        }

        if (call.Blocked && filters.AsksSupervisor(tid, call))
        {
            why = $"thread {tid} waits in {CallTable.Name(call.Number)}, about which the supervisor of its seccomp filter would be asked once more";
            return false;
        }

        if (!filters.MayAskSupervisor(tid))
            return true;
        if (_pid != pid)
            (_pid, _resting) = (pid, null);
        if (call.Blocked && (_resting ??= new RestingThreads(pid)).Rests(tid))
            return true;
        if (_deniedSince == 0)
            _deniedSince = Stopwatch.GetTimestamp();
        if (insist && Stopwatch.GetElapsedTime(_deniedSince) > Patience)
            return true;
        why = $"thread {tid} does not rest, and the supervisor of its seccomp filter may be asked about its next call";
        return false;
    }

    /// <summary>All threads were held.</summary>
    /// <param name="insisted">It was to give back.</param>
    public void NoteHeld(bool insisted)
    {
        if (!insisted)
            _deniedSince = 0;
    }
}
