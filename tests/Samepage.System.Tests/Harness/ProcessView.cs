using System.Globalization;
using System.Runtime.InteropServices;

namespace Samepage.SystemTests.Harness;

/// <summary>What the kernel says of a process: its threads, descriptors, mappings, and where its pages are.</summary>
internal sealed class ProcessView
{
    private const ulong Present = 1UL << 63;
    private const ulong FrameNumber = (1UL << 55) - 1;
    private const int PageSize = 4096;
    private readonly string _folder;

    private ProcessView(int pid) => _folder = $"/proc/{pid}";

    public static ProcessView Of(int pid) => new(pid);

    public bool Exists => Directory.Exists(_folder);

    public int Threads => ThreadIds.Length;

    public string[] ThreadIds => [.. Directory.GetDirectories($"{_folder}/task").Select(path => Path.GetFileName(path))];

    /// <summary>The descriptors, by number, with what each is open on. One that is closed meanwhile is none.</summary>
    public string[] Descriptors => [.. Directory.GetFiles($"{_folder}/fd").Select(Open).OfType<string>().Order()];

    private static string? Open(string path)
    {
        try
        {
            return $"{Path.GetFileName(path)} {File.ResolveLinkTarget(path, false)?.Name}";
        }
        catch (FileNotFoundException)
        {
            return null;
        }
    }

    public string[] Maps => File.ReadAllLines($"{_folder}/maps");

    /// <summary>Bytes of address space in use.</summary>
    public long MappedBytes => Maps.Sum(line => Range(line) is var (start, end) ? (long)(end - start) : 0);

    /// <summary>What mappings are called, once each.</summary>
    public string[] MappedNames => [.. Maps.Select(line => line.Length > 73 ? line[73..] : "").Where(name => name.Length > 0).Distinct().Order()];

    /// <summary>Areas that some userfaultfd watches, by their flags in smaps.</summary>
    public int WatchedAreas => File.ReadLines($"{_folder}/smaps").Count(line =>
        line.StartsWith("VmFlags:", StringComparison.Ordinal) && line.Split(' ').Any(flag => flag is "um" or "uw" or "ui"));

    public long PssBytes => RollUp("Pss:");

    public long PssShmemBytes => RollUp("Pss_Shmem:");

    public long SharedBytes => RollUp("Shared_Clean:") + RollUp("Shared_Dirty:");

    /// <summary>The state letter of each thread that there is at this moment: t is held by a tracer, T is stopped by a signal.</summary>
    public string ThreadStates
    {
        get
        {
            try
            {
                return string.Concat(Directory.GetDirectories($"{_folder}/task").Select(task =>
                    File.ReadLines($"{task}/status").First(line => line.StartsWith("State:", StringComparison.Ordinal))[7]));
            }
            catch (IOException)
            {
                return ""; // a thread ended meanwhile
            }
        }
    }

    /// <summary>Threads that a tracer holds with every signal blocked that can be: one before the gate is like that.</summary>
    public int HeldThreads
    {
        get
        {
            try
            {
                return Directory.GetDirectories($"{_folder}/task").Count(task =>
                    File.ReadAllText($"{task}/status") is var status && status.Contains("State:\tt", StringComparison.Ordinal) && status.Contains("SigBlk:\tfffffffffffbfeff", StringComparison.Ordinal));
            }
            catch (IOException)
            {
                return -1; // a thread ended meanwhile
            }
        }
    }

    /// <summary>State and kernel function of each thread: for messages about somebody who does not answer.</summary>
    public string Standing
    {
        get
        {
            try
            {
                return string.Join(", ", Directory.GetDirectories($"{_folder}/task").Select(task =>
                    $"{Path.GetFileName(task)} {File.ReadLines($"{task}/status").FirstOrDefault(line => line.StartsWith("State:", StringComparison.Ordinal))?[7..]} in {File.ReadAllText($"{task}/wchan")}"));
            }
            catch (IOException)
            {
                return "gone";
            }
        }
    }

    /// <summary>Where in the kernel each thread stands, its name before it.</summary>
    public string Stacks
    {
        get
        {
            try
            {
                return string.Join('\n', Directory.GetDirectories($"{_folder}/task").Select(task => $"{Path.GetFileName(task)} {File.ReadAllText($"{task}/comm")}{File.ReadAllText($"{task}/stack")}"));
            }
            catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException)
            {
                return Standing;
            }
        }
    }

    /// <summary>A figure of smaps_rollup, kB.</summary>
    public long Rollup(string field) => Number(File.ReadLines($"{_folder}/smaps_rollup").First(line => line.StartsWith(field + ":", StringComparison.Ordinal)));

    /// <summary>The flags of the mapping that an address lies in, as smaps shows them, those of a userfaultfd left out.</summary>
    public string FlagsAt(ulong address)
    {
        bool here = false;
        foreach (string line in File.ReadLines($"{_folder}/smaps"))
        {
            string[] range = line.Split(' ')[0].Split('-');
            if (range.Length == 2 && ulong.TryParse(range[0], NumberStyles.HexNumber, null, out ulong start))
                here = start <= address && address < ulong.Parse(range[1], NumberStyles.HexNumber, null);
            else if (here && line.StartsWith("VmFlags:", StringComparison.Ordinal))
                return string.Join(' ', line["VmFlags:".Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries).Where(flag => flag is not ("um" or "uw" or "ui")));
        }

        return "";
    }

    /// <summary>The mappings that lie in a range, one line each: where, what may be done there, its name, and its flags.</summary>
    /// <param name="from">First byte of the range.</param>
    /// <param name="to">One past its last.</param>
    /// <param name="origin">Addresses are told from here on.</param>
    public string[] Within(ulong from, ulong to, ulong origin = 0)
    {
        List<string> found = [];
        bool here = false;
        foreach (string line in File.ReadLines($"{_folder}/smaps"))
        {
            string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries), range = fields[0].Split('-');
            if (range.Length == 2 && ulong.TryParse(range[0], NumberStyles.HexNumber, null, out ulong start) && ulong.TryParse(range[1], NumberStyles.HexNumber, null, out ulong end))
            {
                here = start < to && end > from;
                if (here)
                    found.Add($"{start - origin:x}-{end - origin:x} {fields[1]} {(fields.Length > 5 ? fields[5] : "")}");
            }
            else if (here && fields[0] == "VmFlags:")
            {
                found[^1] += $" {string.Join(' ', fields[1..])}";
            }
        }

        return [.. found];
    }

    /// <summary>Borders between two anonymous mappings that lie side by side and look the same.</summary>
    public int Seams
    {
        get
        {
            string[] all = Within(0, ulong.MaxValue);
            int seams = 0;
            for (int i = 1; i < all.Length; i++)
            {
                (string[] low, string[] high) = (all[i - 1].Split(' ', 2), all[i].Split(' ', 2));
                if (low[0].Split('-')[1] == high[0].Split('-')[0] && low[1] == high[1] && !low[1].Contains('/', StringComparison.Ordinal))
                    seams++;
            }

            return seams;
        }
    }

    public long Status(string field) => Number(File.ReadLines($"{_folder}/status").First(line => line.StartsWith(field + ":", StringComparison.Ordinal)));

    /// <returns>Physical frame of each page of a range; 0 where none is present. Needs CAP_SYS_ADMIN.</returns>
    public ulong[] Frames(ulong start, ulong end)
    {
        using FileStream file = File.OpenRead($"{_folder}/pagemap");
        file.Position = (long)(start / PageSize * 8);
        var entries = new ulong[(end - start) / PageSize];
        file.ReadExactly(MemoryMarshal.AsBytes(entries.AsSpan()));
        return [.. entries.Select(entry => (entry & Present) == 0 ? 0 : entry & FrameNumber)];
    }

    private static (ulong Start, ulong End)? Range(string line)
    {
        int dash = line.IndexOf('-', StringComparison.Ordinal), space = line.IndexOf(' ', StringComparison.Ordinal);
        if (line.EndsWith("[vsyscall]", StringComparison.Ordinal))
            return null;
        return (ulong.Parse(line.AsSpan(0, dash), NumberStyles.HexNumber, CultureInfo.InvariantCulture),
            ulong.Parse(line.AsSpan(dash + 1, space - dash - 1), NumberStyles.HexNumber, CultureInfo.InvariantCulture));
    }

    private static long Number(string line) => long.Parse(line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);

    private long RollUp(string field) =>
        File.ReadLines($"{_folder}/smaps_rollup").Where(line => line.StartsWith(field, StringComparison.Ordinal)).Select(Number).FirstOrDefault() * 1024;
}
