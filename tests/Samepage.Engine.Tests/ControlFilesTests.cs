using System.Text.RegularExpressions;
using Samepage.Engine;
using Samepage.Engine.Control;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>Every file of the control directory answers as the kernel's does, and those that mean something do it.</summary>
public sealed partial class ControlFilesTests
{
    /// <summary>What the kernel answered to 33 texts in each of its files, one after the other, with the value put back in between (Linux 6.18).</summary>
    [Fact]
    public void G9_EveryFileAnswersEveryTextAsTheKernelDid()
    {
        using StreamReader probe = new(typeof(ControlFilesTests).Assembly.GetManifestResourceStream("control-probe.txt")!);
        HashSet<string> seen = [];
        List<string> wrong = [];
        string file = "";
        int answers = 0;
        while (probe.ReadLine() is { } line)
        {
            if (File().Match(line) is { Success: true } header)
            {
                file = header.Groups["name"].Value;
                seen.Add(file);
                bool writable = header.Groups["mode"].Value == "0644";
                Assert.Equal(writable, ScanControl.Files.Single(known => known.Name == file).Writable);
                using Scanned fresh = new();
                ScanControl unwritten = new(fresh.Engine);
                // What had been scanned on that machine is another matter.
                if (file is not ("pages_scanned" or "pages_skipped"))
                    Assert.Equal(Unquoted(header.Groups["value"].Value), unwritten.Read(file));
                if (!writable)
                    Assert.Equal(ControlOutcome.ReadOnly, unwritten.Write(file, "1"));
                continue;
            }

            if (Answer().Match(line) is not { Success: true } answer)
                continue;
            using Scanned scanned = new();
            ScanControl control = new(scanned.Engine);
            string outcome = control.Write(file, Unquoted(answer.Groups["text"].Value)) switch
            {
                ControlOutcome.Done => "ok",
                ControlOutcome.Invalid => "EINVAL",
                ControlOutcome.OutOfRange => "ERANGE",
                ControlOutcome other => $"{other}",
            };
            if (outcome != answer.Groups["outcome"].Value || control.Read(file) != Unquoted(answer.Groups["after"].Value))
                wrong.Add($"{file} {line.Trim()}: {outcome}, {control.Read(file)!.Trim()}");
            answers++;
        }

        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
        Assert.Equal(ScanControl.Files.Select(known => known.Name), seen.Order(StringComparer.Ordinal));
        Assert.Equal(13 * 32, answers);
    }

    [Theory]
    [InlineData("Y", "1")]
    [InlineData("true", "1")]
    [InlineData("oN", "1")]
    [InlineData("F", "0")]
    [InlineData("OFx", "0")]
    [InlineData("o", null)]
    [InlineData("ox", null)]
    public void G9_ATruthIsReadByItsFirstLetters(string text, string? value)
    {
        using Scanned scanned = new();
        ScanControl control = new(scanned.Engine);
        foreach (string before in (string[])["0", "1"])
        {
            control.Write("use_zero_pages", before);
            Assert.Equal(value is null ? ControlOutcome.Invalid : ControlOutcome.Done, control.Write("use_zero_pages", text));
            Assert.Equal($"{value ?? before}\n", control.Read("use_zero_pages"));
        }
    }

    [Theory]
    [InlineData(256, 1, 2)]
    [InlineData(10, 1, 50)]
    [InlineData(500, 0, 0)]
    [InlineData(499, 0, 0)]
    public void G9_AFrameHasNoMoreSharersThanAllowedAndAContentHasAChainOfFrames(int most, int chains, int frames)
    {
        using Scanned scanned = new();
        byte[] same = new byte[250];
        Array.Fill<byte>(same, 7);
        scanned.Space(1, same);
        scanned.Space(1, same);
        ScanControl control = new(scanned.Engine);
        Assert.Equal(ControlOutcome.Done, control.Write("max_page_sharing", $"{most}"));
        control.Write(ScanControl.RunFile, "1");
        control.Write(ScanControl.PagesToScanFile, "1000");
        for (int batch = 0; batch < 8; batch++)
            _ = control.Batch();
        scanned.Engine.CheckInvariants();
        Assert.Equal(($"{chains}\n", $"{frames}\n"), (control.Read("stable_node_chains"), control.Read("stable_node_dups")));
        // Where a single page is left over, no frame is made for it.
        int shared = Math.Max(frames, 1), merged = most == 499 ? 499 : 500;
        Assert.Equal(($"{shared}\n", $"{merged - shared}\n"), (control.Read("pages_shared"), control.Read("pages_sharing")));
        Assert.Equal(ControlOutcome.Busy, control.Write("max_page_sharing", "300"));
        Assert.Equal(ControlOutcome.Done, control.Write("max_page_sharing", $"{most}"));
        Assert.Equal(ControlOutcome.Busy, control.Write("merge_across_nodes", "0"));
        Assert.Equal(ControlOutcome.Done, control.Write("merge_across_nodes", "1"));

        Assert.Equal(ControlOutcome.Done, control.Write(ScanControl.RunFile, "2"));
        foreach (string counter in (string[])["pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "ksm_zero_pages", "stable_node_chains", "stable_node_dups", "general_profit", "full_scans"])
            Assert.Equal("0\n", control.Read(counter));
        Assert.Equal(ControlOutcome.Done, control.Write("max_page_sharing", "300"));
        Assert.Equal(ControlOutcome.Done, control.Write("merge_across_nodes", "0"));
    }

    /// <summary>Full frames open and close as pages come and go, and every count stays right.</summary>
    [Fact]
    public void G9_FullFramesTakePagesAgainWhenTheyLoseSome()
    {
        using Scanned scanned = new();
        FakeSpace[] spaces = [.. Enumerable.Range(0, 3).Select(_ => scanned.Space(1, [.. Enumerable.Repeat((byte)1, 40)]))];
        scanned.Engine.MaxPageSharing = 4;
        uint state = 12345;
        for (int round = 0; round < 200; round++)
        {
            for (int write = 0; write < 6; write++)
            {
                state = state * 1664525 + 1013904223;
                scanned.Machine.Write(spaces[state / 7 % 3], spaces[state / 7 % 3].First + state / 1024 % 40, (byte)(state / 65536 % 3 + 1));
            }

            scanned.Pass();
            for (uint frame = 0; frame < 60; frame++)
                Assert.InRange(scanned.Engine.UsersOf(new DomainId(1), new FrameId(frame)).Count, 0, 4);
        }

        scanned.Pass(6);
        // At rest at most one frame of each content has room, but for what may not be given back for a while.
        Assert.InRange(scanned.Engine.Figures.PagesShared, 120 / 4, 120 / 4 + 12);
        Assert.InRange(scanned.Engine.Figures.PagesUnshared, 0, 3);
    }

    [Fact]
    public void G9_ZerosAreAContentLikeAnyOtherUnlessTheyAreLeftToTheZeroPage()
    {
        using Scanned scanned = new();
        scanned.Space(1, 1, 0, 0, 0);
        ScanControl control = new(scanned.Engine);
        control.Write(ScanControl.RunFile, "1");
        for (int batch = 0; batch < 4; batch++)
            _ = control.Batch();
        Assert.Equal(("1\n", "2\n", "0\n"), (control.Read("pages_shared"), control.Read("pages_sharing"), control.Read("ksm_zero_pages")));

        control.Write(ScanControl.RunFile, "2");
        control.Write("use_zero_pages", "1");
        control.Write(ScanControl.RunFile, "1");
        for (int batch = 0; batch < 4; batch++)
            _ = control.Batch();
        Assert.Equal(("0\n", "0\n", "3\n"), (control.Read("pages_shared"), control.Read("pages_sharing"), control.Read("ksm_zero_pages")));
        control.Write("use_zero_pages", "0");
        _ = control.Batch();
        Assert.Equal("3\n", control.Read("ksm_zero_pages"));
    }

    [Fact]
    public void G9_GeneralProfitIsNeverShownBelowZero()
    {
        using Scanned scanned = new();
        scanned.Space(1, 1, 2, 3);
        ScanControl control = new(scanned.Engine);
        control.Write(ScanControl.RunFile, "1");
        _ = control.Batch();
        Assert.True(scanned.Engine.ControlFigures.GeneralProfitBytes < 0);
        Assert.Equal("0\n", control.Read("general_profit"));
    }

    [Fact]
    public void G9_TheAdvisorChoosesTheBatchWhileItIsOn()
    {
        using Scanned scanned = new();
        ScanControl control = new(scanned.Engine, new ScanDefaults(PagesToScan: 4000), scanned.Engine.UnmergeAll);
        Assert.Equal(ControlOutcome.Done, control.Write("advisor_mode", "scan-time\n"));
        Assert.Equal(("none [scan-time]\n", "500\n"), (control.Read("advisor_mode"), control.Read(ScanControl.PagesToScanFile)));
        Assert.Equal(ControlOutcome.Invalid, control.Write(ScanControl.PagesToScanFile, "100"));

        // A pass that took four times its target wants a batch four times as large; half the way is gone each time.
        control.PassEnded(TimeSpan.FromSeconds(800), TimeSpan.FromSeconds(1));
        Assert.Equal("1250\n", control.Read(ScanControl.PagesToScanFile));
        control.PassEnded(TimeSpan.FromSeconds(200), TimeSpan.FromSeconds(1));
        Assert.Equal("1250\n", control.Read(ScanControl.PagesToScanFile));
        control.PassEnded(TimeSpan.FromSeconds(20000), TimeSpan.FromSeconds(1));
        Assert.Equal("30000\n", control.Read(ScanControl.PagesToScanFile));
        // Above the ceiling on the processor the batch shrinks, whatever the target.
        control.Write("advisor_max_cpu", "10");
        control.PassEnded(TimeSpan.FromSeconds(400), TimeSpan.FromSeconds(80));
        Assert.Equal("15000\n", control.Read(ScanControl.PagesToScanFile));
        control.PassEnded(TimeSpan.Zero, TimeSpan.Zero);
        control.PassEnded(TimeSpan.FromMilliseconds(1), TimeSpan.Zero);
        Assert.Equal("3750\n", control.Read(ScanControl.PagesToScanFile));

        Assert.Equal(ControlOutcome.Done, control.Write("advisor_mode", "none"));
        Assert.Equal("4000\n", control.Read(ScanControl.PagesToScanFile));
        control.PassEnded(TimeSpan.FromSeconds(800), TimeSpan.FromSeconds(1));
        Assert.Equal("4000\n", control.Read(ScanControl.PagesToScanFile));
    }

    private static string Unquoted(string python) => Regex.Unescape(python);

    [GeneratedRegex(@"^(?<name>\w+)  mode=(?<mode>\d+) size=4096 value=b'(?<value>.*)'$")]
    private static partial Regex File();

    [GeneratedRegex(@"^   b'(?<text>.*?)' +-> (?<outcome>\w+) +reads b'(?<after>.*)'$")]
    private static partial Regex Answer();
}
