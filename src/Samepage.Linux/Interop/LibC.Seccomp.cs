namespace Samepage.Linux.Interop;

/// <content>linux/seccomp.h, linux/filter.h, linux/bpf_common.h, and what sys/ptrace.h and linux/capability.h have for filters.</content>
internal static partial class LibC
{
    public const int PTRACE_SECCOMP_GET_FILTER = 0x420C;
    public const int SECCOMP_MODE_FILTER = 2;
    public const int CAP_SYS_ADMIN = 21;

    public const uint SECCOMP_RET_KILL_PROCESS = 0x80000000, SECCOMP_RET_KILL_THREAD = 0, SECCOMP_RET_TRAP = 0x00030000, SECCOMP_RET_ERRNO = 0x00050000, SECCOMP_RET_USER_NOTIF = 0x7FC00000,
        SECCOMP_RET_TRACE = 0x7FF00000, SECCOMP_RET_LOG = 0x7FFC0000, SECCOMP_RET_ALLOW = 0x7FFF0000, SECCOMP_RET_ACTION_FULL = 0xFFFF0000;

    // Those that classic BPF has in common with the later kind, whose list (LibC.Bpf.cs) has LD, LDX, STX, JMP, IMM, MEM, ADD, JGE, K and X, have the same values there.
    public const int BPF_ST = 0x02, BPF_ALU = 0x04, BPF_RET = 0x06, BPF_MISC = 0x07;
    public const int BPF_ABS = 0x20, BPF_LEN = 0x80;
    public const int BPF_SUB = 0x10, BPF_MUL = 0x20, BPF_DIV = 0x30, BPF_OR = 0x40, BPF_AND = 0x50, BPF_LSH = 0x60, BPF_RSH = 0x70, BPF_NEG = 0x80, BPF_XOR = 0xA0;
    public const int BPF_JA = 0x00, BPF_JEQ = 0x10, BPF_JGT = 0x20, BPF_JSET = 0x40;
    public const int BPF_A = 0x10, BPF_TAX = 0x00, BPF_TXA = 0x80;
    public const int BPF_MEMWORDS = 16, BPF_MAXINSNS = 4096;
}
