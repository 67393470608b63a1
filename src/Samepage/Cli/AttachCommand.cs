using System.CommandLine;
using Samepage.Api;
using Spectre.Console;

namespace Samepage.Cli;

/// <summary><c>samepage attach</c>: takes running processes in.</summary>
internal static class AttachCommand
{
    private const string More = """
        Takes running processes in: from now on their identical pages share one copy, with each
        other and with those taken in before, within one trust domain. The programs go on running,
        are not changed, and need not have been prepared. With --wait, returns when nothing more can
        be merged in them now, and prints what was saved; Ctrl-C ends the wait and leaves them in.

        A process that cannot be served is skipped, unharmed; its reason is printed. The others
        stay attached.

        Examples:
          samepage attach 4711 4712 --wait
          samepage attach $(pgrep -d ' ' python3)
          samepage attach 4711 --wait --json | jq .profit_bytes
        """;

    public static Command Create()
    {
        Argument<int[]> pids = Arguments.Pids(ArgumentArity.OneOrMore);
        Option<bool> wait = new("--wait") { Description = "Return when nothing more can be merged in them now." };
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("attach", "Take running processes in: share their identical pages.", More) { pids, wait, json };
        command.SetAction((parsed, cancellation) =>
            RunAsync(parsed.GetRequiredValue(pids), parsed.GetValue(wait), parsed.GetValue(json), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(int[] pids, bool wait, bool json, CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        OutcomeReply reply = await api.AttachAsync(pids, cancellation);
        int[] taken = [.. reply.Processes.Where(p => p.Done).Select(p => p.Pid)];
        StatusReport status = wait && taken.Length > 0 ? await WaitAsync(api, taken, json, cancellation) : await api.StatusAsync(cancellation);

        AttachedProcess[] attached = [.. reply.Processes.Select(outcome => Merge(outcome, status))];
        AttachReport report = new(attached, attached.Sum(p => p.PagesMerged), attached.Sum(p => p.ZeroPages), attached.Sum(p => p.ProfitBytes));
        if (json)
            Output.Json(report, CliJson.Default.AttachReport);
        else
            Print(report, wait);
        return ExitCodeFor(attached);
    }

    private static async Task<StatusReport> WaitAsync(ApiClient api, int[] pids, bool quiet, CancellationToken cancellation)
    {
        StatusReport? last = null;
        try
        {
            if (quiet || Console.IsOutputRedirected)
            {
                await foreach (Settling.Look look in Settling.WatchAsync(api, pids, cancellation))
                    last = look.Status;
            }
            else
            {
                await AnsiConsole.Progress().HideCompleted(true).StartAsync(async context =>
                {
                    ProgressTask bar = context.AddTask("merging", maxValue: 1);
                    await foreach (Settling.Look look in Settling.WatchAsync(api, pids, cancellation))
                    {
                        last = look.Status;
                        bar.Value = look.Fraction;
                        bar.Description = $"{look.Finished} of {pids.Length} settled, {Quantity.Count(look.PagesDone)} pages merged";
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
            Console.WriteLine("Merging goes on in the background; see: samepage status");
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
