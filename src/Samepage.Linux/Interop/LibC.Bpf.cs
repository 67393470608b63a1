using System.Runtime.InteropServices;

namespace Samepage.Linux.Interop;

/// <content>linux/bpf.h and linux/btf.h: programs that the kernel runs, and its type information.</content>
internal static unsafe partial class LibC
{
    public const int BPF_MAP_CREATE = 0, BPF_PROG_LOAD = 5, BPF_PROG_RUN = 10;
    public const uint BPF_MAP_TYPE_ARRAY = 2, BPF_PROG_TYPE_SYSCALL = 31, BPF_F_SLEEPABLE = 1 << 4, BPF_F_MMAPABLE = 1 << 10;
    public const int BPF_PSEUDO_MAP_VALUE = 2, BPF_FUNC_get_current_task = 35, BPF_FUNC_probe_read_kernel = 113;

    public const int BPF_LD = 0, BPF_LDX = 1, BPF_STX = 3, BPF_JMP = 5, BPF_ALU64 = 7;
    public const int BPF_IMM = 0, BPF_MEM = 0x60, BPF_DW = 0x18, BPF_K = 0, BPF_X = 8;
    public const int BPF_ADD = 0, BPF_MOV = 0xB0, BPF_JGE = 0x30, BPF_JNE = 0x50, BPF_CALL = 0x80, BPF_EXIT = 0x90;

    public const int BTF_MAGIC = 0xEB9F;
    public const int BTF_KIND_INT = 1, BTF_KIND_PTR = 2, BTF_KIND_ARRAY = 3, BTF_KIND_STRUCT = 4, BTF_KIND_UNION = 5, BTF_KIND_ENUM = 6, BTF_KIND_FWD = 7,
        BTF_KIND_TYPEDEF = 8, BTF_KIND_VOLATILE = 9, BTF_KIND_CONST = 10, BTF_KIND_RESTRICT = 11, BTF_KIND_FUNC = 12, BTF_KIND_FUNC_PROTO = 13,
        BTF_KIND_VAR = 14, BTF_KIND_DATASEC = 15, BTF_KIND_FLOAT = 16, BTF_KIND_DECL_TAG = 17, BTF_KIND_TYPE_TAG = 18, BTF_KIND_ENUM64 = 19;

    /// <summary><c>union bpf_attr</c>, the fields of three commands; newer kernels have more, which are zero.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 80)]
    public struct bpf_attr
    {
        [FieldOffset(0)] public uint map_type;
        [FieldOffset(4)] public uint key_size;
        [FieldOffset(8)] public uint value_size;
        [FieldOffset(12)] public uint max_entries;
        [FieldOffset(16)] public uint map_flags;
        [FieldOffset(0)] public uint prog_type;
        [FieldOffset(4)] public uint insn_cnt;
        [FieldOffset(8)] public ulong insns;
        [FieldOffset(16)] public ulong license;
        [FieldOffset(44)] public uint prog_flags;
        [FieldOffset(0)] public uint test_prog_fd;
    }

    /// <summary><c>struct btf_header</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct btf_header
    {
        public ushort magic;
        public byte version;
        public byte flags;
        public uint hdr_len;
        public uint type_off;
        public uint type_len;
        public uint str_off;
        public uint str_len;
    }

    /// <summary><c>struct btf_type</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct btf_type
    {
        public uint name_off;
        public uint info;
        public uint size;
    }

    /// <summary><c>struct btf_member</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct btf_member
    {
        public uint name_off;
        public uint type;
        public uint offset;
    }
}
