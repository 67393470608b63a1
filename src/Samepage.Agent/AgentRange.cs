using Samepage.Linux.ProcFs;

namespace Samepage.Agent;

/// <summary>The place of an agent in an address space: one of its own, far from where the kernel places mappings and where programs build.</summary>
/// <remarks>
/// <para>The kernel would put the agent right below what was mapped last, so also into a hole that the program has just made, and is about to fill: loaders, Wine and garbage collectors map a range,
/// unmap it in part, and map over it with MAP_FIXED, as is their right. The agent would be gone then, or be taken for the program's.</para>
/// <para>So it goes into the middle of the widest space that nothing is near: that between the heap, which grows upwards, and the mappings, which grow downwards, some tens of terabytes on x86-64.
/// Where in its middle half is random, as all places are.</para>
/// <para>What the executor maps for some moments in a batch lies where the kernel puts it: nobody of the program runs before it is gone, not even if the daemon dies (see the gate).</para>
/// </remarks>
internal static class AgentRange
{
    /// <summary>Below it is what programs choose themselves: 32-bit addresses, shadow memory, heaps at a hint.</summary>
    private const ulong LowestWide = 1UL << 40;

    /// <summary>The end of what mmap(2) gives without being asked for more, with four levels of page tables; and the lowest address, <c>vm.mmap_min_addr</c>.</summary>
    private const ulong Top = (1UL << 47) - Page, Bottom = 1 << 16;

    private const ulong Page = 4096;

    /// <summary>Chooses a place.</summary>
    /// <param name="mappings">The process's mappings, by rising address.</param>
    /// <param name="random">Any number.</param>
    /// <returns>Where nothing is; 0 where there is no room for an agent.</returns>
    public static ulong Choose(IReadOnlyList<Mapping> mappings, ulong random)
    {
        ulong start = 0, length = 0, from = Bottom;
        for (int i = 0; i <= mappings.Count; i++)
        {
            ulong end = i < mappings.Count ? Math.Min(mappings[i].Start, Top) : Top;
            ulong wide = end > from ? end - from : 0;
            // The highest of those that are wide; otherwise the widest.
            if (wide >= Math.Min(length, LowestWide) && wide > 0)
                (start, length) = (from, wide);
            if (i < mappings.Count)
                from = Math.Max(from, mappings[i].End);
        }

        if (length < AgentLayout.Size)
            return 0;
        ulong room = Math.Max((length - AgentLayout.Size) / 2 / Page, 1);
        return (start + (length - AgentLayout.Size) / 4 + random % room * Page) & ~(Page - 1);
    }

    /// <summary>Whether a range was mapped, and nothing done with it yet.</summary>
    /// <inheritdoc cref="IsOurs"/>
    public static bool IsFresh(IReadOnlyList<Mapping> mappings, ulong start) => mappings.Any(mapping => mapping.Start == start && mapping.End == start + AgentLayout.Size
        && mapping is { Readable: true, Writable: false, Executable: true, Shared: false, Inode: 0, Name: "" });

    /// <summary>Whether a mapping is of what an agent shares with its daemon: all of it, or a part, where the program has done something with a part of it (watched it, say).</summary>
    /// <param name="mapping">The mapping.</param>
    /// <param name="start">Where the range begins.</param>
    public static bool IsSharedPart(in Mapping mapping, ulong start) =>
        mapping.Start >= start + AgentLayout.SharedOffset && mapping.End <= start + AgentLayout.Size && mapping.Shared && AgentMemory.IsName(mapping.Name);

    /// <summary>Whether all that lies in an agent's range looks like the agent's, so that it can be unmapped.</summary>
    /// <param name="mappings">The process's mappings, by rising address.</param>
    /// <param name="start">Where the range begins.</param>
    public static bool IsOurs(IReadOnlyList<Mapping> mappings, ulong start)
    {
        ulong at = start, end = start + AgentLayout.Size;
        foreach (Mapping mapping in mappings)
        {
            if (mapping.End <= start || mapping.Start >= end)
                continue;
            bool isCode = mapping.Start < start + AgentLayout.CodeBytes;
            bool isShared = IsSharedPart(mapping, start);
            bool fits = mapping.Start == at && mapping.End <= end && mapping.Readable && mapping.Writable == !isCode && mapping.Executable == isCode
                && mapping.Shared == isShared && (mapping.Inode == 0) == !isShared && (!isCode || mapping.End == start + AgentLayout.CodeBytes);
            if (!fits)
                return false;
            at = mapping.End;
        }

        return at == end;
    }
}
