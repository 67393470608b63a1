using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Samepage.Daemon;
using Samepage.Estimate;
using Samepage.Estimate.Census;
using Samepage.Estimate.Report;
using Samepage.Estimate.Sources;
using Samepage.Fleet;
using Samepage.Linux;
using Spectre.Console;

namespace Samepage.Cli;

/// <summary><c>samepage estimate</c>: what merging would save, before anything is touched.</summary>
internal static class EstimateCommand
{
    private const int SamplesMax = 1000, OneOfMax = 1 << 20, ClonesMax = 100_000;
    private const double IntervalMax = 86_400;

    private const string More = """
        Says what merging would save, and for whom, before anything is touched: no process is
        stopped, traced, written to or injected, and no daemon is needed. Without root it reads
        one's own processes.

        PIDs and files are what they are; --all, --user, --cgroup and --name choose processes, and
        narrow each other. A page counts once: as zeros, as a copy within its process, as a copy
        within its trust domain (one user, in one container), as a copy across domains (which are
        never merged: what isolation costs), or as unique. What merging does not reach (stacks, file data, huge pages of
        programs that did not ask for merging, programs that cannot be served) is counted apart.

        --parquet writes a fingerprint of every page for 'samepage fleet'. Fingerprints are keyed with
        the fleet's key, a file of at least 16 bytes: without it nobody can tell from a fingerprint
        what a page held.

        --samples reads everything several times and tells what stayed the same from the first to
        the last. --sample 1/N keeps one content of N, for machines with terabytes: figures are
        estimates then, and the total has a 95 % interval. Both go together: the same contents are
        kept in every reading. Ctrl-C ends the reading and shows what is known so far.

        --clones N tells besides what N clones of each process and file would share: all of it when
        they begin, and with --samples what of that would be left when each has written, with contents
        of its own, the pages that were written between the first reading and the last.

        Examples:
          samepage estimate 4711 4712
          samepage estimate --all --html report.html
          samepage estimate --name 'php-fpm*' --samples 6 --interval 10
          samepage estimate --image guest1.elf --image guest2.elf
          samepage estimate --image guest.elf --clones 10
          samepage estimate 4711 --clones 10 --samples 6 --interval 10
          samepage estimate --user www-data --json | jq .totals.profit_bytes
        """;

    public static Command Create()
    {
        Argument<int[]> pids = Arguments.Pids(ArgumentArity.ZeroOrMore);
        Option<bool> all = new("--all") { Description = "Every process that can be read." };
        Option<string?> user = new("--user") { Description = "Processes of a user, by name or id.", HelpName = "U" };
        Option<string?> cgroup = new("--cgroup") { Description = "Processes of a control group and those below it.", HelpName = "C" };
        Option<string?> name = new("--name") { Description = "Processes whose command name fits a pattern with * and ?.", HelpName = "GLOB" };
        Option<string[]> image = new("--image") { Description = "A core dump (ELF) or a raw image of memory; may be given again.", HelpName = "FILE" };
        Option<int> samples = Number("--samples", "N", 1, SamplesMax, 1, "Read everything so many times.");
        Option<double> interval = new("--interval") { Description = "Seconds between two readings.", HelpName = "S", DefaultValueFactory = _ => 10, CustomParser = ParseInterval };
        Option<int> sample = new("--sample") { Description = "Keep one content of N, by its digest.", HelpName = "1/N", DefaultValueFactory = _ => 1, CustomParser = ParseSample };
        Option<int> clones = Number("--clones", "N", 2, ClonesMax, 1, "Tell also what N clones of each would share.");
        Option<int> threads = Number("--threads", "N", 1, 1024, Environment.ProcessorCount, "Threads that read.");
        Option<string?> html = new("--html") { Description = "Write a report to look at: one self-contained page.", HelpName = "FILE" };
        Option<string?> parquet = new("--parquet") { Description = "Write fingerprints of all pages for 'samepage fleet'; wants --fleet-key.", HelpName = "FILE" };
        Option<string?> fleetKey = new("--fleet-key") { Description = "The fleet's key, for --parquet.", HelpName = "FILE" };
        Option<string> host = new("--host") { Description = "What --parquet calls this host.", HelpName = "NAME", DefaultValueFactory = _ => Environment.MachineName };
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("estimate", "Tell what merging would save, before anything is touched.", More)
        {
            pids, all, user, cgroup, name, image, samples, interval, sample, clones, threads, html, parquet, fleetKey, host, json,
        };
        command.SetAction((parsed, cancellation) => RunAsync(
            new EstimateSelection(parsed.GetValue(pids) ?? [], parsed.GetValue(all), parsed.GetValue(user), parsed.GetValue(cgroup), parsed.GetValue(name), parsed.GetValue(image) ?? []),
            new CensusOptions
            {
                Samples = parsed.GetValue(samples),
                Interval = TimeSpan.FromSeconds(parsed.GetValue(interval)),
                OneOf = parsed.GetValue(sample),
                Clones = parsed.GetValue(clones),
                Threads = parsed.GetValue(threads),
                Preview = Environment.IsPrivilegedProcess,
                Cost = new CostModel(AgentCost.RecordBytesOfAPage, AgentCost.ResidentBytes, AgentCost.DaemonBytes),
            },
            new Reports(parsed.GetValue(html), parsed.GetValue(parquet), parsed.GetValue(fleetKey), parsed.GetRequiredValue(host), parsed.GetValue(json)), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(EstimateSelection selection, CensusOptions options, Reports reports, CancellationToken cancellation)
    {
        if (selection.IsEmpty)
            throw new CommandException(ExitCode.BadUse, "nothing was named to look at", "give process ids, --all, --user, --cgroup, --name or --image; see: samepage estimate --help");
        List<(string What, string Why)> refused = [];
        List<PageSource> sources = selection.Find(refused);
        if (sources.Count == 0)
            return Refuse(refused);
        using FleetKey? key = reports.Key();
        using StreamWriter? page = reports.Html is null ? null : OutputFile("--html", reports.Html);
        using StreamWriter? table = key is null ? null : OutputFile("--parquet", reports.Parquet!);
        if (table?.BaseStream.CanSeek == false)
            throw new CommandException(ExitCode.BadUse, $"{reports.Parquet} is no file: the format is not written from front to back", "give a path of a file");
        Action<IEnumerable<Fingerprint>>? write = key is null ? null : fingerprints => new FingerprintFile(table!.BaseStream, reports.Host, key).WriteAsync(fingerprints).GetAwaiter().GetResult();
        EstimateReport report = await CountAsync(sources, options, write, reports.Json || Console.IsOutputRedirected, cancellation);
        if (page is not null)
            HtmlReport.Write(report, page);
        if (reports.Json)
            Output.Json(report, EstimateJson.Default.EstimateReport);
        else if (!report.Processes.All(process => process.Figures.Resident == 0 && IsUnread(process)))
            EstimateScreen.Print(report);
        return ExitCodeFor(report, selection, refused);
    }

    private static async Task<EstimateReport> CountAsync(List<PageSource> sources, CensusOptions options, Action<IEnumerable<Fingerprint>>? write, bool quiet, CancellationToken cancellation)
    {
        if (quiet)
        {
            using CensusRun census = new(sources, options) { OnFingerprints = write };
            return await Task.Run(() => census.Run(cancellation), CancellationToken.None);
        }

        return await AnsiConsole.Progress().HideCompleted(true).Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn()).StartAsync(async context =>
        {
            ProgressTask bar = context.AddTask("reading", maxValue: 1);
            long began = System.Diagnostics.Stopwatch.GetTimestamp();
            using CensusRun census = new(sources, options)
            {
                OnFingerprints = write,
                OnProgress = progress =>
                {
                    bar.Value = (progress.Sample - 1 + Math.Min(1, (double)progress.PagesDone / progress.PagesExpected)) / options.Samples;
                    double seconds = System.Diagnostics.Stopwatch.GetElapsedTime(began).TotalSeconds;
                    bar.Description = $"sample {progress.Sample} of {options.Samples}, {Quantity.Bytes(progress.BytesRead)} read, {Quantity.Bytes((long)(progress.BytesRead / seconds))}/s";
                },
            };
            return await Task.Run(() => census.Run(cancellation), CancellationToken.None);
        });
    }

    /// <summary>Opened before anything is read: a path that cannot be written is told at once.</summary>
    private static StreamWriter OutputFile(string option, string path)
    {
        try
        {
            return new StreamWriter(PlainFile.OpenToWrite(Arguments.FullPath(option, path)));
        }
        catch (IOException e)
        {
            throw new CommandException(ExitCode.BadUse, $"{path} cannot be written: {e.Message}", "give a path that can");
        }
    }

    private static int Refuse(List<(string What, string Why)> refused)
    {
        Complain(refused);
        if (refused.Count == 0)
            Output.Complain("no process fits; nothing was read. See which there are with: ps -e -o pid,user,comm,cgroup");
        return ExitCode.Failed;
    }

    private static void Complain(List<(string What, string Why)> refused)
    {
        foreach ((string what, string why) in refused)
            Output.Complain($"{what} cannot be looked at: {why}");
    }

    /// <summary>What was named must have been read; of those that were chosen by a rule, those that may be read.</summary>
    private static int ExitCodeFor(EstimateReport report, EstimateSelection selection, List<(string What, string Why)> refused)
    {
        Complain(refused);
        SourceEstimate[] unread = [.. report.Processes.Where(IsUnread)];
        SourceEstimate[] named = [.. unread.Where(process => selection.Pids.Contains(process.Pid))];
        foreach (SourceEstimate process in named)
            Output.Complain($"process {process.Pid} ({process.Name}) could not be read: {process.Obstacle}");
        SourceEstimate[] forbidden = [.. unread.Except(named).Where(IsForbidden)];
        if (forbidden.Length > 0)
            Output.Complain($"{forbidden.Length} processes may not be read; the first is {forbidden[0].Pid} ({forbidden[0].Name}): {forbidden[0].Obstacle}");
        SourceEstimate[] others = [.. unread.Except(named).Where(process => process.Unread && !IsForbidden(process))];
        if (others.Length > 0)
            Output.Complain($"{others.Length} processes or files could not be read; the first is {others[0].Name}{(others[0].Pid == 0 ? "" : $" ({others[0].Pid})")}: {others[0].Obstacle}");
        SourceEstimate[] late = [.. report.Processes.Where(process => process.Obstacle == LiveSource.Late)];
        foreach (SourceEstimate process in late)
            Output.Complain($"process {process.Pid} ({process.Name}) is left out from where reading it was given up: {process.Obstacle}");
        if (report.Partial)
            Output.Complain("interrupted: the figures are of what was read until then");
        if (unread.Length == report.Processes.Count && unread.Any(IsForbidden))
            return ExitCode.NotPermitted;
        return named.Length + refused.Count > 0 || unread.Length == report.Processes.Count || report.Partial || late.Any(process => selection.Pids.Contains(process.Pid)) ? ExitCode.Failed : ExitCode.Done;
    }

    /// <summary>Where the results go.</summary>
    private sealed record Reports(string? Html, string? Parquet, string? FleetKey, string Host, bool Json)
    {
        public FleetKey? Key()
        {
            if (Parquet is null && FleetKey is null)
                return null;
            if (Parquet is null || FleetKey is null)
                throw new CommandException(ExitCode.BadUse, "--parquet and --fleet-key go together", "give both; make a key with: head -c 32 /dev/urandom > fleet.key");
            try
            {
                using FileStream file = PlainFile.OpenToRead(FleetKey);
                if (file.Length > Fleet.FleetKey.BytesMax)
                    throw new InvalidDataException($"it has {file.Length} bytes, and a key has at most {Fleet.FleetKey.BytesMax}");
                byte[] key = new byte[file.Length];
                file.ReadExactly(key);
                return new FleetKey(key);
            }
            catch (Exception e) when (e is IOException or InvalidDataException or ArgumentException)
            {
                throw new CommandException(ExitCode.BadUse, $"{FleetKey} is no key: {e.Message}", "make one with: head -c 32 /dev/urandom > fleet.key");
            }
        }
    }

    private static bool IsUnread(SourceEstimate process) => process.Gone ? process.Figures.Resident == 0 : process.Unread && process.Obstacle != LiveSource.Late;

    private static bool IsForbidden(SourceEstimate process) => process.Unread &&
        (process.Obstacle.Contains("EACCES", StringComparison.Ordinal) || process.Obstacle.Contains("EPERM", StringComparison.Ordinal));

    private static Option<int> Number(string option, string helpName, int least, int most, int usual, string description) => new(option)
    {
        Description = description,
        HelpName = helpName,
        DefaultValueFactory = _ => usual,
        CustomParser = result =>
        {
            if (int.TryParse(result.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number >= least && number <= most)
                return number;
            result.AddError($"'{result.Tokens[0].Value}' is no number for {option}: {least} to {most}");
            return usual;
        },
    };

    private static double ParseInterval(ArgumentResult result)
    {
        if (double.TryParse(result.Tokens[0].Value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double seconds) && seconds is >= 0 and <= IntervalMax)
            return seconds;
        result.AddError($"'{result.Tokens[0].Value}' is no interval: seconds from 0 to {IntervalMax}");
        return 0;
    }

    /// <summary>Reads a part such as <c>1/64</c>.</summary>
    public static int ParseSample(ArgumentResult result)
    {
        string word = result.Tokens[0].Value;
        if (word.StartsWith("1/", StringComparison.Ordinal) && int.TryParse(word.AsSpan(2), NumberStyles.None, CultureInfo.InvariantCulture, out int oneOf) && oneOf is >= 1 and <= OneOfMax)
            return oneOf;
        result.AddError($"'{word}' is no part to keep: 1/N with N from 1 to {OneOfMax}, such as 1/64");
        return 1;
    }
}
