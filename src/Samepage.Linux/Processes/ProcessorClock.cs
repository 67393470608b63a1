using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Processes;

/// <summary>The processor time of other processes, clock_getcpuclockid(3): whether one has run since it was looked at last.</summary>
public static unsafe class ProcessorClock
{
    private const int ThreadsMost = 256;

    /// <summary>What all threads of a process have taken up to now, those that have ended among them.</summary>
    /// <remarks>Of another process the kernel adds up what it last noted of each thread. One that runs has not been noted since the last tick, or since it woke up: so while one may run, nothing is said.</remarks>
    /// <param name="pid">The process.</param>
    /// <returns>Nanoseconds; null where it is gone, where one of its threads runs, and where they are too many to look at.</returns>
    public static long? Of(int pid)
    {
        List<int> threads = [];
        if (!Threads.TryListAll(pid, threads) || threads.Count > ThreadsMost || threads.Exists(tid => Threads.State(pid, tid) is 'R' or '?'))
            return null;
        int clock;
        LibC.timespec time;
        return LibC.clock_getcpuclockid(pid, &clock) == 0 && LibC.clock_gettime(clock, &time) == 0 ? time.tv_sec * 1_000_000_000 + time.tv_nsec : null;
    }
}
