using System.Runtime.InteropServices;

namespace Samepage.Linux.Interop;

/// <content>Names in folders, what links lead to, and how many descriptors there may be: dirent.h, unistd.h, sys/resource.h.</content>
internal static unsafe partial class LibC
{
    /// <summary>Where the name begins in <c>struct dirent</c>.</summary>
    public const int DirentName = 19;

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint readlink(string path, byte* buffer, nuint size);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint opendir(string name);

    [LibraryImport("libc", SetLastError = true)]
    public static partial byte* readdir(nint folder);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int closedir(nint folder);

    public const int RLIMIT_NOFILE = 7;

    /// <summary>Two words: the soft limit and the hard one.</summary>
    [LibraryImport("libc", SetLastError = true)]
    public static partial int getrlimit(int resource, ulong* limits);
}
