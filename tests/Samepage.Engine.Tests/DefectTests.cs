using Samepage.Engine;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>Behaviours that the engine was found without.</summary>
public sealed class DefectTests
{
    [Fact]
    public void C10_APageGivenBackIsNotMergedAloneIntoItsOldFrame()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7);
        scanned.Pass(2);
        scanned.Machine.Discard(one, one.First);
        FakeSpace other = scanned.Space(1, 7);
        scanned.Pass(8);
        Assert.Equal((0, 0), (other.InFrames, scanned.Domain(1).Frames));
        Assert.Equal(1, scanned.Counts(other).Unique);
    }

    /// <summary>A frame that could not be written reads as zeros, and so do these pages; but it may not be kept in its place (FrameGuards), and what maps it could be lost.</summary>
    [Fact]
    public void H2_NobodyJoinsAFrameThatCouldNotBeWritten()
    {
        using Scanned scanned = new();
        scanned.Engine.UsesZeroPage = false;
        scanned.Machine.OutOfMemory = true;
        FakeSpace one = scanned.Space(1, 0, 7), other = scanned.Space(1, 0, 7);
        scanned.Pass(30);
        Assert.Equal((0, 0), (one.InFrames, other.InFrames));
        Assert.DoesNotContain(scanned.Machine.Executed, executed => executed.Runs.Any(run => run.Kind == PlanKind.Merge));
        Assert.Equal(2, scanned.Counts(one).Pending);
        scanned.Machine.OutOfMemory = false;
        scanned.Pass(2);
        Assert.Equal((2, 2), (one.InFrames, other.InFrames));
    }

    [Fact]
    public void H2_PagesThatFoundNoMemoryForTheirFrameAreTriedLater()
    {
        using Scanned scanned = new();
        FakeSpace one = scanned.Space(1, 7), other = scanned.Space(1, 7);
        scanned.Machine.OutOfMemory = true;
        scanned.Pass(3);
        Assert.Equal((0, 0), (one.InFrames, other.InFrames));
        scanned.Machine.OutOfMemory = false;
        scanned.Pass(8);
        Assert.Equal((1, 1), (one.InFrames, other.InFrames));
    }

    [Fact]
    public void C11_RecordsOfFreedFramesAreUsedAgain()
    {
        using Scanned scanned = new();
        byte[] values = [.. Enumerable.Range(0, 3000).Select(i => (byte)(i % 251))];
        long bytes = 0;
        for (int i = 0; i < 20; i++)
        {
            FakeSpace space = scanned.Space(1, values);
            scanned.Pass(3);
            scanned.Machine.End(space);
            scanned.Remove(space);
            scanned.Pass(3);
            Assert.Equal(0, scanned.Machine.FramesHeld(1));
            if (i == 1)
                bytes = scanned.Engine.MetadataBytes;
        }

        Assert.Equal(bytes, scanned.Engine.MetadataBytes);
    }

    [Fact]
    public void E1_ALargeMappingOfWhichMostIsBrokenIsGivenBackToo()
    {
        const int Pages = 20000;
        using Scanned scanned = new();
        FakeSpace one = scanned.Machine.NewSpace(1, Pages), other = scanned.Machine.NewSpace(1, Pages);
        foreach (FakeSpace space in new[] { one, other })
        {
            for (int i = 0; i < Pages; i++)
                scanned.Machine.Write(space, space.First + (ulong)i, [.. BitConverter.GetBytes(i + 1), .. new byte[scanned.Machine.PageSize - sizeof(int)]]);
            scanned.Take(space);
        }

        scanned.Pass(2);
        Assert.Equal(Pages, scanned.Counts(one).Merged);
        for (int i = 0; i < Pages; i++)
            scanned.Machine.Write(one, one.First + (ulong)i, 9);
        scanned.Pass(6);
        Assert.Equal((0, Pages), (scanned.Counts(one).Broken, scanned.Counts(one).Merged));
    }

    /// <summary>A page was like no other, then it could not be compared for a while: an equal page that came meanwhile must not make two that nobody looks at again.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void C5_AUniquePageThatCannotBeComparedIsLookedAtAgain(bool sharedByFork)
    {
        using Scanned scanned = new(options: new EngineOptions { DigestMask = 0 });
        FakeSpace one = scanned.Space(1, 7), different = scanned.Space(1, 8);
        scanned.Pass(4);
        Assert.Equal((1, 1), (scanned.Counts(one).Unique, scanned.Counts(different).Unique));
        FakePage before = one[one.First];
        if (sharedByFork)
            one[one.First].SharedByFork = true;
        else
            one[one.First].Own = null;
        FakeSpace equal = scanned.Space(1, 7);
        scanned.Pass(4);
        Assert.Equal((0, 0), (one.InFrames, equal.InFrames));
        one[one.First] = before;
        scanned.Pass(17);
        Assert.Equal((1, 1, 0), (one.InFrames, equal.InFrames, different.InFrames));
    }
}
