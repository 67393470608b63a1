using System.Runtime.InteropServices;

namespace Samepage.Linux.Interop;

/// <content>Memory that processes share by a file: linux/memfd.h, fcntl.h, sys/file.h.</content>
internal static unsafe partial class LibC
{
    public const uint MFD_NOEXEC_SEAL = 8;
    public const int F_ADD_SEALS = 1033, F_GET_SEALS = 1034;
    public const int F_SEAL_SEAL = 1, F_SEAL_SHRINK = 2, F_SEAL_GROW = 4, F_SEAL_WRITE = 8, F_SEAL_FUTURE_WRITE = 16, F_SEAL_EXEC = 32;
    public const int LOCK_EX = 2, LOCK_NB = 4, LOCK_UN = 8;

    [LibraryImport("libc", SetLastError = true)]
    public static partial int flock(int fd, int operation);
}
