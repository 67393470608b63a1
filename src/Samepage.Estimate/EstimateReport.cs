using Samepage.Estimate.Figures;

namespace Samepage.Estimate;

/// <summary>What merging would save, and for whom.</summary>
public sealed record EstimateReport
{
    /// <summary>Not everything was read: it was interrupted.</summary>
    public required bool Partial { get; init; }

    /// <summary>Frame numbers could not be seen (they are root's): how many frames lie behind shared pages is not known then.</summary>
    public required bool FramesHidden { get; init; }

    /// <summary>Bytes of a page.</summary>
    public required int PageSize { get; init; }

    /// <summary>The part of all contents that was kept, by digest: 1 for all.</summary>
    public required double Sample { get; init; }

    /// <summary>What all of it comes to.</summary>
    public required Totals Totals { get; init; }

    /// <summary>What merging would cost.</summary>
    public required Costs Costs { get; init; }

    /// <summary>The trust domains; pages are merged within one only.</summary>
    public required IReadOnlyList<DomainEstimate> Domains { get; init; }

    /// <summary>The processes and files, by domain and pid.</summary>
    public required IReadOnlyList<SourceEstimate> Processes { get; init; }

    /// <summary>By what memory is used for.</summary>
    public required IReadOnlyList<KindEstimate> Kinds { get; init; }

    /// <summary>What pairs of processes have in common, where they have anything.</summary>
    public required IReadOnlyList<PairEstimate> Pairs { get; init; }

    /// <summary>The contents with the most copies, but for zeros.</summary>
    public required IReadOnlyList<ContentEstimate> Contents { get; init; }

    /// <summary>One for each sample: the curve of what would be saved.</summary>
    public required IReadOnlyList<SamplePoint> Samples { get; init; }

    /// <summary>What clones of all of it would share; null where that was not asked.</summary>
    public required ClonesEstimate? Clones { get; init; }

    /// <summary>What it took.</summary>
    public required Effort Effort { get; init; }
}

/// <summary>What all of it comes to.</summary>
/// <param name="Figures">The sums over everything.</param>
/// <param name="SavedPages">Pages that merging would save, those of runs beyond the limit of mappings taken off.</param>
/// <param name="SavedPagesLow">With a sample, the lower end of the 95 % interval; otherwise the same.</param>
/// <param name="SavedPagesHigh">With a sample, its upper end; otherwise the same.</param>
/// <param name="StablePages">Of them, pages whose content did not change over the samples.</param>
/// <param name="FramesShared">Frames behind the pages that are shared already; 0 where frame numbers are hidden.</param>
/// <param name="ProfitBytes">What would be saved less what it costs; may be negative.</param>
public sealed record Totals(PageFigures Figures, long SavedPages, long SavedPagesLow, long SavedPagesHigh, long StablePages, long FramesShared, long ProfitBytes);

/// <summary>What merging would cost, bytes.</summary>
/// <param name="RecordBytes">Records and indexes: <see cref="CostModel.RecordBytesOfAPage"/> for each page that merging reaches.</param>
/// <param name="AgentBytes">The agents in the processes.</param>
/// <param name="DaemonBytes">The daemon itself.</param>
/// <param name="MappingLimit"><c>vm.max_map_count</c>.</param>
public sealed record Costs(long RecordBytes, long AgentBytes, long DaemonBytes, long MappingLimit);

/// <summary>One trust domain.</summary>
/// <param name="Name">Such as <c>uid:1000</c>.</param>
/// <param name="Processes">Processes and files in it.</param>
/// <param name="Figures">Their sums.</param>
/// <param name="SavedPages">Pages that merging would save.</param>
/// <param name="SavedPagesLow">The lower end of the 95 % interval.</param>
/// <param name="SavedPagesHigh">Its upper end.</param>
public sealed record DomainEstimate(string Name, int Processes, PageFigures Figures, long SavedPages, long SavedPagesLow, long SavedPagesHigh);

/// <summary>One process or file.</summary>
/// <param name="Pid">Its process id; 0 for a file.</param>
/// <param name="Name">The command's name, or the file.</param>
/// <param name="Domain">Its trust domain.</param>
/// <param name="Obstacle">Why it would not be taken in, or could not be read; empty otherwise. Nothing is saved in one that would not be taken in.</param>
/// <param name="Gone">It ended while it was read, and is not counted.</param>
/// <param name="Figures">What it is made of.</param>
/// <param name="ProfitBytes">Its share of what would be saved, less its records and its agent.</param>
/// <param name="Mappings">Mappings that it has.</param>
/// <param name="MappingsNeeded">Mappings that merging would add, at the most.</param>
/// <param name="BeyondLimitPages">Pages of runs for which <c>vm.max_map_count</c> has no room.</param>
/// <param name="LeftOut">Memory of its own that merging does not reach, and why.</param>
/// <param name="Picture">Its pages by rising address, a letter for each stretch: z zeros, m merged, u unique, h in huge pages that are left whole, s shared already, o out of reach. Empty with a sample.</param>
public sealed record SourceEstimate(
    int Pid, string Name, string Domain, string Obstacle, bool Gone, PageFigures Figures, long ProfitBytes, long Mappings, long MappingsNeeded, long BeyondLimitPages,
    IReadOnlyList<LeftOut> LeftOut, string Picture)
{
    /// <summary>It, or a part of it, could not be read; <see cref="Obstacle"/> says why.</summary>
    public bool Unread { get; init; }
}

/// <summary>Memory of one use.</summary>
/// <param name="Kind">What it is used for.</param>
/// <param name="Figures">What it is made of.</param>
public sealed record KindEstimate(MemoryKind Kind, PageFigures Figures);

/// <summary>What two processes have in common.</summary>
/// <param name="One">The place of one in <see cref="EstimateReport.Processes"/>.</param>
/// <param name="Other">That of the other.</param>
/// <param name="Contents">Different contents that both hold.</param>
public sealed record PairEstimate(int One, int Other, long Contents);

/// <summary>A content with many copies.</summary>
/// <param name="Digest">Its digest, hexadecimal.</param>
/// <param name="Copies">Pages that hold it.</param>
/// <param name="Processes">Processes that do.</param>
/// <param name="Guess">What it looks like; empty where it could not be looked at again.</param>
/// <param name="Preview">Its first bytes as text, others as dots; empty but for root.</param>
public sealed record ContentEstimate(string Digest, long Copies, int Processes, string Guess, string Preview);

/// <summary>What one sample came to.</summary>
/// <param name="Seconds">When it was taken, from the first on.</param>
/// <param name="SavedPages">Pages that merging would have saved then.</param>
/// <param name="StablePages">Of them, those whose content had not changed since the first.</param>
public sealed record SamplePoint(double Seconds, long SavedPages, long StablePages);

/// <summary>What clones would share, if each process and file stood there so many times, all of one in its trust domain.</summary>
/// <param name="Count">Of each so many.</param>
/// <param name="Pages">Pages that merging reaches in all of them.</param>
/// <param name="SavedPages">Pages saved at the moment of cloning, when all are the same.</param>
/// <param name="StablePages">Pages saved when each clone has written, with contents of its own, what the process wrote between the first and the last sample; with one sample, as many as at first.</param>
/// <param name="ProfitBytes">What is saved at first, less records and agents of all clones and the daemon; may be negative.</param>
/// <param name="StableProfitBytes">The same of what is saved later.</param>
public sealed record ClonesEstimate(int Count, long Pages, long SavedPages, long StablePages, long ProfitBytes, long StableProfitBytes);

/// <summary>What the estimate itself took.</summary>
/// <param name="Seconds">From beginning to end of reading, of all samples.</param>
/// <param name="BytesRead">Bytes of memory read.</param>
/// <param name="BytesPerSecond">Both together.</param>
/// <param name="Threads">Threads that read.</param>
/// <param name="RecordBytes">Memory of its records.</param>
public sealed record Effort(double Seconds, long BytesRead, double BytesPerSecond, int Threads, long RecordBytes);

/// <summary>What the daemon and its agents cost; the daemon's owner knows it.</summary>
/// <param name="RecordBytesOfAPage">Bytes of records and indexes a page.</param>
/// <param name="AgentBytes">Bytes of an agent in a process.</param>
/// <param name="DaemonBytes">Bytes of the daemon without records.</param>
public readonly record struct CostModel(double RecordBytesOfAPage, long AgentBytes, long DaemonBytes);
