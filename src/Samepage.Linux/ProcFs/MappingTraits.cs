using System.Collections.Concurrent;
using Samepage.Engine;

namespace Samepage.Linux.ProcFs;

/// <summary>What becomes of a flag of memory that is merged.</summary>
public enum FlagFate
{
    /// <summary>All memory that we merge has it, and all that we put in its place has it by itself.</summary>
    Common,

    /// <summary>The mapping of frames is given it, and so is what takes the place of that.</summary>
    Carried,

    /// <summary>It may be there or not without our doing anything.</summary>
    Harmless,

    /// <summary>What protects memory: it is lifted while an exchange goes on, of which the program sees nothing, and put back. Only what can be written and executed is left alone.</summary>
    Lifted,

    /// <summary>The area is left alone.</summary>
    LeftAlone,
}

/// <summary>What a mapping is, as far as it decides whether it may be merged: the live machine's rule, and the estimate's.</summary>
/// <remarks>Thread-safe. docs/mappings.md tells the same in words.</remarks>
public static class MappingTraits
{
    private static readonly ConcurrentDictionary<string, AreaTraits> KnownFlags = [];

    /// <summary>Every flag that VmFlags of smaps can show, up to Linux 7.3. Any other is unknown, and a reason to leave the area alone.</summary>
    /// <remarks>Harmless are:
    /// sd (soft-dirty): what is given back counts as written, which who asks for it takes for the truth or for care; the kernel joins areas whether they have it or not.
    /// gu (there may be guard pages): the move refuses them, an unmerge makes them again, and the kernel joins areas whether they have it or not.
    /// uw: we track writes; another's tracking makes the kernel refuse ours (EBUSY).</remarks>
    public static readonly IReadOnlyDictionary<string, (FlagFate Fate, AreaTraits Trait)> Flags = new Dictionary<string, (FlagFate, AreaTraits)>
    {
        ["rd"] = (FlagFate.Lifted, AreaTraits.None), // can be read, written, executed now,
        ["wr"] = (FlagFate.Lifted, AreaTraits.None),
        ["ex"] = (FlagFate.Lifted, AreaTraits.Executable),
        ["mr"] = (FlagFate.Common, AreaTraits.None), // and may be made to be read, written, executed
        ["mw"] = (FlagFate.Common, AreaTraits.None),
        ["me"] = (FlagFate.Common, AreaTraits.None),
        ["ac"] = (FlagFate.Common, AreaTraits.None), // charged to Committed_AS: private writable memory is, of a file too, unless it has nr
        ["nr"] = (FlagFate.Carried, AreaTraits.None), // MAP_NORESERVE
        ["mg"] = (FlagFate.Carried, AreaTraits.Advised), // MADV_MERGEABLE
        ["hg"] = (FlagFate.Carried, AreaTraits.None), // MADV_HUGEPAGE
        ["nh"] = (FlagFate.Carried, AreaTraits.None), // MADV_NOHUGEPAGE
        ["rr"] = (FlagFate.Carried, AreaTraits.None), // MADV_RANDOM
        ["sr"] = (FlagFate.Carried, AreaTraits.None), // MADV_SEQUENTIAL
        ["dc"] = (FlagFate.Carried, AreaTraits.DontCopy), // MADV_DONTFORK
        ["dd"] = (FlagFate.Carried, AreaTraits.DontDump), // MADV_DONTDUMP
        ["lo"] = (FlagFate.Carried, AreaTraits.Locked), // mlock(2); carried where it comes while the area is merged
        ["lf"] = (FlagFate.Carried, AreaTraits.Locked), // MLOCK_ONFAULT
        ["sd"] = (FlagFate.Harmless, AreaTraits.None),
        ["gu"] = (FlagFate.Harmless, AreaTraits.None),
        ["uw"] = (FlagFate.Harmless, AreaTraits.None),
        ["um"] = (FlagFate.LeftAlone, AreaTraits.Watched), // userfaultfd(2): missing pages
        ["ui"] = (FlagFate.LeftAlone, AreaTraits.Watched), // and minor faults
        ["sh"] = (FlagFate.LeftAlone, AreaTraits.Shared),
        ["ms"] = (FlagFate.LeftAlone, AreaTraits.Shared), // of a shared mapping
        ["gd"] = (FlagFate.LeftAlone, AreaTraits.Growing), // MAP_GROWSDOWN
        ["pf"] = (FlagFate.LeftAlone, AreaTraits.RawFrames),
        ["mm"] = (FlagFate.LeftAlone, AreaTraits.RawFrames),
        ["io"] = (FlagFate.LeftAlone, AreaTraits.Device),
        ["ht"] = (FlagFate.LeftAlone, AreaTraits.HugeTlb),
        ["de"] = (FlagFate.LeftAlone, AreaTraits.DontExpand),
        ["wf"] = (FlagFate.LeftAlone, AreaTraits.WipeOnFork), // MADV_WIPEONFORK
        ["dp"] = (FlagFate.LeftAlone, AreaTraits.Droppable), // MAP_DROPPABLE
        ["sl"] = (FlagFate.LeftAlone, AreaTraits.Sealed), // mseal(2)
        ["sf"] = (FlagFate.LeftAlone, AreaTraits.Special), // MAP_SYNC
        ["ar"] = (FlagFate.LeftAlone, AreaTraits.Special), // the processor's own
        ["ss"] = (FlagFate.LeftAlone, AreaTraits.Special), // a shadow stack
        ["mt"] = (FlagFate.LeftAlone, AreaTraits.Special), // tagged memory
        ["bt"] = (FlagFate.LeftAlone, AreaTraits.Special), // guarded branches
    };

    /// <param name="mapping">As smaps shows it: without its flags it has an unknown trait, and nothing is merged.</param>
    /// <param name="reservesAll">MAP_NORESERVE is not heeded on this machine (vm.overcommit_memory is 2): what has it could not be put back.</param>
    public static AreaTraits Of(in Mapping mapping, bool reservesAll = false) =>
        (mapping.Readable ? AreaTraits.Readable : 0) | (mapping.Writable ? AreaTraits.Writable : 0) | (mapping.Executable ? AreaTraits.Executable : 0) |
        (mapping.Shared ? AreaTraits.Shared : 0) | (mapping.Inode != 0 ? AreaTraits.FileBacked : 0) | (mapping.Name is "" or "[heap]" || IsNamed(mapping) ? 0 : AreaTraits.Special) |
        (mapping.ProtectionKey != 0 ? AreaTraits.Keyed : 0) | (reservesAll && mapping.Has("nr") ? AreaTraits.Unreserved : 0) | OfFlags(mapping.Flags) |
        (mapping is { Writable: false, HeldBytes: 0 } ? AreaTraits.Empty : 0) | (mapping.Inode == 0 && !HasWhatWeMap(mapping) ? AreaTraits.Unknown : 0);

    /// <summary>Whether private memory has a name of its program's, PR_SET_VMA_ANON_NAME, or a mapping of frames has taken such a name over.</summary>
    public static bool IsNamed(in Mapping mapping) => mapping.Name.StartsWith("[anon:", StringComparison.Ordinal) || mapping.Name.StartsWith("[anon_shmem:", StringComparison.Ordinal);

    /// <summary>Whether a mapping is what fresh private memory is by itself: what takes its place would be.</summary>
    private static bool HasWhatWeMap(in Mapping mapping) => mapping.Has("mr") && mapping.Has("mw") && mapping.Has("me") && mapping.Has("ac") != mapping.Has("nr");

    private static AreaTraits OfFlags(string flags)
    {
        if (!KnownFlags.TryGetValue(flags, out AreaTraits traits))
        {
            foreach (string flag in flags.Split(' ', StringSplitOptions.RemoveEmptyEntries))
                traits |= Flags.TryGetValue(flag, out (FlagFate, AreaTraits Trait) known) ? known.Trait : AreaTraits.Unknown;
            KnownFlags[flags] = traits |= flags.Length == 0 ? AreaTraits.Unknown : 0;
        }

        return traits;
    }
}
