using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Samepage.Linux.Interop;

namespace Samepage.Linux;

/// <summary>The lock of an open file, flock(2). It is one with all copies of the descriptor, also those that programs inherit, and given up with the last of them.</summary>
/// <remarks>Whoever may read a file may lock it. So a lock says something where the file is ours alone, and nowhere else.</remarks>
public static class FileLock
{
    /// <summary>Takes it for us alone, and waits for nobody.</summary>
    /// <returns>False when somebody else has it.</returns>
    /// <exception cref="SyscallException">The system refused: this file system may have no locks.</exception>
    public static bool TryTake(SafeFileHandle file)
    {
        if (LibC.flock((int)file.DangerousGetHandle(), LibC.LOCK_EX | LibC.LOCK_NB) == 0)
            return true;
        Errno errno = (Errno)Marshal.GetLastPInvokeError();
        return errno == Errno.EAGAIN ? false : throw new SyscallException("flock", "LOCK_EX", errno);
    }

    /// <summary>Gives it up, whoever has copies of the descriptor.</summary>
    public static void GiveUp(SafeFileHandle file) => _ = LibC.flock((int)file.DangerousGetHandle(), LibC.LOCK_UN);
}
