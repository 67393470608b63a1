using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>What two processes have in common, kcmp(2).</summary>
public static class Kinship
{
    private const int KcmpVm = 1;

    /// <summary>Whether two processes have one address space. False where the kernel cannot say.</summary>
    public static bool ShareMemory(int pid, int other) => LibC.syscall(SyscallNumbers.kcmp, pid, other, KcmpVm, 0, 0) == 0;
}
