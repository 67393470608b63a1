using System.Runtime.InteropServices;
using Samepage.Agent.Tracing;
using Samepage.Linux;
using Samepage.Linux.Interop;

namespace Samepage.Agent;

/// <summary>A program that watches over the daemon from beside it, as a file that can be run.</summary>
public sealed unsafe class GuardianProgram : IDisposable
{
    private readonly FileDescriptor _file;

    /// <summary>Makes the file; it lies in memory.</summary>
    /// <exception cref="SyscallException">The system refused.</exception>
    public GuardianProgram()
    {
        int number = LibC.memfd_create("samepage-guardian", LibC.MFD_CLOEXEC | LibC.MFD_EXEC);
        if (number < 0)
            throw new SyscallException("memfd_create", "samepage-guardian", (Errno)Marshal.GetLastPInvokeError());
        _file = new FileDescriptor(number);
        byte[] image = X64.GuardianAssembler.Assemble();
        fixed (byte* bytes = image)
        {
            if (LibC.write(number, bytes, (nuint)image.Length) != image.Length)
                throw new SyscallException("write", "samepage-guardian", (Errno)Marshal.GetLastPInvokeError());
        }
    }

    /// <summary>Where it can be run from, until this is disposed.</summary>
    public string Path => $"/proc/{Environment.ProcessId}/fd/{_file.Number}";

    /// <summary>What it is to be called with.</summary>
    /// <param name="command">What it becomes when this process dies without having said <c>well</c> to it.</param>
    public static IEnumerable<string> Arguments(IEnumerable<string> command) => ["samepage-guardian", HoldBoard.Path, $"/proc/{Environment.ProcessId}/stat", .. command];

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();
}
