using System.Runtime.InteropServices;

namespace Samepage.Linux.Interop;

/// <summary>sys/ptrace.h and sys/wait.h. Registers are processor-specific and stand with the agent's processor folder.</summary>
internal static partial class LibC
{
    public const int PTRACE_CONT = 7, PTRACE_GETREGS = 12, PTRACE_SETREGS = 13, PTRACE_DETACH = 17, PTRACE_SYSCALL = 24,
        PTRACE_SETOPTIONS = 0x4200, PTRACE_GETSIGINFO = 0x4202, PTRACE_GETREGSET = 0x4204, PTRACE_SEIZE = 0x4206, PTRACE_INTERRUPT = 0x4207, PTRACE_GETSIGMASK = 0x420A, PTRACE_SETSIGMASK = 0x420B, PTRACE_GET_SYSCALL_INFO = 0x420E,
        PTRACE_GET_RSEQ_CONFIGURATION = 0x420F, PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG = 0x4211;

    public const int PTRACE_EVENT_STOP = 128, PTRACE_O_TRACESYSGOOD = 1, PTRACE_O_SUSPEND_SECCOMP = 1 << 21;
    public const int WNOHANG = 1, __WALL = 0x40000000;
    public const int SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11, SIGSTOP = 19, SIGTSTP = 20, SIGTTIN = 21, SIGTTOU = 22, SIGSYS = 31;
    public const int NT_X86_XSTATE = 0x202, NT_X86_SHSTK = 0x204;
    public const uint AUDIT_ARCH_X86_64 = 0xC000003E;
    public const int PIDFD_THREAD = O_EXCL;

    /// <summary><c>struct ptrace_rseq_configuration</c>, linux/ptrace.h.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct ptrace_rseq_configuration
    {
        public ulong rseq_abi_pointer;
        public uint rseq_abi_size;
        public uint signature;
        public uint flags;
        public uint pad;
    }

    /// <summary><c>struct ptrace_syscall_info</c>, linux/ptrace.h; its union is left out.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 88)]
    public struct ptrace_syscall_info
    {
        public byte op;
        public uint arch;
        public ulong instruction_pointer;
        public ulong stack_pointer;
    }

    /// <summary><c>struct ptrace_sud_config</c>, linux/ptrace.h.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct ptrace_sud_config
    {
        public ulong mode;
        public ulong selector;
        public ulong offset;
        public ulong len;
    }

    /// <summary><c>siginfo_t</c>, its beginning.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 128)]
    public struct siginfo_t
    {
        public int si_signo;
        public int si_errno;
        public int si_code;
    }

    /// <summary><c>struct user_regs_struct</c>, sys/user.h on x86-64.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct user_regs_struct
    {
        public ulong r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss,
            fs_base, gs_base, ds, es, fs, gs;
    }
}
