using System.Numerics;

namespace Samepage.Metrics;

/// <summary>What is put off, or ends at a bound.</summary>
internal enum Incident
{
    /// <summary>The threads of a program could not be held.</summary>
    HoldGivenUp,

    /// <summary>A batch took longer than a second: the program's threads were let go, to wait at the gate for its end.</summary>
    LetGo,

    /// <summary>An agent did not answer.</summary>
    Unanswered,

    /// <summary>A look at the pages of a batch took too long: nothing of it was done.</summary>
    LookLate,

    /// <summary>Who holds the pages of a batch was not known in time: nothing of it was given back.</summary>
    QuestionLate,

    /// <summary>Something was not given back because somebody holds a page of it.</summary>
    GivingBackHeld,

    /// <summary>Something was not moved because somebody holds a page of it, or it is part of a large folio that cannot be taken apart.</summary>
    MoveWithheld,

    /// <summary>The kernel refused to move something: it is pinned, or not its owner's alone.</summary>
    MoveRefused,
}

/// <summary>Counts what is put off, or ends at a bound. Any thread.</summary>
internal static class Incidents
{
    private static readonly long[] s_counts = new long[Enum.GetValues<Incident>().Length];

    /// <summary>Is called at the first, second, fourth, eighth … of a kind: the process, what it was, how many so far. Any thread.</summary>
    public static Action<int, string, long>? Told { get; set; }

    /// <summary>Notes some.</summary>
    /// <param name="kind">What it was.</param>
    /// <param name="pid">The process.</param>
    /// <param name="count">How many.</param>
    public static void Note(Incident kind, int pid, int count = 1)
    {
        if (count == 0)
            return;
        long now = Interlocked.Add(ref s_counts[(int)kind], count);
        if (now == count || BitOperations.Log2((ulong)now) > BitOperations.Log2((ulong)(now - count)))
            Told?.Invoke(pid, Describe(kind).Text, now);
    }

    /// <summary>All kinds, by their names, with how many there were.</summary>
    public static IEnumerable<(string Kind, double Count)> All => Enum.GetValues<Incident>().Select(static kind => (Describe(kind).Name, (double)Interlocked.Read(ref s_counts[(int)kind])));

    private static (string Name, string Text) Describe(Incident kind) => kind switch
    {
        Incident.HoldGivenUp => ("hold_given_up", "threads that could not be held"),
        Incident.LetGo => ("let_go", "a batch that took longer than a second; its threads wait at the gate"),
        Incident.Unanswered => ("unanswered", "an agent that did not answer"),
        Incident.LookLate => ("look_late", "a look at its pages that took too long"),
        Incident.QuestionLate => ("question_late", "who holds its pages was not known in time"),
        Incident.GivingBackHeld => ("giving_back_held", "pages that somebody holds were not given back"),
        Incident.MoveWithheld => ("move_withheld", "pages that somebody holds, or of a huge page, were not moved"),
        Incident.MoveRefused => ("move_refused", "pages that the kernel refused to move"),
        _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "no such incident"),
    };
}
