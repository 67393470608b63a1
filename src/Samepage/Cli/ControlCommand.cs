using System.CommandLine;
using Samepage.Api;

namespace Samepage.Cli;

/// <summary><c>samepage control</c>: the control files, and showing them where programs look for the kernel's.</summary>
internal static class ControlCommand
{
    private const string More = """
        The daemon serves the files of /sys/kernel/mm/ksm, with its own values and figures, in
        the directory 'control/ksm' of its run directory: everybody may read them, root may
        write them. Without options, this command shows them.

        --mount shows the directory at another place as well, until --unmount, or until the
        daemon ends.
        --bind runs a command (a shell, if none is given) for which the directory lies over
        /sys/kernel/mm/ksm; nobody else sees that. With --proc, the figures of the processes
        taken in lie over /proc/PID/ksm_merging_pages and /proc/PID/ksm_stat there, too.

        Examples:
          samepage control
          echo 2 > /run/samepage/control/ksm/run     # give everybody's pages back, and stand still
          samepage control --bind -- prometheus-node-exporter --collector.ksmd
          samepage control --mount /srv/ksm
        """;

    public static Command Create()
    {
        Option<bool> json = Arguments.Json();
        Option<string?> mount = new("--mount") { Description = "Show the control files at a directory as well.", HelpName = "DIR" };
        Option<string?> unmount = new("--unmount") { Description = "Show them there no more.", HelpName = "DIR" };
        Option<bool> bind = new("--bind") { Description = "Run a command that finds them at /sys/kernel/mm/ksm." };
        Option<bool> proc = new("--proc") { Description = "With --bind: the command finds our figures under /proc/PID, too." };
        Argument<string[]> command = new("COMMAND") { Description = "With --bind: what to run, behind '--'; $SHELL by default.", Arity = ArgumentArity.ZeroOrMore };
        DocumentedCommand control = new("control", "Show the control files, or show them where programs look for the kernel's.", More) { json, mount, unmount, bind, proc, command };
        control.Validators.Add(result =>
        {
            bool binds = result.GetValue(bind);
            if (((string?[])[result.GetValue(mount), result.GetValue(unmount), binds ? "" : null]).Count(chosen => chosen is not null) > 1)
                result.AddError("--mount, --unmount and --bind: one of them at a time");
            if (!binds && result.GetValue(proc))
                result.AddError("--proc goes with --bind");
            if (!binds && result.GetValue(command) is { Length: > 0 } words)
                result.AddError($"'{words[0]}': a command goes with --bind");
            if (result.GetValue(mount) == "" || result.GetValue(unmount) == "")
                result.AddError("the directory has no name");
        });
        control.SetAction(async (parsed, cancellation) =>
        {
            if (parsed.GetValue(unmount) is { } from)
                return ControlMounts.Unmount(from);
            string directory = await DirectoryAsync(cancellation);
            if (parsed.GetValue(mount) is { } at)
                return ControlMounts.Mount(directory, at);
            return parsed.GetValue(bind)
                ? ControlMounts.Bind(directory, parsed.GetValue(proc), parsed.GetValue(command) ?? [], cancellation)
                : Show(Path.Combine(directory, Daemon.ControlTree.KsmName), parsed.GetValue(json));
        });
        return control;
    }

    private static async Task<string> DirectoryAsync(CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        StatusReport status = await api.StatusAsync(cancellation);
        return status.ControlDirectory.Length > 0
            ? status.ControlDirectory
            : throw new CommandException(ExitCode.NotPermitted, "the daemon serves no control files", "its log says why; they need /dev/fuse (modprobe fuse) and CAP_SYS_ADMIN");
    }

    private static int Show(string directory, bool json)
    {
        SortedDictionary<string, string> values = new(StringComparer.Ordinal);
        foreach (string path in Directory.EnumerateFiles(directory))
            values[Path.GetFileName(path)] = File.ReadAllText(path).TrimEnd('\n');
        if (json)
        {
            Output.Json(values, CliJson.Default.SortedDictionaryStringString);
            return ExitCode.Done;
        }

        Table table = new(directory, ">");
        foreach ((string name, string value) in values)
            table.Add(name, value);
        table.Write();
        return ExitCode.Done;
    }
}
