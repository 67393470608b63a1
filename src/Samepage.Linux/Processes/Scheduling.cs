using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>Priorities of threads, setpriority(2).</summary>
public static class Scheduling
{
    /// <summary>Lowers the calling thread's priority; on Linux a nice value is a thread's own.</summary>
    /// <param name="nice">0 to 19.</param>
    public static void BeNice(int nice) => _ = LibC.setpriority(0, 0, nice);
}
