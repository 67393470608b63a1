using Samepage.Engine;
using Samepage.Engine.Control;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>Starting, stopping and pacing, by the kernel's names and texts.</summary>
public sealed class ControlTests
{
    private const string Run = ScanControl.RunFile, PagesToScan = ScanControl.PagesToScanFile, Sleep = ScanControl.SleepMillisecondsFile;

    [Fact]
    public void G1_RunStartsStopsAndUnmergesEverything()
    {
        using Scanned scanned = new();
        scanned.Space(1, 1, 2, 2);
        scanned.Space(1, 1, 3);
        ScanControl control = new(scanned.Engine);
        Assert.Equal("0\n", control.Read(Run));
        Assert.Equal(0, Scans(control, 3));
        Assert.Equal(ControlOutcome.Done, control.Write(Run, "1\n"));
        Assert.Equal(3, Scans(control, 3));
        Assert.Equal((2, 2), (scanned.Engine.Figures.PagesShared, scanned.Engine.Figures.PagesSharing));

        Assert.Equal(ControlOutcome.Done, control.Write(Run, "0"));
        Assert.Equal(0, Scans(control, 3));
        Assert.Equal((2, 2), (scanned.Engine.Figures.PagesShared, scanned.Engine.Figures.PagesSharing));

        Assert.Equal(ControlOutcome.Done, control.Write(Run, "2"));
        Assert.Equal("2\n", control.Read(Run));
        Assert.Equal((0, 0, 0), (scanned.Engine.Figures.PagesShared, scanned.Engine.Figures.PagesSharing, scanned.Engine.FullScans));
        Assert.Equal(0, Scans(control, 3));
        Assert.Equal(ControlOutcome.Done, control.Write(Run, "1"));
        Assert.Equal(4, Scans(control, 4));
        Assert.Equal((2, 2), (scanned.Engine.Figures.PagesShared, scanned.Engine.Figures.PagesSharing));
    }

    [Fact]
    public void G1_E3_WhereUnmergingFailsTheScannerIsStoppedAndAskingAgainGoesOn()
    {
        using Scanned scanned = new();
        FakeSpace space = scanned.Space(1, 1, 1);
        ScanControl control = new(scanned.Engine);
        control.Write(Run, "1");
        Scans(control, 3);
        space.Force = (_, _) => PageOutcome.Refused;
        Assert.Equal(ControlOutcome.NoMemory, control.Write(Run, "2"));
        Assert.Equal("0\n", control.Read(Run));
        space.Force = null;
        Assert.Equal(ControlOutcome.Done, control.Write(Run, "2"));
        Assert.Equal(0, scanned.Engine.Figures.PagesShared);
    }

    [Fact]
    public void G2_ABatchLooksAtSoManyPages()
    {
        using Scanned scanned = new(tracksWrites: false);
        scanned.Space(1, 1, 2, 3, 4, 5, 6, 7);
        ScanControl control = new(scanned.Engine);
        Assert.Equal("100\n", control.Read(PagesToScan));
        control.Write(Run, "1");
        Assert.Equal(ControlOutcome.Done, control.Write(PagesToScan, "3"));
        Assert.Equal([3L, 3L, 1L], [control.Batch().PagesLookedAt, control.Batch().PagesLookedAt, control.Batch().PagesLookedAt]);
        Assert.Equal(ControlOutcome.Done, control.Write(PagesToScan, "0"));
        Assert.Equal((0L, 0), (control.Batch().PagesLookedAt, control.Batch().PassesCompleted));
        Assert.Equal(ControlOutcome.Done, control.Write(PagesToScan, "4294967295"));
        Assert.Equal(7, control.Batch().PagesLookedAt);
    }

    [Fact]
    public void G3_ThePauseIsReadAndWritten()
    {
        using Scanned scanned = new();
        ScanControl control = new(scanned.Engine);
        Assert.Equal("20\n", control.Read(Sleep));
        Assert.Equal(ControlOutcome.Done, control.Write(Sleep, "4294967295\n"));
        Assert.Equal((4294967295u, "4294967295\n"), (control.SleepMilliseconds, control.Read(Sleep)));
        Assert.Equal(ControlOutcome.Done, control.Write(Sleep, "0"));
        Assert.Equal(0u, control.SleepMilliseconds);
    }

    [Theory]
    [InlineData("+2", 2u)]
    [InlineData("0002\n", 2u)]
    [InlineData("2\0anything", 2u)]
    [InlineData("", 7u)]
    [InlineData("-1", null)]
    [InlineData(" 2", null)]
    [InlineData("2 ", null)]
    [InlineData("2\n\n", null)]
    [InlineData("abc", null)]
    [InlineData("1abc", null)]
    [InlineData("0x10", null)]
    [InlineData("1.5", null)]
    [InlineData("1 2", null)]
    [InlineData("\n", null)]
    [InlineData("++2", null)]
    [InlineData("٣", null)]
    [InlineData("4294967296", null)]
    public void G1_G2_G3_ATextIsTakenAsTheKernelTakesItOrRefusedAndChangesNothing(string text, uint? value)
    {
        using Scanned scanned = new();
        ScanControl control = new(scanned.Engine);
        foreach (string file in (string[])[PagesToScan, Sleep])
        {
            control.Write(file, "7");
            Assert.Equal(value is null ? ControlOutcome.Invalid : ControlOutcome.Done, control.Write(file, text));
            Assert.Equal($"{value ?? 7}\n", control.Read(file));
        }

        Assert.Equal(ControlOutcome.Invalid, control.Write(Run, "3"));
        Assert.Equal(ControlOutcome.Invalid, control.Write("pages", "1"));
        Assert.Equal(ControlOutcome.Invalid, control.Write("pages", ""));
        Assert.Null(control.Read("pages"));
        Assert.Equal("0\n", control.Read(Run));
    }

    /// <summary>Batches until nothing more happens, or so many passes are complete.</summary>
    private static int Scans(ScanControl control, int passes)
    {
        int completed = 0;
        for (int batch = 0; batch < 100 && completed < passes; batch++)
            completed += control.Batch().PassesCompleted;
        return completed;
    }
}
