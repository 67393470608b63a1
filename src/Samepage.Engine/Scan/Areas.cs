namespace Samepage.Engine.Scan;

/// <summary>What can be said of two lists of areas.</summary>
internal static class Areas
{
    /// <summary>Adds the mergeable ranges that no area, mergeable or merged, was at before.</summary>
    /// <param name="before">By rising address.</param>
    /// <param name="now">By rising address.</param>
    /// <param name="grown">Receives the ranges.</param>
    public static void AddGrowth(List<Area> before, List<Area> now, List<Area> grown)
    {
        int at = 0;
        foreach (Area area in now)
        {
            if (area.Kind != AreaKind.Mergeable)
                continue;
            ulong from = area.Range.Start.Value;
            while (at < before.Count && before[at].Range.End <= from)
                at++;
            for (int i = at; from < area.Range.End; i++)
            {
                bool any = i < before.Count && before[i].Range.Start.Value < area.Range.End;
                ulong behind = any ? before[i].Range.Start.Value : area.Range.End;
                if (behind > from)
                    grown.Add(new Area(new PageRun(new PageNumber(from), (long)(behind - from)), AreaKind.Mergeable));
                from = any ? Math.Max(from, before[i].Range.End) : area.Range.End;
            }
        }
    }
}
