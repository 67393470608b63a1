using Samepage.Linux.ProcFs;
using Samepage.Rules;

namespace Samepage.LinuxTests;

/// <summary>Rules: how they are read, what they are about, and what is said of a bad file.</summary>
public sealed class RulesTests
{
    [Fact]
    public void WithoutAFileOnlyAdvisedMemoryIsTakenIn()
    {
        RuleSet rules = RuleFile.Read("/nonexistent/samepage.toml");
        Assert.Equal((true, 5.0, 0, 0), (rules.TakesAdvised, rules.Settle.TotalSeconds, rules.Include.Count, rules.Exclude.Count));
        Assert.Equal(rules, RuleFile.Parse("f", "# nothing\n") with { Include = rules.Include, Exclude = rules.Exclude });
    }

    [Fact]
    public void EveryValueIsRead()
    {
        RuleSet rules = RuleFile.Parse("f", """
            settle_seconds = 0
            advised = false

            [[include]]
            user = "root"
            name = "redis*"

            [[exclude]]
            executable = "/usr/bin/python3.??"

            [[include]]
            cgroup = "/system.slice/*"
            user = 7
            """);
        Assert.Equal((false, 0.0), (rules.TakesAdvised, rules.Settle.TotalSeconds));
        Assert.Equal([new Rule(0, null, null, "redis*"), new Rule(7, "/system.slice/*", null, null)], rules.Include);
        Assert.Equal([new Rule(null, null, "/usr/bin/python3.??", null)], rules.Exclude);
    }

    [Theory]
    [InlineData("a = 1", "f:1:", "'a' is not known here")]
    [InlineData("advised = true\n\nsettle_seconds = -1", "f:3:18:", "0 to 86400")]
    [InlineData("settle_seconds = 86401", "f:1:18:", "0 to 86400")]
    [InlineData("settle_seconds = \"5\"", "f:1:18:", "whole number")]
    [InlineData("settle_seconds = 1.5", "f:1:18:", "whole number")]
    [InlineData("advised = 1", "f:1:11:", "true or false")]
    [InlineData("advised = true\nadvised = false", "f:2:1:", "'advised' is given twice")]
    [InlineData("include = 3", "f:1:11:", "[[include]]")]
    [InlineData("include = [3]", "f:1:", "[[include]]")]
    [InlineData("[include]\nname = \"a\"", "f:1:", "[[include]]")]
    [InlineData("[[include]]\nnam = \"a\"", "f:2:1:", "'nam' is not known in a rule")]
    [InlineData("[[include]]\nname = \"a\"\nname = \"b\"", "f:3:1:", "'name' is given twice")]
    [InlineData("[[include]]\nname = 3", "f:2:8:", "name: a text is wanted")]
    [InlineData("[[include]]\nname = \"\"", "f:2:8:", "name: a text is wanted")]
    [InlineData("[[include]]\nuser = \"nobody that is known\"", "f:2:8:", "/etc/passwd has no")]
    [InlineData("[[include]]\nuser = -1", "f:2:8:", "whole number")]
    [InlineData("advised = true\n[[include]]\n", "f:2:", "every process")]
    [InlineData("advised = true\nsettle_seconds = = 3", "f:2:", "")]
    [InlineData("name = \"unclosed", "f:1:", "")]
    public void ABadFileIsRefusedWithItsLineAndColumn(string text, string place, string why)
    {
        RuleFileException refused = Assert.Throws<RuleFileException>(() => RuleFile.Parse("f", text));
        Assert.StartsWith(place, refused.Message, StringComparison.Ordinal);
        Assert.Contains(why, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ARuleIsAboutWhatAllOfItHoldsFor()
    {
        Facts facts = new(7, "redis-server", "/system.slice/redis.service", "/usr/bin/redis-check-rdb");
        Assert.True(new Rule(7, null, null, null).IsAbout(facts));
        Assert.True(new Rule(7, "/system.slice/*", "/usr/bin/redis*", "redis-serve?").IsAbout(facts));
        Assert.False(new Rule(8, "/system.slice/*", "/usr/bin/redis*", "redis-serve?").IsAbout(facts));
        Assert.False(new Rule(7, "/user.slice/*", null, null).IsAbout(facts));
        Assert.False(new Rule(null, null, "/usr/bin/redis", null).IsAbout(facts));
        Assert.False(new Rule(null, null, null, "REDIS*").IsAbout(facts));
        Assert.False(new Rule(null, null, null, "redis").IsAbout(facts));
    }

    [Theory]
    [InlineData("ksm_rmap_items 0\nksm_merge_any: no\nksm_mergeable: yes\n", true, true)]
    [InlineData("ksm_rmap_items 0\nksm_merge_any: no\nksm_mergeable: no\n", true, false)]
    [InlineData("ksm_rmap_items 0\nksm_process_profit 0\n", false, false)]
    public void AdviceIsReadFromWhatTheKernelSaysOfAProcess(string text, bool says, bool given)
    {
        Assert.Equal(says, MergeAdvice.TryParse(text, out bool found));
        Assert.Equal(given, found);
    }

    private sealed class Facts(int user, string name, string cgroup, string executable) : ProcessFacts(0)
    {
        public override long User => user;

        public override string Name => name;

        public override string Cgroup => cgroup;

        public override string Executable => executable;
    }
}
