using System.Buffers.Binary;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>What tells a 32-bit program, which cannot be served, where no such program need run.</summary>
public sealed class ProgramClassTests
{
    // AT_MINSIGSTKSZ, AT_HWCAP, AT_PAGESZ, AT_PHDR, AT_PHENT, AT_PHNUM
    private static readonly (uint Key, uint Value)[] s_wide = [(51, 3376), (16, 0xffeb8b17), (6, 4096), (3, 0x400040), (4, 56), (5, 9), (0, 0)];
    private static readonly (uint Key, uint Value)[] s_narrow = [(32, 0xf7f1a000), (51, 2224), (16, 0xffeb8b17), (6, 4096), (3, 0x08048034), (4, 32), (5, 2), (0, 0)];

    [Fact]
    public void TheClassIsInTheSizeOfAProgramHeader()
    {
        Assert.False(ProgramClass.IsThirtyTwoBit(Vector(s_wide, 8)));
        Assert.True(ProgramClass.IsThirtyTwoBit(Vector(s_narrow, 4)));
    }

    /// <summary>A wide vector read as a narrow one has words that could be taken for something: what it says by itself decides.</summary>
    [Fact]
    public void AWideVectorIsNotTakenForANarrowOne() => Assert.False(ProgramClass.IsThirtyTwoBit(Vector([(4, 32), (4, 56), (0, 0)], 8)));

    [Fact]
    public void OurOwnProgramIsServable() => Assert.False(ProgramClass.IsThirtyTwoBit(Environment.ProcessId));

    [Fact]
    public void AProgramThatIsGoneIsNotThirtyTwoBit()
    {
        Assert.False(ProgramClass.IsThirtyTwoBit(0));
        Assert.False(ProgramClass.IsThirtyTwoBit([]));
    }

    private static byte[] Vector((uint Key, uint Value)[] pairs, int word)
    {
        byte[] vector = new byte[pairs.Length * 2 * word];
        for (int i = 0; i < pairs.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(vector.AsSpan(2 * i * word), pairs[i].Key);
            BinaryPrimitives.WriteUInt32LittleEndian(vector.AsSpan((2 * i + 1) * word), pairs[i].Value);
        }

        return vector;
    }
}
