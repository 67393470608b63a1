using System.Diagnostics;

namespace Samepage.Daemon;

/// <summary>Says which passes are full scans: a scan has looked at all that was advised before it began, in every process, and has looked up what it found there.</summary>
/// <remarks>So whoever advises memory, and waits until two scans more are counted, finds it merged: the one that was under way ends, and the next begins behind that. A scan begins with a look for processes, has the advice of those
/// that are taken in read anew, and ends when all of them have been visited, as often as it takes to look up what is new. That is one pass where nothing has happened, and some where something has. A program that is
/// kept from being looked at does not keep the count: a scan ends after <see cref="Bound"/> in any case. The scanner's thread.</remarks>
/// <param name="coordinator">Whose passes they are.</param>
/// <param name="discovery">Looks for processes.</param>
internal sealed class ScanCount(Coordinator coordinator, Discovery discovery)
{
    /// <summary>The longest scan, but for the pass in which that time ends.</summary>
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(5);

    private bool _isUnderWay;
    private int _round;
    private long _since;

    /// <summary>A pass begins, and a scan with it where none is under way and processes may be looked for.</summary>
    /// <param name="isAwaited">Somebody waits for scans: processes are looked for more often.</param>
    public void BeginPass(bool isAwaited)
    {
        discovery.TakeWhatWasFound();
        if (_isUnderWay || !discovery.TryBegin(isAwaited, out _round))
            return;
        (_isUnderWay, _since) = (true, Stopwatch.GetTimestamp());
        coordinator.BeginScan();
    }

    /// <summary>A pass has ended.</summary>
    /// <returns>Whether a scan has ended with it.</returns>
    public bool EndPass()
    {
        if (!_isUnderWay || (Stopwatch.GetElapsedTime(_since) < Bound && !(discovery.HasTaken(_round) && coordinator.IsScanned)))
            return false;
        _isUnderWay = false;
        return true;
    }
}
