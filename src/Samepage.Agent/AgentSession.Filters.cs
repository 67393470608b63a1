using Samepage.Agent.Seccomp;
using Samepage.Agent.Tracing;
using Samepage.Linux;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent;

/// <content>Seccomp filters that come while the agent is in the process.</content>
/// <remarks>The agent's threads have the filters of the thread that was lent for them, and those that come over all threads of the program (SECCOMP_FILTER_FLAG_TSYNC). They are looked at whenever there are more. Where all is still
/// allowed nothing happens; otherwise the process is to be given back, with the filters taken off the agent's threads from that look on.</remarks>
public sealed partial class AgentSession
{
    private static readonly TimeSpan FilterBound = TimeSpan.FromMilliseconds(100);

    /// <summary>Sessions whose agent's threads the calling thread has seized.</summary>
    [ThreadStatic]
    private static List<AgentSession>? s_shielded;

    private volatile string? _agentForbidden, _gateForbidden;
    private volatile int _filtersKnown, _abilities;

    /// <summary>What is known of the filters of the program's threads. The thread that holds them.</summary>
    internal FilterBook Filters { get; }

    /// <summary>The agent's threads are seized, and no filter looks at their calls: see <see cref="LookAtFilters"/>.</summary>
    public bool IsFiltered { get; private set; }

    /// <summary>It is given back, whatever filters its threads are under: nobody else could do it.</summary>
    internal bool IsLeaving { get; private set; }

    /// <summary>What the filters of the agent's threads, or of others, forbid, as far as was seen: the process must be left. Null for nothing. Any thread.</summary>
    public string? Forbidden => _agentForbidden ?? _gateForbidden;

    /// <summary>What the filters of the agent's threads allow besides what these must do, as far as was seen. Any thread.</summary>
    public AgentAbilities Abilities => (AgentAbilities)_abilities;

    /// <summary>The agent's threads have more filters, or fewer are known, than when they were last looked at. Any thread.</summary>
    public bool HaveFiltersChanged => ProcessStatus.TryRead($"/proc/{Pid}/task/{ExecutorThread}/status") is { } status && status.SeccompFilters != _filtersKnown;

    /// <summary>Looks at the filters of the agent's threads anew: the executor is stopped for a moment. To be called by the thread that holds the program's threads, between two batches.</summary>
    /// <remarks>The call in which the executor waits begins again when it is let go, and is looked at by filters that came behind its first beginning. So it is seized without its filters, and let go only where these allow all; otherwise, and
    /// where they could not be read, it goes on seized.</remarks>
    /// <returns>False when that could not be done.</returns>
    public bool LookAtFilters()
    {
        if (!IsFiltered)
        {
            _executor = new Tracee(Pid, ExecutorThread) { IsFiltered = true, Filters = Filters };
            if (_executor.Seize() != Errno.None)
                return false;
        }

        _ = _executor.Interrupt();
        bool stands = _executor.Await(FilterBound) is StopKind.Held or StopKind.Suspended;
        if (stands)
        {
            FilterChain chain = Filters.Of(ExecutorThread);
            _agentForbidden = chain.WhyNotAgent(chain.IsNone ? 0 : FilterBook.PersonalityOf(ExecutorThread));
            (_filtersKnown, _abilities) = (chain.Count, (int)(IsFiltered ? AgentAbilities.All : chain.Abilities));
        }

        if (stands && _agentForbidden is null && !IsFiltered)
            _executor.Release();
        else if (_executor.Kind != StopKind.Gone)
            GoOnUnfiltered();
        return stands;
    }

    /// <summary>Both threads go on seized: the executor is. Looked after by the calling thread from here on.</summary>
    private void GoOnUnfiltered()
    {
        if (!IsFiltered)
        {
            (IsFiltered, _abilities) = (true, (int)AgentAbilities.All);
            _warden = new Tracee(Pid, WardenThread) { IsFiltered = true, Filters = Filters };
            AgentThreads.Free(ref _warden);
            (s_shielded ??= []).Add(this);
        }

        AgentThreads.Restart(ref _executor);
    }

    /// <summary>Whether the filters of the program's threads, which stand still, let each of them go back by itself.</summary>
    /// <param name="threads">All of them; those that have ended are passed over.</param>
    /// <param name="why">What is forbidden.</param>
    internal bool MayBeHeld(ReadOnlySpan<Tracee> threads, out string why)
    {
        why = "";
        // Where there are no filters, it only matters that the book does not grow as threads come and go.
        HashSet<int>? held = Filters.HasAny || Filters.Count > 2 * threads.Length ? [] : null;
        foreach (ref readonly Tracee thread in threads)
        {
            if (thread.Kind == StopKind.Gone)
                continue;
            held?.Add(thread.ThreadId);
            if (Filters.Of(thread.ThreadId).WhyNotGate() is not { } forbidden || IsLeaving)
                continue;
            why = _gateForbidden = forbidden;
            return false;
        }

        if (held is not null)
            Filters.Keep(held.Contains);
        // One that came over all of them came over the agent's, too. None can come while they stand still.
        if (Filters.HasAny && !IsLeaving && HaveFiltersChanged)
        {
            why = "its agent's threads have come under a seccomp filter, which is not looked at yet";
            return false;
        }

        return true;
    }

    /// <summary>If the filters of the agent's threads forbid what these do, they are seized, and stay seized until they leave. To be called before the process is given back, by the thread that
    /// gives it back; from here on filters keep no thread from being held.</summary>
    public void Shield()
    {
        IsLeaving = true;
        if (!IsFiltered && ProcessStatus.TryRead($"/proc/{Pid}/task/{ExecutorThread}/status") is { Seccomp: not 0 })
            _ = LookAtFilters();
    }
}
