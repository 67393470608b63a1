namespace Samepage.Linux.Interop;

/// <summary>Calls that libc of Debian 12 has no function for. The numbers are those of x86-64; from 424 on they are the same on every architecture.</summary>
internal static class SyscallNumbers
{
    public const int capget = 125, capset = 126, move_pages = 279, kcmp = 312, bpf = 321, pidfd_open = 434, pidfd_getfd = 438, fsopen = 430, fsconfig = 431, fsmount = 432, open_tree = 428, move_mount = 429,
        mount_setattr = 442, io_uring_setup = 425, io_uring_register = 427, landlock_create_ruleset = 444;
}
