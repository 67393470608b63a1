using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Figures that tell cheaply whether anything has happened in a process.</summary>
/// <param name="Faults">Minor and major faults of all its threads: the first write to a page that is watched is one, and so is the first write to a frame.</param>
/// <param name="Size">Bytes mapped.</param>
/// <param name="Resident">Pages resident.</param>
/// <param name="OpenFiles">Descriptors open.</param>
internal readonly record struct Look(long Faults, long Size, long Resident, long OpenFiles)
{
    /// <summary>Looks at a process. All zero when it is gone.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="thread">A thread of its own that lives: its descriptors are the process's.</param>
    public static Look At(int pid, int thread) =>
        ProcessStat.TryRead(pid, out ProcessStat stat) ? new Look(stat.Faults, stat.Size, stat.Resident, Samepage.Linux.ProcFs.OpenFiles.Count(thread)) : default;
}
