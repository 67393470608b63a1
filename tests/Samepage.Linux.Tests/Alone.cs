using System.Runtime.InteropServices;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>Tests that change what all of this process have, and that none runs beside.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

/// <summary>Fewer descriptors for this process, RLIMIT_NOFILE, until this is disposed.</summary>
internal sealed unsafe partial class FewDescriptors : IDisposable
{
    private const int RLIMIT_NOFILE = 7;
    private readonly ulong _before;

    private FewDescriptors(ulong limit)
    {
        ulong* limits = stackalloc ulong[2];
        Assert.Equal(0, getrlimit(RLIMIT_NOFILE, limits));
        _before = limits[0];
        limits[0] = limit;
        Assert.Equal(0, setrlimit(RLIMIT_NOFILE, limits));
    }

    /// <summary>None is left at all.</summary>
    public static FewDescriptors None() => new(0);

    /// <summary>None is left for programs, and some are for this process itself.</summary>
    public static FewDescriptors NoneForPrograms()
    {
        // Of which a quarter is kept.
        FewDescriptors few = new((ulong)OpenFiles.Count(Environment.ProcessId) * 5 / 4);
        Assert.True(OpenFiles.LeftForPrograms() <= 0);
        return few;
    }

    public void Dispose()
    {
        ulong* limits = stackalloc ulong[2];
        Assert.Equal(0, getrlimit(RLIMIT_NOFILE, limits));
        limits[0] = _before;
        Assert.Equal(0, setrlimit(RLIMIT_NOFILE, limits));
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int getrlimit(int resource, ulong* limits);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setrlimit(int resource, ulong* limits);
}
