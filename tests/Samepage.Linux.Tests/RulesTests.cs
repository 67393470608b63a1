using Samepage.Engine.Control;
using Samepage.Linux.ProcFs;
using Samepage.Live;
using Samepage.Rules;

namespace Samepage.LinuxTests;

/// <summary>Rules: how they are read, what they are about, and what is said of a bad file.</summary>
public sealed class RulesTests
{
    [Fact]
    public void WithoutAFileOnlyAdvisedMemoryIsTakenIn()
    {
        RuleSet rules = RuleFile.Read("/nonexistent/samepage.toml");
        Assert.Equal((true, 5.0, 0, 0, 0), (rules.TakesAdvised, rules.Settle.TotalSeconds, rules.Include.Count, rules.Exclude.Count, rules.AdvisedIn.Count));
        Assert.Equal(rules, RuleFile.Parse("f", "# nothing\n") with { Include = rules.Include, Exclude = rules.Exclude, AdvisedIn = rules.AdvisedIn });
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

    /// <summary>What is advised, but only in these.</summary>
    [Fact]
    public void WhatIsAdvisedCanBeTakenInOfSomeOnly()
    {
        RuleSet rules = RuleFile.Parse("f", "[[advised_in]]\nname = \"redis*\"\n[[advised_in]]\nuser = 8\n"), all = RuleFile.Parse("f", ""), none = RuleFile.Parse("f", "advised = false\n[[advised_in]]\nuser = 7\n");
        Facts redis = new(7, "redis-server", "/", "/r"), shell = new(7, "bash", "/", "/b"), eight = new(8, "bash", "/", "/b");
        Assert.Equal((true, false, true), (rules.TakesAdvisedOf(redis), rules.TakesAdvisedOf(shell), rules.TakesAdvisedOf(eight)));
        Assert.Equal((true, true, false), (all.TakesAdvisedOf(redis), all.TakesAdvisedOf(shell), none.TakesAdvisedOf(redis)));
        Assert.False(rules.IsIdle || rules.Includes(redis));
        Assert.True(none.IsIdle);
    }

    [Fact]
    public void DomainsABudgetAndPressureAreRead()
    {
        Assert.SkipUnless(ProcessFacts.HasCgroups && PressureReader.SaysStalls, "needs the unified hierarchy of control groups and /proc/pressure/memory");
        RuleSet rules = RuleFile.Parse("f", """
            cpu_percent = 25
            domain = "cgroup"

            [[group]]
            domain = "web.1"
            user = 7
            name = "redis*"

            [pressure]
            start_below_available_percent = 20
            start_above_some_avg10 = 7.5
            stop_below_some_avg10 = 1

            [[group]]
            cgroup = "*"
            domain = "rest"
            """);
        Assert.Equal((25u, true), (rules.ProcessorPercent, rules.Domains.ByCgroup));
        Assert.Equal([new DomainGroup("web.1", new Rule(7, null, null, "redis*")), new DomainGroup("rest", new Rule(null, "*", null, null))], rules.Domains.Groups);
        Assert.Equal((new PressureLimits(20, 25), new PressureLimits(7.5, 1)), (rules.Available, rules.Some));
        rules = RuleFile.Parse("f", "domain = \"user\"\npressure.start_above_some_avg10 = 3");
        Assert.Equal((DomainRules.ByUser, null, new PressureLimits(3, 1.5)), (rules.Domains, rules.Available, rules.Some));
        RuleFileException refused = Assert.Throws<RuleFileException>(() => RuleFile.Parse("f", "[pressure]\nstart_above_some_avg10 = 5\nstop_below_some_avg10 = 5.0"));
        Assert.Contains("f:3:25: stop_below_some_avg10 must be less", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AProcessIsInTheFirstGroupThatIsAboutItAndOtherwiseInItsUsersDomain()
    {
        DomainRules rules = new(true, [new DomainGroup("a", new Rule(7, null, null, "redis*")), new DomainGroup("b", new Rule(null, "/system.slice/*", null, null))]);
        Facts redis = new(7, "redis-server", "/system.slice/r", "/r"), other = new(8, "redis-server", "/system.slice/r", "/r"), shell = new(7, "bash", "/user.slice", "/b");
        TrustDomain seven = new(7, 7, "", "", 0, "", "", ""), eight = seven with { User = 8, Group = 8 };
        Assert.Equal("group:a", rules.NameOf(seven, redis));
        Assert.Equal("group:b", rules.NameOf(eight, other));
        Assert.Equal("uid:7 cgroup:/user.slice", rules.NameOf(seven, shell));
        Assert.Equal("uid:7", (rules with { ByCgroup = false }).NameOf(seven, shell));
        Assert.Null(rules.NameOf(seven, new Facts(7, "bash", "", "/b")));
        // A user namespace is a wall of its own.
        TrustDomain sandboxed = seven with { UserNamespace = "42" };
        Assert.Equal("group:a userns:42", rules.NameOf(sandboxed, redis));
        Assert.Equal("uid:7 userns:42 cgroup:/user.slice", rules.NameOf(sandboxed, shell));
        Assert.Equal("uid:7 userns:42", DomainRules.ByUser.NameOf(sandboxed, redis));
        // So are capabilities and labels, and root's whole set is one like any other. Groups and containers are joined.
        Assert.Equal("group:a caps:1ff label:web_t", rules.NameOf(seven with { User = 0, Permitted = 0x1ff, Label = "web_t" }, redis));
        Assert.Equal("group:a", rules.NameOf(seven with { Group = 9, PidNamespace = "43", Container = "docker-0123456789ab" }, redis));
        // Who may have confined itself is alone, unless root says otherwise.
        Assert.Equal("uid:7 nonewprivs alone:5-99", DomainRules.ByUser.NameOf(seven with { Alone = "5-99" }, redis));
        Assert.Equal("group:a", rules.NameOf(seven with { Alone = "5-99" }, redis));
        Assert.Equal("uid:7 gid:9 pidns:43 container:docker-0123456789ab", DomainRules.ByUser.NameOf(seven with { Group = 9, PidNamespace = "43", Container = "docker-0123456789ab" }, redis));
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
    [InlineData("advised_in = true", "f:1:14:", "[[advised_in]]")]
    [InlineData("[[advised_in]]\n", "f:1:", "every process")]
    [InlineData("[[include]]\nnam = \"a\"", "f:2:1:", "'nam' is not known in a rule")]
    [InlineData("[[include]]\nname = \"a\"\nname = \"b\"", "f:3:1:", "'name' is given twice")]
    [InlineData("[[include]]\nname = 3", "f:2:8:", "name: a text is wanted")]
    [InlineData("[[include]]\nname = \"\"", "f:2:8:", "name: a text is wanted")]
    [InlineData("[[include]]\nuser = \"nobody that is known\"", "f:2:8:", "/etc/passwd has no")]
    [InlineData("[[include]]\nuser = -1", "f:2:8:", "whole number")]
    [InlineData("advised = true\n[[include]]\n", "f:2:", "every process")]
    [InlineData("advised = true\nsettle_seconds = = 3", "f:2:", "")]
    [InlineData("name = \"unclosed", "f:1:", "")]
    [InlineData("cpu_percent = -1", "f:1:15:", "0 to 10000")]
    [InlineData("cpu_percent = 12.5", "f:1:15:", "whole number")]
    [InlineData("domain = \"web\"", "f:1:10:", "[[group]]")]
    [InlineData("domain = 3", "f:1:10:", "\"cgroup\"")]
    [InlineData("[[include]]\ndomain = \"web\"\nname = \"a\"", "f:2:1:", "'domain' is not known in a rule")]
    [InlineData("[group]\ndomain = \"a\"", "f:1:", "[[group]]")]
    [InlineData("[[group]]\nuser = 7", "f:1:", "wants a name")]
    [InlineData("[[group]]\ndomain = \"a\"", "f:1:", "every process")]
    [InlineData("[[group]]\ndomain = \"a\"\nname = \"python3\"", "f:1:", "wants user or cgroup")]
    [InlineData("[[group]]\ndomain = \"a b\"\nuser = 7", "f:2:10:", "letters, digits")]
    [InlineData("[[group]]\ndomain = \"\"\nuser = 7", "f:2:10:", "letters, digits")]
    [InlineData("pressure = 3", "f:1:12:", "[pressure]")]
    [InlineData("[pressure]", "f:1:", "nothing would ever be merged")]
    [InlineData("[pressure]\ncolour = 1", "f:2:1:", "'colour' is not known in [pressure]")]
    [InlineData("[pressure]\nstart_below_available_percent = 101", "f:2:33:", "0 to 100")]
    [InlineData("[pressure]\nstart_below_available_percent = nan", "f:2:33:", "0 to 100")]
    [InlineData("[pressure]\nstart_below_available_percent = \"a\"", "f:2:33:", "0 to 100")]
    [InlineData("[pressure]\nstart_below_available_percent = 20\nstop_above_available_percent = 20", "f:3:32:", "must be more")]
    [InlineData("[pressure]\nstop_above_available_percent = 20", "f:2:", "wants start_below_available_percent besides")]
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

    [Fact]
    public void PressureIsReadFromWhatTheKernelSays()
    {
        Assert.Equal(25, PressureReader.ParseAvailable("MemTotal:       4000 kB\nMemFree:  10 kB\nMemAvailable:    1000 kB\n"));
        Assert.Null(PressureReader.ParseAvailable("MemTotal:       4000 kB\n"));
        Assert.Equal(1.25, PressureReader.ParseStalls("some avg10=1.25 avg60=2.00 avg300=3.00 total=4\nfull avg10=5.00 avg60=0.00 avg300=0.00 total=0\n"));
        Assert.Null(PressureReader.ParseStalls(""));
        Assert.InRange(PressureReader.Read().AvailablePercent, 0.1, 100);
    }

    private sealed class Facts(int user, string name, string cgroup, string executable) : ProcessFacts(0)
    {
        public override long User => user;

        public override string Name => name;

        public override string Cgroup => cgroup;

        public override string Executable => executable;
    }
}
