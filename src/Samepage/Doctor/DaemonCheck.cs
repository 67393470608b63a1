using Samepage.Api;
using Samepage.Cli;

namespace Samepage.Doctor;

/// <summary>Whether a daemon answers. None running is no failure: the doctor is asked before it is started, too.</summary>
internal static class DaemonCheck
{
    public static async Task<DoctorCheck> RunAsync(string runDirectory, CancellationToken cancellation)
    {
        try
        {
            using ApiClient api = new(runDirectory);
            StatusReport status = await api.StatusAsync(cancellation);
            return new("daemon", Checkup.Ok, $"runs as process {status.Daemon.Pid}; processes taken in: {status.Processes.Length}", "");
        }
        catch (CommandException e)
        {
            return new("daemon", Checkup.Warning, e.Problem, e.Remedy);
        }
    }
}
