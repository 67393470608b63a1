using CsCheck;
using Samepage.Engine;
using Samepage.Engine.Index;
using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.EngineTests;

/// <summary>The index against a dictionary.</summary>
public sealed class DigestIndexTests
{
    /// <summary>Digests that crowd: few values of the low bits, that decide the place, and of the high bits, that make the tag.</summary>
    private static readonly Gen<ulong> Crowded =
        Gen.Select(Gen.ULong[0, 3], Gen.ULong[0, 5], Gen.ULong[0, 63]).Select((high, middle, low) => (high << 62) | (middle << 20) | low);

    /// <summary>Digests whose low bits are all equal: every probe begins at one place, the last but one, and wraps around.</summary>
    private static readonly Gen<ulong> EqualLow = Gen.ULong[0, 400].Select(value => (value << 32) | 0xFFFFFFFE);

    [Theory]
    [InlineData(IndexKind.Hash)]
    [InlineData(IndexKind.Tree)]
    public void C2_FindsWhatADictionaryFindsWithCrowdedDigests(IndexKind kind) => Compare(kind, Crowded);

    [Theory]
    [InlineData(IndexKind.Hash)]
    [InlineData(IndexKind.Tree)]
    public void C2_FindsWhatADictionaryFindsWithEqualLowBits(IndexKind kind) => Compare(kind, EqualLow);

    [Theory]
    [InlineData(IndexKind.Hash)]
    [InlineData(IndexKind.Tree)]
    public void C2_FindsWhatADictionaryFindsWithAnyDigests(IndexKind kind) => Compare(kind, Gen.ULong);

    [Theory]
    [InlineData(IndexKind.Hash)]
    [InlineData(IndexKind.Tree)]
    public void C2_FindsEveryEntryOfOneDigest(IndexKind kind) => Compare(kind, Gen.ULong[0, 5]);

    [Theory]
    [InlineData(IndexKind.Hash)]
    [InlineData(IndexKind.Tree)]
    public void RemovingWhatIsNotInChangesNothing(IndexKind kind)
    {
        ulong[] digests = [5, 5 + 64, 9];
        using IDigestIndex index = Domain.Make(kind, reference => digests[reference], new MemoryBudget(long.MaxValue));
        Assert.False(index.Remove(5, 0));
        Assert.True(index.TryAdd(digests[0], 0));
        Assert.False(index.Remove(digests[1], 1));
        Assert.False(index.Remove(digests[2], 2));
        Assert.Equal(1, index.Count);
        Assert.True(index.TryFind(5, out uint found));
        Assert.Equal(0u, found);
    }

    [Theory]
    [InlineData(IndexKind.Hash)]
    [InlineData(IndexKind.Tree)]
    public void C7_EmptiedItForgetsEverythingWhateverTheDigestsAreByThen(IndexKind kind)
    {
        ulong[] digests = [.. Enumerable.Range(0, 5000).Select(i => unchecked((ulong)i * 0x9E3779B97F4A7C15))];
        using IDigestIndex index = Domain.Make(kind, reference => digests[reference], new MemoryBudget(long.MaxValue));
        for (uint i = 0; i < digests.Length; i++)
            Assert.True(index.TryAdd(digests[i], i));
        ulong known = digests[7];
        digests.AsSpan().Reverse();
        index.Clear();
        Assert.Equal(0, index.Count);
        Assert.False(index.TryFind(known, out _));
        for (uint i = 0; i < digests.Length; i++)
            Assert.True(index.TryAdd(digests[i], i));
        index.Check();
        Assert.Equal(digests.Length, index.Count);
    }

    [Theory]
    [InlineData(IndexKind.Hash)]
    [InlineData(IndexKind.Tree)]
    public void H2_WithoutMemoryAnEntryIsRefusedAndTheOthersStay(IndexKind kind)
    {
        ulong[] digests = [.. Enumerable.Range(0, 5000).Select(i => unchecked((ulong)i * 0x9E3779B97F4A7C15))];
        MemoryBudget budget = new(20_000);
        using IDigestIndex index = Domain.Make(kind, reference => digests[reference], budget);
        uint taken = 0;
        while (index.TryAdd(digests[taken], taken))
            taken++;
        Assert.InRange(taken, 1000u, 4999u);
        Assert.False(index.TryAdd(digests[taken], taken));
        index.Check();
        Assert.Equal(taken, index.Count);
        for (uint i = 0; i < taken; i++)
            Assert.True(index.TryFind(digests[i], out _));
        Assert.True(index.Remove(digests[0], 0));
        Assert.True(index.TryAdd(digests[taken], taken));
    }

    /// <summary>A program of additions and removals: now and then an entry that is in is removed; contents of one digest may be many.</summary>
    private static void Compare(IndexKind kind, Gen<ulong> digest) => Gen.Select(digest, Gen.Int[0, 9]).Array[0, 600].Sample(
        program =>
        {
            List<ulong> digests = [];
            Dictionary<ulong, List<uint>> model = [];
            using IDigestIndex index = Domain.Make(kind, reference => digests[(int)reference], new MemoryBudget(long.MaxValue));
            long count = 0;
            foreach ((ulong step, int which) in program)
            {
                if (!model.TryGetValue(step, out List<uint>? there))
                    model.Add(step, there = []);
                if (there.Count > 0 && which < 5)
                {
                    Assert.True(index.Remove(step, there[which % there.Count]));
                    there.RemoveAt(which % there.Count);
                    count--;
                    continue;
                }

                uint reference = (uint)digests.Count;
                digests.Add(step);
                Assert.True(index.TryAdd(step, reference));
                there.Add(reference);
                count++;
            }

            index.Check();
            Assert.Equal(count, index.Count);
            uint[] found = new uint[700];
            foreach ((ulong asked, List<uint> expected) in model)
            {
                Assert.Equal(expected.Order(), found[..index.Find(asked, found)].Order());
                Assert.Equal(expected.Count > 0, index.TryFind(asked, out uint first));
                Assert.True(expected.Count == 0 || expected.Contains(first));
            }
        }, iter: 300, threads: 1);
}
