using System.CommandLine;
using System.Diagnostics;
using Samepage.Api;
using Samepage.Doctor;
using Spectre.Console;

namespace Samepage.Cli;

/// <summary><c>samepage attach</c>: takes running processes in.</summary>
internal static class AttachCommand
{
    private const int TimeoutMax = 86_400;
    private static readonly TimeSpan LineInterval = TimeSpan.FromSeconds(5);

    private const string More = """
        Takes running processes in: from now on their identical pages share one copy, with each
        other and with those taken in before, within one trust domain. The programs go on running,
        are not changed, and need not have been prepared. With --wait, returns when nothing more can
        be merged in them now, and prints what was saved; Ctrl-C ends the wait and leaves them in.
        A process counts once it has settled, whatever it writes later; with --timeout the wait
        ends after so many seconds at the latest, says who has not settled and why, and gives 1.
        How far it is, a terminal shows; otherwise a line on standard error says so now and then.

        A process that cannot be served is skipped, unharmed; its reason is printed. The others
        stay attached.

        Examples:
          samepage attach 4711 4712 --wait
          samepage attach $(pgrep -d ' ' python3)
          samepage attach 4711 --wait --timeout 60
          samepage attach 4711 --wait --json | jq .profit_bytes
        """;

    public static Command Create()
    {
        Argument<int[]> pids = Arguments.Pids(ArgumentArity.OneOrMore);
        Option<bool> wait = new("--wait") { Description = "Return when nothing more can be merged in them now." };
        Option<int> timeout = Arguments.Number("--timeout", "SECONDS", $"With --wait: wait at most so long, 1 to {TimeoutMax}.", 0, 1, TimeoutMax);
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("attach", "Take running processes in: share their identical pages.", More) { pids, wait, timeout, json };
        command.Validators.Add(result =>
        {
            if (result.GetResult(timeout) is { Tokens.Count: > 0 } && !result.GetValue(wait))
                result.AddError("--timeout goes with --wait");
        });
        command.SetAction((parsed, cancellation) =>
        {
            TimeSpan bound = parsed.GetValue(timeout) is > 0 and var seconds ? TimeSpan.FromSeconds(seconds) : TimeSpan.MaxValue;
            return RunAsync(parsed.GetRequiredValue(pids), parsed.GetValue(wait) ? bound : null, parsed.GetValue(json), cancellation);
        });
        return command;
    }

    /// <param name="pids">The processes.</param>
    /// <param name="wait">How long to wait until they have settled; null for not at all.</param>
    /// <param name="json">In JSON.</param>
    /// <param name="cancellation">Ends the wait.</param>
    private static async Task<int> RunAsync(int[] pids, TimeSpan? wait, bool json, CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        OutcomeReply reply = await AskAsync(api, pids, cancellation);
        int[] taken = [.. reply.Processes.Where(p => p.Done).Select(p => p.Pid)];
        Settling.Look? last = wait is { } bound && taken.Length > 0 ? await WaitAsync(api, taken, bound, json, cancellation) : null;
        StatusReport status = last?.Status ?? await api.StatusAsync(cancellation);

        AttachedProcess[] attached = [.. reply.Processes.Select(outcome => Merge(outcome, status))];
        AttachReport report = new(attached, attached.Sum(p => p.PagesMerged), attached.Sum(p => p.ZeroPages), attached.Sum(p => p.ProfitBytes));
        if (json)
            Output.Json(report, CliJson.Default.AttachReport);
        else
            Print(report, waited: wait is not null);
        foreach (ProcessReport late in last?.Unsettled ?? [])
            Output.Complain($"process {late.Pid} ({late.Name}) has not settled within {wait!.Value.TotalSeconds} s: {WhyNotSettled(late)}; it stays attached, and merging goes on");
        int exit = ExitCodeFor(attached);
        return exit == ExitCode.Done && last?.Unsettled.Length > 0 ? ExitCode.Failed : exit;
    }

    /// <summary>Where nobody serves, to start a daemon is advice for a machine on which one can.</summary>
    private static async Task<OutcomeReply> AskAsync(ApiClient api, int[] pids, CancellationToken cancellation)
    {
        try
        {
            return await api.AttachAsync(pids, cancellation);
        }
        catch (CommandException nobody) when (nobody.NobodyServes)
        {
            Checkup.Demand();
            throw;
        }
    }

    private static string WhyNotSettled(ProcessReport process) =>
        process.Reason.Length > 0 ? process.Reason
        : process.State == "settling" ? "it was not looked at often enough so far"
        : process.PagesVolatile > 0 ? $"{Quantity.Count(process.PagesVolatile)} of its {Quantity.Count(process.PagesTracked)} pages change, wait or cannot be merged"
        : $"of its {Quantity.Count(process.PagesTracked)} pages not all were looked up yet";

    private static async Task<Settling.Look> WaitAsync(ApiClient api, int[] pids, TimeSpan bound, bool json, CancellationToken cancellation)
    {
        Settling.Look? last = null;
        try
        {
            if (json || Console.IsOutputRedirected)
            {
                long told = Stopwatch.GetTimestamp();
                await foreach (Settling.Look look in Settling.WatchAsync(api, pids, bound, cancellation))
                {
                    last = look;
                    if (Stopwatch.GetElapsedTime(told) < LineInterval || look.Finished == pids.Length)
                        continue;
                    told = Stopwatch.GetTimestamp();
                    Output.Complain(Progress(look, pids));
                }
            }
            else
            {
                await AnsiConsole.Progress().HideCompleted(true).StartAsync(async context =>
                {
                    ProgressTask bar = context.AddTask("merging", maxValue: 1);
                    await foreach (Settling.Look look in Settling.WatchAsync(api, pids, bound, cancellation))
                    {
                        last = look;
                        bar.Value = look.Fraction;
                        bar.Description = Progress(look, pids);
                    }
                });
            }
        }
        catch (OperationCanceledException)
        {
            throw new CommandException(ExitCode.Failed, "interrupted; the processes stay attached, and merging goes on. See: samepage status; give them back with: samepage detach");
        }
        return last!;
    }

    private static string Progress(Settling.Look look, int[] pids) => $"{look.Finished} of {pids.Length} settled, {Quantity.Count(look.PagesDone)} pages merged";

    // The reply says what became of the request; the status, taken later, may know better: the process ended, or had to be let go.
    private static AttachedProcess Merge(ProcessOutcome outcome, StatusReport status)
    {
        ProcessReport? now = outcome.Done ? status.Processes.FirstOrDefault(p => p.Pid == outcome.Pid) : null;
        if (now is not null)
            return new(now.Pid, now.Name, now.State != "skipped", now.State, now.Reason, now.Settled, now.PagesMerged, now.ZeroPages, now.ProfitBytes);
        return new(outcome.Pid, "", outcome.Done, outcome.Done ? "gone" : outcome.State, outcome.Reason, Settled: false, 0, 0, 0);
    }

    private static void Print(AttachReport report, bool waited)
    {
        AttachedProcess[] taken = [.. report.Processes.Where(p => p.Done)];
        if (taken.Length == 0)
            return;
        Table table = new(">pid", "name", "state", ">pages merged", ">zero pages", ">saved");
        foreach (AttachedProcess p in taken)
            table.Add($"{p.Pid}", p.Name, StateOf(p), Quantity.Count(p.PagesMerged), Quantity.Count(p.ZeroPages), Quantity.Bytes(p.ProfitBytes));
        table.Sum("sum", "", "", Quantity.Count(report.PagesMerged), Quantity.Count(report.ZeroPages), Quantity.Bytes(report.ProfitBytes));
        table.Write();
        if (!waited)
            Output.Line("Merging goes on in the background; see: samepage status");
    }

    private static string StateOf(AttachedProcess p)
    {
        string state = p.Settled ? "settled" : p.State;
        return p.Reason.Length == 0 ? state : $"{state}: {p.Reason}";
    }

    private static int ExitCodeFor(AttachedProcess[] processes)
    {
        AttachedProcess[] skipped = [.. processes.Where(p => !p.Done)];
        foreach (AttachedProcess p in skipped)
            Output.Complain($"process {p.Pid} was not taken in ({p.State}): {p.Reason}");
        if (skipped.Length == 0)
            return ExitCode.Done;
        return skipped.Length == processes.Length && skipped.All(p => IsWantOfPermission(p.Reason)) ? ExitCode.NotPermitted : ExitCode.Failed;
    }

    // The reason is for people; errno names are the part of it that is fixed.
    private static bool IsWantOfPermission(string reason) =>
        reason.Contains("EPERM", StringComparison.Ordinal) || reason.Contains("EACCES", StringComparison.Ordinal)
        || reason.Contains("permi", StringComparison.OrdinalIgnoreCase);
}
