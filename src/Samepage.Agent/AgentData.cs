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
    public ulong Word(OwnWord word) => Read(word, out ulong value) == Errno.None ? value : 0;

    /// <returns>EFAULT where there is no such mapping (any more), ESRCH where there is no such process.</returns>
    public Errno Read(OwnWord word, out ulong value)
    {
        value = 0;
        _ = new RemoteMemory(Pid).Gather([(Data + (ulong)word, sizeof(ulong))], MemoryMarshal.AsBytes(new Span<ulong>(ref value)), out Errno errno);
        return errno;
    }

    /// <summary>The id, here, of a thread of the agent's, of which a word says the id that it has for itself: the process may be in another pid namespace. What the
    /// word says never leads to a thread of another process; 0 when there is no such thread.</summary>
    public int Thread(OwnWord word) => Threads.FindByOwnId(Pid, (int)Word(word));

    public bool WriteWord(OwnWord word, ulong value) =>
        new RemoteMemory(Pid).Write(Data + (ulong)word, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value))) == sizeof(ulong);
}
