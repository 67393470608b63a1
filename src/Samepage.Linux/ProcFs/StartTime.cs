using System.Globalization;

namespace Samepage.Linux.ProcFs;

/// <summary>When a process started, proc_pid_stat(5): with its pid it names one process of this boot, for pids are used again.</summary>
public static class StartTime
{
    /// <param name="pid">The process.</param>
    /// <param name="ticks">Clock ticks after boot. exec does not change it.</param>
    /// <returns>False when there is no such process.</returns>
    public static bool TryRead(int pid, out ulong ticks)
    {
        ticks = 0;
        try
        {
            string stat = File.ReadAllText($"/proc/{pid}/stat");
            return ulong.TryParse(stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[19], CultureInfo.InvariantCulture, out ticks);
        }
        catch (IOException)
        {
            return false;
        }
    }
}
