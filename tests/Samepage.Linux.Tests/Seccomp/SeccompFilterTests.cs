using Samepage.Linux.Seccomp;
using static Samepage.Linux.Interop.LibC;
using static Samepage.LinuxTests.Bpf;

namespace Samepage.LinuxTests;

/// <summary>Filters are read whole or refused.</summary>
public sealed class SeccompFilterTests
{
    [Fact]
    public void ItReadsInstructions()
    {
        BpfInstruction[] program = [LoadWord(0), Op(BPF_JMP | BPF_JEQ, 0x12345678, 1, 0), Return(Kill), Return(Allow)];
        SeccompFilter filter = SeccompFilter.Parse(Bytes(program));
        Assert.Null(filter.Fault);
        Assert.Equal(4, filter.Count);
        Assert.Equal(program, filter.Instructions.ToArray());
    }

    public static TheoryData<string, BpfInstruction[]> Malformed() => new()
    {
        { "instruction 1 has the unknown code 0x94", [LoadWord(0), Op(BPF_ALU | 0x90, 3), Return(Allow)] },
        { "instruction 0 has the unknown code 0x120", [Op(0x120), Return(Allow)] },
        { "instruction 0 has the unknown code 0xe", [Op(BPF_RET | BPF_X)] },
        { "instruction 0 has the unknown code 0x28", [Op(0x28), Return(Allow)] },
        { "instruction 0 (code 0x20) has an operand that cannot be", [Op(BPF_LD | BPF_ABS, 64), Return(Allow)] },
        { "instruction 0 (code 0x20) has an operand that cannot be", [Op(BPF_LD | BPF_ABS, 2), Return(Allow)] },
        { "instruction 0 (code 0x60) has an operand that cannot be", [Op(BPF_LD | BPF_MEM, 16), Return(Allow)] },
        { "instruction 0 (code 0x61) has an operand that cannot be", [Op(BPF_LDX | BPF_MEM, 16), Return(Allow)] },
        { "instruction 0 (code 0x2) has an operand that cannot be", [Op(BPF_ST, 16), Return(Allow)] },
        { "instruction 0 (code 0x3) has an operand that cannot be", [Op(BPF_STX, 0x80000000), Return(Allow)] },
        { "instruction 0 (code 0x34) has an operand that cannot be", [Op(BPF_ALU | BPF_DIV, 0), Return(Allow)] },
        { "instruction 0 (code 0x64) has an operand that cannot be", [Op(BPF_ALU | BPF_LSH, 32), Return(Allow)] },
        { "instruction 0 (code 0x74) has an operand that cannot be", [Op(BPF_ALU | BPF_RSH, 32), Return(Allow)] },
        { "instruction 0 (code 0x5) has an operand that cannot be", [Op(BPF_JMP | BPF_JA, 1), Return(Allow)] },
        { "instruction 0 (code 0x5) has an operand that cannot be", [Op(BPF_JMP | BPF_JA, uint.MaxValue), Return(Allow)] },
        { "instruction 0 (code 0x15) has an operand that cannot be", [Op(BPF_JMP | BPF_JEQ, 0, 1, 0), Return(Allow)] },
        { "instruction 0 (code 0x45) has an operand that cannot be", [Op(BPF_JMP | BPF_JSET, 0, 0, 1), Return(Allow)] },
        { "it does not end with an answer", [Return(Allow), LoadWord(0)] },
        { "it has 0 instructions", [] },
    };

    [Theory]
    [MemberData(nameof(Malformed))]
    public void WhatIsMalformedAnswersTheUnknown(string fault, BpfInstruction[] program)
    {
        SeccompFilter filter = SeccompFilter.Parse(Bytes(program));
        Assert.Equal(fault, filter.Fault);
        Assert.Equal(SeccompActions.Unknown, FilterWalk.ActionsFor([Filter(Return(Kill)), filter], new CallShape("call", 1)));
    }

    [Fact]
    public void WhatIsCutOffOrTooLongIsMalformed()
    {
        byte[] bytes = Bytes(Return(Allow), Return(Allow));
        Assert.Equal("its last instruction is cut off", SeccompFilter.Parse(bytes.AsSpan(..^1)).Fault);
        Assert.Equal("it has 4097 instructions", SeccompFilter.Parse(Bytes([.. Enumerable.Repeat(Return(Allow), BPF_MAXINSNS + 1)])).Fault);
        Assert.Null(SeccompFilter.Parse(Bytes([.. Enumerable.Repeat(Return(Allow), BPF_MAXINSNS)])).Fault);
    }
}
