using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <summary>Figures of one space, exact at rest.</summary>
/// <param name="Counts">Pages by state.</param>
/// <param name="Settled">Nothing more can be merged in it now.</param>
/// <param name="Visits">Visits since it was taken in.</param>
/// <param name="Breaks">Merged pages that a write, or a discard, has taken from their frames, noticed since it was taken in.</param>
public readonly record struct SpaceFigures(SpaceCounts Counts, bool Settled, long Visits, long Breaks);

/// <summary>Figures of one trust domain.</summary>
/// <param name="Frames">Frames in use.</param>
/// <param name="Users">Pages mapped to them.</param>
/// <param name="FramesHeld">Frames that hold memory: besides those in use, those about to be freed.</param>
public readonly record struct DomainFigures(long Frames, long Users, long FramesHeld);

/// <summary>Figures of the whole, exact at rest (G4 to G8, G10).</summary>
/// <param name="PagesShared">Frames in use.</param>
/// <param name="PagesSharing">Further pages mapped to them: pages saved.</param>
/// <param name="PagesUnshared">Pages unique so far.</param>
/// <param name="PagesVolatile">All records less those three: pages that change too fast, and such as wait or cannot be merged.</param>
/// <param name="FullScans">Full scans completed.</param>
/// <param name="PagesScanned">Pages read and looked up.</param>
/// <param name="PagesSkipped">Pages that were left alone because they were merged and written again and again; each time one was.</param>
public readonly record struct EngineFigures(long PagesShared, long PagesSharing, long PagesUnshared, long PagesVolatile, long FullScans, long PagesScanned, long PagesSkipped);

/// <summary>What the files of a control directory say of an engine at one moment (G4 to G9).</summary>
/// <param name="Engine">Figures of the whole.</param>
/// <param name="ZeroPages">Pages left to the kernel's zero page.</param>
/// <param name="Chains">Contents that have more than one frame.</param>
/// <param name="ChainFrames">The frames of those.</param>
/// <param name="GeneralProfitBytes">Bytes of the pages saved, less those of all records; may be negative.</param>
public readonly record struct ControlFigures(EngineFigures Engine, long ZeroPages, long Chains, long ChainFrames, long GeneralProfitBytes);

/// <content>What there is to show.</content>
public sealed partial class ScanEngine
{
    private const int QuietVisitsToSettle = 2;

    /// <summary>Figures of the whole.</summary>
    public EngineFigures Figures
    {
        get
        {
            long frames = _domains.Values.Sum(domain => domain.Frames.InUse), users = _domains.Values.Sum(domain => domain.Frames.Users);
            long unique = _spaces.Values.Sum(space => space.Counts.Unique), tracked = _spaces.Values.Sum(space => space.Counts.Tracked);
            return new EngineFigures(frames, users - frames, unique, Math.Max(0, tracked - users - unique), FullScans, PagesScanned, PagesSkipped);
        }
    }

    /// <summary>What a control directory says.</summary>
    public ControlFigures ControlFigures
    {
        get
        {
            EngineFigures figures = Figures;
            long zeroed = _spaces.Values.Sum(space => space.Counts.Zeroed), chains = 0, frames = 0;
            foreach (Domain domain in _domains.Values)
            {
                (long some, long theirs) = domain.Frames.Chains;
                (chains, frames) = (chains + some, frames + theirs);
            }

            return new ControlFigures(figures, zeroed, chains, frames, (figures.PagesSharing + zeroed) * _machine.PageSize - MetadataBytes);
        }
    }

    /// <summary>Figures of a space.</summary>
    /// <exception cref="KeyNotFoundException">It is not taken in.</exception>
    public SpaceFigures FiguresOf(SpaceId id)
    {
        Space space = _spaces[id.Value];
        return new SpaceFigures(space.Counts, space.QuietVisits >= QuietVisitsToSettle, space.Visits, space.Breaks);
    }

    /// <summary>Figures of a domain.</summary>
    public DomainFigures FiguresOf(DomainId id) =>
        _domains.TryGetValue(id, out Domain? domain) ? new DomainFigures(domain.Frames.InUse, domain.Frames.Users, domain.Frames.HeldCount) : default;

    /// <summary>Whether a space is taken in.</summary>
    public bool Knows(SpaceId id) => _spaces.TryGetValue(id.Value, out Space? space) && !space.IsLeaving;
}
