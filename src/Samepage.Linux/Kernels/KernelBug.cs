namespace Samepage.Linux.Kernels;

/// <summary>What we do about a bug of the kernel, where it is there.</summary>
public enum BugAnswer
{
    /// <summary>Our use does not meet it.</summary>
    NotMet,

    /// <summary>It is met so seldom, or does so little, that nothing is left off for it.</summary>
    Told,

    /// <summary>No page of a large folio is moved.</summary>
    NoLargeFolios,

    /// <summary>Nothing is moved while swap is on.</summary>
    NoSwap,

    /// <summary>A process's count of pinned memory proves nothing.</summary>
    NoFaithInPinCount,

    /// <summary>Nothing is served.</summary>
    NotServed,
}

/// <summary>Whether a kernel has a bug.</summary>
public enum BugPresence
{
    /// <summary>It has not: it is older than the bug, or mended.</summary>
    Absent,

    /// <summary>It has, by its version.</summary>
    Present,

    /// <summary>It cannot be told.</summary>
    Unknown,
}

/// <summary>A bug of the kernel in what we use, and what it is to us.</summary>
/// <param name="Name">A short stable name.</param>
/// <param name="What">What the kernel does.</param>
/// <param name="Since">The first series that has it; empty where all that matter have.</param>
/// <param name="Mended">The first release without it, of each series that has one, the last of them a series: all later ones are without it, too. Empty where it is mended nowhere, as far as is known.</param>
/// <param name="Answer">What we do about it.</param>
/// <param name="ForUs">What it is to us, and what we do or why nothing need be done.</param>
/// <param name="Source">Where it is told of: CVE numbers, and upstream commits.</param>
public sealed record KernelBug(string Name, string What, string Since, string Mended, BugAnswer Answer, string ForUs, string Source)
{
    private readonly KernelRelease _since = KernelRelease.Parse(Since, trustsZero: true);
    private readonly KernelRelease[] _mended = [.. Mended.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(release => KernelRelease.Parse(release, trustsZero: true))];

    /// <summary>The kernels that have it, in words.</summary>
    public string Versions => string.Concat(Since.Length > 0 ? $"from {Since} on; " : "", Mended.Length > 0 ? $"mended in {Mended.Replace(" ", ", ", StringComparison.Ordinal)}" : "mended in no kernel that is known");

    /// <summary>What we do about it, in words.</summary>
    public string AnswerWords => Answer switch
    {
        BugAnswer.NotMet => "not met",
        BugAnswer.Told => "told of",
        BugAnswer.NoLargeFolios => "no large folios",
        BugAnswer.NoSwap => "no merging beside swap",
        BugAnswer.NoFaithInPinCount => "no faith in VmPin",
        _ => "not served",
    };

    /// <summary>Whether a kernel has it, by its version alone.</summary>
    /// <remarks>A series without a release that is known to be mended, and older than the first that was mended from its beginning, counts as having it: what nobody has seen mended is not.</remarks>
    /// <param name="kernel">The kernel.</param>
    public BugPresence In(KernelRelease kernel)
    {
        if (kernel.IsUnknown)
            return BugPresence.Unknown;
        if (kernel.Series.CompareTo(_since.Series) < 0)
            return BugPresence.Absent;
        foreach (KernelRelease mended in _mended)
        {
            if (mended.Patch == 0 && kernel.Series.CompareTo(mended.Series) > 0)
                return BugPresence.Absent;
            if (mended.Series != kernel.Series)
                continue;
            if (kernel.Patch is null)
                return mended.Patch == 0 ? BugPresence.Absent : BugPresence.Unknown;
            return kernel.Patch >= mended.Patch ? BugPresence.Absent : BugPresence.Present;
        }

        return kernel.Patch is null && _mended.Length > 0 ? BugPresence.Unknown : BugPresence.Present;
    }
}
