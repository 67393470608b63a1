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
        Assert.Equal(AgentLayout.MovedCopyOffset, AgentLayout.ZeroPageOffset + 4096);
        Assert.Equal(AgentLayout.ScratchOffset, AgentLayout.DataOffset + AgentLayout.FrameCopyOffset + AgentLayout.CompareBytes);
        Assert.Equal(0, AgentLayout.ScratchOffset % 4096);
        Assert.Equal(0, AgentLayout.DataOffset % 4096);
        Assert.Equal(AgentLayout.Size, AgentLayout.HomeFrameOffset + AgentLayout.FrameBytes + AgentLayout.SharedBytes);
        Assert.InRange(AgentLayout.WardenStackTop, AgentLayout.ExecutorStackTop + 1, AgentLayout.ZeroPageOffset);
    }

    [Fact]
    public void NoWordOverlapsAnotherOrAStructure()
    {
        // What /proc and the kernel want of them, in bytes; AllSignals is a word.
        List<(int Start, int Bytes)> own =
        [
            (AgentLayout.AllSignals, 8), (AgentLayout.NonZero, 64), (AgentLayout.ExecutorStruct, 128), (AgentLayout.WardenStruct, 40), (AgentLayout.QueryStruct, 104), (AgentLayout.WardenMessage, 32),
            (AgentLayout.Message, 56), (AgentLayout.MessageVector, 16), (AgentLayout.MessagePayload, 8), (AgentLayout.SocketPair, 8), (AgentLayout.MessageControl, AgentLayout.MessageControlBytes),
            (AgentLayout.EpollEvent, 12), (AgentLayout.EpollEvents, AgentLayout.MaxEpollEvents * 12), (AgentLayout.Guarded, 64),
        ];
        own.AddRange(Enum.GetNames<OwnWord>().Select(static name => ((int)Enum.Parse<OwnWord>(name), 8)));
        List<(int Start, int Bytes)> shared = [(AgentLayout.WardenTable, 8 + AgentLayout.MaxChildren * 8)];
        shared.AddRange(Enum.GetNames<SharedWord>().Select(static name => ((int)Enum.Parse<SharedWord>(name), 8)));
        foreach (List<(int Start, int Bytes)> parts in new[] { own, shared })
        {
            parts.Sort();
            for (int i = 1; i < parts.Count; i++)
                Assert.True(parts[i - 1].Start + parts[i - 1].Bytes <= parts[i].Start, $"0x{parts[i - 1].Start:x}, {parts[i - 1].Bytes} bytes, and 0x{parts[i].Start:x}");
            Assert.InRange(parts[^1].Start + parts[^1].Bytes, 0, AgentLayout.WordsBytes);
        }
    }
}
