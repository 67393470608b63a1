using System.Runtime.InteropServices;
using Samepage.Agent.X64;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;

namespace Samepage.Agent.Tracing;

/// <summary>Makes a hold outlive its holder: puts each held thread before a gate in the agent's code, and back where it was.</summary>
/// <remarks>
/// <para>The kernel frees every held thread when its tracer dies. A thread that stands before a gate then waits there until the executor has ended its
/// batch (see <see cref="AgentAssembler"/>). Each moment at which we may die leaves the thread right:</para>
/// <list type="number">
/// <item>Its table is written first: registers and mask with which it goes on.</item>
/// <item>Then its registers. Set free from here on it comes to the gate, which blocks signals itself, and restores both. A handler may
/// run before that, but no batch is begun before every thread is at step 3.</item>
/// <item>Then its mask: no handler can run at the gate.</item>
/// <item>On release the mask comes back first, then the registers: in between it is as after step 2.</item>
/// </list>
/// <para>A gate is used again from hold to hold, for no thread passes it while the holder lives. Whoever takes over begins behind the gates of the
/// one before, because a thread may still be on its way through one of those.</para>
/// <para>The tracing thread alone uses this.</para>
/// </remarks>
internal sealed class Gate
{
    private const int Registers = 27 * 8;
    private readonly AgentData _data;
    private readonly byte[] _code = AgentAssembler.AssembleGate();
    private readonly int _first;
    private readonly ulong _generation;
    private int _coded, _used, _sent;
    private LibC.user_regs_struct[] _saved = [];
    private ulong[] _masks = [];
    private byte[] _tables = [];

    /// <param name="data">The agent.</param>
    public Gate(AgentData data)
    {
        _data = data;
        _generation = data.Word(AgentLayout.Gate);
        _used = (int)data.Word(AgentLayout.GateUsed);
        // Half of them are left to this holder at least; by the time that they come round again nobody can be in one.
        _first = _coded = _used is > 0 and <= AgentLayout.MaxHeld / 2 ? _used : 1;
    }

    /// <summary>Puts threads before their gates.</summary>
    /// <param name="threads">All of the program's threads, held; those that ended meanwhile are passed over.</param>
    /// <param name="why">What stood in the way.</param>
    /// <returns>False when not all could be put there: none is then, and none may be exchanged under.</returns>
    public bool TryClose(ReadOnlySpan<Tracee> threads, out string why)
    {
        (why, _sent) = ("", 0);
        if (_first + threads.Length > AgentLayout.MaxHeld)
        {
            why = $"{threads.Length} threads; at most {AgentLayout.MaxHeld - _first} can be held at a time";
            return false;
        }

        if (_saved.Length < threads.Length)
            (_saved, _masks, _tables) = (new LibC.user_regs_struct[threads.Length], new ulong[threads.Length], new byte[threads.Length * AgentLayout.GateBytes]);
        try
        {
            for (int i = 0; i < threads.Length; i++)
            {
                if (!threads[i].TryRegisters(out _saved[i]))
                    continue;
                if (_saved[i].rip >= _data.BaseAddress && _saved[i].rip < _data.BaseAddress + AgentLayout.DataOffset)
                {
                    why = $"thread {threads[i].ThreadId} is on its way out of an earlier hold";
                    return false;
                }

                _masks[i] = threads[i].SignalMask();
                LibC.user_regs_struct table = threads[i].Resumption(_saved[i]);
                MemoryMarshal.Write(_tables.AsSpan(i * AgentLayout.GateBytes, Registers), table);
                MemoryMarshal.Write(_tables.AsSpan(i * AgentLayout.GateBytes + AgentLayout.TableMask), _masks[i]);
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

    private ulong Place(int index) => _data.BaseAddress + AgentLayout.GateOffset + (ulong)(_first + index) * AgentLayout.GateBytes;

    private void Send(in Tracee thread, int index)
    {
        if (thread.Kind == StopKind.Gone)
            return;
        LibC.user_regs_struct gated = _saved[index];
        gated.rip = Place(index);
        gated.r12 = _data.BaseAddress + AgentLayout.DataOffset;
        gated.r13 = _generation;
        (gated.rax, gated.orig_rax) = (0, ulong.MaxValue);
        thread.SetRegisters(gated);
        thread.SetSignalMask(ulong.MaxValue);
    }

    private void Write(int count)
    {
        RemoteMemory memory = new(_data.Pid);
        ReadOnlySpan<byte> tables = _tables.AsSpan(0, count * AgentLayout.GateBytes);
        ulong place = _data.BaseAddress + AgentLayout.TablesOffset + (ulong)_first * AgentLayout.GateBytes;
        if (memory.Write(place, tables) != tables.Length)
            throw new SyscallException("process_vm_writev", $"{tables.Length} bytes of process {_data.Pid} at 0x{place:x}", Errno.EFAULT);
        if (_first + count <= _coded)
            return;
        byte[] code = new byte[(_first + count - _coded) * AgentLayout.GateBytes];
        for (int i = 0; i < code.Length; i += AgentLayout.GateBytes)
            _code.CopyTo(code, i);
        memory.ForceWrite(_data.BaseAddress + AgentLayout.GateOffset + (ulong)_coded * AgentLayout.GateBytes, code);
        _coded = _first + count;
        if (_coded > _used && !_data.WriteWord(AgentLayout.GateUsed, (ulong)(_used = _coded)))
            throw new SyscallException("process_vm_writev", $"a word of process {_data.Pid}", Errno.EFAULT);
    }
}
