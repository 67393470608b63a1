using System.Text.RegularExpressions;
using Samepage.Linux.Kernels;

namespace Samepage.TidyTests;

/// <summary>docs/kernels.md has the bugs of kernels that the program knows, in the same words.</summary>
public sealed partial class KernelsTests
{
    private static readonly string Text = File.ReadAllText(Path.Combine(Repository.Root, "docs", "kernels.md"));

    [Fact]
    public void TheTableOfBugsIsTheProgramsOwn()
    {
        string section = Section().Match(Text).Value;
        string[] rows = [.. section.Split('\n').Where(line => line.StartsWith("| ", StringComparison.Ordinal)).Skip(1)];
        string[] expected = [.. KernelBugs.All.Select(bug => $"| {bug.Name} | {bug.What} | {bug.Versions} | {bug.AnswerWords}: {bug.ForUs} | {bug.Source} |")];
        Assert.Equal(expected, rows);
    }

    [Fact]
    public void TheSupportPolicySaysWhereTheyStand()
    {
        string architecture = File.ReadAllText(Path.Combine(Repository.Root, "ARCHITECTURE.md"));
        string policy = architecture[architecture.IndexOf("## Support policy", StringComparison.Ordinal)..];
        Assert.Contains("docs/kernels.md", policy, StringComparison.Ordinal);
        Assert.Contains("6.11", policy, StringComparison.Ordinal);
    }

    [GeneratedRegex("^## Known bugs of kernels$.*?(?=^## |\\z)", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Section();
}
