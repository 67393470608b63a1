using System.Buffers;
using System.Globalization;
using Samepage.Linux;
using Tomlyn;
using Tomlyn.Parsing;

namespace Samepage.Rules;

/// <summary>A file of rules that cannot be taken: where, and why.</summary>
internal sealed class RuleFileException(string message) : Exception(message);

/// <summary>Reads <c>samepage.toml</c>.</summary>
/// <remarks><code>
///   settle_seconds = 5        how long a process is seen to be wanted before it is taken in, 0 to 86400
///   advised = true            take in what programs have advised to be mergeable
///   cpu_percent = 0           processor time for the daemon, percent of one processor, 0 for no limit
///   domain = "user"           who shares with whom: those of one user, or ("cgroup") of one user in one control group
///   [[advised_in]]            take that in only of these processes
///   [[include]]               processes to take in whole; [[exclude]]: processes to leave alone
///   [[group]]                 processes that share pages whoever's they are; domain = "name", and lines as of the others
///   user = "name or id"   cgroup = "/path*"   executable = "/path*"   name = "command"
///   [pressure]                when to scan; see the other part
/// </code></remarks>
internal sealed partial class RuleFile
{
    /// <summary>Where the rules are by default.</summary>
    public const string DefaultPath = "/etc/samepage/samepage.toml";

    private const long BytesMax = 1 << 20, SettleSecondsMax = 86_400, ProcessorPercentMax = 10_000;
    private const int DomainNameMax = 64;
    private static readonly SearchValues<char> s_nameLetters = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_");
    private readonly string _path;
    private readonly TomlParser _parser;
    private readonly HashSet<string> _given = [];
    private (int Line, int Column) _place = (1, 1);

    private RuleFile(string path, string text) => (_path, _parser) = (path, TomlParser.Create(text));

    /// <summary>Reads a file.</summary>
    /// <returns>The rules; those by default when there is no such file.</returns>
    /// <exception cref="RuleFileException">It cannot be read, or cannot be taken; also where others than root and us could change it, or what leads to it.</exception>
    public static RuleSet Read(string path)
    {
        if (TrustedPath.WhyNot(path, out bool isThere) is { } wrong)
            throw new RuleFileException($"the rules of {path} are not taken: {wrong}");
        if (isThere && FileFacts.TryRead(path, follow: true, out FileFacts facts) == Errno.None && (facts.Kind != FileKind.File || facts.Bytes > BytesMax))
            throw new RuleFileException($"{path} cannot be read as rules: it is {facts.Words}{(facts.Kind == FileKind.File ? $" of {facts.Bytes} bytes; {BytesMax} are allowed" : ", and no file")}");
        try
        {
            return Parse(path, File.ReadAllText(path));
        }
        catch (Exception missing) when (missing is FileNotFoundException or DirectoryNotFoundException)
        {
            return RuleSet.Default;
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
        {
            throw new RuleFileException($"{path} cannot be read: {refused.Message}");
        }
    }

    /// <param name="path">Named in errors.</param>
    /// <param name="text">What the file says.</param>
    /// <exception cref="RuleFileException">It cannot be taken.</exception>
    internal static RuleSet Parse(string path, string text)
    {
        RuleFile file = new(path, text);
        try
        {
            return file.Parse();
        }
        catch (TomlException wrong)
        {
            throw new RuleFileException($"{path}:{wrong.Line ?? 1}:{wrong.Column ?? 1}: {wrong.Message}");
        }
    }

    private RuleSet Parse()
    {
        RuleSet rules = RuleSet.Default;
        List<Rule> include = [], exclude = [], advisedIn = [];
        List<DomainGroup> groups = [];
        bool byCgroup = false;
        while (TryNext())
        {
            if (_parser.Current.Kind is not TomlParseEventKind.PropertyName)
                continue;
            string key = _parser.GetPropertyName();
            if (key is not ("include" or "exclude" or "advised_in" or "group"))
                ExpectFirst(_given, key);
            switch (key)
            {
                case "settle_seconds":
                    rules = rules with { Settle = TimeSpan.FromSeconds(ReadWhole(SettleSecondsMax)) };
                    break;
                case "advised":
                    Expect(TomlParseEventKind.Boolean, "true or false");
                    rules = rules with { TakesAdvised = _parser.Current.GetBoolean() };
                    break;
                case "cpu_percent":
                    rules = rules with { ProcessorPercent = (uint)ReadWhole(ProcessorPercentMax) };
                    break;
                case "domain":
                    byCgroup = ReadByCgroup();
                    break;
                case "include":
                    ReadRules(key, () => include.Add(ReadRule(null, out _)));
                    break;
                case "exclude":
                    ReadRules(key, () => exclude.Add(ReadRule(null, out _)));
                    break;
                case "advised_in":
                    ReadRules(key, () => advisedIn.Add(ReadRule(null, out _)));
                    break;
                case "group":
                    ReadRules(key, () => groups.Add(ReadGroup()));
                    break;
                case "pressure":
                    rules = ReadPressure(rules);
                    break;
                case var unknown:
                    throw Wrong($"'{unknown}' is not known here; known are settle_seconds, advised, cpu_percent, domain, [[include]], [[exclude]], [[advised_in]], [[group]] and [pressure]");
            }
        }

        return rules with { Include = include, Exclude = exclude, AdvisedIn = advisedIn, Domains = byCgroup || groups.Count > 0 ? new DomainRules(byCgroup, groups) : DomainRules.ByUser };
    }

    private bool ReadByCgroup()
    {
        Expect(TomlParseEventKind.String, "\"user\" or \"cgroup\"");
        bool byCgroup = _parser.GetString() switch
        {
            "user" => false,
            "cgroup" => true,
            var other => throw Wrong($"domain: '{other}' is not known here; \"user\" and \"cgroup\" are; a name of one's own is given in [[group]]"),
        };
        return byCgroup && !ProcessFacts.HasCgroups
            ? throw Wrong("domain = \"cgroup\": this machine has no unified hierarchy of control groups (no line 0:: in /proc/self/cgroup); mount cgroup2, or leave it at \"user\"")
            : byCgroup;
    }

    private void ReadRules(string list, Action one)
    {
        Expect(TomlParseEventKind.StartArray, $"a list of tables: write [[{list}]]");
        while (Next().Kind != TomlParseEventKind.EndArray)
        {
            if (_parser.Current.Kind != TomlParseEventKind.StartTable)
                throw Wrong($"a rule is a table: write [[{list}]], and its lines below");
            one();
        }
    }

    private DomainGroup ReadGroup()
    {
        RuleFileException nameless = Wrong("a [[group]] wants a name: domain = \"name\""),
            open = Wrong("a [[group]] wants user or cgroup: what a program is called, and which program it is, everybody on this machine can choose, and would read the memory of the group by it");
        Rule rule = ReadRule("domain", out string name);
        return name.Length == 0 ? throw nameless : rule is { User: null, Cgroup: null } ? throw open : new DomainGroup(name, rule);
    }

    /// <param name="more">A key that this rule may have besides; null for none.</param>
    /// <param name="given">The name that it gives.</param>
    private Rule ReadRule(string? more, out string given)
    {
        RuleFileException empty = Wrong("a rule without user, cgroup, executable or name would be about every process");
        HashSet<string> keys = [];
        Rule rule = new(null, null, null, null);
        given = "";
        while (Next().Kind == TomlParseEventKind.PropertyName)
        {
            string key = _parser.GetPropertyName();
            if (key is not ("user" or "cgroup" or "executable" or "name") && key != more)
                throw Wrong($"'{key}' is not known in a rule; known are user, cgroup, executable{(more is null ? "" : $", {more}")} and name");
            ExpectFirst(keys, key);
            if (key == more)
            {
                Expect(TomlParseEventKind.String, "a name, in quotation marks,");
                given = _parser.GetString();
                if (given.Length is 0 or > DomainNameMax || given.AsSpan().ContainsAnyExcept(s_nameLetters))
                    throw Wrong($"domain: a name has 1 to {DomainNameMax} letters, digits, dots, hyphens and underscores");
                continue;
            }

            if (key == "user" && Next().Kind == TomlParseEventKind.Integer)
            {
                rule = rule with { User = (int)Whole(int.MaxValue) };
                continue;
            }

            if (key != "user")
                Next();
            if (_parser.Current.Kind != TomlParseEventKind.String || _parser.GetString().Length == 0)
                throw Wrong($"{key}: a text is wanted, in quotation marks");
            string text = _parser.GetString();
            rule = key switch
            {
                "user" => rule with { User = UserOf(text) },
                "cgroup" => rule with { Cgroup = text },
                "executable" => rule with { Executable = text },
                _ => rule with { Name = text },
            };
        }

        return rule != new Rule(null, null, null, null) ? rule : throw empty;
    }

    private int UserOf(string text)
    {
        if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int id))
            return id;
        foreach (string line in File.ReadLines("/etc/passwd"))
        {
            string[] fields = line.Split(':');
            if (fields.Length > 2 && fields[0] == text && int.TryParse(fields[2], NumberStyles.None, CultureInfo.InvariantCulture, out id))
                return id;
        }

        throw Wrong($"user: /etc/passwd has no '{text}'; name one that it has, or a number");
    }

    private long ReadWhole(long most)
    {
        Expect(TomlParseEventKind.Integer, $"a whole number from 0 to {most}");
        return Whole(most);
    }

    private long Whole(long most) => _parser.Current.GetInt64() is >= 0 and var value && value <= most ? value : throw Wrong($"a whole number from 0 to {most} is wanted");

    private TomlParseEvent Next() => TryNext() ? _parser.Current : throw Wrong("the file ends in the middle of a rule");

    /// <summary>Goes on, and notes the place: not every event has one.</summary>
    private bool TryNext()
    {
        bool any = _parser.MoveNext();
        if (any && _parser.Current.Line > 0)
            _place = (_parser.Current.Line, _parser.Current.Column);
        return any;
    }

    private void ExpectFirst(HashSet<string> given, string key)
    {
        if (!given.Add(key))
            throw Wrong($"'{key}' is given twice");
    }

    private void Expect(TomlParseEventKind kind, string wanted)
    {
        if (Next().Kind != kind)
            throw Wrong($"{wanted} is wanted");
    }

    private RuleFileException Wrong(string why) => new($"{_path}:{_place.Line}:{_place.Column}: {why}");
}
