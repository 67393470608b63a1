using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent.X64;

/// <summary>Finds a system call instruction that a program itself has.</summary>
internal static class SystemCallIn
{
    /// <param name="pid">The process.</param>
    /// <param name="thread">A thread of it that lives.</param>
    /// <param name="registers">Its registers.</param>
    /// <returns>The address of one: the one that the thread is in, if it is in a call; the vDSO's before others.</returns>
    /// <exception cref="AttachException">It has none that can be read.</exception>
    public static ulong Find(int pid, int thread, in LibC.user_regs_struct registers)
    {
        RemoteMemory memory = new(thread);
        Span<byte> two = stackalloc byte[2];
        if ((long)registers.orig_rax >= 0 && memory.Read(registers.rip - 2, two) == 2 && two is [0x0f, 0x05])
            return registers.rip - 2;
        List<Mapping> mappings = [];
        _ = Mapping.TryReadAll($"/proc/{pid}/task/{thread}/maps", mappings);
        byte[] code = new byte[1 << 20];
        // What stands in the vsyscall page is not run, but emulated.
        foreach (Mapping mapping in mappings.Where(m => m is { Executable: true, Readable: true } && m.Name != "[vsyscall]").OrderByDescending(m => m.Name == "[vdso]"))
        {
            for (ulong at = mapping.Start; at < mapping.End; at += (ulong)code.Length - 1)
            {
                int read = memory.Read(at, code.AsSpan(0, (int)Math.Min((ulong)code.Length, mapping.End - at)));
                int found = code.AsSpan(0, read).IndexOf([(byte)0x0f, (byte)0x05]);
                if (found >= 0)
                    return at + (ulong)found;
            }
        }

        throw new AttachException("the program has no system call instruction to borrow");
    }
}
