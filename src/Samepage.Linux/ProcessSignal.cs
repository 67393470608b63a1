using static Samepage.Linux.Interop.FileCalls;

namespace Samepage.Linux;

/// <summary>Asks a process to end in its own time, which <see cref="System.Diagnostics.Process"/> cannot.</summary>
public static class ProcessSignal
{
    private const int SIGTERM = 15;

    /// <returns>False when there is no such process any more, or it is not ours to signal.</returns>
    public static bool Terminate(int pid)
    {
        // kill(2) takes 0 and negative numbers for whole process groups.
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(pid);
        return kill(pid, SIGTERM) == 0;
    }
}
