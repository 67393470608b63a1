namespace Samepage.Linux;

/// <summary>Paths as the kernel names them.</summary>
public static class RealPath
{
    /// <summary>The path of a directory without links, as <c>/proc/self/mountinfo</c> spells it.</summary>
    /// <param name="directory">A path that may lead over links.</param>
    /// <exception cref="SyscallException">There is no such directory, or it may not be looked at.</exception>
    public static string Of(string directory)
    {
        using FileDescriptor opened = FileDescriptor.OpenPlace(directory);
        return File.ResolveLinkTarget($"/proc/self/fd/{opened.Number}", returnFinalTarget: false)!.FullName;
    }
}
