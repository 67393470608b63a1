using System.Runtime.InteropServices;

namespace Samepage.Cli;

/// <summary>Turns SIGINT, SIGTERM and SIGHUP into a cancelled token, so that a command can put things back before it ends.</summary>
internal sealed class TerminationSignals : IDisposable
{
    private readonly CancellationTokenSource _source = new();
    private readonly PosixSignalRegistration[] _registrations;

    /// <param name="hangup">SIGHUP is one of them.</param>
    public TerminationSignals(bool hangup) =>
        _registrations = [.. (hangup ? new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP } : [PosixSignal.SIGINT, PosixSignal.SIGTERM]).Select(s => PosixSignalRegistration.Create(s, Received))];

    /// <summary>Cancelled by the first of the signals.</summary>
    public CancellationToken Token => _source.Token;

    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in _registrations)
            registration.Dispose();
        _source.Dispose();
    }

    private void Received(PosixSignalContext context)
    {
        context.Cancel = true;
        _source.Cancel();
    }
}
