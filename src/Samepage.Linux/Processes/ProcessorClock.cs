using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>The processor time of other processes, clock_getcpuclockid(3): whether one has run since it was looked at last.</summary>
public static unsafe class ProcessorClock
{
    /// <summary>What all threads of a process have taken up to now, those that have ended among them, and one that runs at this moment.</summary>
    /// <param name="pid">The process.</param>
    /// <returns>Nanoseconds; null where it is gone.</returns>
    public static long? Of(int pid)
    {
        int clock;
        LibC.timespec time;
        return LibC.clock_getcpuclockid(pid, &clock) == 0 && LibC.clock_gettime(clock, &time) == 0 ? time.tv_sec * 1_000_000_000 + time.tv_nsec : null;
    }
}
