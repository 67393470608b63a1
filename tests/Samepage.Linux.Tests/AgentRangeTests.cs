using Samepage.Agent;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>Where an agent is put, and what is taken for it when it goes.</summary>
public sealed class AgentRangeTests
{
    private const ulong Heap = 0x5555_5560_0000, Libraries = 0x7fff_f000_0000, Base = 0x6000_0000_0000;

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(ulong.MaxValue)]
    [InlineData(0x1234_5678_9ABC_DEF0)]
    public void ItLiesFarFromTheHeapAndFromWhatIsMapped(ulong random)
    {
        ulong place = AgentRange.Choose([Plain(Heap - 0x10_0000, Heap), Plain(Libraries, Libraries + 0x10_0000), Plain(0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_1000)], random);
        Assert.Equal(0UL, place % 4096);
        Assert.InRange(place, Heap + (1UL << 42), Libraries - (1UL << 42));
    }

    /// <summary>Where no space is wide, it is the widest; and where nothing fits, it is none.</summary>
    [Fact]
    public void ItLiesInTheWidestSpaceThatThereIs()
    {
        const ulong Top = 1UL << 47, Free = 0x7000_0000_0000, Length = 0x4000_0000;
        List<Mapping> full = [Plain(0x1_0000, Free), Plain(Free + Length, Top)];
        Assert.InRange(AgentRange.Choose(full, 12345), Free, Free + Length - AgentLayout.Size);
        Assert.Equal(0UL, AgentRange.Choose([Plain(0x1_0000, Free), Plain(Free + 0x10_0000, Top)], 12345));
    }

    [Fact]
    public void AnotherRandomNumberIsAnotherPlace()
    {
        List<Mapping> mappings = [Plain(Heap - 0x1000, Heap), Plain(Libraries, Libraries + 0x1000)];
        Assert.Equal(100, Enumerable.Range(0, 100).Select(i => AgentRange.Choose(mappings, (ulong)i * 7919)).Distinct().Count());
    }

    [Fact]
    public void WhatIsOursIsKnown()
    {
        Assert.True(AgentRange.IsOurs(Whole(), Base));
        Assert.True(AgentRange.IsOurs([Plain(Heap, Heap + 0x1000), .. Whole(), Plain(Libraries, Libraries + 0x1000)], Base));
        // What the program watches it has cut from the rest.
        List<Mapping> cut = Whole();
        ulong border = cut[^1].Start + 4096;
        Assert.True(AgentRange.IsOurs([.. cut[..^1], cut[^1] with { End = border }, cut[^1] with { Start = border }], Base));
        // Before it shares memory the end is as the rest.
        Assert.True(AgentRange.IsOurs([Whole()[0], Plain(Base + AgentLayout.DataOffset, Base + AgentLayout.Size)], Base));
    }

    [Fact]
    public void WhatWasOnlyJustMappedIsKnownByItsForm()
    {
        Mapping fresh = Plain(Base, Base + AgentLayout.Size) with { Writable = false, Executable = true };
        Assert.True(AgentRange.IsFresh([Plain(Heap, Heap + 0x1000), fresh], Base));
        Assert.False(AgentRange.IsFresh([fresh with { End = fresh.End + 4096 }], Base));
        Assert.False(AgentRange.IsFresh([fresh with { Inode = 1 }], Base));
        Assert.False(AgentRange.IsFresh(Whole(), Base));
        Assert.False(AgentRange.IsOurs([fresh], Base));
    }

    public static TheoryData<string> Changes => ["unmapped", "file", "protected", "beyond", "nothing", "shared", "code"];

    [Theory]
    [MemberData(nameof(Changes))]
    public void WhatTheProgramHasPutThereIsNotOurs(string change)
    {
        List<Mapping> mappings = Whole();
        ulong middle = Base + AgentLayout.ScratchOffset;
        switch (change)
        {
            case "unmapped":
                mappings[1] = mappings[1] with { End = middle };
                break;
            case "file":
                mappings[1] = mappings[1] with { Inode = 42, Name = "/etc/passwd" };
                break;
            case "protected":
                mappings[1] = mappings[1] with { Writable = false };
                break;
            case "beyond":
                mappings[2] = mappings[2] with { End = mappings[2].End + 4096 };
                break;
            case "nothing":
                mappings.Clear();
                break;
            case "shared":
                mappings[2] = mappings[2] with { Name = "/memfd:another (deleted)" };
                break;
            default:
                mappings[0] = mappings[0] with { Executable = false };
                break;
        }

        Assert.False(AgentRange.IsOurs(mappings, Base));
    }

    private static List<Mapping> Whole() =>
    [
        Plain(Base, Base + AgentLayout.DataOffset) with { Writable = false, Executable = true },
        Plain(Base + AgentLayout.DataOffset, Base + AgentLayout.SharedOffset),
        Plain(Base + AgentLayout.SharedOffset, Base + AgentLayout.Size) with { Shared = true, Inode = 7, Name = "/memfd:samepage-agent-1234 (deleted)" },
    ];

    private static Mapping Plain(ulong start, ulong end) => new(start, end, true, true, false, false, 0, 0, 0, "", "", 0);
}
