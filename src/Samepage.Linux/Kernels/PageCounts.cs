namespace Samepage.Linux.Kernels;

/// <summary>What a frame's record counts, at one moment.</summary>
/// <param name="Mappings">Entries of page tables that show the page; no sensible number for what is never mapped.</param>
/// <param name="References">All references, those of the mappings among them. 0 for a free frame, and for the pages of a large folio but its first.</param>
internal readonly record struct PageCounts(uint Mappings, uint References)
{
    /// <summary>Takes the word apart; the kernel counts mappings from -1.</summary>
    public static PageCounts Of(ulong word) => new(unchecked((uint)word + 1), (uint)(word >> 32));

    /// <summary>Nobody has a reference but the mappings.</summary>
    public bool AreMappingsOnly => References > 0 && References == Mappings;

    /// <summary>References beyond the mappings, where there are fewer than a pin counts.</summary>
    public uint Few => References > Mappings && References - Mappings < PageReferences.Pin ? References - Mappings : 0;
}
