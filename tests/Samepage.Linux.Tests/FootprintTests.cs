using Samepage.Agent;
using Samepage.Engine;
using Samepage.Linux.ProcFs;
using Samepage.Live;

namespace Samepage.LinuxTests;

/// <summary>What is remembered of a process's areas, and what becomes of each flag.</summary>
public sealed class FootprintTests
{
    private const string Flags = "rd wr mr mw me ac ";

    [Fact]
    public void WhatIsCarriedIsWhatTheTableSays() =>
        Assert.Equal(MappingTraits.Flags.Where(pair => pair.Value.Fate == FlagFate.Carried).Select(pair => pair.Key).Order(), AddressSpaceMap.Carried.Keys.Order());

    [Fact]
    public void WhatIsLeftAloneHasATraitThatStandsInTheWayAndNothingElseHas()
    {
        foreach ((string flag, (FlagFate fate, AreaTraits trait)) in MappingTraits.Flags)
        {
            bool mergeable = AreaEligibility.IsMergeable(AreaTraits.Readable | (fate == FlagFate.Lifted ? 0 : AreaTraits.Writable) | trait);
            Assert.True(fate == FlagFate.Carried || mergeable == (fate != FlagFate.LeftAlone), $"{flag} is {fate}");
        }
    }

    [Theory]
    [InlineData("rd wr mr mw me ac ", false, true)]
    [InlineData("rd wr mr mw me nr ", false, true)]
    [InlineData("rd wr mr mw me nr ", true, false)] // could not be put back
    [InlineData("rd wr mr mw me ac sd rr sr nh gu ", true, true)]
    [InlineData("rd wr mr mw me ", false, false)] // neither charged nor without reservation: nothing fresh is like that
    [InlineData("rd wr mr mw me ac nr ", false, false)]
    [InlineData("rd wr mr mw ac ", false, false)]
    [InlineData("rd wr mr mw me ac zz ", false, false)] // unknown
    [InlineData("rd wr mr mw me ac ?? ", false, false)]
    [InlineData("rd wr mr mw me ac dp ", false, false)]
    [InlineData("rd wr mr mw me ac um ", false, false)]
    [InlineData("", false, false)]
    public void MemoryIsMergedOnlyIfAllItsFlagsAreKnownToComeBack(string flags, bool reservesAll, bool mergeable) =>
        Assert.Equal(mergeable, AreaEligibility.IsMergeable(MappingTraits.Of(At(16, 32, flags), reservesAll)));

    [Fact]
    public void OverlappingRangesBecomeOneAndOthersStayApart()
    {
        RangeSet areas = new(joinsAdjacent: false), given = new(joinsAdjacent: true);
        foreach ((ulong start, ulong end) in ((ulong, ulong)[])[(16, 20), (20, 24), (40, 44), (18, 21)])
        {
            areas.Add(start * 4096, end * 4096);
            given.Add(start * 4096, end * 4096);
        }

        Assert.True(areas.Contains(16 * 4096, 24 * 4096) && !areas.Contains(16 * 4096, 25 * 4096) && areas.Contains(41 * 4096, 44 * 4096));
        areas.Add(24 * 4096, 26 * 4096);
        given.Add(24 * 4096, 26 * 4096);
        Assert.False(areas.HasWithin(24 * 4096));
        Assert.True(areas.Touches(24 * 4096) && areas.Touches(44 * 4096) && !areas.Touches(45 * 4096));
        Assert.True(given.HasWithin(24 * 4096) && given.Contains(16 * 4096, 26 * 4096));
    }

    /// <summary>Seams in an area that was one are ours; those that were there before are not.</summary>
    [Fact]
    public void SeamsInAnAreaThatWasOneAreOurs()
    {
        Footprint footprint = new();
        footprint.NoteMerged([(20 * 4096, 24 * 4096, 0)], [new Segment(16 * 4096, 32 * 4096, AreaKind.Mergeable, 0, 0, Flags: Flags)]);
        footprint.Expect([new Segment(20 * 4096, 24 * 4096, AreaKind.Merged, 0, 0, Flags: Flags)]);
        Mapping[] apart = [At(8, 16, Flags), At(16, 20, Flags), At(20, 24, Flags), At(24, 32, Flags), At(32, 40, Flags)];
        Assert.Equal([apart[2]], footprint.ToBeJoined(apart));
        Assert.StartsWith("2 mappings more", footprint.Difference(apart, out bool matters), StringComparison.Ordinal);
        Assert.False(matters);
        Assert.Empty(footprint.Difference([apart[0], At(16, 32, Flags), apart[4]], out matters));
    }

    /// <summary>A daemon that knows nothing of before takes it for its predecessor's doing where what it gave back lies beside what looks the same.</summary>
    [Fact]
    public void ADaemonThatRecoversGoesByWhatItGivesBack()
    {
        Footprint footprint = new();
        footprint.Expect([new Segment(20 * 4096, 24 * 4096, AreaKind.Merged, 0, 0, Flags: Flags)]);
        Assert.StartsWith("2 mappings more", footprint.Difference([At(8, 16, Flags), At(16, 20, Flags), At(20, 24, Flags), At(24, 32, Flags)], out _), StringComparison.Ordinal);
        Assert.Empty(footprint.Difference([At(8, 16, Flags), At(16, 20, Flags)], out _));
    }

    /// <summary>What lies behind is joined piece by piece, and not always at once: the rest is to be joined, too. A daemon that recovers knows that as well.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void WhatLiesBehindIsJoinedToItsEnd(bool knowsAreas)
    {
        Footprint footprint = new();
        if (knowsAreas)
            footprint.NoteMerged([(16 * 4096, 20 * 4096, 0)], [new Segment(16 * 4096, 32 * 4096, AreaKind.Mergeable, 0, 0, Flags: Flags)]);
        footprint.Expect([new Segment(16 * 4096, 20 * 4096, AreaKind.Merged, 0, 0, Flags: Flags)]);
        Assert.Equal([At(20, 32, Flags)], footprint.ToBeJoined([At(16, 20, Flags), At(20, 32, Flags)]));
        Assert.Equal([At(26, 32, Flags)], footprint.ToBeJoined([At(16, 26, Flags), At(26, 32, Flags)]));
        Assert.StartsWith("1 mappings more", footprint.Difference([At(16, 26, Flags), At(26, 32, Flags)], out _), StringComparison.Ordinal);
        Assert.Empty(footprint.ToBeJoined([At(16, 32, Flags), At(32, 40, Flags)]));
    }

    [Fact]
    public void FlagsThatDifferAreSaidAndMatter()
    {
        Footprint footprint = new();
        footprint.Expect([new Segment(20 * 4096, 24 * 4096, AreaKind.Merged, OperationFlags.NoReserve, 0, Flags: "rd wr mr mw me nr um ui uw ")]);
        string said = footprint.Difference([At(20, 24, Flags)], out bool matters);
        Assert.True(matters && said.Contains("16 KiB without nr and with ac", StringComparison.Ordinal), said);
        Assert.Empty(footprint.Difference([At(20, 24, Flags)], out matters));
        footprint.Expect([new Segment(20 * 4096, 24 * 4096, AreaKind.Merged, OperationFlags.NoReserve, 0, Flags: "rd wr mr mw me nr um ui uw ")]);
        Assert.Empty(footprint.Difference([At(20, 24, "rd wr mr mw me nr sd ")], out matters));
        Assert.False(matters);
    }

    /// <summary>What is refused is left alone until it looks different.</summary>
    [Fact]
    public void ARefusedAreaIsLeftAloneUntilItChanges()
    {
        RefusedAreas refused = new();
        refused.Add(new Segment(16 * 4096, 32 * 4096, AreaKind.Mergeable, 0, 0, Flags: Flags), Samepage.Linux.Errno.EINVAL);
        Assert.True(Look(At(16, 32, Flags)) && refused.Reason.Contains("EINVAL", StringComparison.Ordinal));
        Assert.False(Look(At(16, 33, Flags)));
        Assert.False(Look(At(16, 32, Flags)));
        Assert.Empty(refused.Reason);

        bool Look(Mapping mapping)
        {
            refused.BeginLook();
            bool has = refused.Has(mapping);
            refused.EndLook();
            return has;
        }
    }

    private static Mapping At(ulong start, ulong end, string flags) => new(start * 4096, end * 4096, true, true, false, false, 0, 0, 0, "", flags, 0);
}
