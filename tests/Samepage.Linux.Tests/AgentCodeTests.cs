using System.Runtime.InteropServices;
using Samepage.Agent;
using Samepage.Agent.X64;
using Samepage.Linux.Interop;

namespace Samepage.LinuxTests;

/// <summary>The code that is brought into a target, and the mapping that it lies in.</summary>
public sealed class AgentCodeTests
{
    private const ulong Base = 0x7f12_3456_7000;

    [Theory]
    [InlineData(0x10000ul)]
    [InlineData(Base)]
    [InlineData(0x7fff_ffff_0000ul)]
    public void TheCodeFitsItsPlaceAndIsTheSameEachTime(ulong address)
    {
        byte[] code = AgentAssembler.Assemble(address, Registers(), 0x1_0000_0002, 42);
        Assert.InRange(code.Length, 1000, AgentLayout.CodeBytes);
        Assert.Equal(code, AgentAssembler.Assemble(address, Registers(), 0x1_0000_0002, 42));
    }

    [Fact]
    public void TheCodeCarriesTheRegistersThatTheBorrowedThreadGoesOnWith()
    {
        LibC.user_regs_struct registers = Registers();
        ulong[] table = [registers.rax, registers.rbx, registers.rcx, registers.rdx, registers.rsi, registers.rdi, registers.rbp, registers.r8, registers.r9,
            registers.r10, registers.r11, registers.r12, registers.r13, registers.r14, registers.r15, registers.rsp, registers.rip, registers.eflags];
        byte[] code = AgentAssembler.Assemble(Base, registers, 1, 2);
        Assert.True(code.AsSpan().IndexOf(MemoryMarshal.AsBytes<ulong>(table)) > 0);
    }

    [Fact]
    public void ThePartsOfTheMappingDoNotOverlap()
    {
        Assert.Equal(48, Marshal.SizeOf<AgentOperation>());
        Assert.Equal(AgentLayout.ZeroPageOffset, AgentLayout.OperationsOffset + AgentLayout.MaxOperations * 48);
        Assert.Equal(AgentLayout.MovedCopyOffset, AgentLayout.ZeroPageOffset + 4096);
        Assert.Equal(AgentLayout.ScratchOffset, AgentLayout.DataOffset + AgentLayout.FrameCopyOffset + AgentLayout.CompareBytes);
        Assert.InRange(AgentLayout.PollTable + 16 + AgentLayout.MaxChildren * 8, 0, AgentLayout.ResumeStackTop);
        Assert.Equal(0, AgentLayout.ScratchOffset % 4096);
        Assert.InRange(AgentLayout.WardenStackTop, AgentLayout.ExecutorStackTop + 1, AgentLayout.OperationsOffset);
    }

    private static LibC.user_regs_struct Registers()
    {
        ulong[] values = [.. Enumerable.Range(1, 27).Select(i => 0xA5A5_0000_0000_0000 + (ulong)i)];
        return MemoryMarshal.Cast<ulong, LibC.user_regs_struct>(values)[0];
    }
}
