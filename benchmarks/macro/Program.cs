using System.Runtime.InteropServices;

namespace Samepage.Bench;

/// <summary>Measures Samepage against the kernel's KSM, in turn; see <see cref="Options.Help"/>.</summary>
internal static class Program
{
    private const int Done = 0, Failed = 1, BadUse = 2, NotPermitted = 3, Interrupted = 130;

    /// <summary>The bench's own needs, and room for the pages that both a target and a frame hold for a moment.</summary>
    private const long SpareMib = 512;

    private static async Task<int> Main(string[] arguments)
    {
        if (arguments is ["--help" or "-h"])
        {
            Show.Line(Options.Help);
            return Done;
        }
        using CancellationTokenSource interrupted = new();
        void Interrupt(PosixSignalContext context)
        {
            context.Cancel = true;
            interrupted.Cancel();
        }
        using PosixSignalRegistration onInt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Interrupt);
        using PosixSignalRegistration onTerm = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Interrupt);
        using PosixSignalRegistration onHup = PosixSignalRegistration.Create(PosixSignal.SIGHUP, Interrupt);
        try
        {
            Options options = Options.Parse(arguments);
            if (!Environment.IsPrivilegedProcess)
                return Say(NotPermitted, "the kernel's KSM and other processes' memory need root; try again with sudo");
            await RunAsync(options, interrupted.Token);
            return Done;
        }
        catch (UsageException wrong)
        {
            return Say(BadUse, $"{wrong.Message}; see ./bench --help");
        }
        catch (BenchException failed)
        {
            return Say(Failed, failed.Message);
        }
        catch (Exception failed) when (failed is IOException or UnauthorizedAccessException)
        {
            return Say(Failed, failed.Message);
        }
        catch (OperationCanceledException) when (interrupted.IsCancellationRequested)
        {
            return Say(Interrupted, "interrupted; everything is put back");
        }
    }

    private static async Task RunAsync(Options options, CancellationToken cancel)
    {
        Show.Prepare();
        Machine machine = Machine.Here();
        if (options.Kernel && !machine.KsmExists)
            throw new BenchException("this kernel has no KSM (CONFIG_KSM) to compare with; use --side samepage");
        long free = ProcFile.KibField("/proc/meminfo", "MemAvailable:") / 1024;
        if (free < options.TotalMib + SpareMib)
            throw new BenchException($"{free} MiB of memory are free, {options.TotalMib + SpareMib} are needed; try --quick");
        if (options.JsonPath is { } path && Path.GetDirectoryName(Path.GetFullPath(path)) is { } folder && !Directory.Exists(folder))
            throw new BenchException($"there is no folder {folder} for --json");
        Show.Plan(machine, options);

        List<Measurement> measurements = [];
        using (KernelKsm? ksm = options.Kernel ? new KernelKsm() : null)
        {
            for (int round = 1; round <= options.Rounds; round++)
                foreach (int length in options.RunLengths)
                    foreach (bool kernel in SidesInTurn(options, round))
                    {
                        Workload work = new(options.TotalMib, length);
                        Measurement one = kernel ? await KernelMeasure.RunAsync(ksm!, work, round, cancel) : await SamepageMeasure.RunAsync(work, round, !options.Cold, cancel);
                        Show.One(options, one);
                        Check(work, one);
                        measurements.Add(one);
                    }
        }
        Results results = Results.From(machine, options, measurements);
        Show.Tables(results);
        if (options.JsonPath is { } file)
            await File.WriteAllTextAsync(file, results.ToJson() + "\n", cancel);
    }

    /// <summary>Who begins alternates, so that neither always meets the other's warm or worn machine.</summary>
    private static IEnumerable<bool> SidesInTurn(Options options, int round)
    {
        IEnumerable<bool> sides = round % 2 == 1 ? [false, true] : [true, false];
        return sides.Where(kernel => kernel ? options.Kernel : options.Samepage);
    }

    /// <summary>A side's own counters are not taken at their word: the targets' memory must have shrunk, by the kernel's count.</summary>
    private static void Check(Workload work, Measurement one)
    {
        long expected = work.PagesToSave * Workload.PageBytes;
        if (one.SavedByPssBytes < expected * 95 / 100)
            throw new BenchException($"{one.Side} says that it saved {one.PagesSaved} pages, but by /proc/PID/smaps_rollup its targets hold only "
                + $"{one.SavedByPssBytes >> 20} MiB less; {expected >> 20} MiB were to be saved");
    }

    private static int Say(int code, string message)
    {
        Console.Error.WriteLine($"bench: {message}");
        return code;
    }
}
