using System.Runtime.InteropServices;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;

namespace Samepage.Linux.Frames;

/// <summary>A second view of a mount that is in nobody's namespace, read-only, and in nobody's namespace either.</summary>
/// <remarks>
/// Before Linux 6.15 open_tree(2) clones only what lies in the caller's own mount namespace: it answers EINVAL for a mount that was never attached. So a thread gets a namespace of its own,
/// which is copied from ours and which nobody else ever sees; attaches the mount there, at a place that every machine has; clones it; and ends, and the namespace with it. The mount is detached then
/// for good, and the clone was never attached. Newer kernels would not need this, and do the same, so that there is one way, which every test goes.
/// </remarks>
internal static unsafe class MountView
{
    private const nint MoveMountFromEmptyPath = 4;

    /// <param name="mount">The mount.</param>
    /// <param name="start">Starts a thread; null as the runtime does.</param>
    /// <exception cref="SyscallException">The system refused: CAP_SYS_ADMIN is wanted, and a thread.</exception>
    public static FileDescriptor ReadOnly(FileDescriptor mount, Action<Thread>? start = null)
    {
        FileDescriptor? view = null;
        SyscallException? refused = null;
        // Not one of the pool's: it has other mounts than everybody else from now on.
        Thread apart = new(() =>
        {
            try
            {
                MountNamespace.Enter();
                view = Clone(mount);
            }
            catch (SyscallException why)
            {
                refused = why;
            }
        })
        { Name = "view of a mount" };
        OwnThread.Start(apart, start);
        apart.Join();
        if (view is null)
            throw refused!;
        LibC.mount_attr readOnly = new() { attr_set = LibC.MOUNT_ATTR_RDONLY | LibC.MOUNT_ATTR_NOSUID | LibC.MOUNT_ATTR_NODEV };
        if (LibC.syscall(SyscallNumbers.mount_setattr, view.Number, "", (nint)LibC.AT_EMPTY_PATH, &readOnly, sizeof(LibC.mount_attr)) == 0)
            return view;
        SyscallException failed = Failed("mount_setattr", "MOUNT_ATTR_RDONLY");
        view.Dispose();
        throw failed;
    }

    private static FileDescriptor Clone(FileDescriptor mount)
    {
        if (LibC.syscall(SyscallNumbers.move_mount, mount.Number, "", LibC.AT_FDCWD, "/proc", MoveMountFromEmptyPath) != 0)
            throw Failed("move_mount", "a mount, to /proc of a namespace of its own");
        nint clone = LibC.syscall(SyscallNumbers.open_tree, mount.Number, "", (nint)(LibC.OPEN_TREE_CLONE | LibC.OPEN_TREE_CLOEXEC | LibC.AT_EMPTY_PATH), (void*)null, 0);
        return clone >= 0 ? new FileDescriptor((int)clone) : throw Failed("open_tree", "a mount");
    }

    private static SyscallException Failed(string call, string subject) => new(call, subject, (Errno)Marshal.GetLastPInvokeError());
}
