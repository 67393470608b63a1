namespace Samepage.Linux.Seccomp;

/// <summary>Tells what can come of a call under the filters of a thread. Pure; any thread may call it.</summary>
/// <remarks>
/// All paths are walked, not samples: every answer that some values of what is not known of the call can lead to is in the result. The other way round it may be too much: a filter that looks at one
/// unknown word twice is taken as if it might differ, and filters are taken one by one. A result that is allowed is so for certain; one that is not might be.
/// </remarks>
public static class FilterWalk
{
    /// <summary>How many steps and comparisons are made for one call at most, some milliseconds of work. All filters of a thread have no more than 32,768 instructions together, each of which takes one step
    /// where nothing is unknown.</summary>
    internal const int WorkMax = 1 << 17;

    /// <summary>What can come of a call.</summary>
    /// <param name="filters">All filters of the thread, in any order; none: nothing stands in the way.</param>
    /// <param name="call">The call.</param>
    /// <returns>Every action that can be reached; <see cref="SeccompActions.Unknown"/> alone if a filter has a fault, gives an answer that it has computed of unknown bits, or takes too long to walk.</returns>
    public static SeccompActions ActionsFor(IReadOnlyList<SeccompFilter> filters, CallShape call)
    {
        if (filters.Count == 0)
            return SeccompActions.Allow;
        // The kernel asks all filters and takes the lowest answer: an answer comes to count where each other filter has one that is not lower.
        int work = WorkMax, lowestOfGreatest = int.MaxValue;
        HashSet<uint> all = [], answers = [];
        foreach (SeccompFilter filter in filters)
        {
            answers.Clear();
            if (filter.Fault is not null || !new FilterRun(filter, call).TryCollect(answers, ref work))
                return SeccompActions.Unknown;
            lowestOfGreatest = Math.Min(lowestOfGreatest, answers.Max(ActionWords.Precedence));
            all.UnionWith(answers);
        }
        SeccompActions actions = SeccompActions.None;
        foreach (uint answer in all)
        {
            if (ActionWords.Precedence(answer) <= lowestOfGreatest)
                actions |= ActionWords.Meaning(answer);
        }
        return actions;
    }

    /// <summary>A call of which this comes is made in any case.</summary>
    public static bool IsAllowed(SeccompActions actions) => actions != SeccompActions.None && (actions & ~(SeccompActions.Allow | SeccompActions.Log)) == SeccompActions.None;

    /// <summary>A call is made in any case.</summary>
    public static bool IsAllowed(IReadOnlyList<SeccompFilter> filters, CallShape call) => IsAllowed(ActionsFor(filters, call));
}
