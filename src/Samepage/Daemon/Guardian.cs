using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using Samepage.Agent;
using Samepage.Api;
using Samepage.Linux;
using Samepage.Linux.Processes;

namespace Samepage.Daemon;

/// <summary>A process that outlives the daemon: when the daemon dies without having said that all is well, it runs <c>samepage recover</c>; when the daemon is
/// stopped while it holds threads of programs, it sees to it that they are let go.</summary>
/// <remarks>It takes some kilobytes, where a second runtime in waiting would take forty megabytes. It may be killed too: then the next daemon, or <c>samepage recover</c>
/// by hand, gives back what is left. It has the ends of the daemon's <see cref="DescriptorStore"/>, and so keeps alive what watches children of programs; whoever comes next takes them over from it.</remarks>
internal sealed class Guardian : IDisposable
{
    /// <summary>Tells it, and what it becomes, the numbers of those ends.</summary>
    private const string Variable = "SAMEPAGE_KEPT";

    /// <summary>How long after its death another is started: both of us may be about to be killed.</summary>
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(5);

    private readonly ILogger<Guardian> _logger;
    private readonly DescriptorStore _store;
    private Process? _process;
    private long _goneSince;

    /// <param name="logger">Is told where there can be none.</param>
    /// <param name="store">What it keeps.</param>
    public Guardian(ILogger<Guardian> logger, DescriptorStore store)
    {
        (_logger, _store) = (logger, store);
        Start();
    }

    private void Start()
    {
        string program = Environment.ProcessPath ?? "dotnet";
        // Run as "dotnet samepage.dll", the program is the runtime, and we are its first argument.
        string[] command = Path.GetFileNameWithoutExtension(program) == "dotnet"
            ? [program, Path.Combine(AppContext.BaseDirectory, "samepage.dll"), "recover"]
            : [program, "recover"];
        try
        {
            using GuardianProgram file = new();
            ProcessStartInfo start = new(file.Path, GuardianProgram.Arguments(command)) { RedirectStandardInput = true, WorkingDirectory = "/" };
            start.Environment[RunDirectory.Variable] = Path.GetFullPath(RunDirectory.Current);
            StorePlace here = _store.PlaceIn(Environment.ProcessId);
            start.Environment[Variable] = string.Create(CultureInfo.InvariantCulture, $"{here.In} {here.Out}");
            // Nobody else of ours starts programs.
            _store.Bequeath(true);
            try
            {
                _process = Process.Start(start)!;
            }
            finally
            {
                _store.Bequeath(false);
            }

            Kept = _store.PlaceIn(_process.Id);
            ResidentBytes = Resident(_process.Id);
        }
        catch (Exception failed) when (failed is Win32Exception or SyscallException)
        {
            _logger.LogError("no guardian: {Why} (is vm.memfd_noexec 2?); should this daemon be killed, run samepage recover, or start another; do not stop it with SIGSTOP", failed.Message);
        }
    }

    /// <summary>Where whoever comes after us finds what it keeps; null where there is no guardian.</summary>
    public StorePlace? Kept { get; private set; }

    /// <summary>What the guardian that this process was has kept.</summary>
    /// <returns>Null where it was none.</returns>
    public static DescriptorStore? TryInherit()
    {
        string? ends = Environment.GetEnvironmentVariable(Variable);
        Environment.SetEnvironmentVariable(Variable, null);
        return ends?.Split(' ') is [var into, var from] && int.TryParse(into, NumberStyles.None, CultureInfo.InvariantCulture, out int one) && one > 2 &&
            int.TryParse(from, NumberStyles.None, CultureInfo.InvariantCulture, out int other) && other > 2 && other != one ? DescriptorStore.TryInherit(one, other) : null;
    }

    /// <summary>What it takes, counted as a cost of ours; bytes.</summary>
    public long ResidentBytes { get; private set; }

    /// <summary>Is told of <see cref="Kept"/> when another is there: whoever comes after us must find it.</summary>
    public Action<StorePlace?> Replaced { get; set; } = static _ => { };

    /// <summary>Starts another where somebody has ended it: our own death would find nobody. To be called now and then, by one thread.</summary>
    public void LookAfter()
    {
        if (_process is not { HasExited: true } gone)
            return;
        if (_goneSince == 0)
            _goneSince = Stopwatch.GetTimestamp();
        if (Stopwatch.GetElapsedTime(_goneSince) < Pause)
            return;
        _logger.LogError("the guardian, process {Pid}, was ended by somebody; another is started", gone.Id);
        gone.Dispose();
        (_process, Kept, _goneSince) = (null, null, 0);
        Start();
        Replaced(Kept);
    }

    /// <summary>Tells it that everything was given back: it ends without doing anything.</summary>
    public void AllIsWell()
    {
        if (_process is null)
            return;
        try
        {
            _process.StandardInput.WriteLine("well");
            _process.StandardInput.Close();
            _process.WaitForExit(TimeSpan.FromSeconds(5));
        }
        catch (IOException)
        {
            // It was killed: there is nobody to tell.
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _process?.Dispose();

    private static long Resident(int pid)
    {
        try
        {
            return long.Parse(File.ReadAllText($"/proc/{pid}/statm").Split(' ')[1], CultureInfo.InvariantCulture) * Environment.SystemPageSize;
        }
        catch (IOException)
        {
            return 0;
        }
    }
}
