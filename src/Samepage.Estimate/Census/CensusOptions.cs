namespace Samepage.Estimate.Census;

/// <summary>How a census is taken.</summary>
public sealed record CensusOptions
{
    /// <summary>Times that everything is read; at least 1.</summary>
    public int Samples { get; init; } = 1;

    /// <summary>From the end of one reading to the beginning of the next.</summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>One content of so many is kept, by its digest; 1 for all.</summary>
    public int OneOf { get; init; } = 1;

    /// <summary>Tell also what so many clones of everything would share; 1 for no clones.</summary>
    public int Clones { get; init; } = 1;

    /// <summary>Threads that read.</summary>
    public int Threads { get; init; } = Environment.ProcessorCount;

    /// <summary>Show the first bytes of frequent contents.</summary>
    public bool Preview { get; init; }

    /// <summary>What merging costs.</summary>
    public required CostModel Cost { get; init; }

    /// <summary>Contents with so many copies are counted in full under a sample; for tests.</summary>
    internal int HeavyCapacity { get; init; } = HeavyContents.DefaultCapacity;
}

/// <summary>How far a census has come.</summary>
/// <param name="Sample">Which sample, from 1.</param>
/// <param name="PagesDone">Pages listed in it.</param>
/// <param name="PagesExpected">Pages that there are about.</param>
/// <param name="BytesRead">Bytes read in all samples.</param>
public readonly record struct CensusProgress(int Sample, long PagesDone, long PagesExpected, long BytesRead);
