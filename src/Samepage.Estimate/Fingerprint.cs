using Samepage.Estimate.Sources;

namespace Samepage.Estimate;

/// <summary>One page as a census met it.</summary>
/// <param name="Digest">XxHash3 of its content: to be turned before it leaves the host.</param>
/// <param name="Source">Whose it is.</param>
/// <param name="Page">Its address divided by the size of a page; for a file its place there.</param>
/// <param name="Kind">What it is used for.</param>
/// <param name="IsZero">It is all zero.</param>
/// <param name="InReach">Merging can reach it.</param>
/// <param name="InHugePage">It is held in a huge page.</param>
public readonly record struct Fingerprint(ulong Digest, SourceDescription Source, ulong Page, MemoryKind Kind, bool IsZero, bool InReach, bool InHugePage);
