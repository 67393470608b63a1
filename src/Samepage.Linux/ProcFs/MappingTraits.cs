using System.Collections.Concurrent;
using Samepage.Engine;

namespace Samepage.Linux.ProcFs;

/// <summary>What a mapping is, as far as it decides whether it may be merged: the live machine's rule, and the estimate's.</summary>
/// <remarks>Thread-safe.</remarks>
public static class MappingTraits
{
    private static readonly ConcurrentDictionary<string, AreaTraits> KnownFlags = [];

    /// <param name="mapping">As smaps shows it: without its flags it has an unknown trait, and nothing is merged.</param>
    public static AreaTraits Of(in Mapping mapping) =>
        (mapping.Readable ? AreaTraits.Readable : 0) | (mapping.Writable ? AreaTraits.Writable : 0) | (mapping.Executable ? AreaTraits.Executable : 0) |
        (mapping.Shared ? AreaTraits.Shared : 0) | (mapping.Inode != 0 ? AreaTraits.FileBacked : 0) | (mapping.Name is "" or "[heap]" ? 0 : AreaTraits.Special) |
        (mapping.ProtectionKey != 0 ? AreaTraits.Keyed : 0) | OfFlags(mapping.Flags);

    private static AreaTraits OfFlags(string flags)
    {
        if (!KnownFlags.TryGetValue(flags, out AreaTraits traits))
        {
            foreach (string flag in flags.Split(' ', StringSplitOptions.RemoveEmptyEntries))
                traits |= OfFlag(flag);
            KnownFlags[flags] = traits |= flags.Length == 0 ? AreaTraits.Unknown : 0;
        }

        return traits;
    }

    /// <summary>What a flag of VmFlags means, as far as it decides; proc_pid_smaps(5). What is not listed is unknown, and not merged.</summary>
    /// <remarks>rd wr mr mw me ac: ordinary writable memory. sd: soft-dirty, kept by the kernel. hg, nh: advice, carried on, as mg, dc and dd are. uw: tracked by us.
    /// nr: no reservation.</remarks>
    private static AreaTraits OfFlag(string flag) => flag switch
    {
        "rd" or "wr" or "mr" or "mw" or "me" or "ac" or "sd" or "hg" or "nh" or "uw" or "nr" => AreaTraits.None,
        "mg" => AreaTraits.Advised,
        "sh" => AreaTraits.Shared,
        "ex" => AreaTraits.Executable,
        "gd" => AreaTraits.Growing,
        "pf" or "mm" => AreaTraits.RawFrames,
        "io" => AreaTraits.Device,
        "ht" => AreaTraits.HugeTlb,
        "de" => AreaTraits.DontExpand,
        "dc" => AreaTraits.DontCopy,
        "dd" => AreaTraits.DontDump,
        "wf" => AreaTraits.WipeOnFork,
        "lo" => AreaTraits.Locked,
        "sl" => AreaTraits.Sealed,
        _ => AreaTraits.Unknown,
    };
}
