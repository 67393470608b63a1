using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.ProcFs;

/// <summary>Of which class a program is, elf(5): by the vector that the kernel gave it at its start, getauxval(3).</summary>
/// <remarks>The program's file would say it, too. It may lie on a file system that does not answer (FUSE, a server that is gone), and whoever opens it waits. The vector is the kernel's own. A program may have it changed
/// (PR_SET_MM), as it may run code of the other class whatever it was started as: whoever holds threads looks at each of them.</remarks>
public static unsafe class ProgramClass
{
    private const ulong AT_PHENT = 4;

    /// <summary>The size of a program header in a file of the class.</summary>
    private const ulong Elf32Header = 32, Elf64Header = 56;

    private const int VectorBytes = 1024;

    /// <summary>Whether a program is of the 32-bit class; false where it cannot be told, or is gone.</summary>
    /// <param name="pid">The process, or a thread of it that lives.</param>
    public static bool IsThirtyTwoBit(int pid)
    {
        if (!FileDescriptor.TryOpen($"/proc/{pid}/auxv", writable: false, out FileDescriptor? file, out _))
            return false;
        using (file)
        {
            byte* buffer = stackalloc byte[VectorBytes];
            nint length = LibC.read(file!.Number, buffer, VectorBytes);
            return length > 0 && IsThirtyTwoBit(new ReadOnlySpan<byte>(buffer, (int)length));
        }
    }

    /// <summary>Whether a vector is one of a 32-bit program: pairs of words of 4 bytes, in place of 8, one of which says how large a program header is.</summary>
    public static bool IsThirtyTwoBit(ReadOnlySpan<byte> vector)
    {
        ReadOnlySpan<ulong> wide = MemoryMarshal.Cast<byte, ulong>(vector);
        for (int i = 0; i + 1 < wide.Length; i += 2)
        {
            if (wide[i] == AT_PHENT && wide[i + 1] == Elf64Header)
                return false;
        }

        ReadOnlySpan<uint> narrow = MemoryMarshal.Cast<byte, uint>(vector);
        for (int i = 0; i + 1 < narrow.Length; i += 2)
        {
            if (narrow[i] == AT_PHENT && narrow[i + 1] == Elf32Header)
                return true;
        }

        return false;
    }
}
