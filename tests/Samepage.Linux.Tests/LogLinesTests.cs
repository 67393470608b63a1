using Microsoft.Extensions.Logging;
using Samepage.Cli;
using Samepage.Daemon;

namespace Samepage.LinuxTests;

/// <summary>Text that leaves us: what is in it is seen, and a line of the log is one line.</summary>
public sealed class LogLinesTests
{
    [Theory]
    [InlineData("plain ünïcode ▁█ 漢 😀", "plain ünïcode ▁█ 漢 😀")]
    [InlineData("\e]0;x\a", @"\x1b]0;x\x07")]
    [InlineData("a\nb\rc\td", @"a\nb\rc\td")]
    [InlineData("\u007f\u009b31m\u0085", @"\x7f\x9b31m\x85")]
    [InlineData("\u202egpj.exe\u2066\u200b\ufeff\u2028", @"\u202egpj.exe\u2066\u200b\ufeff\u2028")]
    [InlineData("\U000e0041", @"\U000e0041")]
    public void WhatATerminalWouldObeyIsSpelledOut(string text, string shown) => Assert.Equal(shown, VisibleText.Of(text));

    [Fact]
    public void HalfOfAPairIsSpelledOut() => Assert.Equal(@"\ud800x", VisibleText.Of("\ud800x"));

    [Fact]
    public void LinesOfOursKeepTheirEndsAndNothingElse() => Assert.Equal("a\n\tb\\r\\x1b", VisibleText.OfLines("a\n\tb\r\e"));

    [Theory]
    [InlineData(true, @"^<6>Some\.Category\[0\] ")]
    [InlineData(false, @"^\d\d:\d\d:\d\d\.\d\d\d info: Some\.Category\[0\] ")]
    public void AnEntryIsOneLineWhateverNamesAreInIt(bool journal, string begins)
    {
        using StringWriter written = new();
        using (LogLines log = new(journal, written))
        {
            ILogger logger = log.CreateLogger("Some.Category");
            logger.LogInformation("took in process {Pid} ({Name})", 7, "x\n<0>forged\r\e[2J");
            logger.LogInformation(new InvalidOperationException("first\nsecond"), "failed");
        }

        string[] lines = written.ToString().TrimEnd('\n').Split('\n');
        Assert.Equal(2, lines.Length);
        Assert.All(lines, line => Assert.Matches(begins, line));
        Assert.EndsWith(@"took in process 7 (x\n<0>forged\r\x1b[2J)", lines[0], StringComparison.Ordinal);
        Assert.Contains(@"first\nsecond", lines[1], StringComparison.Ordinal);
    }
}
