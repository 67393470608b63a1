using System.Runtime.InteropServices;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

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
        // One may lie upon another: until none goes any more.
        for (bool some = true; some;)
        {
            (string Id, string Place, string Device, string Type)[] mounts = [.. Read()];
            some = false;
            foreach ((string id, string place, string _, string _) in mounts.Where(mount => mount.Type == FileSystem && devices.Contains(mount.Device)))
                some |= !mounts.Any(mount => MayKeepWaiting(mount.Type) && !devices.Contains(mount.Device) && place.StartsWith(mount.Place + "/", StringComparison.Ordinal)) && TryUnmount(id, place);
        }
    }

    /// <summary>Whoever serves such a file system can keep all who go through it.</summary>
    private static bool MayKeepWaiting(string type) => type.StartsWith("fuse", StringComparison.Ordinal) || type.StartsWith("nfs", StringComparison.Ordinal) || type is "cifs" or "smb3" or "9p" or "ceph" or "afs" or "autofs";

    /// <summary>Unmounts one mount, if it is what is found at its place: something else may have been mounted, or moved, over it or over a directory on the way, in whatever order the kernel lists them; and who owns such a
    /// directory may put a link in its place.</summary>
    private static bool TryUnmount(string id, string place)
    {
        int number = LibC.open(place, LibC.O_PATH | LibC.O_NOFOLLOW | LibC.O_CLOEXEC, 0);
        if (number < 0)
            return false;
        using FileDescriptor found = new(number);
        return ProcFile.TryRead($"/proc/self/fdinfo/{number}", out string text) && text.Split('\n').Contains($"mnt_id:\t{id}") && LibC.umount2($"/proc/self/fd/{number}", LibC.MNT_DETACH) == 0;
    }

    /// <summary>Whether the topmost mount at a path is one of ours.</summary>
    /// <param name="path">An absolute path without links.</param>
    public static bool IsOurs(string path) => Top(path) is { Type: FileSystem };

    private static (string Id, string Place, string Device, string Type)? Top(string path) =>
        Read().Where(mount => mount.Place == path).Select(mount => ((string, string, string, string)?)mount).LastOrDefault();

    private static void Unmount(string path)
    {
        if (LibC.umount2(path, LibC.MNT_DETACH | LibC.UMOUNT_NOFOLLOW) != 0)
            throw new SyscallException("umount2", path, (Errno)Marshal.GetLastPInvokeError());
    }

    private static IEnumerable<(string Id, string Place, string Device, string Type)> Read()
    {
        foreach (string line in Lines())
        {
            // "36 35 98:0 /root /where options … - type source options", proc_pid_mountinfo(5)
            string[] fields = line.Split(' ');
            yield return (fields[0], Unescaped(fields[4]), fields[2], fields[Array.IndexOf(fields, "-") + 1]);
        }
    }

    /// <summary>The lines of <c>/proc/self/mountinfo</c>. They end with a line feed and with nothing else: a mount's name may hold a carriage return, and any user may be able to mount (fusermount).</summary>
    public static string[] Lines() => File.ReadAllText("/proc/self/mountinfo").Split('\n', StringSplitOptions.RemoveEmptyEntries);

    private static string Unescaped(string field) =>
        field.Replace("\\040", " ", StringComparison.Ordinal).Replace("\\011", "\t", StringComparison.Ordinal).Replace("\\012", "\n", StringComparison.Ordinal).Replace("\\134", "\\", StringComparison.Ordinal);
}
