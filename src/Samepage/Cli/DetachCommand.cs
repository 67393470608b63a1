using System.CommandLine;
using Samepage.Api;

namespace Samepage.Cli;

/// <summary><c>samepage detach</c>: gives processes back.</summary>
internal static class DetachCommand
{
    private const string More = """
        Gives processes back: every shared page becomes a private copy again, and no thread,
        descriptor or mapping of samepage is left in the process. Returns when that is so.
        It looks once more then, says what is not as it was, and exits with 1 if that matters.
        The memory that was saved is needed again: see that there is enough.

        Examples:
          samepage detach 4711
          samepage detach --all
        """;

    public static Command Create()
    {
        Argument<int[]> pids = Arguments.Pids(ArgumentArity.ZeroOrMore);
        Option<bool> all = new("--all") { Description = "Give every process back." };
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("detach", "Give processes back, without a trace.", More) { pids, all, json };
        command.Validators.Add(result =>
        {
            bool named = result.GetResult(pids)?.Tokens.Count > 0;
            if (named && result.GetValue(all))
                result.AddError("either process ids or --all, not both");
            else if (!named && !result.GetValue(all))
                result.AddError("which processes? Name them by their ids, or give --all");
        });
        command.SetAction((parsed, cancellation) =>
            RunAsync(parsed.GetValue(pids) ?? [], parsed.GetValue(all), parsed.GetValue(json), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(int[] pids, bool all, bool json, CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        OutcomeReply reply = all ? await api.DetachAllAsync(cancellation) : await api.DetachAsync(pids, cancellation);
        ProcessOutcome[] failed = [.. reply.Processes.Where(p => !p.Done)];
        int given = reply.Processes.Length - failed.Length;
        if (json)
            Output.Json(reply, ApiJson.Default.OutcomeReply);
        else if (given > 0 || failed.Length == 0)
            Output.Line(given == 1 ? "1 process given back." : $"{given} processes given back.");
        foreach (ProcessOutcome p in failed)
            Output.Complain($"process {p.Pid} was not given back ({p.State}): {p.Reason}");
        ProcessOutcome[] different = [.. reply.Processes.Where(p => p.Different.Length > 0)];
        foreach (ProcessOutcome p in different)
            Output.Complain($"process {p.Pid} was given back, and is right, but not quite as it was: {p.Different}");
        return failed.Length + different.Length == 0 ? ExitCode.Done : ExitCode.Failed;
    }
}
