using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>Mounts of a thread of ours, and what is mounted where: mount_namespaces(7).</summary>
public static unsafe class MountNamespace
{
    private const int SIGPIPE = 13;

    /// <summary>Gives the calling thread, and the programs that it starts, mounts of their own: what is mounted there from now on nobody else sees.</summary>
    /// <exception cref="SyscallException">The system refused: CAP_SYS_ADMIN is wanted.</exception>
    public static void Enter()
    {
        if (LibC.unshare(LibC.CLONE_NEWNS) != 0)
            throw new SyscallException("unshare", "CLONE_NEWNS", (Errno)Marshal.GetLastPInvokeError());
        if (LibC.mount("none", "/", null, LibC.MS_REC | LibC.MS_SLAVE, null) != 0)
            throw new SyscallException("mount", "MS_SLAVE on /", (Errno)Marshal.GetLastPInvokeError());
    }

    /// <summary>Shows a file or directory at another place too.</summary>
    /// <exception cref="SyscallException">The system refused; ENOENT where one of them is gone.</exception>
    public static void Bind(string source, string target)
    {
        if (LibC.mount(source, target, null, LibC.MS_BIND, null) != 0)
            throw new SyscallException("mount", $"{source} at {target}", (Errno)Marshal.GetLastPInvokeError());
    }

    /// <summary>Becomes another program, which keeps the calling thread's mounts.</summary>
    /// <param name="command">The program, looked for in PATH, and its arguments.</param>
    /// <returns>Why it could not be.</returns>
    public static Errno Become(string[] command)
    {
        nint* arguments = (nint*)NativeMemory.AllocZeroed((nuint)(command.Length + 1), (nuint)sizeof(nint));
        for (int i = 0; i < command.Length; i++)
            arguments[i] = Marshal.StringToCoTaskMemUTF8(command[i]);
        // What is ignored stays so over an exec, and our runtime ignores SIGPIPE.
        _ = LibC.signal(SIGPIPE, 0);
        _ = LibC.execvp(command[0], arguments);
        Errno errno = (Errno)Marshal.GetLastPInvokeError();
        for (int i = 0; i < command.Length; i++)
            Marshal.FreeCoTaskMem(arguments[i]);
        NativeMemory.Free(arguments);
        return errno;
    }
}
