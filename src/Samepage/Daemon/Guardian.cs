using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;

namespace Samepage.Daemon;

/// <summary>A process that outlives the daemon: when the daemon dies without having said that all is well, it runs <c>samepage recover</c>.</summary>
/// <remarks>Until then it is a shell that waits for a line: some hundred kilobytes, where a second runtime in waiting would take forty megabytes. It
/// may be killed too: then the next daemon, or <c>samepage recover</c> by hand, does the same.</remarks>
internal sealed class Guardian : IDisposable
{
    // Signals to the whole group, Ctrl-C among them, are for the daemon.
    private const string Script = """trap '' HUP INT QUIT TERM; read -r word; [ "$word" = well ] || exec "$@" >&2""";
    private readonly Process? _process;

    public Guardian(ILogger<Guardian> logger)
    {
        string program = Environment.ProcessPath ?? "dotnet";
        ProcessStartInfo start = new("/bin/sh") { RedirectStandardInput = true, WorkingDirectory = "/" };
        foreach (string argument in (string[])["-c", Script, "samepage-guardian", program])
            start.ArgumentList.Add(argument);
        // Run as "dotnet samepage.dll", the program is the runtime, and we are its first argument.
        if (Path.GetFileNameWithoutExtension(program) == "dotnet")
            start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "samepage.dll"));
        start.ArgumentList.Add("recover");
        start.Environment[Api.RunDirectory.Variable] = Path.GetFullPath(DaemonHost.RunDirectory);
        try
        {
            _process = Process.Start(start)!;
            ResidentBytes = Resident(_process.Id);
        }
        catch (Win32Exception failed)
        {
            logger.LogError("no guardian: starting /bin/sh: {Why}; should this daemon be killed, run samepage recover, or start another", failed.Message);
        }
    }

    /// <summary>What it takes, counted as a cost of ours; bytes.</summary>
    public long ResidentBytes { get; }

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
