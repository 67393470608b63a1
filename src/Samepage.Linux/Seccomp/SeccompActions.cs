using static Samepage.Linux.Interop.LibC;

namespace Samepage.Linux.Seccomp;

/// <summary>What can come of a call under seccomp filters: each flag is an action that can be reached.</summary>
[Flags]
public enum SeccompActions
{
    /// <summary>Nothing: no call comes to this.</summary>
    None = 0,

    /// <summary>It is made.</summary>
    Allow = 1,

    /// <summary>It is made, and the kernel may write a line about it into its log.</summary>
    Log = 2,

    /// <summary>It is not made and gives an error number; the number may be 0.</summary>
    Errno = 4,

    /// <summary>It is not made, and the thread gets SIGSYS.</summary>
    Trap = 8,

    /// <summary>A tracer decides; without one it gives ENOSYS.</summary>
    Trace = 16,

    /// <summary>A supervisor decides.</summary>
    UserNotify = 32,

    /// <summary>The thread is killed, and with it the process if it has no other.</summary>
    KillThread = 64,

    /// <summary>The process is killed; so it is for an action that the kernel does not know.</summary>
    KillProcess = 128,

    /// <summary>It could not be told: it may be any of them.</summary>
    Unknown = 256,
}

/// <summary>The kernel's words for actions.</summary>
internal static class ActionWords
{
    /// <summary>What the kernel does for a filter's answer.</summary>
    /// <param name="word">The answer; its lower half, which is data, counts for nothing.</param>
    public static SeccompActions Meaning(uint word) => (word & SECCOMP_RET_ACTION_FULL) switch
    {
        SECCOMP_RET_ALLOW => SeccompActions.Allow,
        SECCOMP_RET_LOG => SeccompActions.Log,
        SECCOMP_RET_ERRNO => SeccompActions.Errno,
        SECCOMP_RET_TRAP => SeccompActions.Trap,
        SECCOMP_RET_TRACE => SeccompActions.Trace,
        SECCOMP_RET_USER_NOTIF => SeccompActions.UserNotify,
        SECCOMP_RET_KILL_THREAD => SeccompActions.KillThread,
        _ => SeccompActions.KillProcess,
    };

    /// <summary>Of the answers of several filters the kernel takes the one that is lowest by this, a signed number.</summary>
    public static int Precedence(uint word) => unchecked((int)(word & SECCOMP_RET_ACTION_FULL));
}
