namespace Samepage.Bench;

/// <summary>The memory to merge: how much, in what pieces, and what can be saved.</summary>
/// <remarks><code>
///   process   0    1    2    3  |  4    5    6    7        8 processes of equal size
///   page      0 ………………… half-1 | half …………… 2*half-1
///   content   D u D u D u D u …  |  D v D v D v D v …       runs of RunLength pages; D in both halves is the same
/// </code>
/// Process <c>i</c> shares with process <c>i + 4</c> and with no other, so every frame has two users. Half of all pages
/// are one of a pair; merging the pairs saves a quarter of the memory.
/// Eight processes, because one with everything would need more mappings than <c>vm.max_map_count</c> allows
/// when merged page by page from user space: a mapping for each run, and one for each gap.
/// </remarks>
internal sealed record Workload(int TotalMib, int RunLength)
{
    public const int Processes = 8;
    public const int PageBytes = 4096;

    public long Pages => TotalMib * 1024L * 1024 / PageBytes;
    public long HalfPages => Pages / 2;
    public long PagesPerProcess => Pages / Processes;

    /// <summary>Pages that are one of a pair.</summary>
    public long DuplicatePages => Pages / 2;

    /// <summary>Pages saved when all is merged: one of each pair.</summary>
    public long PagesToSave => Pages / 4;

    /// <summary>The most mappings that one process's memory falls into when every run has one of its own.</summary>
    public long MappingsPerProcess => PagesPerProcess / RunLength;

    /// <summary>Every process holds as many duplicate runs as others, which the figures above rely on.</summary>
    public bool IsEven => PagesPerProcess % (2L * RunLength) == 0;
}
