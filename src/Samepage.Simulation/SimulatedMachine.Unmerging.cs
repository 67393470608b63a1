using Samepage.Engine;
using Samepage.Simulation.Memory;

namespace Samepage.Simulation;

/// <content>Giving pages their own copies again.</content>
internal sealed partial class SimulatedMachine
{
    /// <summary>Puts memory of its own in place of a part of a mapping of frames.</summary>
    /// <remarks>Steps, between any two of which the world goes on:
    /// 1. Write-protect the part: who writes waits.
    /// 2. Copy its pages to scratch. What was discarded, or is zero, needs no copy; what a device holds stays, and with it the mapping there.
    /// 3. Put empty memory, registered with MISSING, in place of the mapping.
    /// 4. Move the copies in.
    /// 5. Wake who waits.
    /// </remarks>
    private int UnmergePart(SimulatedProcess process, int place, int count, out PageOutcome stop)
    {
        stop = PageOutcome.Gone;
        AreaFlags area = Tables[place].Area;
        bool unprotected = Fails(MachineFaults.UnmergeUnprotected);
        for (int i = place; i < place + count; i++)
            Tables.Change(i).Set(EntryFlags.Protected, !unprotected);
        int copied = CopyOut(process, place, count, ref stop);
        if (!Survives(process))
            return 0;
        int kept = 0;
        while (kept < copied && Tables[place + kept].Backing != 0 && Tables[place + kept].Area == area && (unprotected || Tables[place + kept].Has(EntryFlags.Protected)))
            kept++;
        Races += kept < copied ? 1 : 0;
        for (int i = place; i < place + kept; i++)
            PutEmpty(i);
        for (int i = place + kept; i < place + copied; i++)
            Tables.Clear(i + Tables.Window);
        if (!Survives(process))
            return 0;
        for (int i = place; i < place + kept; i++)
        {
            if (Tables[i].State == EntryState.None && Tables[i].Has(EntryFlags.Missing) && !Tables[i].Has(EntryFlags.Dropped))
                Tables.Move(i + Tables.Window, i);
            else
                Tables.Clear(i + Tables.Window);
        }

        if (!Survives(process))
            return 0;
        Finish(place, count);
        return kept;
    }

    private int CopyOut(SimulatedProcess process, int place, int count, ref PageOutcome stop)
    {
        for (int i = 0; i < count; i++)
        {
            if (!Survives(process))
                return 0;
            ref readonly PageEntry entry = ref Tables[place + i];
            if (IsPinned(place + i))
            {
                stop = PageOutcome.Busy;
                return i;
            }

            ulong content = entry.State switch
            {
                EntryState.Present => Tables.Physical[entry.Target].Content,
                EntryState.Swapped => Tables.Swap[entry.Target].Content,
                _ => Content.Zero,
            };
            if (content == Content.Zero || Fails(MachineFaults.UnmergeLosesPage))
                continue;
            if (!Copy(content, place + i + Tables.Window))
            {
                stop = PageOutcome.Refused;
                return i;
            }
        }

        return count;
    }

    private void PutEmpty(int place)
    {
        OwnerOf(place).MergedChanged = true;
        Tables.Clear(place);
        ref PageEntry entry = ref Tables.Change(place);
        entry.Backing = 0;
        entry.Flags = (entry.Flags & EntryFlags.Dropped) | EntryFlags.Missing;
    }
}
