using System.Buffers.Binary;
using System.Collections.Frozen;
using static Samepage.Linux.Interop.LibC;

namespace Samepage.Linux.Seccomp;

/// <summary>One instruction of classic BPF, <c>struct sock_filter</c>.</summary>
/// <param name="Code">What to do.</param>
/// <param name="JumpTrue">How many instructions a conditional jump leaves out if its condition holds.</param>
/// <param name="JumpFalse">How many if it does not.</param>
/// <param name="K">The constant.</param>
public readonly record struct BpfInstruction(ushort Code, byte JumpTrue, byte JumpFalse, uint K)
{
    /// <summary>Its size in bytes where the kernel reads or writes it.</summary>
    public const int Size = 8;

    internal int Class => Code & 7;
    internal int Operation => Code & 0xF0;
    internal int Mode => Code & 0xE0;
    internal bool UsesX => (Code & BPF_X) != 0;
}

/// <summary>One seccomp filter: a program of classic BPF that looks at <c>struct seccomp_data</c> and answers with an action. It cannot be changed; any thread may use it.</summary>
public sealed class SeccompFilter
{
    /// <summary><c>struct seccomp_data</c>: call, architecture, instruction pointer, six arguments.</summary>
    internal const int DataSize = 64;

    // Register A, register X; the words of memory lie above.
    internal const uint LiveA = 1, LiveX = 2;

    private static readonly FrozenSet<ushort> s_codes = FrozenSet.Create<ushort>(
        BPF_LD | BPF_IMM, BPF_LD | BPF_ABS, BPF_LD | BPF_MEM, BPF_LD | BPF_LEN, BPF_LDX | BPF_IMM, BPF_LDX | BPF_MEM, BPF_LDX | BPF_LEN, BPF_ST, BPF_STX,
        BPF_ALU | BPF_ADD, BPF_ALU | BPF_SUB, BPF_ALU | BPF_MUL, BPF_ALU | BPF_DIV, BPF_ALU | BPF_OR, BPF_ALU | BPF_AND, BPF_ALU | BPF_LSH, BPF_ALU | BPF_RSH, BPF_ALU | BPF_XOR, BPF_ALU | BPF_NEG,
        BPF_ALU | BPF_ADD | BPF_X, BPF_ALU | BPF_SUB | BPF_X, BPF_ALU | BPF_MUL | BPF_X, BPF_ALU | BPF_DIV | BPF_X, BPF_ALU | BPF_OR | BPF_X, BPF_ALU | BPF_AND | BPF_X, BPF_ALU | BPF_LSH | BPF_X,
        BPF_ALU | BPF_RSH | BPF_X, BPF_ALU | BPF_XOR | BPF_X,
        BPF_JMP | BPF_JA, BPF_JMP | BPF_JEQ, BPF_JMP | BPF_JGT, BPF_JMP | BPF_JGE, BPF_JMP | BPF_JSET, BPF_JMP | BPF_JEQ | BPF_X, BPF_JMP | BPF_JGT | BPF_X, BPF_JMP | BPF_JGE | BPF_X, BPF_JMP | BPF_JSET | BPF_X,
        BPF_RET | BPF_K, BPF_RET | BPF_A, BPF_MISC | BPF_TAX, BPF_MISC | BPF_TXA);

    private readonly BpfInstruction[] _instructions;
    private readonly uint[] _live;

    private SeccompFilter(BpfInstruction[] instructions, string? fault)
    {
        _instructions = instructions;
        Fault = fault;
        _live = fault is null ? FindLive(instructions) : [];
    }

    /// <summary>Its instructions, in order.</summary>
    public ReadOnlySpan<BpfInstruction> Instructions => _instructions;

    /// <summary>How many instructions it has.</summary>
    public int Count => _instructions.Length;

    /// <summary>Why it cannot be told what it answers; null where it can. The kernel takes no filter that has a fault, as far as kernels are known today.</summary>
    public string? Fault { get; }

    /// <summary>Reads a filter as the kernel gives it out, and checks it as the kernel does. One that is malformed is a filter nonetheless, with a <see cref="Fault"/>: what it answers is unknown.</summary>
    /// <param name="program">Instructions of <see cref="BpfInstruction.Size"/> bytes, in the byte order of the processor.</param>
    public static SeccompFilter Parse(ReadOnlySpan<byte> program)
    {
        BpfInstruction[] instructions = new BpfInstruction[program.Length / BpfInstruction.Size];
        for (int i = 0; i < instructions.Length; i++)
        {
            ReadOnlySpan<byte> bytes = program.Slice(i * BpfInstruction.Size, BpfInstruction.Size);
            instructions[i] = new BpfInstruction(BinaryPrimitives.ReadUInt16LittleEndian(bytes), bytes[2], bytes[3], BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]));
        }
        return new SeccompFilter(instructions, program.Length % BpfInstruction.Size != 0 ? "its last instruction is cut off" : FindFault(instructions));
    }

    /// <summary>What is read at or behind an instruction before it is set anew; the rest makes no difference to what comes of it.</summary>
    /// <returns><see cref="LiveA"/>, <see cref="LiveX"/>, and <see cref="LiveWord"/> of the words of memory.</returns>
    internal uint LiveAt(int index) => _live[index];

    internal static uint LiveWord(uint word) => 4u << (int)word;

    private static string? FindFault(BpfInstruction[] instructions)
    {
        if (instructions.Length is 0 or > BPF_MAXINSNS)
            return $"it has {instructions.Length} instructions";
        for (int i = 0; i < instructions.Length; i++)
        {
            if (FindFault(instructions[i], instructions.Length - i - 1) is { } fault)
                return $"instruction {i} {fault}";
        }
        return instructions[^1].Class == BPF_RET ? null : "it does not end with an answer";
    }

    /// <param name="instruction">The instruction.</param>
    /// <param name="behind">How many come behind it.</param>
    private static string? FindFault(BpfInstruction instruction, int behind)
    {
        if (!s_codes.Contains(instruction.Code))
            return $"has the unknown code 0x{instruction.Code:x}";
        bool isWrong = (instruction.Class, instruction.Mode, instruction.Operation) switch
        {
            (BPF_LD, BPF_ABS, _) => instruction.K % 4 != 0 || instruction.K >= DataSize,
            (BPF_LD or BPF_LDX, BPF_MEM, _) or (BPF_ST or BPF_STX, _, _) => instruction.K >= BPF_MEMWORDS,
            (BPF_ALU, _, BPF_DIV) => !instruction.UsesX && instruction.K == 0,
            (BPF_ALU, _, BPF_LSH or BPF_RSH) => !instruction.UsesX && instruction.K >= 32,
            (BPF_JMP, _, BPF_JA) => instruction.K >= behind,
            (BPF_JMP, _, _) => instruction.JumpTrue >= behind || instruction.JumpFalse >= behind,
            _ => false,
        };
        return isWrong ? $"(code 0x{instruction.Code:x}) has an operand that cannot be" : null;
    }

    /// <remarks>All jumps go forward: one pass from the end knows what stands behind each instruction.</remarks>
    private static uint[] FindLive(BpfInstruction[] instructions)
    {
        uint[] live = new uint[instructions.Length];
        for (int i = instructions.Length - 1; i >= 0; i--)
        {
            BpfInstruction instruction = instructions[i];
            uint behind = instruction switch
            {
                { Class: BPF_RET } => 0,
                { Class: BPF_JMP, Operation: BPF_JA } => live[i + 1 + (int)instruction.K],
                { Class: BPF_JMP } => live[i + 1 + instruction.JumpTrue] | live[i + 1 + instruction.JumpFalse],
                _ => live[i + 1],
            };
            (uint reads, uint sets) = Touches(instruction);
            live[i] = (behind & ~sets) | reads;
        }
        return live;
    }

    private static (uint Reads, uint Sets) Touches(BpfInstruction instruction) => instruction switch
    {
        { Class: BPF_LD, Mode: BPF_MEM } => (LiveWord(instruction.K), LiveA),
        { Class: BPF_LDX, Mode: BPF_MEM } => (LiveWord(instruction.K), LiveX),
        { Class: BPF_LD } => (0, LiveA),
        { Class: BPF_LDX } => (0, LiveX),
        { Class: BPF_ST } => (LiveA, LiveWord(instruction.K)),
        { Class: BPF_STX } => (LiveX, LiveWord(instruction.K)),
        { Class: BPF_ALU } => (instruction.UsesX ? LiveA | LiveX : LiveA, LiveA),
        { Class: BPF_JMP, Operation: BPF_JA } => (0, 0),
        { Class: BPF_JMP } => (instruction.UsesX ? LiveA | LiveX : LiveA, 0),
        { Code: BPF_RET | BPF_A } => (LiveA, 0),
        { Code: BPF_MISC | BPF_TAX } => (LiveA, LiveX),
        { Code: BPF_MISC | BPF_TXA } => (LiveX, LiveA),
        _ => (0, 0),
    };
}
