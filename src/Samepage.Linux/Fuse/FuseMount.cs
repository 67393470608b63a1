using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Fuse;

/// <summary>Mounts of ours in this mount namespace.</summary>
public static class FuseMount
{
    /// <summary>What our mounts are called in <c>/proc/self/mountinfo</c>.</summary>
    public const string FileSystem = "fuse.samepage";

    /// <summary>Mounts a tree that is served over a descriptor of <c>/dev/fuse</c>.</summary>
    /// <exception cref="SyscallException">The system refused.</exception>
    internal static void Mount(FileDescriptor device, string path)
    {
        string options = $"fd={device.Number},rootmode={Convert.ToString(LibC.S_IFDIR | 0x1ed, 8)},user_id=0,group_id=0,allow_other,default_permissions";
        if (LibC.mount("samepage", path, FileSystem, LibC.MS_NOSUID | LibC.MS_NODEV | LibC.MS_NOEXEC | LibC.MS_NOATIME, options) != 0)
            throw new SyscallException("mount", $"{FileSystem} at {path}", (Errno)Marshal.GetLastPInvokeError());
    }

    /// <summary>Unmounts what we mounted at a path, now or in an earlier life, whoever still uses it: they see ENOTCONN.</summary>
    /// <param name="path">An absolute path without links.</param>
    /// <exception cref="SyscallException">The system refused.</exception>
    public static void Clear(string path)
    {
        while (IsOurs(path))
        {
            if (LibC.umount2(path, LibC.MNT_DETACH | LibC.UMOUNT_NOFOLLOW) != 0)
                throw new SyscallException("umount2", path, (Errno)Marshal.GetLastPInvokeError());
        }
    }

    /// <summary>Whether the topmost mount at a path is one of ours.</summary>
    /// <param name="path">An absolute path without links.</param>
    public static bool IsOurs(string path)
    {
        string? top = null;
        foreach (string line in Lines())
        {
            // "36 35 98:0 /root /where options … - type source options", proc_pid_mountinfo(5)
            string[] fields = line.Split(' ');
            int dash = Array.IndexOf(fields, "-");
            if (Unescaped(fields[4]) == path)
                top = fields[dash + 1];
        }

        return top == FileSystem;
    }

    /// <summary>The lines of <c>/proc/self/mountinfo</c>. They end with a line feed and with nothing else: a mount's name may hold a carriage return, and any user may be able to mount (fusermount).</summary>
    public static string[] Lines() => File.ReadAllText("/proc/self/mountinfo").Split('\n', StringSplitOptions.RemoveEmptyEntries);

    private static string Unescaped(string field) =>
        field.Replace("\\040", " ", StringComparison.Ordinal).Replace("\\011", "\t", StringComparison.Ordinal).Replace("\\012", "\n", StringComparison.Ordinal).Replace("\\134", "\\", StringComparison.Ordinal);
}
