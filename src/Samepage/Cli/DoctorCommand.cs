using System.CommandLine;
using Samepage.Api;
using Samepage.Doctor;
using Samepage.Linux;
using Samepage.Linux.Kernels;
using Samepage.Linux.Seccomp;
using Spectre.Console;

namespace Samepage.Cli;

/// <summary><c>samepage doctor</c>: can this machine do it, and what stands in the way?</summary>
internal static class DoctorCommand
{
    private const string More = """
        Looks at everything that samepage depends on, and says of each whether it is ok, a warning
        or a failure, with what to do about it. It tries the kernel's features instead of trusting
        its version number, changes nothing, and does not need the daemon. Run it as the user who
        runs the daemon: privileges are this process's own. Where it finds a failure, 'samepage
        daemon' and 'samepage attach' refuse.

        The last lines are known bugs of kernels, told by version: ok where this kernel has not got
        it or we do not meet it, a warning where something is left off for it. SAMEPAGE_KERNEL_RELEASE
        says in place of the kernel which one it is, such as 6.12.117, for doctor and daemon.

        Examples:
          samepage doctor
          samepage doctor --json | jq '.checks[] | select(.verdict != "ok")'

        A failure gives exit code 3; warnings alone give 0.
        """;

    public static Command Create()
    {
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("doctor", "Check whether this machine can do it, and what to do if not.", More) { json };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(json), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(bool json, CancellationToken cancellation)
    {
        DoctorReport report = Checkup.Report([.. Checkup.Machine(KernelFeatures.Probe(), new SystemFacts("/")), Checkup.References(PageReferences.Here.Why), Checkup.Filters(SeccompSupport.WhyNot()), await DaemonCheck.RunAsync(RunDirectory.Current, cancellation)]);
        if (json)
            Output.Json(report, ApiJson.Default.DoctorReport);
        else
            Print(report);
        return report.Verdict == Checkup.Failure ? ExitCode.NotPermitted : ExitCode.Done;
    }

    /// <summary>The checks, each on its line, the remedy below it.</summary>
    internal static void Print(DoctorReport report)
    {
        int width = report.Checks.Max(c => c.Name.Length);
        foreach (DoctorCheck check in report.Checks)
        {
            string name = check.Name.PadRight(width);
            if (Console.IsOutputRedirected)
            {
                Output.Line($"{check.Verdict,-7}  {name}  {check.Found}");
            }
            else
            {
                string colour = check.Verdict switch { Checkup.Ok => "green", Checkup.Warning => "yellow", _ => "red" };
                Grid line = new Grid().AddColumn(new GridColumn().NoWrap()).AddColumn(new GridColumn().NoWrap()).AddColumn();
                line.AddRow(new Markup($"[{colour}]{check.Verdict,-7}[/]"), new Text(name), new Text(VisibleText.Of(check.Found)));
                AnsiConsole.Write(line);
            }
            if (check.Remedy.Length > 0)
                Output.Line($"{"",-7}  {"".PadRight(width)}  -> {check.Remedy}");
        }
        Output.Line();
        Output.Line(report.Verdict switch
        {
            Checkup.Ok => "This machine can merge memory.",
            Checkup.Warning => "This machine can merge memory; see the warnings.",
            _ => "This machine cannot merge memory as it is; see the failures.",
        });
    }
}
