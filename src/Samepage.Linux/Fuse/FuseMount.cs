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
            Unmount(path);
    }

    /// <summary>Unmounts what we mounted at a path, and wherever else in this mount namespace that was shown (by a bind mount): when its server ends nothing answers there.</summary>
    /// <remarks>First where it was mounted, so that it cannot be shown elsewhere behind the look. What somebody has mounted over it since is his: it stays below that.</remarks>
    /// <inheritdoc cref="Clear"/>
    public static void ClearEverywhere(string path)
    {
        HashSet<string> devices = [.. Read().Where(mount => mount.Type == FileSystem && mount.Place == path).Select(mount => mount.Device)];
        Clear(path);
        if (devices.Count == 0)
            return;
        foreach (string place in Read().Where(mount => devices.Contains(mount.Device)).Select(mount => mount.Place).Distinct().ToArray())
        {
            while (Top(place) is { Type: FileSystem } top && devices.Contains(top.Device))
                Unmount(place);
        }
    }

    /// <summary>Whether the topmost mount at a path is one of ours.</summary>
    /// <param name="path">An absolute path without links.</param>
    public static bool IsOurs(string path) => Top(path) is { Type: FileSystem };

    private static (string Place, string Device, string Type)? Top(string path) =>
        Read().Where(mount => mount.Place == path).Select(mount => ((string, string, string)?)mount).LastOrDefault();

    private static void Unmount(string path)
    {
        if (LibC.umount2(path, LibC.MNT_DETACH | LibC.UMOUNT_NOFOLLOW) != 0)
            throw new SyscallException("umount2", path, (Errno)Marshal.GetLastPInvokeError());
    }

    private static IEnumerable<(string Place, string Device, string Type)> Read()
    {
        foreach (string line in Lines())
        {
            // "36 35 98:0 /root /where options … - type source options", proc_pid_mountinfo(5)
            string[] fields = line.Split(' ');
            yield return (Unescaped(fields[4]), fields[2], fields[Array.IndexOf(fields, "-") + 1]);
        }
    }

    /// <summary>The lines of <c>/proc/self/mountinfo</c>. They end with a line feed and with nothing else: a mount's name may hold a carriage return, and any user may be able to mount (fusermount).</summary>
    public static string[] Lines() => File.ReadAllText("/proc/self/mountinfo").Split('\n', StringSplitOptions.RemoveEmptyEntries);

    private static string Unescaped(string field) =>
        field.Replace("\\040", " ", StringComparison.Ordinal).Replace("\\011", "\t", StringComparison.Ordinal).Replace("\\012", "\n", StringComparison.Ordinal).Replace("\\134", "\\", StringComparison.Ordinal);
}
