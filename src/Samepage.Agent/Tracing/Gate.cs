using Samepage.Agent.X64;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent.Tracing;

/// <summary>Makes a hold outlive its holder: puts each held thread before the gate in the agent's code, and back where it was.</summary>
/// <remarks>
/// <para>The kernel frees every held thread when its tracer dies. A thread that stands before the gate then waits there until the executor has ended its
/// batch (see <see cref="AgentAssembler"/>). So it does where the holder lets it go because the batch takes too long. Each moment at which we may die leaves the thread right:</para>
/// <list type="number">
/// <item>Its signal frame is written first: all of what it goes on with.</item>
/// <item>Then its registers. Set free from here on it comes to the gate, which blocks signals itself, and takes the frame. A handler may run
/// before that, on the program's own stack, but no batch is begun before every thread is at step 3.</item>
/// <item>Then its mask: no handler can run before the gate.</item>
/// <item>On release the mask comes back first, then the registers: in between it is as after step 2.</item>
/// </list>
/// <para>A thread that is about to get a signal is not put there. One of its own doing (SIGSEGV …): its handler is to see the instruction that did it, not
/// the gate's. Any other: a call that waits with a mask of its own (sigsuspend, ppoll) loses that where a mask is set, and the signal, blocked again, would be queued behind those that
/// came later. The hold is tried again, which is soon enough.</para>
/// <para>A frame is used again from hold to hold: a thread that is still to take one stands in the gate's code, and no hold succeeds then. Whoever takes over begins behind the frames of the
/// one before all the same.</para>
/// <para>The tracing thread alone uses this.</para>
/// </remarks>
internal sealed class Gate
{
    private readonly ulong _base;
    private readonly AgentMemory _memory;
    private readonly int _first;
    private readonly byte[] _state = new byte[16384];
    private ulong _generation;
    private int _used, _sent;
    private LibC.user_regs_struct[] _saved = [];
    private ulong[] _masks = [];
    private byte[] _frames = [];

    /// <param name="baseAddress">Where the agent lies.</param>
    /// <param name="memory">What it shares with us.</param>
    public Gate(ulong baseAddress, AgentMemory memory)
    {
        (_base, _memory) = (baseAddress, memory);
        _used = (int)Math.Min(memory.Word(SharedWord.GateUsed), AgentLayout.MaxHeld);
        // Half of them are left to this holder at least; by the time that they come round again nobody is about to take one.
        _first = _used <= AgentLayout.MaxHeld / 2 ? _used : 0;
    }

    /// <summary>Threads were put before it at some time, by this holder or by one before.</summary>
    public bool WasClosed => _used > 0;

    /// <summary>Puts threads before the gate.</summary>
    /// <param name="threads">All of the program's threads, held; those that ended meanwhile are passed over.</param>
    /// <param name="why">What stood in the way.</param>
    /// <returns>False when not all could be put there: none is then, and nothing may be exchanged.</returns>
    public bool TryClose(ReadOnlySpan<Tracee> threads, out string why)
    {
        (why, _sent) = ("", 0);
        // All threads stand still, and the executor waits for us: nobody opens it now.
        _generation = _memory.Word(SharedWord.Gate);
        if (_first + threads.Length > AgentLayout.MaxHeld)
        {
            why = $"{threads.Length} threads; at most {AgentLayout.MaxHeld - _first} can be held at a time";
            return false;
        }

        if (_saved.Length < threads.Length)
            (_saved, _masks, _frames) = (new LibC.user_regs_struct[threads.Length], new ulong[threads.Length], new byte[threads.Length * AgentLayout.FrameBytes]);
        try
        {
            if (!TryFindHandled(threads, out ulong handled))
            {
                why = "which signals it has handlers for cannot be read";
                return false;
            }

            for (int i = 0; i < threads.Length; i++)
            {
                if (!TryFrame(threads[i], i, handled, out why))
                    return false;
            }

            Write(threads.Length);
            for (_sent = 0; _sent < threads.Length;)
                Send(threads[_sent], _sent++);
            return true;
        }
        catch (SyscallException failed)
        {
            // A thread ended just now, or all of them: the next hold sees.
            Open(threads);
            why = failed.Message;
            return false;
        }
    }

    /// <summary>Puts threads back where they were; those that have ended are passed over.</summary>
    public void Open(ReadOnlySpan<Tracee> threads)
    {
        for (int i = 0; i < Math.Min(threads.Length, _sent); i++)
        {
            try
            {
                threads[i].SetSignalMask(_masks[i]);
                threads[i].SetRegisters(_saved[i]);
            }
            catch (SyscallException)
            {
                // It was killed: it goes nowhere.
            }
        }

        _sent = 0;
    }

    /// <summary>The threads stay before it: set free, they wait there for the end of the batch, and go back by themselves.</summary>
    public void Leave() => _sent = 0;

    /// <summary>The signals that the program has handlers for: those of the process are its threads'.</summary>
    private static bool TryFindHandled(ReadOnlySpan<Tracee> threads, out ulong handled)
    {
        handled = 0;
        bool isAnyThere = false;
        foreach (ref readonly Tracee thread in threads)
        {
            if (thread.Kind == StopKind.Gone)
                continue;
            isAnyThere = true;
            if (ProcessStatus.TryRead($"/proc/{thread.ProcessId}/task/{thread.ThreadId}/status") is not { } status)
                continue;
            handled = status.Handled;
            return true;
        }

        return !isAnyThere;
    }

    private bool TryFrame(in Tracee thread, int index, ulong handled, out string why)
    {
        why = "";
        if (!thread.TryRegisters(out _saved[index]))
            return true;
        ref LibC.user_regs_struct registers = ref _saved[index];
        why = thread.Oddity(registers);
        if (why.Length > 0)
            return false;
        if (registers.rip >= _base && registers.rip < _base + AgentLayout.CodeBytes)
            why = $"thread {thread.ThreadId} is on its way out of an earlier hold";
        else if (thread.HasSignal)
            why = $"thread {thread.ThreadId} is about to get a signal";
        else if (!SignalFrame.TryWrite(_frames.AsSpan(index * AgentLayout.FrameBytes, AgentLayout.FrameBytes), FrameAt(index), thread.Resumption(registers),
            (long)registers.orig_rax >= 0, _masks[index] = thread.SignalMask(), thread.ExtendedState(_state), Restarts.EndsForSignals(registers) ? handled & ~_masks[index] : 0))
            why = $"thread {thread.ThreadId} has extended processor state (AMX tiles) that a signal frame cannot take";
        return why.Length == 0;
    }

    private ulong FrameAt(int index) => _base + AgentLayout.SharedOffset + AgentLayout.FramesAtShared + (ulong)(_first + index) * AgentLayout.FrameBytes;

    private void Send(in Tracee thread, int index)
    {
        if (thread.Kind == StopKind.Gone)
            return;
        LibC.user_regs_struct gated = BorrowedThread.ForOurs(_saved[index], _base + AgentLayout.GateOffset);
        gated.r12 = _base + AgentLayout.DataOffset;
        gated.r13 = _generation;
        gated.r14 = FrameAt(index);
        gated.rax = 0;
        thread.SetRegisters(gated);
        thread.SetSignalMask(ulong.MaxValue);
    }

    private void Write(int count)
    {
        ReadOnlySpan<byte> frames = _frames.AsSpan(0, count * AgentLayout.FrameBytes);
        if (!_memory.WriteFrames(_first, frames) || (_first + count > _used && !_memory.WriteWord(SharedWord.GateUsed, (ulong)(_used = _first + count))))
            throw new SyscallException("process_vm_writev", $"{frames.Length} bytes of signal frames", Errno.EFAULT);
    }
}
