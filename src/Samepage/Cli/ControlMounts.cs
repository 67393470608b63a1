using System.ComponentModel;
using System.Diagnostics;
using Samepage.Daemon;
using Samepage.Linux;
using Samepage.Linux.Fuse;
using Samepage.Linux.Processes;

namespace Samepage.Cli;

/// <summary>Shows the control files at other places: for everybody, or for one command alone.</summary>
internal static class ControlMounts
{
    private const string KernelDirectory = "/sys/kernel/mm/ksm";
    private static readonly TimeSpan LookForProcesses = TimeSpan.FromMilliseconds(500);

    /// <summary>Shows the control files at a directory as well.</summary>
    /// <param name="directory">The daemon's control directory.</param>
    /// <param name="at">Where.</param>
    public static int Mount(string directory, string at)
    {
        string place = Place(at);
        if (place == directory || place.StartsWith(directory + "/", StringComparison.Ordinal))
            throw new CommandException(ExitCode.BadUse, $"{at} is in the control directory itself", "name a directory elsewhere");
        try
        {
            // A daemon that has ended leaves a mount that answers nobody.
            if (FuseMount.IsOurs(place) && File.Exists(Path.Combine(place, Engine.Control.ScanControl.RunFile)))
                throw new CommandException(ExitCode.BadUse, $"control files are shown at {place} already", $"take them away with: samepage control --unmount {place}");
            FuseMount.Clear(place);
            MountNamespace.Bind(Path.Combine(directory, ControlTree.KsmName), place);
        }
        catch (SyscallException refused)
        {
            throw Refused(refused);
        }

        Output.Line($"The control files are shown at {place}.");
        return ExitCode.Done;
    }

    /// <summary>Shows them there no more.</summary>
    public static int Unmount(string at)
    {
        string place = Place(at);
        if (!FuseMount.IsOurs(place))
            throw new CommandException(ExitCode.BadUse, $"no control files are shown at {place}", "findmnt -t fuse.samepage lists where they are");
        try
        {
            FuseMount.Clear(place);
        }
        catch (SyscallException refused)
        {
            throw Refused(refused);
        }

        return ExitCode.Done;
    }

    /// <summary>Runs a command that finds the control files where programs look for the kernel's.</summary>
    /// <param name="directory">The daemon's control directory.</param>
    /// <param name="proc">The figures of processes as well.</param>
    /// <param name="command">The command; empty for a shell.</param>
    /// <param name="cancellation">Asks the command to end.</param>
    /// <returns>The command's exit code.</returns>
    public static int Bind(string directory, bool proc, string[] command, CancellationToken cancellation)
    {
        if (command.Length == 0)
            command = [Environment.GetEnvironmentVariable("SHELL") is { Length: > 0 } shell ? shell : "/bin/sh"];
        if (!Directory.Exists(KernelDirectory))
            throw new CommandException(ExitCode.NotPermitted, $"this kernel has no {KernelDirectory} that could be covered", "use --mount DIR, and tell your program where to look");
        int exit = ExitCode.Failed;
        Exception? failure = null;
        // Mounts are a thread's own, and so are those of what it starts.
        Thread thread = new(() =>
        {
            try
            {
                MountNamespace.Enter();
                MountNamespace.Bind(Path.Combine(directory, ControlTree.KsmName), KernelDirectory);
                exit = proc ? RunBeside(Path.Combine(directory, ControlTree.ProcName), command, cancellation)
                    : throw new CommandException(ExitCode.Failed, $"{command[0]} cannot be run (execvp: {MountNamespace.Become(command)})", "see that it is installed, and in PATH");
            }
            catch (Exception failed)
            {
                failure = failed;
            }
        });
        thread.Start();
        thread.Join();
        return failure switch
        {
            null => exit,
            SyscallException refused => throw Refused(refused),
            CommandException told => throw told,
            _ => throw new InvalidOperationException("running the command failed", failure),
        };
    }

    /// <summary>Runs the command, and meanwhile lays the figures of every process that is taken in over the kernel's.</summary>
    private static int RunBeside(string figures, string[] command, CancellationToken cancellation)
    {
        Cover(figures);
        using Process process = Start(command);
        bool asked = false;
        while (!process.WaitForExit(LookForProcesses))
        {
            Cover(figures);
            if (cancellation.IsCancellationRequested && !asked)
                asked = ProcessSignal.Terminate(process.Id);
        }

        return process.ExitCode;
    }

    private static Process Start(string[] command)
    {
        try
        {
            return Process.Start(new ProcessStartInfo(command[0], command[1..]))!;
        }
        catch (Win32Exception failed)
        {
            throw new CommandException(ExitCode.Failed, $"{command[0]} cannot be run: {failed.Message}", "see that it is installed, and in PATH");
        }
    }

    /// <summary>A process that ends takes its files along, and what was laid over them.</summary>
    private static void Cover(string figures)
    {
        if (!Directory.Exists(figures))
            return; // the daemon has ended
        HashSet<string> covered = [.. FuseMount.Lines().Select(line => line.Split(' ')[4])];
        foreach (string process in Directory.EnumerateDirectories(figures))
        {
            foreach (string file in ControlTree.ProcessFiles)
            {
                string target = $"/proc/{Path.GetFileName(process)}/{file}";
                if (covered.Contains(target) || !File.Exists(target))
                    continue;
                try
                {
                    MountNamespace.Bind(Path.Combine(process, file), target);
                }
                catch (SyscallException gone) when (gone.Errno is Errno.ENOENT or Errno.ESRCH or Errno.ENOTCONN)
                {
                    // It ended meanwhile, or the daemon did.
                }
            }
        }
    }

    private static string Place(string at)
    {
        string absolute = Path.GetFullPath(at).TrimEnd('/');
        string name = Path.GetFileName(absolute);
        try
        {
            // The parent alone is opened: what is mounted on the directory may answer nobody any more.
            string place = Path.Combine(RealPath.Of(Path.GetDirectoryName(absolute) ?? "/"), name);
            if (!FuseMount.IsOurs(place) && !Directory.Exists(place))
                throw new CommandException(ExitCode.BadUse, $"{at} is no directory", $"make it with: mkdir {at}");
            return place;
        }
        catch (SyscallException refused)
        {
            throw new CommandException(ExitCode.BadUse, $"{at} cannot be looked at: {refused.Message}", "name a directory that exists");
        }
    }

    private static CommandException Refused(SyscallException refused) => new(
        refused.Errno is Errno.EPERM or Errno.EACCES ? ExitCode.NotPermitted : ExitCode.Failed, refused.Message,
        refused.Errno is Errno.EPERM or Errno.EACCES ? "run this as root" : "see that the daemon runs, and that the directory exists");
}
