using System.Globalization;

namespace Samepage.Live;

/// <summary>Three figures that tell cheaply whether anything has happened in a process.</summary>
/// <param name="Faults">Minor and major faults of all its threads: the first write to a page that is watched is one, and so is the first write to a frame.</param>
/// <param name="Size">Pages mapped.</param>
/// <param name="Resident">Pages resident.</param>
internal readonly record struct Look(long Faults, long Size, long Resident)
{
    /// <summary>Looks at a process, <c>/proc/PID/stat</c> and <c>statm</c>; proc_pid_stat(5). All zero when it is gone.</summary>
    public static Look At(int pid)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{pid}/stat");
            string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            string[] sizes = File.ReadAllText($"/proc/{pid}/statm").Split(' ');
            return new Look(Number(fields[7]) + Number(fields[9]), Number(sizes[0]), Number(sizes[1]));
        }
        catch (IOException)
        {
            return default;
        }
    }

    private static long Number(string field) => long.Parse(field, CultureInfo.InvariantCulture);
}
