namespace Samepage.Bench;

/// <summary>Processor time that a process has used, all its threads together, living and ended.</summary>
/// <remarks>
/// clock_getcpuclockid(3), and not <c>/proc/PID/stat</c>, which counts in hundredths of a second, nor the sum of
/// <c>/proc/PID/task/*/schedstat</c>, from which the time of an ended thread disappears. Works for kernel threads too.
/// A thread that runs at the moment may be short of one tick (4 ms at 250 Hz).
/// </remarks>
internal static class ProcessorClock
{
    public static TimeSpan Read(int pid)
    {
        if (LibC.clock_getcpuclockid(pid, out int clock) != 0 || LibC.clock_gettime(clock, out LibC.Timespec time) != 0)
            throw new BenchException($"process {pid} ended while its processor time was being measured");
        return TimeSpan.FromSeconds(time.tv_sec) + TimeSpan.FromTicks(time.tv_nsec / TimeSpan.NanosecondsPerTick);
    }

    public static TimeSpan Read(IEnumerable<int> pids)
    {
        TimeSpan sum = TimeSpan.Zero;
        foreach (int pid in pids)
            sum += Read(pid);
        return sum;
    }
}
