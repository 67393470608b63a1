using Samepage.Linux.Interop;

namespace Samepage.Agent;

/// <summary>Room for a few descriptors in a process that has bounded their number, RLIMIT_NOFILE, for as long as its agent is taken over: it has a table of its own, but the bound is the process's.</summary>
/// <remarks>A program that lowers the bound, as one does that confines itself, would keep its agent from making sockets and from being sent any, and so from ever being given back. Beyond the hard bound it takes CAP_SYS_RESOURCE.
/// What the program sets meanwhile is its own, and stays. Any thread.</remarks>
internal sealed unsafe class DescriptorRoom : IDisposable
{
    private const ulong Wanted = AgentLayout.MaxChildren + 64;
    private readonly int _pid;
    private readonly (ulong Soft, ulong Hard) _before, _made;

    /// <param name="pid">The process. Where its bound cannot be raised nothing is done, and the agent goes without.</param>
    public DescriptorRoom(int pid)
    {
        _pid = pid;
        if (!TryRead(out _before) || _before.Soft >= Wanted)
            return;
        (ulong Soft, ulong Hard) wanted = (Wanted, Math.Max(Wanted, _before.Hard)), allowed = (Math.Min(Wanted, _before.Hard), _before.Hard);
        _made = TrySet(wanted) ? wanted : allowed.Soft > _before.Soft && TrySet(allowed) ? allowed : default;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_made.Soft == 0 || !TryRead(out (ulong Soft, ulong Hard) now))
            return;
        ulong hard = now.Hard > _made.Hard ? now.Hard : Math.Min(now.Hard, _before.Hard);
        _ = TrySet((now.Soft == _made.Soft ? Math.Min(_before.Soft, hard) : Math.Min(now.Soft, hard), hard));
    }

    private bool TryRead(out (ulong Soft, ulong Hard) limits)
    {
        ulong* read = stackalloc ulong[2];
        bool isRead = LibC.prlimit(_pid, LibC.RLIMIT_NOFILE, null, read) == 0;
        limits = (read[0], read[1]);
        return isRead;
    }

    private bool TrySet((ulong Soft, ulong Hard) limits)
    {
        ulong* set = stackalloc ulong[] { limits.Soft, limits.Hard };
        return LibC.prlimit(_pid, LibC.RLIMIT_NOFILE, set, null) == 0;
    }
}
