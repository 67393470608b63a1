using Samepage.Linux;
using Samepage.Linux.ProcFs;
using Samepage.Live;

namespace Samepage.Daemon;

/// <summary>Keeps the namespaces that trust domains are named by from being others': a namespace is told by its inode number, namespaces(7), and the kernel gives that to another one as soon as the
/// first is gone.</summary>
/// <remarks>A container ends, its frames stay for some seconds more (or for as long as somebody maps them), and the next container could come into its domain and read them. While we have a namespace open
/// its number stays its own. It is kept for as long as the domain is known.</remarks>
internal sealed class KeptNamespaces : IDisposable
{
    private readonly Dictionary<string, List<FileDescriptor>> _kept = [];

    /// <summary>Keeps those of a process for the domain that it is about to be put into.</summary>
    /// <param name="domain">The domain by its name.</param>
    /// <param name="pid">The process.</param>
    /// <param name="trust">What was seen of it when it was given that domain.</param>
    /// <returns>False when they cannot be opened, or are others by now.</returns>
    public bool TryKeep(string domain, int pid, TrustDomain trust)
    {
        if (_kept.ContainsKey(domain))
            return true; // those that its name names are open already
        List<FileDescriptor> opened = [];
        if (TryOpen(pid, "user", trust.UserNamespace, opened) && TryOpen(pid, "pid", trust.PidNamespace, opened))
        {
            _kept.Add(domain, opened);
            return true;
        }

        opened.ForEach(static one => one.Dispose());
        return false;
    }

    /// <summary>A domain is not known any more.</summary>
    public void Forget(string domain)
    {
        if (_kept.Remove(domain, out List<FileDescriptor>? opened))
            opened.ForEach(static one => one.Dispose());
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (string domain in _kept.Keys.ToArray())
            Forget(domain);
    }

    /// <summary>Opens one, and sees whether it is the one that was seen.</summary>
    private static bool TryOpen(int pid, string kind, string number, List<FileDescriptor> opened)
    {
        if (number.Length == 0)
            return true; // our own, which nobody can be given
        if (!FileDescriptor.TryOpen($"/proc/{LivingThread.Of(pid)}/ns/{kind}", writable: false, out FileDescriptor? descriptor, out _))
            return false;
        opened.Add(descriptor!);
        return ProcLinks.TargetOf($"/proc/self/fd/{descriptor!.Number}") == $"{kind}:[{number}]";
    }
}
