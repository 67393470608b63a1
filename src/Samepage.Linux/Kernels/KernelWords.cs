using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Kernels;

/// <summary>Reads words of the kernel's own memory, many by one call, through a BPF program that does nothing else.</summary>
/// <remarks>
/// <para>The program is of the kind that bpf(2) itself runs (BPF_PROG_TYPE_SYSCALL, Linux 5.14). It is attached to nothing. It goes through a page of slots that it shares with us, and puts in place of each address what is there.
/// It needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, and a kernel that is not locked down for confidentiality.</para>
/// <para>Each word is read by one load where its address is a multiple of 8: what stands together in it was there at one moment.</para>
/// <para>An address of RAM can be read without harm. One of a device's registers must not be given: to read these can have effects.</para>
/// <para>One caller at a time.</para>
/// </remarks>
internal sealed unsafe class KernelWords : IDisposable
{
    /// <summary>How many words are read at once.</summary>
    public const int Capacity = 512;

    /// <summary>The kernel gives up its check of a program for a signal, as .NET sends to its own threads.</summary>
    private const int Attempts = 32;

    private const int EndAt = Capacity * 8, TaskAt = EndAt + 8, ValueBytes = TaskAt + 8, MappedBytes = 2 * 4096;
    private static readonly nint s_failed = -1;
    private readonly FileDescriptor _program;
    private readonly byte* _value;

    private KernelWords(FileDescriptor program, byte* value)
    {
        _program = program;
        _value = value;
    }

    /// <summary>Filled with addresses before <see cref="Read"/>, and with the words that stand there by it. Zero for what cannot be read.</summary>
    public Span<ulong> Slots => new(_value, Capacity);

    /// <summary>Where the <c>task_struct</c> of the thread is that last called <see cref="Read"/>.</summary>
    public ulong Task => *(ulong*)(_value + TaskAt);

    /// <summary>Loads the program.</summary>
    /// <param name="why">What the system refused, for people.</param>
    /// <returns>Null when it is refused.</returns>
    public static KernelWords? TryOpen(out string why)
    {
        LibC.bpf_attr array = new() { map_type = LibC.BPF_MAP_TYPE_ARRAY, key_size = 4, value_size = ValueBytes, max_entries = 1, map_flags = LibC.BPF_F_MMAPABLE };
        if (!TryMake(LibC.BPF_MAP_CREATE, &array, out FileDescriptor? map, out Errno errno))
        {
            why = $"bpf(BPF_MAP_CREATE): {errno}";
            return null;
        }

        using (map)
        {
            ulong[] code = Code(map!.Number);
            ReadOnlySpan<byte> license = "Dual MIT/GPL\0"u8;
            FileDescriptor? program;
            fixed (ulong* instructions = code)
            fixed (byte* words = license)
            {
                LibC.bpf_attr load = new()
                {
                    prog_type = LibC.BPF_PROG_TYPE_SYSCALL,
                    insn_cnt = (uint)code.Length,
                    insns = (ulong)instructions,
                    license = (ulong)words,
                    prog_flags = LibC.BPF_F_SLEEPABLE,
                };
                if (!TryMake(LibC.BPF_PROG_LOAD, &load, out program, out errno))
                {
                    why = $"bpf(BPF_PROG_LOAD): {errno}" + (errno == Errno.EINVAL ? ", as where the kernel is locked down for confidentiality" : "");
                    return null;
                }
            }

            void* value = LibC.mmap(null, MappedBytes, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED, map.Number, 0);
            why = (nint)value == s_failed ? $"mmap(a BPF array): {(Errno)Marshal.GetLastPInvokeError()}" : "";
            if (why.Length == 0)
                return new KernelWords(program!, (byte*)value);
            program!.Dispose();
            return null;
        }
    }

    /// <summary>Reads the words at the addresses that stand in the first <see cref="Slots"/>.</summary>
    /// <param name="count">How many, 0 to <see cref="Capacity"/>.</param>
    /// <returns>Why the program could not be run.</returns>
    public Errno Read(int count)
    {
        *(ulong*)(_value + EndAt) = (ulong)count * 8;
        LibC.bpf_attr run = new() { test_prog_fd = (uint)_program.Number };
        return LibC.syscall(SyscallNumbers.bpf, LibC.BPF_PROG_RUN, (nint)(&run), sizeof(LibC.bpf_attr), 0, 0) == 0 ? Errno.None : (Errno)Marshal.GetLastPInvokeError();
    }

    /// <summary>Reads one word.</summary>
    /// <returns>Zero when it cannot be read.</returns>
    public ulong ReadOne(ulong address)
    {
        Slots[0] = address;
        return Read(1) == Errno.None ? Slots[0] : 0;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ = LibC.munmap(_value, MappedBytes);
        _program.Dispose();
    }

    /// <summary>Instructions as linux/bpf.h lays them out: code, registers, offset of a jump or of memory, number.</summary>
    /// <remarks>r7 is the shared page, r8 the slot's place in it, r6 the end of those in use. The kernel checks the loop turn by turn, which is what bounds <see cref="Capacity"/>.</remarks>
    private static ulong[] Code(int map)
    {
        const int Move = LibC.BPF_ALU64 | LibC.BPF_MOV, Add = LibC.BPF_ALU64 | LibC.BPF_ADD, Load = LibC.BPF_LDX | LibC.BPF_MEM | LibC.BPF_DW, Call = LibC.BPF_JMP | LibC.BPF_CALL;
        return
        [
            One(LibC.BPF_LD | LibC.BPF_IMM | LibC.BPF_DW, to: 7, from: LibC.BPF_PSEUDO_MAP_VALUE, number: map),
            0, // the second half of the first: the place in the value
            One(Call, number: LibC.BPF_FUNC_get_current_task),
            One(LibC.BPF_STX | LibC.BPF_MEM | LibC.BPF_DW, to: 7, from: 0, offset: TaskAt),
            One(Load, to: 6, from: 7, offset: EndAt),
            One(Move | LibC.BPF_K, to: 8, number: 0),
            One(LibC.BPF_JMP | LibC.BPF_JGE | LibC.BPF_X, to: 8, from: 6, offset: 7), // to the end
            One(Move | LibC.BPF_X, to: 1, from: 7),
            One(Add | LibC.BPF_X, to: 1, from: 8),
            One(Move | LibC.BPF_K, to: 2, number: 8),
            One(Load, to: 3, from: 1),
            One(Call, number: LibC.BPF_FUNC_probe_read_kernel), // r3 is from where, r1 whereto, r2 how many bytes; fills with zeros what it cannot read
            One(Add | LibC.BPF_K, to: 8, number: 8),
            One(LibC.BPF_JMP | LibC.BPF_JNE | LibC.BPF_K, to: 8, offset: -8, number: Capacity * 8), // to the comparison
            One(Move | LibC.BPF_K, to: 0, number: 0),
            One(LibC.BPF_JMP | LibC.BPF_EXIT),
        ];

        static ulong One(int code, int to = 0, int from = 0, int offset = 0, int number = 0) => unchecked((byte)code | (ulong)(to | from << 4) << 8 | (ulong)(ushort)offset << 16 | (ulong)(uint)number << 32);
    }

    private static bool TryMake(int command, LibC.bpf_attr* what, out FileDescriptor? made, out Errno errno)
    {
        nint number;
        int attempts = 0;
        do
        {
            number = LibC.syscall(SyscallNumbers.bpf, command, (nint)what, sizeof(LibC.bpf_attr), 0, 0);
            errno = number < 0 ? (Errno)Marshal.GetLastPInvokeError() : Errno.None;
        }
        while (errno == Errno.EAGAIN && ++attempts < Attempts);
        made = number < 0 ? null : new FileDescriptor((int)number);
        return number >= 0;
    }
}
