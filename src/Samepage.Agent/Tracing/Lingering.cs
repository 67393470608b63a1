using Samepage.Linux.Interop;

namespace Samepage.Agent.Tracing;

/// <summary>Seized threads that could not be let go when they should have been, until they can.</summary>
/// <remarks>Three kinds. One died while it was held: its death is reported to its tracer, and its parent's wait does not return before we have taken
/// the report. One did not stop in time: it will, as soon as its call ends, and is let go then as every other: its call begins again. One did not come back from a call that was made in it:
/// it gets its registers back. All are looked at after every hold and in every pass. Each tracing thread has its own: no other may detach them.</remarks>
internal static class Lingering
{
    [ThreadStatic]
    private static List<Lingerer>? _threads;

    private static List<Lingerer> Threads => _threads ??= [];

    /// <summary>The calling thread has some.</summary>
    public static bool Any => _threads is { Count: > 0 };

    /// <summary>One that is let go as soon as it stops, or ends.</summary>
    public static void Add(in Tracee thread) => Threads.Add(new Lingerer(thread, null, 0));

    /// <summary>One that is in a call of ours.</summary>
    /// <param name="thread">The thread.</param>
    /// <param name="registers">With which it goes on.</param>
    /// <param name="mask">The signals that it blocks then.</param>
    public static void Add(in Tracee thread, in LibC.user_regs_struct registers, ulong mask) => Threads.Add(new Lingerer(thread, registers, mask));

    /// <summary>Lets go of those that can be let go by now.</summary>
    public static void Look()
    {
        for (int i = Threads.Count - 1; i >= 0; i--)
        {
            if (Threads[i].TryLetGo())
                Threads.RemoveAt(i);
        }
    }

    private sealed class Lingerer(Tracee thread, LibC.user_regs_struct? registers, ulong mask)
    {
        private Tracee _thread = thread;

        public bool TryLetGo()
        {
            StopKind kind = registers is null ? _thread.Poll() : _thread.Kind == StopKind.Running ? _thread.Look() : _thread.Kind;
            if (kind is StopKind.Running or StopKind.Gone)
                return kind == StopKind.Gone;
            if (registers is { } own)
            {
                try
                {
                    _thread.SetRegisters(own);
                    _thread.SetSignalMask(mask);
                }
                catch (Samepage.Linux.SyscallException)
                {
                    // It was killed meanwhile: it goes nowhere, and its end is still to be heard of.
                }
            }

            if (_thread.TryDetach())
                return true;
            // It was killed out of its stop.
            _ = _thread.Look();
            return _thread.Kind == StopKind.Gone;
        }
    }
}
