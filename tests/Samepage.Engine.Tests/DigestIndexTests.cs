using CsCheck;
using Samepage.Engine.Index;

namespace Samepage.EngineTests;

/// <summary>The index against a dictionary.</summary>
public sealed class DigestIndexTests
{
    /// <summary>Digests that crowd: few values of the low bits, that decide the place, and of the high bits, that make the tag.</summary>
    private static readonly Gen<ulong> Crowded =
        Gen.Select(Gen.ULong[0, 3], Gen.ULong[0, 5], Gen.ULong[0, 63]).Select((high, middle, low) => (high << 62) | (middle << 20) | low);

    /// <summary>Digests whose low bits are all equal: every probe begins at one place, the last but one, and wraps around.</summary>
    private static readonly Gen<ulong> EqualLow = Gen.ULong[0, 400].Select(value => (value << 32) | 0xFFFFFFFE);

    [Fact]
    public void C2_FindsWhatADictionaryFindsWithCrowdedDigests() => Compare(Crowded);

    [Fact]
    public void C2_FindsWhatADictionaryFindsWithEqualLowBits() => Compare(EqualLow);

    [Fact]
    public void C2_FindsWhatADictionaryFindsWithAnyDigests() => Compare(Gen.ULong);

    [Fact]
    public void RemovingWhatIsNotInChangesNothing()
    {
        ulong[] digests = [5, 5 + 64, 9];
        using DigestIndex index = new(reference => digests[reference]);
        index.Remove(5, 0);
        index.Add(digests[0], 0);
        index.Remove(digests[1], 1);
        index.Remove(digests[2], 2);
        Assert.Equal(1, index.Count);
        Assert.True(index.TryFind(5, out uint found));
        Assert.Equal(0u, found);
    }

    /// <summary>A program of additions and removals: a digest that is in is removed, one that is not is added.</summary>
    private static void Compare(Gen<ulong> digest) => digest.Array[0, 600].Sample(
        program =>
        {
            List<ulong> digests = [];
            Dictionary<ulong, uint> model = [];
            using DigestIndex index = new(reference => digests[(int)reference]);
            foreach (ulong step in program)
            {
                if (model.Remove(step, out uint reference))
                {
                    index.Remove(step, reference);
                }
                else
                {
                    reference = (uint)digests.Count;
                    digests.Add(step);
                    index.Add(step, reference);
                    model.Add(step, reference);
                }
            }

            Assert.Equal(model.Count, index.Count);
            foreach (ulong asked in program)
            {
                bool found = index.TryFind(asked, out uint reference);
                Assert.Equal(model.TryGetValue(asked, out uint expected), found);
                Assert.Equal(expected, reference);
            }
        }, iter: 300, threads: 1);
}
