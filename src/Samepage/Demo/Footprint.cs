using System.Globalization;
using Samepage.Cli;

namespace Samepage.Demo;

/// <summary>What <c>/proc</c> shows of a process: its threads, its descriptors, its mappings.</summary>
/// <remarks>
/// Mappings are compared by what they cover: neighbours alike in protection and file count as one, since whether the
/// kernel joins them again is its own affair. The heap and the stack may grow while a program works, so only their kind
/// is compared.
/// </remarks>
internal sealed class Footprint
{
    private readonly record struct Mapping(ulong Start, ulong End, string Protection, string File)
    {
        public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Start:x}-{End:x} {Protection} {(File.Length > 0 ? File : "(anonymous)")}");
    }

    private readonly string[] _descriptors;
    private readonly string[] _mappings;

    private Footprint(int[] threads, string[] descriptors, string[] mappings, int watched)
    {
        Threads = threads;
        _descriptors = descriptors;
        _mappings = mappings;
        WatchedMappings = watched;
    }

    /// <summary>Ids of its threads.</summary>
    public int[] Threads { get; }

    /// <summary>How many descriptors it has open.</summary>
    public int Descriptors => _descriptors.Length;

    /// <summary>How many mappings it has, neighbours alike counted as one.</summary>
    public int Mappings => _mappings.Length;

    /// <summary>How many of its mappings are registered with a userfaultfd.</summary>
    public int WatchedMappings { get; }

    public static Footprint Read(int pid)
    {
        try
        {
            int[] threads = [.. Directory.EnumerateDirectories($"/proc/{pid}/task").Select(d => int.Parse(Path.GetFileName(d), CultureInfo.InvariantCulture)).Order()];
            string[] descriptors = [.. Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd").Select(d => $"{Path.GetFileName(d)} -> {new FileInfo(d).LinkTarget}").Order(StringComparer.Ordinal)];
            string[] maps = File.ReadAllLines($"/proc/{pid}/maps");
            int watched = File.ReadLines($"/proc/{pid}/smaps").Count(IsWatched);
            return new Footprint(threads, descriptors, [.. Join(maps.Select(Parse)).Select(Describe)], watched);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CommandException(ExitCode.Failed, $"/proc/{pid} cannot be read: {e.Message}", "the process may have ended");
        }
    }

    /// <summary>What is there now and was not before, or the other way round; empty when nothing is.</summary>
    public string[] DifferenceFrom(Footprint before) =>
    [
        .. Compare("thread", before.Threads.Select(t => t.ToString(CultureInfo.InvariantCulture)), Threads.Select(t => t.ToString(CultureInfo.InvariantCulture))),
        .. Compare("descriptor", before._descriptors, _descriptors),
        .. Compare("mapping", before._mappings, _mappings),
        .. WatchedMappings > before.WatchedMappings ? [$"{WatchedMappings} mappings are registered with a userfaultfd"] : Array.Empty<string>(),
    ];

    public override string ToString() => $"threads {Threads.Length}, descriptors {Descriptors}, mappings {Mappings}, watched by userfaultfd {WatchedMappings}";

    private static IEnumerable<string> Compare(string kind, IEnumerable<string> before, IEnumerable<string> after) =>
        [.. after.Except(before).Select(x => $"{kind} is new: {x}"), .. before.Except(after).Select(x => $"{kind} is missing: {x}")];

    // um, uw, ui: missing, write-protect and minor faults go to a userfaultfd (proc_pid_smaps(5)).
    private static bool IsWatched(string line) =>
        line.StartsWith("VmFlags:", StringComparison.Ordinal) && line.Split(' ').Any(flag => flag is "um" or "uw" or "ui");

    private static Mapping Parse(string line)
    {
        // start-end protection offset device inode file
        string[] words = line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries);
        string[] range = words[0].Split('-');
        return new(
            ulong.Parse(range[0], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture),
            ulong.Parse(range[1], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture),
            words[1], words.Length > 5 ? words[5] : "");
    }

    private static IEnumerable<Mapping> Join(IEnumerable<Mapping> mappings)
    {
        Mapping? open = null;
        foreach (Mapping next in mappings)
        {
            if (open is { } last && last.End == next.Start && last.Protection == next.Protection && last.File == next.File)
            {
                open = last with { End = next.End };
                continue;
            }
            if (open is { } done)
                yield return done;
            open = next;
        }
        if (open is { } rest)
            yield return rest;
    }

    private static string Describe(Mapping mapping) => mapping.File is "[heap]" or "[stack]" ? $"{mapping.File} {mapping.Protection}" : mapping.ToString();
}
