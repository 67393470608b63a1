using System.Globalization;
using Samepage.Api;
using Samepage.Engine.Control;
using Samepage.Linux;
using Samepage.Linux.Fuse;

namespace Samepage.Daemon;

/// <summary>The files under the daemon's control directory.</summary>
/// <remarks><code>
///   ksm/run, ksm/pages_to_scan, …             as in /sys/kernel/mm/ksm
///   proc/PID/ksm_merging_pages, …/ksm_stat    as in /proc/PID; the processes that are taken in are listed
/// </code>Values are read as they are, and ask nobody; figures are of the moment, see <see cref="FigureReads"/>; what is written goes to the scanner's thread.</remarks>
internal sealed class ControlTree(ScannerService scanner) : IFuseFiles
{
    /// <summary>The directory that stands for the kernel's.</summary>
    public const string KsmName = "ksm";

    /// <summary>The directory with one for each process.</summary>
    public const string ProcName = "proc";

    /// <summary>The files of a process, by the places that their ids name.</summary>
    public static readonly string[] ProcessFiles = ["ksm_merging_pages", "ksm_stat"];

    private const ulong Root = 1, Ksm = 2, Proc = 3, FirstControlFile = 16, ProcessBit = 1UL << 40;
    private static readonly FuseNode[] RootNodes = [new(Ksm, KsmName, FuseKind.Directory), new(Proc, ProcName, FuseKind.Directory)];
    private static readonly FuseNode[] ControlNodes =
        [.. ScanControl.Files.Index().Select(file => new FuseNode(FirstControlFile + (ulong)file.Index, file.Item.Name, file.Item.Writable ? FuseKind.Writable : FuseKind.ReadOnly))];

    /// <inheritdoc/>
    public bool TryFind(ulong directory, string name, out FuseNode node)
    {
        if (directory == Proc)
        {
            node = int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int pid) && pid.ToString(CultureInfo.InvariantCulture) == name ? DirectoryOf(pid) : default;
            return node.Id != 0 && IsThere(node.Id);
        }

        node = List(directory).FirstOrDefault(entry => entry.Name == name);
        return node.Id != 0;
    }

    /// <inheritdoc/>
    public bool TryGet(ulong id, out FuseNode node)
    {
        node = default;
        if (id is >= FirstControlFile and < ProcessBit)
            node = ControlNodes[id - FirstControlFile];
        else if (id is Ksm or Proc)
            node = RootNodes[id - Ksm];
        else if (IsThere(id))
            node = FileOf(id) < 0 ? DirectoryOf(PidOf(id)) : FilesOf(PidOf(id))[FileOf(id)];
        return node.Id != 0;
    }

    /// <inheritdoc/>
    public IEnumerable<FuseNode> List(ulong directory) => directory switch
    {
        Root => RootNodes,
        Ksm => ControlNodes,
        Proc => TakenIn.Select(process => DirectoryOf(process.Pid)),
        _ => IsThere(directory) ? FilesOf(PidOf(directory)) : [],
    };

    /// <inheritdoc/>
    /// <remarks>Figures are said when what programs did before has been seen, or has been waited for long enough. Values are said at once.</remarks>
    public async ValueTask<string?> ReadAsync(ulong file, bool atOnce)
    {
        string? name = file < ProcessBit ? ControlNodes[file - FirstControlFile].Name : null;
        if (!atOnce && (name is null || !ScanControl.Files[(int)(file - FirstControlFile)].Writable))
            await scanner.FiguresAreOfNow(name == ScanControl.FullScansFile);
        if (name is not null)
            return scanner.Read(name);
        ProcessReport? process = ProcessOf(file);
        return !IsThere(file) ? null : FileOf(file) == 0 ? $"{process?.PagesMerged ?? 0}\n" : Statistics(process);
    }

    /// <inheritdoc/>
    public async Task<Errno> WriteAsync(ulong file, string text) => await scanner.WriteAsync(ControlNodes[file - FirstControlFile].Name, text) switch
    {
        ControlOutcome.Done => Errno.None,
        ControlOutcome.OutOfRange => Errno.ERANGE,
        ControlOutcome.Busy or ControlOutcome.Interrupted => Errno.EBUSY,
        ControlOutcome.ReadOnly => Errno.EACCES,
        ControlOutcome.NoMemory => Errno.ENOMEM,
        _ => Errno.EINVAL,
    };

    private IEnumerable<ProcessReport> TakenIn => scanner.Status?.Processes.Where(process => process.State != ProcessReport.Skipped) ?? [];

    /// <summary>As proc_pid_ksm_stat has it. That a process asked for merging as a whole shows in the kernel's own file only.</summary>
    /// <param name="process">Null where it is not taken in any more.</param>
    private static string Statistics(ProcessReport? process) => string.Create(CultureInfo.InvariantCulture,
        $"ksm_rmap_items {process?.PagesTracked ?? 0}\nksm_zero_pages {process?.ZeroPages ?? 0}\nksm_merging_pages {process?.PagesMerged ?? 0}\nksm_process_profit {process?.ProfitBytes ?? 0}\nksm_merge_any: no\nksm_mergeable: {(process is null ? "no" : "yes")}\n");

    private static FuseNode DirectoryOf(int pid) => new(ProcessBit | (ulong)pid << 8, pid.ToString(CultureInfo.InvariantCulture), FuseKind.Directory);

    private static FuseNode[] FilesOf(int pid) => [.. ProcessFiles.Index().Select(file => new FuseNode(DirectoryOf(pid).Id + (ulong)file.Index + 1, file.Item, FuseKind.ReadOnly))];

    private static int FileOf(ulong id) => (int)(id & 0xff) - 1;

    private static int PidOf(ulong id) => (int)(uint)(id >> 8);

    private ProcessReport? ProcessOf(ulong id) => (id & ProcessBit) == 0 ? null : TakenIn.FirstOrDefault(process => process.Pid == PidOf(id));

    /// <summary>Whether there is a process, taken in or not. Where it is not it is not listed; but it may be found, and whoever has its files, or has them laid over the kernel's, goes on to use them when it has been left, or begins before it is taken in: they say that
    /// nothing is merged meanwhile.</summary>
    private static bool IsThere(ulong id) => (id & ProcessBit) != 0 && Directory.Exists(string.Create(CultureInfo.InvariantCulture, $"/proc/{PidOf(id)}"));
}
