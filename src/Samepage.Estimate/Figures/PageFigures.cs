namespace Samepage.Estimate.Figures;

/// <summary>What some memory is made of; all figures are pages of 4096 bytes.</summary>
/// <remarks>Of the pages that merging reaches each is counted once: <c>Zero + Internal + InDomain + AcrossDomains + Unique</c> is all of them. The first
/// copy of a content stands among the unique ones, or, where another domain comes first, among those across domains. First is the lower domain and pid
/// in the report's order, then the lower address.</remarks>
public sealed record PageFigures
{
    /// <summary>Resident, those of files and of shared memory among them; the kernel's zero page is not, as in Rss.</summary>
    public long Resident { get; set; }

    /// <summary>Resident pages of files or of shared memory that the process has not made its own: the kernel shares these already. Not read.</summary>
    public long OfFiles { get; set; }

    /// <summary>Anonymous pages whose frame others map too: by fork, or merged. Not read, and not reached by merging while that is so.</summary>
    public long Shared { get; set; }

    /// <summary>Pages that show the kernel's zero page; they cost nothing.</summary>
    public long ZeroAlready { get; set; }

    /// <summary>Pages that are swapped out; not read.</summary>
    public long SwappedOut { get; set; }

    /// <summary>Pages held in huge pages that merging leaves whole: read, and not reached.</summary>
    public long Huge { get; set; }

    /// <summary>Pages held in huge pages of memory whose program asked for merging: reached, and counted below as any page is. Where something merges, the huge page is split.</summary>
    public long HugeReached { get; set; }

    /// <summary>Pages that were there and could not be read.</summary>
    public long Unread { get; set; }

    /// <summary>Pages of zeros that merging would give to the zero page.</summary>
    public long Zero { get; set; }

    /// <summary>Pages whose content the same process holds at a lower address.</summary>
    public long Internal { get; set; }

    /// <summary>Pages that are the first of their content in their process, where a process before it in the same domain holds it too.</summary>
    public long InDomain { get; set; }

    /// <summary>Pages that are the first of their content in their domain, where a domain before it holds it too: what isolation costs.</summary>
    public long AcrossDomains { get; set; }

    /// <summary>Pages whose content no page before them has.</summary>
    public long Unique { get; set; }

    /// <summary>Pages whose content another process of the same domain holds too, whoever comes first.</summary>
    public long WithOthers { get; set; }

    /// <summary>Pages of zeros that merging does not reach.</summary>
    public long ZeroOutOfReach { get; set; }

    /// <summary>Pages that merging does not reach, with a content that the domain holds elsewhere.</summary>
    public long DuplicatesOutOfReach { get; set; }

    /// <summary>Of what would be saved, pages whose content was the same in the first and in the last sample; with one sample, all of it.</summary>
    public long Stable { get; set; }

    /// <summary>Of the stable pages, those of zeros.</summary>
    public long StableZero { get; set; }

    /// <summary>Of the pages that merging reaches, those whose content was the same in the first and in the last sample, saved or not; with one sample, all of them.</summary>
    public long Unchanged { get; set; }

    /// <summary>Pages saved as they are shared out: each of n copies in a domain is credited with (n − 1)/n, a page of zeros with 1.</summary>
    public double SavedShare { get; set; }

    /// <summary>Pages that merging would save.</summary>
    public long Saved => Zero + Internal + InDomain;

    /// <summary>Pages that merging would keep a record of.</summary>
    public long Tracked => Zero + Internal + InDomain + AcrossDomains + Unique;

    /// <summary>Adds other figures to these.</summary>
    public void Add(PageFigures other)
    {
        Resident += other.Resident;
        OfFiles += other.OfFiles;
        Shared += other.Shared;
        ZeroAlready += other.ZeroAlready;
        SwappedOut += other.SwappedOut;
        Huge += other.Huge;
        HugeReached += other.HugeReached;
        Unread += other.Unread;
        Zero += other.Zero;
        Internal += other.Internal;
        InDomain += other.InDomain;
        AcrossDomains += other.AcrossDomains;
        Unique += other.Unique;
        WithOthers += other.WithOthers;
        ZeroOutOfReach += other.ZeroOutOfReach;
        DuplicatesOutOfReach += other.DuplicatesOutOfReach;
        Stable += other.Stable;
        StableZero += other.StableZero;
        Unchanged += other.Unchanged;
        SavedShare += other.SavedShare;
    }
}

/// <summary>Memory that was left out, and why.</summary>
/// <param name="Reason">Why merging does not reach it, or why it was not read.</param>
/// <param name="Areas">Mappings.</param>
/// <param name="Pages">Resident pages in them.</param>
public sealed record LeftOut(string Reason, long Areas, long Pages);
