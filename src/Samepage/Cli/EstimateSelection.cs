using System.Globalization;
using System.IO.Enumeration;
using Samepage.Estimate.Sources;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Live;

namespace Samepage.Cli;

/// <summary>Which processes and files an estimate is about.</summary>
/// <param name="Pids">Processes that were named.</param>
/// <param name="All">Every process.</param>
/// <param name="User">Those of a user: a name or a user id; null for any.</param>
/// <param name="Cgroup">Those in a control group or below it, as <c>/proc/PID/cgroup</c> has it; null for any.</param>
/// <param name="Name">Those whose command name fits a pattern with <c>*</c> and <c>?</c>; null for any.</param>
/// <param name="Images">Files.</param>
internal sealed record EstimateSelection(int[] Pids, bool All, string? User, string? Cgroup, string? Name, string[] Images)
{
    /// <summary>Looks at processes; each by itself, and for so long. What keeps us waiting is an exec that does not end, or its lock.</summary>
    private static readonly Attendants s_lookers = new();

    private bool HasFilter => All || User is not null || Cgroup is not null || Name is not null;

    /// <summary>Nothing was named.</summary>
    public bool IsEmpty => Pids.Length == 0 && Images.Length == 0 && !HasFilter;

    /// <summary>Finds them.</summary>
    /// <param name="refused">Receives what was named and cannot be looked at: what it is, and why.</param>
    /// <exception cref="CommandException">There is no such user.</exception>
    public List<PageSource> Find(List<(string What, string Why)> refused)
    {
        List<PageSource> sources = [];
        try
        {
            foreach (int pid in Pids)
            {
                if (Describe(pid, out string? reason) is { } named)
                    sources.Add(new LiveSource(named));
                else
                    refused.Add(($"process {pid}", reason!));
            }

            if (HasFilter)
                AddFiltered(sources);
            foreach (string path in Images)
                AddImage(path, sources, refused);
            return sources;
        }
        catch
        {
            foreach (IDisposable source in sources.OfType<IDisposable>())
                source.Dispose();
            throw;
        }
    }

    private static SourceDescription? Describe(int pid, out string? reason)
    {
        SourceDescription? found = null;
        string? why = null;
        bool inTime = s_lookers.TryDo(pid, () =>
        {
            why = Eligibility.RefuseByNature(pid, out string name, out TrustDomain? domain, out bool hasMemory);
            found = hasMemory ? new SourceDescription(pid, name, domain!.Name, why ?? "", ProcLinks.TargetOf($"/proc/{pid}/exe") ?? "") : null;
        }, LiveSource.ReadBound, out _);
        reason = inTime ? why : LiveSource.Late;
        return inTime ? found : null;
    }

    private static void AddImage(string path, List<PageSource> sources, List<(string What, string Why)> refused)
    {
        try
        {
            sources.Add(new ImageSource(path, DomainOfOurs()));
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException or InvalidDataException or NotSupportedException)
        {
            refused.Add(($"file {path}", unreadable.Message));
        }
    }

    private static string DomainOfOurs() => ProcessStatus.TryRead("/proc/self/status") is { } self ? TrustDomain.Of(Environment.ProcessId, self).Name : "";

    private void AddFiltered(List<PageSource> sources)
    {
        string? domain = User is null ? null : $"uid:{UserId(User)}";
        foreach (int pid in Processes().Except(Pids).Where(pid => pid != Environment.ProcessId).Order())
        {
            SourceDescription? described = Describe(pid, out string? reason);
            if (described is null && reason == LiveSource.Late)
                Output.Complain($"process {pid} is left out: {reason}");
            if (described is { } found && (domain is null || found.Domain == domain || found.Domain.StartsWith(domain + " ", StringComparison.Ordinal))
                && (Name is null || FileSystemName.MatchesSimpleExpression(Name, found.Name, ignoreCase: false)) && (Cgroup is null || IsIn(pid, Cgroup)))
            {
                sources.Add(new LiveSource(found));
            }
        }
    }

    private static IEnumerable<int> Processes() =>
        from path in Directory.EnumerateDirectories("/proc")
        let name = Path.GetFileName(path)
        where char.IsAsciiDigit(name[0])
        select int.Parse(name, CultureInfo.InvariantCulture);

    private static bool IsIn(int pid, string cgroup)
    {
        string wanted = "/" + cgroup.Trim('/');
        if (!ProcFile.TryRead($"/proc/{pid}/cgroup", out string text))
            return false;
        foreach (string line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            string path = line[(line.IndexOf(':', line.IndexOf(':') + 1) + 1)..];
            if (path == wanted || wanted == "/" || path.StartsWith(wanted + "/", StringComparison.Ordinal))
                return true;
        }

        return false;
    }

    private static int UserId(string user)
    {
        if (int.TryParse(user, NumberStyles.None, CultureInfo.InvariantCulture, out int id))
            return id;
        foreach (string line in File.ReadLines("/etc/passwd"))
        {
            string[] fields = line.Split(':');
            if (fields.Length > 2 && fields[0] == user && int.TryParse(fields[2], NumberStyles.None, CultureInfo.InvariantCulture, out id))
                return id;
        }

        throw new CommandException(ExitCode.BadUse, $"there is no user '{user}' in /etc/passwd", "give a user's name, or a user id");
    }
}
