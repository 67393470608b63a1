using System.Text.RegularExpressions;

namespace Samepage.TidyTests;

/// <summary>Rules of the house that a compiler does not know.</summary>
public sealed partial class SourceTests
{
    private const int LinesMax = 500;

    [Fact]
    public void RawSignaturesStandOnlyInTheInteropOfLinux()
    {
        string[] wrong =
        [
            .. from path in Repository.Sources("src")
               let text = File.ReadAllText(path)
               where Import().IsMatch(text) && !InteropNamespace().IsMatch(text)
               select Repository.Short(path),
        ];
        Assert.True(wrong.Length == 0, $"system calls are declared in Samepage.Linux.*.Interop only; also found in:\n{string.Join('\n', wrong)}");
    }

    [Fact]
    public void NothingIsLeftToBeDone()
    {
        string[] wrong =
        [
            .. from path in Repository.Sources("src")
               from line in File.ReadLines(path).Index()
               where Unfinished().IsMatch(line.Item)
               select $"{Repository.Short(path)}:{line.Index + 1}: {line.Item.Trim()}",
        ];
        Assert.True(wrong.Length == 0, string.Join('\n', wrong));
    }

    [Fact]
    public void AFileIsOneIdea()
    {
        string[] wrong =
        [
            .. from path in Repository.Sources("src", "tests", "benchmarks")
               let lines = File.ReadLines(path).Count()
               where lines > LinesMax
               select $"{Repository.Short(path)} has {lines} lines, {LinesMax} are allowed",
        ];
        Assert.True(wrong.Length == 0, string.Join('\n', wrong));
    }

    [Theory]
    [InlineData("daemon")]
    [InlineData("attach")]
    [InlineData("detach")]
    [InlineData("status")]
    [InlineData("top")]
    [InlineData("pages")]
    [InlineData("frames")]
    [InlineData("web")]
    [InlineData("completion")]
    [InlineData("manual")]
    [InlineData("control")]
    [InlineData("reload")]
    [InlineData("doctor")]
    [InlineData("demo")]
    [InlineData("recover")]
    [InlineData("simulate")]
    [InlineData("estimate")]
    [InlineData("fleet")]
    public void TheReadmeShowsEverySubcommand(string subcommand)
    {
        string path = Path.Combine(Repository.Root, "README.md");
        Assert.True(File.Exists(path), "there is no README.md");
        string readme = File.ReadAllText(path);
        Assert.Contains($"samepage {subcommand}", readme, StringComparison.Ordinal);
    }

    [GeneratedRegex(@"^\s*\[(LibraryImport|DllImport)\(", RegexOptions.Multiline)]
    private static partial Regex Import();

    [GeneratedRegex(@"^namespace Samepage\.Linux(\.\w+)*\.Interop;", RegexOptions.Multiline)]
    private static partial Regex InteropNamespace();

    [GeneratedRegex(@"\b(TODO|FIXME|XXX|HACK)\b")]
    private static partial Regex Unfinished();
}
