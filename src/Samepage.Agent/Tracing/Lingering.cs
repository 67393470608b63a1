using System.Runtime.InteropServices;
using Samepage.Linux;
using Samepage.Linux.Interop;

namespace Samepage.Agent.Tracing;

/// <summary>Seized threads that could not be let go when they should have been, until they can.</summary>
/// <remarks>Two kinds. One died while it was held: its death is reported to its tracer, and its parent's wait does not return before we have taken
/// the report. The other did not stop in time: it will, as soon as its call ends, and must be detached then. Both are looked at after
/// every hold and in every pass. Each tracing thread has its own: no other may detach them.</remarks>
internal static class Lingering
{
    [ThreadStatic]
    private static List<int>? _threads;

    private static List<int> Threads => _threads ??= [];

    /// <summary>The calling thread has some.</summary>
    public static bool Any => _threads is { Count: > 0 };

    public static void Add(int tid) => Threads.Add(tid);

    /// <summary>Lets go of those that can be let go by now.</summary>
    public static unsafe void Look()
    {
        for (int i = Threads.Count - 1; i >= 0; i--)
        {
            int status;
            int waited = LibC.waitpid(Threads[i], &status, LibC.__WALL | LibC.WNOHANG);
            if (waited == 0 || (waited < 0 && (Errno)Marshal.GetLastPInvokeError() == Errno.EINTR))
                continue;
            bool stopped = waited > 0 && (status & 0xff) == 0x7f;
            int signal = stopped && status >> 16 == 0 ? (status >> 8) & 0xff : 0;
            if (stopped && LibC.ptrace(LibC.PTRACE_DETACH, Threads[i], null, (void*)signal) != 0)
                continue;
            Threads.RemoveAt(i);
        }
    }
}
