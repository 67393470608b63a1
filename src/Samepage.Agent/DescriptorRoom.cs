using Samepage.Linux.Interop;

namespace Samepage.Agent;

/// <summary>Room for a few descriptors in a process that has bounded their number, RLIMIT_NOFILE, for as long as its agent is taken over, or comes into a forked child: it has a table of its own, but the bound is the process's.</summary>
/// <remarks>
/// <para>A program that lowers the bound, as one does that confines itself, would keep its agent from making sockets and from being sent any, and so itself, or its parent, from ever being given back. Beyond the hard bound it takes CAP_SYS_RESOURCE.
/// What the program sets meanwhile is its own, and stays.</para>
/// <para>What the bound was is written down before it is raised, where whoever takes the agent over after our death looks, and puts it back (<see cref="PutBack"/>). The program can write there, too: so a bound is never put higher
/// for what stands there than the program may put it by itself.</para>
/// <para>Any thread.</para>
/// </remarks>
internal sealed unsafe class DescriptorRoom : IDisposable
{
    private const ulong Wanted = AgentLayout.MaxChildren + 64;
    private readonly int _pid;
    private readonly AgentMemory _memory;
    private readonly (ulong Soft, ulong Hard) _before, _made;

    /// <param name="pid">The process. Where its bound cannot be raised nothing is done, and the agent goes without.</param>
    /// <param name="memory">What its agent shares with us: what the bound was stands there for as long as it is raised.</param>
    /// <param name="data">Of an agent that is only coming, and may never map that: it is written there, too.</param>
    public DescriptorRoom(int pid, AgentMemory memory, AgentData? data = null)
    {
        (_pid, _memory) = (pid, memory);
        if (!TryRead(pid, out _before) || _before.Soft >= Wanted)
            return;
        // The word that says that there is something comes last.
        bool isWritten = memory.WriteWord(SharedWord.RoomHard, _before.Hard) && memory.WriteWord(SharedWord.RoomSoft, _before.Soft + 1);
        if (data is { } own)
            isWritten = isWritten && own.WriteWord(OwnWord.RoomHard, _before.Hard) && own.WriteWord(OwnWord.RoomSoft, _before.Soft + 1);
        if (!isWritten)
            return;
        (ulong Soft, ulong Hard) wanted = Raised(_before), allowed = (Math.Min(Wanted, _before.Hard), _before.Hard);
        _made = TrySet(pid, wanted) ? wanted : allowed.Soft > _before.Soft && TrySet(pid, allowed) ? allowed : default;
    }

    /// <summary>How many descriptors a process may open; all that there can be where that cannot be read.</summary>
    public static ulong Of(int pid) => TryRead(pid, out (ulong Soft, ulong Hard) bound) ? bound.Soft : ulong.MaxValue;

    /// <summary>Puts a bound back that somebody raised who has died since.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="soft">What stands written of it: the soft bound and one; 0 where nothing was raised.</param>
    /// <param name="hard">The hard one.</param>
    public static void PutBack(int pid, ulong soft, ulong hard)
    {
        if (soft is 0 or > Wanted || !TryRead(pid, out (ulong Soft, ulong Hard) now))
            return;
        (ulong Soft, ulong Hard) before = (soft - 1, hard);
        Undo(pid, before, now.Hard > hard ? Raised(before) : (Math.Min(Wanted, hard), hard));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_made.Soft != 0)
            Undo(_pid, _before, _made);
        // Not before it is done: we may die in between.
        _ = _memory.WriteWord(SharedWord.RoomSoft, 0);
    }

    private static (ulong Soft, ulong Hard) Raised((ulong Soft, ulong Hard) before) => (Wanted, Math.Max(Wanted, before.Hard));

    private static void Undo(int pid, (ulong Soft, ulong Hard) before, (ulong Soft, ulong Hard) made)
    {
        if (!TryRead(pid, out (ulong Soft, ulong Hard) now))
            return;
        ulong hard = now.Hard > made.Hard ? now.Hard : Math.Min(now.Hard, before.Hard);
        _ = TrySet(pid, (now.Soft == made.Soft ? Math.Min(before.Soft, hard) : Math.Min(now.Soft, hard), hard));
    }

    private static bool TryRead(int pid, out (ulong Soft, ulong Hard) limits)
    {
        ulong* read = stackalloc ulong[2];
        bool isRead = LibC.prlimit(pid, LibC.RLIMIT_NOFILE, null, read) == 0;
        limits = (read[0], read[1]);
        return isRead;
    }

    private static bool TrySet(int pid, (ulong Soft, ulong Hard) limits)
    {
        ulong* set = stackalloc ulong[] { limits.Soft, limits.Hard };
        return LibC.prlimit(pid, LibC.RLIMIT_NOFILE, set, null) == 0;
    }
}
