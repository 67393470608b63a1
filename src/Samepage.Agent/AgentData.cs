using System.Runtime.InteropServices;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent;

/// <summary>The agent's own words in a target, read and written from outside before there is <see cref="AgentMemory"/>, or where there is none (any more).</summary>
/// <remarks>What the target says is never trusted with a decision about anybody else's memory: it can only lie about its own. Each of these may wait for as long as the program
/// likes, so they belong on threads that can be done without.</remarks>
internal readonly record struct AgentData(int Pid, ulong BaseAddress)
{
    private ulong Data => BaseAddress + AgentLayout.DataOffset;

    /// <summary>A word; 0 when the process is gone.</summary>
    public ulong Word(int offset) => Read(offset, out ulong word) == Errno.None ? word : 0;

    /// <returns>EFAULT where there is no such mapping (any more), ESRCH where there is no such process.</returns>
    public Errno Read(int offset, out ulong word)
    {
        word = 0;
        _ = new RemoteMemory(Pid).Gather([(Data + (ulong)offset, sizeof(ulong))], MemoryMarshal.AsBytes(new Span<ulong>(ref word)), out Errno errno);
        return errno;
    }

    /// <summary>The id, here, of a thread of the agent's, of which a word says the id that it has for itself: the process may be in another pid namespace. What the
    /// word says never leads to a thread of another process; 0 when there is no such thread.</summary>
    public int Thread(int offset) => Threads.FindByOwnId(Pid, (int)Word(offset));

    public bool WriteWord(int offset, ulong word) =>
        new RemoteMemory(Pid).Write(Data + (ulong)offset, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in word))) == sizeof(ulong);
}
