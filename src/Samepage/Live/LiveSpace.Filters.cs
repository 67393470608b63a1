using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <content>Seccomp filters that come over it.</content>
internal sealed partial class LiveSpace
{
    private static readonly TimeSpan FiltersBound = TimeSpan.FromMilliseconds(2);
    private Attendants.Job? _filters;

    /// <summary>What its seccomp filters forbid of what is done in it, as far as is known; null for nothing. At each visit it is seen whether its agent's threads have more than were looked at, and these are looked at then, beside the
    /// scanner; what that finds later is said later.</summary>
    /// <param name="status">Its status: a filter that comes over its agent's threads comes over its own, too.</param>
    public string? WhyFiltersForbid(ProcessStatus status)
    {
        if (_filters is { HasEnded: true })
            _filters = null;
        if (status.Seccomp != 0 && _filters is null && Session.HaveFiltersChanged)
        {
            _filters = TryBegin(Lane.Hold, () => Session.LookAtFilters());
            _ = _filters?.Wait(FiltersBound);
        }

        return Session.Forbidden;
    }
}
