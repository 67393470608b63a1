using System.Globalization;

namespace Samepage.Linux.ProcFs;

/// <summary>What <c>/proc/PID/stat</c> says of a process, proc_pid_stat(5); only the fields that decide something here.</summary>
/// <param name="Faults">Minor and major faults of all its threads so far.</param>
/// <param name="StartTime">Clock ticks after boot at which it started; exec does not change it. With its pid it names one process of this boot, for pids are used again.</param>
/// <param name="Size">Bytes mapped.</param>
/// <param name="ProcessorTicks">Clock ticks, a hundredth of a second each, that its threads ran, in the program and in the kernel.</param>
/// <param name="Resident">Pages resident; the kernel's figure lags behind a little.</param>
public readonly record struct ProcessStat(long Faults, ulong StartTime, long Size, long ProcessorTicks, long Resident)
{
    // Fields are counted from the state, the first behind the name.
    private const int MinorFaults = 7, MajorFaults = 9, UserTime = 11, SystemTime = 12, ThreadCount = 17, Start = 19, VirtualSize = 20, ResidentSize = 21;

    /// <param name="pid">The process.</param>
    /// <param name="stat">What was read.</param>
    /// <returns>False when there is no such process.</returns>
    public static bool TryRead(int pid, out ProcessStat stat)
    {
        stat = default;
        if (!ProcFile.TryRead($"/proc/{pid}/stat", out string text) || !TryParse(text, out stat))
            return false;
        // A first thread that has ended has no memory; the process may.
        if (stat.Size == 0 && LivingThread.StateIn(text) == 'Z' && LivingThread.Of(pid) is var other && other != pid &&
            ProcFile.TryRead($"/proc/{other}/stat", out text) && TryParse(text, out ProcessStat living))
        {
            stat = stat with { Size = living.Size, Resident = living.Resident };
        }

        return true;
    }

    /// <summary>Counts the threads of a process, with those that have ended and are there still.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="thread">A thread of it that lives: to ask it costs less than to ask the process, of which all threads are added up.</param>
    /// <param name="count">How many.</param>
    /// <returns>False when there is no such thread.</returns>
    public static bool TryCountThreads(int pid, int thread, out int count)
    {
        count = 0;
        if (!ProcFile.TryRead($"/proc/{pid}/task/{thread}/stat", out string text))
            return false;
        string[] fields = text[(text.LastIndexOf(')') + 2)..].Split(' ');
        return fields.Length > ThreadCount && int.TryParse(fields[ThreadCount], CultureInfo.InvariantCulture, out count);
    }

    internal static bool TryParse(string text, out ProcessStat stat)
    {
        stat = default;
        // The name may hold blanks and parentheses: its last parenthesis ends it.
        ReadOnlySpan<char> fields = text.AsSpan(text.LastIndexOf(')') + 2);
        int field = 0;
        foreach (Range range in fields.Split(' '))
        {
            ReadOnlySpan<char> value = fields[range];
            switch (field++)
            {
                case MinorFaults or MajorFaults: stat = stat with { Faults = stat.Faults + Number(value) }; break;
                case UserTime or SystemTime: stat = stat with { ProcessorTicks = stat.ProcessorTicks + Number(value) }; break;
                case Start: stat = stat with { StartTime = ulong.Parse(value, CultureInfo.InvariantCulture) }; break;
                case VirtualSize: stat = stat with { Size = Number(value) }; break;
                case ResidentSize: stat = stat with { Resident = Number(value) }; return true;
                default: break;
            }
        }

        return false;
    }

    private static long Number(ReadOnlySpan<char> value) => long.Parse(value, CultureInfo.InvariantCulture);
}
