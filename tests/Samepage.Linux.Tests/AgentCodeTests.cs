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
        byte[] code = AgentAssembler.Assemble(address, 0x1_0000_0002, 42);
        Assert.InRange(code.Length, 1000, AgentLayout.CodeBytes);
        Assert.Equal(code, AgentAssembler.Assemble(address, 0x1_0000_0002, 42));
    }

    [Fact]
    public void TheGateFitsItsPlace() => Assert.InRange(AgentAssembler.AssembleGate().Length, 50, AgentLayout.GateBytes);

    [Fact]
    public void ThePartsOfTheMappingDoNotOverlap()
    {
        Assert.Equal(48, Marshal.SizeOf<AgentOperation>());
        Assert.Equal(AgentLayout.ZeroPageOffset, AgentLayout.WardenStackTop);
        Assert.Equal(AgentLayout.FramesAtShared, AgentLayout.OperationsAtShared + AgentLayout.MaxOperations * 48);
        Assert.InRange(AgentLayout.MessageControl + AgentLayout.MessageControlBytes, 0, AgentLayout.WardenTable);
        Assert.Equal(AgentLayout.MovedCopyOffset, AgentLayout.ZeroPageOffset + 4096);
        Assert.Equal(AgentLayout.ScratchOffset, AgentLayout.DataOffset + AgentLayout.FrameCopyOffset + AgentLayout.CompareBytes);
        Assert.InRange(AgentLayout.Children + AgentLayout.MaxChildren * 8, 0, AgentLayout.MovedAt);
        Assert.InRange(AgentLayout.EpollEvents + AgentLayout.MaxEpollEvents * 12, 0, AgentLayout.WordsBytes);
        Assert.Equal(0, AgentLayout.ScratchOffset % 4096);
        Assert.Equal(0, AgentLayout.DataOffset % 4096);
        Assert.Equal(AgentLayout.Size, AgentLayout.HomeFrameOffset + AgentLayout.FrameBytes + AgentLayout.SharedBytes);
        Assert.InRange(AgentLayout.WardenStackTop, AgentLayout.ExecutorStackTop + 1, AgentLayout.ZeroPageOffset);
    }
}
