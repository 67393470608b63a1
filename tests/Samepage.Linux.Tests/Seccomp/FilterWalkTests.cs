using Samepage.Linux.Seccomp;
using static Samepage.Linux.Interop.LibC;
using static Samepage.LinuxTests.Bpf;

namespace Samepage.LinuxTests;

/// <summary>What the walker says of programs by hand.</summary>
public sealed class FilterWalkTests
{
    private const SeccompActions Both = SeccompActions.Allow | SeccompActions.KillProcess;
    private static readonly KnownBits s_anything = KnownBits.Anything;

    /// <summary>Every operation on A, with the constant and with X: A is the first argument, the operand the second one.</summary>
    [Theory]
    [InlineData(BPF_ADD, 0xFFFFFFFF, 3, 2)]
    [InlineData(BPF_SUB, 2, 3, 0xFFFFFFFF)]
    [InlineData(BPF_MUL, 0x10000001, 0x30, 0x30)]
    [InlineData(BPF_DIV, 0xFFFFFFFF, 2, 0x7FFFFFFF)]
    [InlineData(BPF_OR, 5, 0x82, 0x87)]
    [InlineData(BPF_AND, 7, 0x82, 2)]
    [InlineData(BPF_XOR, 7, 0x82, 0x85)]
    [InlineData(BPF_LSH, 0x80000001, 4, 0x10)]
    [InlineData(BPF_RSH, 0x80000001, 4, 0x08000000)]
    public void ItComputes(int operation, uint a, uint operand, uint expected)
    {
        Assert.Equal(SeccompActions.Allow, Of(a, operand, LoadArgument(0), Op(BPF_ALU | operation, operand), Op(BPF_JMP | BPF_JEQ, expected, 0, 1), Return(Allow), Return(Kill)));
        BpfInstruction[] byX = [LoadArgument(1), Op(BPF_MISC | BPF_TAX), LoadArgument(0), Op(BPF_ALU | operation | BPF_X), Op(BPF_JMP | BPF_JEQ, expected, 0, 1), Return(Allow), Return(Kill)];
        Assert.Equal(SeccompActions.Allow, Of(a, operand, byX));
        Assert.True(Of(KnownBits.Exactly(a), s_anything, byX).HasFlag(Both));
        Assert.True(Of(s_anything, KnownBits.Exactly(operand), byX).HasFlag(Both));
    }

    [Fact]
    public void ItNegates() => Assert.Equal(SeccompActions.Allow, Of(3, 0, LoadArgument(0), Op(BPF_ALU | BPF_NEG), Op(BPF_JMP | BPF_JEQ, 0xFFFFFFFD, 0, 1), Return(Allow), Return(Kill)));

    /// <summary>By an amount in X that is too large the kernel shifts by its lowest five bits.</summary>
    [Theory]
    [InlineData(BPF_LSH)]
    [InlineData(BPF_RSH)]
    public void ItShiftsByFiveBits(int operation) => Assert.Equal(SeccompActions.Allow,
        Of(7, 32, LoadArgument(1), Op(BPF_MISC | BPF_TAX), LoadArgument(0), Op(BPF_ALU | operation | BPF_X), Op(BPF_JMP | BPF_JEQ, 7, 0, 1), Return(Allow), Return(Kill)));

    /// <summary>A division by an X that is 0 ends the filter, with 0.</summary>
    [Fact]
    public void ADivisionByNothingKillsTheThread()
    {
        BpfInstruction[] program = [LoadArgument(1), Op(BPF_MISC | BPF_TAX), LoadArgument(0), Op(BPF_ALU | BPF_DIV | BPF_X), Return(Allow)];
        Assert.Equal(SeccompActions.KillThread, Of(1, 0, program));
        Assert.Equal(SeccompActions.Allow, Of(1, 1, program));
        Assert.Equal(SeccompActions.KillThread | SeccompActions.Allow, Of(KnownBits.Exactly(1), s_anything, program));
        Assert.Equal(SeccompActions.Allow, Of(s_anything, new KnownBits(4, 4), program));
    }

    /// <summary>Every comparison, in both ways, with the constant and with X.</summary>
    [Theory]
    [InlineData(BPF_JEQ, 5, 5, 6)]
    [InlineData(BPF_JGT, 0x80000000, 5, 0x80000000)]
    [InlineData(BPF_JGE, 0x80000000, 0x80000000, 0x80000001)]
    [InlineData(BPF_JSET, 6, 2, 9)]
    public void ItCompares(int operation, uint a, uint holds, uint holdsNot)
    {
        foreach ((uint operand, SeccompActions expected) in new[] { (holds, SeccompActions.Allow), (holdsNot, SeccompActions.KillProcess) })
        {
            BpfInstruction[] program = [LoadArgument(0), Op(BPF_JMP | operation, operand, 0, 1), Return(Allow), Return(Kill)];
            BpfInstruction[] byX = [LoadArgument(1), Op(BPF_MISC | BPF_TAX), LoadArgument(0), Op(BPF_JMP | operation | BPF_X, 0, 0, 1), Return(Allow), Return(Kill)];
            Assert.Equal(expected, Of(a, 0, program));
            Assert.Equal(expected, Of(a, operand, byX));
            Assert.Equal(Both, Of(s_anything, s_anything, program));
            Assert.Equal(Both, Of(KnownBits.Exactly(a), s_anything, byX));
            Assert.Equal(Both, Of(s_anything, KnownBits.Exactly(operand), byX));
        }
    }

    /// <summary>Bits that are known decide where they can, whatever the others are.</summary>
    [Theory]
    [InlineData(BPF_JEQ, 0x10, 0x10, 0x05, SeccompActions.KillProcess)]
    [InlineData(BPF_JEQ, 0x10, 0x10, 0x15, Both)]
    [InlineData(BPF_JSET, 0x10, 0x10, 0x11, SeccompActions.Allow)]
    [InlineData(BPF_JSET, 0x00, 0x11, 0x11, SeccompActions.KillProcess)]
    [InlineData(BPF_JSET, 0x00, 0x10, 0x11, Both)]
    [InlineData(BPF_JGT, 0x80000000, 0x80000000, 0x7FFFFFFF, SeccompActions.Allow)]
    [InlineData(BPF_JGT, 0x00, 0xFFFFFFF0, 0x0F, SeccompActions.KillProcess)]
    [InlineData(BPF_JGT, 0x00, 0xFFFFFFF0, 0x0E, Both)]
    [InlineData(BPF_JGE, 0x00, 0xFFFFFFF0, 0x10, SeccompActions.KillProcess)]
    [InlineData(BPF_JGE, 0x00, 0xFFFFFFF0, 0x00, SeccompActions.Allow)]
    [InlineData(BPF_JGE, 0x00, 0xFFFFFFF0, 0x0F, Both)]
    public void WhatIsKnownDecides(int operation, uint value, uint known, uint operand, SeccompActions expected) =>
        Assert.Equal(expected, Of(new KnownBits(value, known), s_anything, LoadArgument(0), Op(BPF_JMP | operation, operand, 0, 1), Return(Allow), Return(Kill)));

    /// <summary>Behind a jump that it has taken, it is known what made it so.</summary>
    [Theory]
    [InlineData(BPF_JEQ, 5, BPF_JEQ, 5, true)]
    [InlineData(BPF_JSET, 4, BPF_JSET, 4, true)]
    [InlineData(BPF_JGE, 0xFFFFFFF0, BPF_JSET, 0x80000000, true)]
    [InlineData(BPF_JGT, 0xFFFFFFFE, BPF_JEQ, 0xFFFFFFFF, true)]
    [InlineData(BPF_JSET, 0x30, BPF_JSET, 0x10, false)]
    [InlineData(BPF_JGT, 0x0F, BPF_JSET, 0x10, false)]
    [InlineData(BPF_JGE, 0x10, BPF_JGT, 0x0F, false)]
    public void AJumpTellsOfA(int first, uint firstOperand, int second, uint secondOperand, bool holds)
    {
        (int toNext, int toEnd) = holds ? (0, 3) : (3, 0);
        Assert.Equal(SeccompActions.Errno | (holds ? SeccompActions.Allow : SeccompActions.KillProcess), Of(s_anything, s_anything,
            LoadArgument(0), Op(BPF_JMP | first, firstOperand, toNext, toEnd), Op(BPF_JMP | second, secondOperand, 0, 1), Return(Allow), Return(Kill), Return(SECCOMP_RET_ERRNO)));
    }

    /// <summary>Memory, immediate values and the length of the data, in A and in X.</summary>
    [Fact]
    public void ItLoadsAndStores() => Assert.Equal(SeccompActions.Allow, Of(7, 9,
        Op(BPF_JMP | BPF_JEQ, 0, 0, 20), Op(BPF_MISC | BPF_TXA), Op(BPF_JMP | BPF_JEQ, 0, 0, 18), // Both registers begin with 0.
        LoadArgument(0), Op(BPF_ST, 15), Op(BPF_LDX | BPF_IMM, 11), Op(BPF_STX, 0),
        Op(BPF_LD | BPF_MEM, 0), Op(BPF_JMP | BPF_JEQ, 11, 0, 13),
        Op(BPF_LDX | BPF_MEM, 15), Op(BPF_MISC | BPF_TXA), Op(BPF_JMP | BPF_JEQ, 7, 0, 10),
        Op(BPF_LD | BPF_LEN), Op(BPF_JMP | BPF_JEQ, 64, 0, 8),
        Op(BPF_LDX | BPF_LEN), Op(BPF_LD | BPF_IMM, 64), Op(BPF_JMP | BPF_JEQ | BPF_X, 0, 0, 5),
        LoadArgument(1), Op(BPF_JMP | BPF_JEQ, 9, 0, 3), Op(BPF_JMP | BPF_JA, 1), Return(Kill), Return(Allow), Return(Kill)));

    /// <summary>All that the data has: of the instruction pointer nothing is known.</summary>
    [Fact]
    public void ItKnowsTheCall()
    {
        CallShape call = new("call", 9, KnownBits.Exactly(0x1_0000_0002), KnownBits.Low32(3), s_anything, KnownBits.Exactly(4), KnownBits.Exactly(5), KnownBits.Exactly(6));
        foreach ((int word, uint value) in new (int, uint)[] { (0, 9), (1, 0xC000003E), (4, 2), (5, 1), (6, 3), (10, 4), (11, 0), (12, 5), (13, 0), (14, 6), (15, 0) })
            Assert.Equal(SeccompActions.Allow, FilterWalk.ActionsFor([Filter(LoadWord(word), Op(BPF_JMP | BPF_JEQ, value, 0, 1), Return(Allow), Return(Kill))], call));
        foreach (int word in new[] { 2, 3, 7, 8, 9 })
            Assert.Equal(Both, FilterWalk.ActionsFor([Filter(LoadWord(word), Op(BPF_JMP | BPF_JEQ, 0, 0, 1), Return(Allow), Return(Kill))], call));
        Assert.Throws<ArgumentOutOfRangeException>(() => call[6]);
    }

    /// <summary>An answer that A has is one if its upper half is known.</summary>
    [Fact]
    public void AnAnswerMayBeComputed()
    {
        Assert.Equal(SeccompActions.Errno, Of(0x12, 0, LoadArgument(0), Op(BPF_ALU | BPF_OR, SECCOMP_RET_ERRNO), Op(BPF_RET | BPF_A)));
        Assert.Equal(SeccompActions.Errno, Of(new KnownBits(0, 0xFFFF0000), s_anything, LoadArgument(0), Op(BPF_ALU | BPF_OR, SECCOMP_RET_ERRNO), Op(BPF_RET | BPF_A)));
        Assert.Equal(SeccompActions.Unknown, Of(s_anything, s_anything, LoadArgument(0), Op(BPF_RET | BPF_A)));
    }

    /// <summary>All actions, each with data, and those that no kernel knows, for which it kills.</summary>
    [Theory]
    [InlineData(SECCOMP_RET_ALLOW, SeccompActions.Allow, true)]
    [InlineData(SECCOMP_RET_LOG, SeccompActions.Log, true)]
    [InlineData(SECCOMP_RET_ERRNO, SeccompActions.Errno, false)]
    [InlineData(SECCOMP_RET_TRAP, SeccompActions.Trap, false)]
    [InlineData(SECCOMP_RET_TRACE, SeccompActions.Trace, false)]
    [InlineData(SECCOMP_RET_USER_NOTIF, SeccompActions.UserNotify, false)]
    [InlineData(SECCOMP_RET_KILL_THREAD, SeccompActions.KillThread, false)]
    [InlineData(SECCOMP_RET_KILL_PROCESS, SeccompActions.KillProcess, false)]
    [InlineData(0x7FFE0000u, SeccompActions.KillProcess, false)]
    [InlineData(0x80010000u, SeccompActions.KillProcess, false)]
    public void EachActionIsOne(uint answer, SeccompActions expected, bool isAllowed)
    {
        foreach (uint data in new uint[] { 0, 1, 0xFFFF })
        {
            Assert.Equal(expected, Of(0, 0, Return(answer | data)));
            Assert.Equal(isAllowed, FilterWalk.IsAllowed([Filter(Return(answer | data))], new CallShape("call", 1)));
        }
        Assert.False(FilterWalk.IsAllowed(SeccompActions.Allow | SeccompActions.Unknown));
        Assert.False(FilterWalk.IsAllowed(SeccompActions.None));
        Assert.True(FilterWalk.IsAllowed(SeccompActions.Allow | SeccompActions.Log));
    }

    /// <summary>Of several filters the lowest answer counts, the number being signed.</summary>
    [Fact]
    public void TheLowestAnswerCounts()
    {
        uint[] rising = [SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO, SECCOMP_RET_USER_NOTIF, SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW];
        CallShape call = new("call", 1);
        for (int low = 0; low < rising.Length; low++)
        {
            for (int high = low; high < rising.Length; high++)
            {
                Assert.Equal(Action(rising[low]), FilterWalk.ActionsFor([Filter(Return(rising[low])), Filter(Return(rising[high]))], call));
                Assert.Equal(Action(rising[low]), FilterWalk.ActionsFor([Filter(Return(rising[high])), Filter(Return(rising[low]))], call));
            }
        }
        Assert.Equal(SeccompActions.Allow, FilterWalk.ActionsFor([], call));
    }

    /// <summary>Where filters can answer several things, what comes is what one of them says and none undercuts for certain.</summary>
    [Fact]
    public void SetsOfAnswersMeet()
    {
        SeccompFilter allowOrErrno = Filter(LoadArgument(0), Op(BPF_JMP | BPF_JEQ, 0, 0, 1), Return(Allow), Return(SECCOMP_RET_ERRNO | 1));
        SeccompFilter logOrKill = Filter(LoadArgument(1), Op(BPF_JMP | BPF_JEQ, 0, 0, 1), Return(SECCOMP_RET_LOG), Return(Kill));
        Assert.Equal(SeccompActions.Log | SeccompActions.Errno | SeccompActions.KillProcess, FilterWalk.ActionsFor([allowOrErrno, logOrKill], new CallShape("call", 1)));
        Assert.Equal(SeccompActions.Log, FilterWalk.ActionsFor([allowOrErrno, logOrKill], new CallShape("call", 1, KnownBits.Exactly(0), KnownBits.Low32(0))));
        Assert.Equal(SeccompActions.Unknown, FilterWalk.ActionsFor([allowOrErrno, Filter(LoadArgument(0), Op(BPF_RET | BPF_A))], new CallShape("call", 1)));
    }

    /// <summary>Paths that meet again are walked once: a filter of 30 forks has a billion of them.</summary>
    [Fact]
    public void PathsThatMeetAreWalkedOnce()
    {
        List<BpfInstruction> program = [];
        for (int i = 0; i < 30; i++)
            program.AddRange(LoadArgument(i % 6), Op(BPF_JMP | BPF_JSET, 1u << i, 0, 1), Op(BPF_LD | BPF_IMM, 5));
        Assert.Equal(SeccompActions.Allow, Of(s_anything, s_anything, [.. program, Return(Allow)]));
    }

    /// <summary>A filter that is made to be walked without end, by remembering each fork, is not.</summary>
    [Fact]
    public void WhatTakesTooLongIsUnknown()
    {
        List<BpfInstruction> program = [Op(BPF_ST, 0)];
        for (int i = 0; i < 30; i++)
            program.AddRange(LoadArgument(i % 6), Op(BPF_JMP | BPF_JSET, 1u << i, 0, 3), Op(BPF_LD | BPF_MEM, 0), Op(BPF_ALU | BPF_OR, 1u << i), Op(BPF_ST, 0));
        Assert.Equal(SeccompActions.Unknown, Of(s_anything, s_anything, [.. program, Op(BPF_LD | BPF_MEM, 0), Op(BPF_JMP | BPF_JEQ, 77, 0, 1), Return(Kill), Return(Allow)]));
        Assert.Equal(SeccompActions.Allow, Of(5, 6, [.. program, Op(BPF_LD | BPF_MEM, 0), Op(BPF_JMP | BPF_JEQ, uint.MaxValue, 0, 1), Return(Kill), Return(Allow)], all: KnownBits.Exactly(3)));
    }

    /// <summary>As many instructions as the kernel allows one thread, with nothing that is unknown, are not too many.</summary>
    [Fact]
    public void WhatTheKernelAllowsIsWalked()
    {
        SeccompFilter longest = Filter([.. Enumerable.Repeat(LoadArgument(0), BPF_MAXINSNS - 1), Return(Allow)]);
        Assert.Equal(SeccompActions.Allow, FilterWalk.ActionsFor([.. Enumerable.Repeat(longest, 8)], new CallShape("call", 1)));
    }

    private static SeccompActions Of(uint first, uint second, params BpfInstruction[] program) => Of(KnownBits.Exactly(first), KnownBits.Exactly(second), program);

    private static SeccompActions Of(uint first, uint second, BpfInstruction[] program, KnownBits all) =>
        FilterWalk.ActionsFor([Filter(program)], new CallShape("call", 1, KnownBits.Exactly(first), KnownBits.Exactly(second), all, all, all, all));

    private static SeccompActions Of(KnownBits first, KnownBits second, params BpfInstruction[] program) => FilterWalk.ActionsFor([Filter(program)], new CallShape("call", 1, first, second));
}
