namespace Samepage.Linux.Interop;

/// <summary>Calls that libc of Debian 12 has no function for. These numbers are the same on every architecture that this project may meet.</summary>
internal static class SyscallNumbers
{
    public const int pidfd_open = 434, pidfd_getfd = 438, fsopen = 430, fsconfig = 431, fsmount = 432;
}
