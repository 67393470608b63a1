using Samepage.Linux.Interop;

namespace Samepage.Agent.Tracing;

/// <summary>Seized threads that could not be let go when they should have been, until they can.</summary>
/// <remarks>Three kinds. One died while it was held: its death is reported to its tracer, and its parent's wait does not return before we have taken
/// the report. One did not stop in time: it will, as soon as its call ends or it has a processor, and is let go then as every other, unless the next hold takes it over: its call begins again. One did not come back from a call that was made in it:
/// it gets its registers back. All are looked at after every hold, come of it what may, and in every pass. Each tracing thread has its own: no other may detach them.</remarks>
internal static class Lingering
{
    [ThreadStatic]
    private static List<Lingerer>? _threads;

    private static List<Lingerer> Threads => _threads ??= [];

    /// <summary>The calling thread has some.</summary>
    public static bool Any => _threads is { Count: > 0 };

    /// <summary>One that is let go as soon as it stops, or ends.</summary>
    public static void Add(in Tracee thread) => Threads.Add(new Lingerer(thread, null, 0));

    /// <summary>One that has ended, which is reported later: nobody holds it any more.</summary>
    public static void AddEnded(in Tracee thread) => Threads.Add(new Lingerer(thread, null, 0) { HasEnded = true });

    /// <summary>One that is in a call of ours.</summary>
    /// <param name="thread">The thread.</param>
    /// <param name="registers">With which it goes on.</param>
    /// <param name="mask">The signals that it blocks then.</param>
    public static void Add(in Tracee thread, in LibC.user_regs_struct registers, ulong mask) => Threads.Add(new Lingerer(thread, registers, mask));

    /// <summary>Whether a thread is here that was to be held, and has not been let go.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="tid">The thread's id.</param>
    public static bool Has(int pid, int tid) => Any && Threads.Exists(one => one.IsToBeHeld(pid, tid));

    /// <summary>Takes a thread out that was to be held, so that the next hold need not begin with it anew: where it waited for a processor for longer than a hold waits for it, it may have stopped by now, and would
    /// have to wait as long again if it was let go.</summary>
    /// <param name="pid">The process: what was seized for another process, whose thread had ended, is let go.</param>
    /// <param name="tid">The thread's id.</param>
    /// <param name="thread">The thread, seized and interrupted.</param>
    /// <returns>False when it is not here, or is in a call of ours.</returns>
    public static bool TryTake(int pid, int tid, out Tracee thread)
    {
        int index = Any ? Threads.FindIndex(one => one.IsToBeHeld(pid, tid)) : -1;
        thread = index < 0 ? default : Threads[index].Thread;
        if (index >= 0)
            Threads.RemoveAt(index);
        return index >= 0;
    }

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

        public Tracee Thread => _thread;

        public bool HasEnded { get; init; }

        public bool IsToBeHeld(int pid, int tid) => registers is null && !HasEnded && _thread.ThreadId == tid && _thread.ProcessId == pid;

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
