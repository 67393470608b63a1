namespace Samepage.Simulation.Scenarios;

/// <summary>What came of a scenario.</summary>
public sealed record SimulationReport
{
    /// <summary>The scenario.</summary>
    public required Scenario Scenario { get; init; }

    /// <summary>The seed that gives the same run again.</summary>
    public required ulong Seed { get; init; }

    /// <summary>Bytes per page.</summary>
    public required int PageSize { get; init; }

    /// <summary>Steps of the machine, and those of them in the middle of a call of the engine's.</summary>
    public long Steps { get; init; }

    /// <inheritdoc cref="Steps"/>
    public long StepsWithin { get; init; }

    /// <summary>The invariant that did not hold, and what was found; null when all held.</summary>
    public BrokenInvariantException? Broken { get; init; }

    /// <summary>Full scans completed, pages read, frames in use, further pages mapped to them, pages unique so far, pages that change too fast.</summary>
    public (long FullScans, long PagesScanned, long PagesShared, long PagesSharing, long PagesUnshared, long PagesVolatile) Figures { get; init; }

    /// <summary>Pages given to the zero page.</summary>
    public long ZeroPages { get; init; }

    /// <summary>Bytes of records and indexes.</summary>
    public long MetadataBytes { get; init; }

    /// <summary>Bytes that the frames hold.</summary>
    public long PoolBytes { get; init; }

    /// <summary>Runs that were merged at a stroke, and the pages in them.</summary>
    public (long Runs, long Pages) Merged { get; init; }

    /// <summary>One entry per trust domain: number, frames in use, pages saved, merged pages that a write has taken from their frames.</summary>
    public IReadOnlyList<(int Domain, long Frames, long PagesSharing, long Breaks)> Domains { get; init; } = [];

    /// <summary>One entry per process.</summary>
    public IReadOnlyList<ProcessFigures> Processes { get; init; } = [];

    /// <summary>What a host of the scenario's size would take; null where it names none.</summary>
    public HostEstimate? Host { get; init; }

    /// <summary>Bytes saved less the frames and the records.</summary>
    public long ProfitBytes => (Figures.PagesSharing + ZeroPages) * PageSize - MetadataBytes;
}

/// <summary>Figures of one process of a scenario.</summary>
/// <param name="Number">Which.</param>
/// <param name="Domain">Its trust domain.</param>
/// <param name="Settled">Nothing more can be merged in it now.</param>
/// <param name="PagesTracked">Pages that have a record.</param>
/// <param name="PagesMerged">Pages mapped to a frame.</param>
/// <param name="ZeroPages">Pages given to the zero page.</param>
/// <param name="PagesVolatile">Pages that change too fast.</param>
/// <param name="PagesUnshared">Pages like no other so far.</param>
/// <param name="PagesBroken">Pages that were merged and are private memory inside a mapping of frames now.</param>
/// <param name="Breaks">Merged pages that a write, or a discard, has taken from their frames.</param>
public sealed record ProcessFigures(
    int Number, int Domain, bool Settled, long PagesTracked, long PagesMerged, long ZeroPages, long PagesVolatile, long PagesUnshared, long PagesBroken, long Breaks);
