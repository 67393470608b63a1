using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <summary>What a batch did.</summary>
/// <param name="PagesLookedAt">Pages read and looked up.</param>
/// <param name="PassesCompleted">1 when the cursor has passed the last slot (B3), else 0.</param>
/// <param name="Gone">Spaces that turned out to be gone; their slots are free (B7).</param>
/// <param name="WithoutAreas">Spaces that had no area to merge at the end of their visit; their slots are free (B6).</param>
public readonly record struct BatchReport(long PagesLookedAt, int PassesCompleted, IReadOnlyList<SpaceId> Gone, IReadOnlyList<SpaceId> WithoutAreas);

/// <content>The cursor, and batches.</content>
public sealed partial class ScanEngine
{
    /// <summary>Looks at so many pages, from where the last batch ended: slots in the order of their list, pages by rising address (B2).
    /// A batch ends early with the pass.</summary>
    /// <param name="pages">The most to look at; 1 at least. Pages that need not be looked at are not counted.</param>
    public BatchReport Scan(int pages)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(pages, 1);
        List<SpaceId> gone = [], withoutAreas = [];
        if (!HasWork && !_slots.InPass)
            return new BatchReport(0, 0, gone, withoutAreas);
        Begin();
        try
        {
            long left = pages;
            _slots.BeginPass();
            while (left > 0 && _slots.Cursor is { } space)
            {
                VisitOutcome outcome = GoOn(space, ref left);
                if (outcome == VisitOutcome.Unfinished)
                    break;
                if (!space.IsLeaving && (outcome == VisitOutcome.Gone || space.Areas.Count == 0))
                {
                    (outcome == VisitOutcome.Gone ? gone : withoutAreas).Add(space.Id);
                    space.IsLeaving = true;
                    _leaving.Add(space);
                }

                _slots.Advance();
            }

            int passes = _slots.Cursor is null ? 1 : 0;
            if (passes == 1)
            {
                // What leaves in this pass leaves the unstable side as this pass knows it.
                LetGo();
                _slots.EndPass();
                EndThePass();
            }

            return new BatchReport(pages - left, passes, gone, withoutAreas);
        }
        finally
        {
            End();
        }
    }
}
