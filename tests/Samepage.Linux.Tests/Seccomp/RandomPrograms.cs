using CsCheck;
using Samepage.Linux.Seccomp;
using static Samepage.Linux.Interop.LibC;

namespace Samepage.LinuxTests;

/// <summary>Programs that the kernel takes, and calls for them, whose constants crowd: jumps go both ways, and paths meet again.</summary>
internal static class RandomPrograms
{
    /// <summary>getppid(2), which takes no arguments: it does no harm with any.</summary>
    public const uint Number = 110;

    /// <summary>How many words of memory a program uses; it begins by setting them, as the kernel wants it.</summary>
    private const int Words = 3;

    private static readonly int[] s_alu = [BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR, BPF_AND, BPF_LSH, BPF_RSH, BPF_XOR];
    private static readonly int[] s_jumps = [BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET];

    public static readonly Gen<uint> Constant = Gen.Frequency(
        (6, Gen.UInt[0, 8]), (2, OneOf<uint>(0x80000000u, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 64u, 31u, 32u, 0x10000, Number, AUDIT_ARCH_X86_64)), (1, Gen.UInt), (1, Gen.Int[0, 31].Select(bit => 1u << bit)));

    public static readonly Gen<ulong> Argument = Gen.Select(Constant, Constant).Select((low, high) => low | (ulong)high << 32);

    /// <summary>Answers of every kind; data that is an error number but not ENOSYS, which the kernel gives of its own.</summary>
    private static readonly Gen<uint> Answer = Gen.Select(
        OneOf(SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW, SECCOMP_RET_LOG, SECCOMP_RET_ERRNO, SECCOMP_RET_ERRNO, SECCOMP_RET_TRAP, SECCOMP_RET_TRACE, SECCOMP_RET_USER_NOTIF, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_KILL_PROCESS, 0x7FFE0000u, 0x12340000u),
        Gen.UInt[0, 30]).Select((action, data) => action | data);

    /// <summary>Any instruction: what does not fit where it comes to stand is made to fit there.</summary>
    private static readonly Gen<(int Kind, uint K, int Which, bool UsesX, uint True, uint False, uint Answer)> AnyInstruction =
        Gen.Select(Gen.Int[0, 99], Constant, Gen.Int[0, 99], Gen.Bool, Gen.UInt[0, 6], Gen.UInt[0, 6], Answer);

    /// <param name="looksAtPointer">It may read the instruction pointer.</param>
    public static Gen<BpfInstruction[]> Programs(bool looksAtPointer) => AnyInstruction.Array[1, 50].Select(parts =>
    {
        List<BpfInstruction> program = [];
        for (uint word = 0; word < Words; word++)
            program.AddRange(Bpf.LoadArgument((int)word), Bpf.Op(word == 1 ? BPF_STX : BPF_ST, word));
        for (int i = 0; i < parts.Length - 1; i++)
        {
            var part = parts[i];
            uint behind = (uint)(parts.Length - i - 1);
            program.Add(part.Kind switch
            {
                < 25 => Bpf.LoadWord(part.Which < 92 ? 4 + part.Which % 12 : part.Which % (looksAtPointer ? 4 : 2)),
                < 30 => part.Which % 3 == 0 ? Bpf.Op(BPF_LDX | BPF_IMM, part.K) : part.Which % 3 == 1 ? Bpf.Op(BPF_LDX | BPF_MEM, part.K % Words) : Bpf.Op(BPF_LDX | BPF_LEN),
                < 33 => part.Which % 3 == 0 ? Bpf.Op(BPF_LD | BPF_IMM, part.UsesX ? part.Answer : part.K) : part.Which % 3 == 1 ? Bpf.Op(BPF_LD | BPF_MEM, part.K % Words) : Bpf.Op(BPF_LD | BPF_LEN),
                < 37 => Bpf.Op(part.UsesX ? BPF_ST : BPF_STX, part.K % Words),
                < 41 => Bpf.Op(part.UsesX ? BPF_MISC | BPF_TAX : BPF_MISC | BPF_TXA),
                < 57 => Compute(s_alu[part.Which % s_alu.Length], part.UsesX, part.K),
                < 58 => Bpf.Op(BPF_ALU | BPF_NEG),
                < 88 => Bpf.Op(BPF_JMP | s_jumps[part.Which % s_jumps.Length] | (part.UsesX ? BPF_X : BPF_K), part.K, (int)(part.True % behind), (int)(part.False % behind)),
                < 90 => Bpf.Op(BPF_JMP | BPF_JA, part.True % behind),
                < 99 => Bpf.Return(part.Answer),
                _ => Bpf.Op(BPF_RET | BPF_A),
            });
        }
        program.Add(parts[^1].Kind < 3 ? Bpf.Op(BPF_RET | BPF_A) : Bpf.Return(parts[^1].Answer));
        return program.ToArray();
    });

    private static BpfInstruction Compute(int operation, bool usesX, uint k) => Bpf.Op(BPF_ALU | operation | (usesX ? BPF_X : BPF_K), operation switch
    {
        BPF_DIV when !usesX => Math.Max(1, k),
        BPF_LSH or BPF_RSH when !usesX => k % 32,
        _ => k,
    });

    public static Gen<T> OneOf<T>(params T[] values) => Gen.Int[0, values.Length - 1].Select(i => values[i]);

    public static CallShape Exactly(uint number, ulong[] arguments) => Known(number, arguments, [.. Enumerable.Repeat(ulong.MaxValue, 6)]);

    public static CallShape Known(uint number, ulong[] arguments, ulong[] known) => new("call", number,
        new(arguments[0], known[0]), new(arguments[1], known[1]), new(arguments[2], known[2]), new(arguments[3], known[3]), new(arguments[4], known[4]), new(arguments[5], known[5]));
}
