using System.Runtime.InteropServices;
using System.Text;
using Samepage.Linux.Interop;

namespace Samepage.Linux.ProcFs;

/// <summary>Links below <c>/proc</c>, which are read and never followed.</summary>
/// <remarks>What a program has open may lie on a file system of its own, which need not answer. The runtime's ways to list a folder, and to read a link, look at what links lead to (stat(2)), and would wait for
/// that. To read the link itself asks nobody but the kernel.</remarks>
public static unsafe class ProcLinks
{
    private const int Longest = 4096;

    /// <summary>What a link says.</summary>
    /// <returns>Null when it is gone, or may not be read.</returns>
    public static string? TargetOf(string path)
    {
        byte* buffer = stackalloc byte[Longest];
        nint length = LibC.readlink(path, buffer, Longest);
        return length < 0 ? null : Encoding.UTF8.GetString(buffer, (int)length);
    }

    /// <summary>The names in a folder, without those of itself and its parent.</summary>
    /// <returns>Empty when it is gone, or may not be read.</returns>
    public static List<string> NamesIn(string folder)
    {
        List<string> names = [];
        nint opened = LibC.opendir(folder);
        if (opened == 0)
            return names;
        for (byte* entry = LibC.readdir(opened); entry is not null; entry = LibC.readdir(opened))
        {
            string name = Marshal.PtrToStringUTF8((nint)(entry + LibC.DirentName))!;
            if (name is not ("." or ".."))
                names.Add(name);
        }

        _ = LibC.closedir(opened);
        return names;
    }
}
