using System.Runtime.InteropServices;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent;

/// <summary>The agent's words and operations in a target, read and written from outside. What the target says is never trusted with a decision
/// about anybody else's memory: it can only lie about its own.</summary>
internal readonly record struct AgentData(int Pid, ulong BaseAddress)
{
    private ulong Data => BaseAddress + AgentLayout.DataOffset;

    /// <summary>A word; 0 when the process is gone.</summary>
    public ulong Word(int offset) => new RemoteMemory(Pid).TryReadWord(Data + (ulong)offset, out ulong word) ? word : 0;

    /// <summary>The id, here, of a thread of the agent's, of which a word says the id that it has for itself: the process may be in another pid namespace. What the
    /// word says never leads to a thread of another process; 0 when there is no such thread.</summary>
    public int Thread(int offset) => Threads.FindByOwnId(Pid, (int)Word(offset));

    public bool WriteWord(int offset, ulong word) =>
        new RemoteMemory(Pid).Write(Data + (ulong)offset, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in word))) == sizeof(ulong);

    public bool WriteOperations(ReadOnlySpan<AgentOperation> operations)
    {
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(operations);
        return new RemoteMemory(Pid).Write(Data + AgentLayout.OperationsOffset, bytes) == bytes.Length;
    }

    public bool ReadOperations(Span<AgentOperation> operations)
    {
        Span<byte> bytes = MemoryMarshal.AsBytes(operations);
        return new RemoteMemory(Pid).Read(Data + AgentLayout.OperationsOffset, bytes) == bytes.Length;
    }

    /// <summary>The warden's slots for the Ms that forked children brought: descriptors in the agent's table, -1 where there is none, and above them tickets.</summary>
    public bool ReadChildren(Span<long> children)
    {
        Span<byte> bytes = MemoryMarshal.AsBytes(children);
        return new RemoteMemory(Pid).Read(Data + AgentLayout.Children, bytes) == bytes.Length;
    }
}
