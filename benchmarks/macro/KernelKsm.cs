using System.Globalization;

namespace Samepage.Bench;

/// <summary>The kernel's KSM: its counters, and its settings, which are put back when this is disposed of.</summary>
/// <remarks>
/// Everything is written by sysfs, so every value is one short text. <c>run</c> takes effect at once only while ksmd
/// sleeps: the kernel finishes the batch under way before it lets the write through.
/// </remarks>
internal sealed class KernelKsm : IDisposable
{
    public const string Folder = "/sys/kernel/mm/ksm";

    /// <summary>In the order in which they can be put back: the advisor refuses writes to pages_to_scan while it is on.</summary>
    private static readonly string[] Settings = ["pages_to_scan", "sleep_millisecs", "smart_scan", "advisor_mode"];

    private readonly List<(string Setting, string Value)> _before = [];
    private bool _changed;

    /// <summary>The process id of ksmd.</summary>
    public int Pid { get; }

    public static bool Exists => Directory.Exists(Folder);

    /// <exception cref="BenchException">Something else uses KSM here, or settings cannot be read.</exception>
    public KernelKsm()
    {
        if (Number("run") != 0 || Number("pages_shared") != 0)
            throw new BenchException($"the kernel's KSM is in use here (run {Text("run")}, pages_shared {Text("pages_shared")}), so other programs' "
                + $"memory would be measured too; stop whatever switches it on, and 'echo 2 > {Folder}/run; echo 0 > {Folder}/run', or use --side samepage");
        Pid = ProcFile.KernelThread("ksmd");
        if (Pid == 0)
            throw new BenchException("there is no kernel thread ksmd to measure; run this outside of containers with a process namespace of their own");
        foreach (string setting in Settings)
            if (File.Exists($"{Folder}/{setting}"))
                _before.Add((setting, Chosen(Text(setting))));
    }

    /// <summary>As fast as it goes: big batches, no sleep, and its own cleverness on.</summary>
    public void SetFastest()
    {
        _changed = true;
        if (_before.Exists(pair => pair is ("advisor_mode", not "none")))
            Write("advisor_mode", "none");
        Write("pages_to_scan", "100000");
        Write("sleep_millisecs", "0");
        if (_before.Exists(pair => pair.Setting == "smart_scan"))
            Write("smart_scan", "1");
    }

    public void Start() => Write("run", "1");

    /// <summary>Gives every merged page a copy of its own again, drops all records and stops; returns when that is done.</summary>
    public void Unmerge()
    {
        Write("run", "2");
        Write("run", "0");
    }

    public long Number(string counter) => long.Parse(Text(counter), CultureInfo.InvariantCulture);

    /// <summary>Pages of these processes that are merged, by the kernel's count per process.</summary>
    public static long MergedPages(IEnumerable<int> pids)
    {
        long sum = 0;
        foreach (int pid in pids)
            foreach (string line in File.ReadLines($"/proc/{pid}/ksm_stat"))
                if (line.Split(' ') is ["ksm_merging_pages", string pages])
                    sum += long.Parse(pages, CultureInfo.InvariantCulture);
        return sum;
    }

    /// <summary>Bytes of records per tracked page.</summary>
    /// <remarks>
    /// <c>general_profit</c> is what is saved less the reverse-map items, so it tells their size; a stable node per
    /// frame comes on top, by the size that the slab allocator names. Its trees' links are inside of both.
    /// </remarks>
    public double? RecordBytesPerPage()
    {
        if (!File.Exists($"{Folder}/general_profit"))
            return null;
        long shared = Number("pages_shared"), sharing = Number("pages_sharing");
        long records = shared + sharing + Number("pages_unshared") + Number("pages_volatile");
        long zero = File.Exists($"{Folder}/ksm_zero_pages") ? Number("ksm_zero_pages") : 0;
        long itemBytes = (sharing + zero) * Workload.PageBytes - Number("general_profit");
        const string nodeSize = "/sys/kernel/slab/ksm_stable_node/slab_size";
        long nodeBytes = File.Exists(nodeSize) ? shared * long.Parse(File.ReadAllText(nodeSize), CultureInfo.InvariantCulture) : 0;
        return records == 0 ? null : (double)(itemBytes + nodeBytes) / records;
    }

    /// <summary>Stops KSM, and puts every setting back; goes on after a failure and reports it at the end.</summary>
    public void Dispose()
    {
        if (!_changed)
            return;
        List<string> failures = [];
        foreach ((string setting, string value) in (IEnumerable<(string, string)>)[("run", "2"), .. _before, ("run", "0")])
        {
            try
            {
                Write(setting, value);
            }
            catch (BenchException failed)
            {
                failures.Add(failed.Message);
            }
        }
        _changed = failures.Count > 0;
        if (_changed)
            throw new BenchException("the kernel's KSM settings could not all be put back: " + string.Join("; ", failures));
    }

    private static string Text(string name) => File.ReadAllText($"{Folder}/{name}").TrimEnd();

    /// <summary><c>[none] scan-time</c> reads as <c>none</c>.</summary>
    private static string Chosen(string text) =>
        text.IndexOf('[', StringComparison.Ordinal) is >= 0 and int open ? text[(open + 1)..text.IndexOf(']', open)] : text;

    private static void Write(string name, string value)
    {
        try
        {
            File.WriteAllText($"{Folder}/{name}", value);
        }
        catch (Exception failed) when (failed is IOException or UnauthorizedAccessException)
        {
            throw new BenchException($"writing {value} to {Folder}/{name}: {failed.Message}", failed);
        }
    }
}
