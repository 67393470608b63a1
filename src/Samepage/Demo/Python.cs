using System.ComponentModel;
using System.Diagnostics;
using Samepage.Cli;

namespace Samepage.Demo;

/// <summary>Finds a Python 3, or has Debian's package manager install one.</summary>
internal static class Python
{
    // Wrappers such as pyenv's start the interpreter proper; the demo wants that one, so the interpreter says where it is.
    private const string Question = "import hashlib, random, sys; print(sys.executable if sys.version_info >= (3, 6) else '')";

    /// <param name="say">Told what is installed before it is.</param>
    /// <param name="cancellation">Ends the wait.</param>
    /// <returns>The path of an interpreter.</returns>
    public static async Task<string> FindOrInstallAsync(Action<string> say, CancellationToken cancellation)
    {
        if (await FindAsync(cancellation) is { } found)
            return found;
        if (!File.Exists("/usr/bin/apt-get"))
            throw new CommandException(ExitCode.Failed, "the demo needs a Python 3, and found none in /usr/bin or on PATH", "install python3 with this system's package manager");
        say("There is no Python 3 here: installing it with apt-get install -y python3 (it stays installed).");
        // A fresh machine may have no package lists yet.
        (int exit, string output) = await RunAsync("/usr/bin/apt-get", ["install", "-y", "python3"], cancellation);
        if (exit != 0)
        {
            await RunAsync("/usr/bin/apt-get", ["update"], cancellation);
            (exit, output) = await RunAsync("/usr/bin/apt-get", ["install", "-y", "python3"], cancellation);
        }
        if (exit != 0)
            throw new CommandException(ExitCode.Failed, $"apt-get install -y python3 ended with {exit}: {output.Trim()}", "install python3 by hand, then try again");
        return await FindAsync(cancellation)
            ?? throw new CommandException(ExitCode.Failed, "the package python3 is installed, and yet no python3 in /usr/bin or on PATH runs", "see what this prints: python3 -c 'import hashlib, random'");
    }

    private static async Task<string?> FindAsync(CancellationToken cancellation)
    {
        IEnumerable<string> onPath = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries);
        foreach (string directory in onPath.Prepend("/usr/bin"))
        {
            string candidate = Path.Combine(directory, "python3");
            if (!File.Exists(candidate))
                continue;
            (int exit, string output) = await RunAsync(candidate, ["-c", Question], cancellation);
            if (exit == 0 && File.Exists(output.Trim()))
                return output.Trim();
        }
        return null;
    }

    private static async Task<(int Exit, string Output)> RunAsync(string program, string[] arguments, CancellationToken cancellation)
    {
        ProcessStartInfo start = new(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["DEBIAN_FRONTEND"] = "noninteractive";
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (Win32Exception e)
        {
            return (-1, e.Message);
        }
        using (process)
        {
            process.StandardInput.Close();
            Task<string> output = process.StandardOutput.ReadToEndAsync(cancellation);
            Task<string> errors = process.StandardError.ReadToEndAsync(cancellation);
            try
            {
                await process.WaitForExitAsync(cancellation);
                return (process.ExitCode, process.ExitCode == 0 ? await output : await errors);
            }
            finally
            {
                if (!process.HasExited)
                    process.Kill();
            }
        }
    }
}
