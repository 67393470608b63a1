using System.Text.RegularExpressions;

namespace Samepage.TidyTests;

/// <summary>docs/behaviours.md says of every behaviour what shows it, and what it says is there.</summary>
public sealed partial class BehavioursTests
{
    private static readonly (char Letter, int Last)[] Groups = [('A', 6), ('B', 9), ('C', 11), ('D', 9), ('E', 3), ('F', 5), ('G', 10), ('H', 3)];

    private static readonly string Text = File.ReadAllText(Path.Combine(Repository.Root, "docs", "behaviours.md"));

    [Fact]
    public void EveryIdHasOneRow()
    {
        string[] expected = [.. from @group in Groups from number in Enumerable.Range(1, @group.Last) select $"{@group.Letter}{number}"];
        Assert.Equal(expected, Row().Matches(Text).Select(match => match.Groups[1].Value));
    }

    [Fact]
    public void EveryTestThatIsNamedExists()
    {
        string sources = string.Concat(Repository.Sources("tests").Select(File.ReadAllText));
        string[] missing = [.. from Match named in Test().Matches(Text) let name = named.Groups[1].Value where !sources.Contains($" {name}(", StringComparison.Ordinal) select name];
        Assert.True(missing.Length == 0, string.Join('\n', missing));
    }

    [GeneratedRegex(@"^\| ([A-H]\d+) \|", RegexOptions.Multiline)]
    private static partial Regex Row();

    [GeneratedRegex(@"`([A-H]\d+_\w+)`")]
    private static partial Regex Test();
}
