namespace Samepage.Linux.Kernels;

/// <summary>What is left off on a kernel for its bugs: a pure value, asked for by whoever would do it.</summary>
/// <param name="MayMoveLargeFolios">A page of a large folio (a transparent huge page, whole or mapped by entries) may be moved (UFFDIO_MOVE).</param>
/// <param name="MayMoveWithSwap">Pages may be moved while swap is on.</param>
/// <param name="PinCountTells">A process whose count of pinned memory (VmPin) is 0 has registered no buffers with io_uring.</param>
public readonly record struct KernelRestraints(bool MayMoveLargeFolios, bool MayMoveWithSwap, bool PinCountTells)
{
    private static readonly Lazy<KernelRestraints> s_here = new(static () => KernelBugs.RestraintsOn(KernelRelease.Here, PinCount.IsKept));

    /// <summary>Those of the kernel that runs.</summary>
    public static KernelRestraints Here => s_here.Value;

    /// <summary>What is left off, a sentence each, for people.</summary>
    public string[] Words
    {
        get
        {
            List<string> words = [];
            if (!MayMoveLargeFolios)
                words.Add("huge pages of which a device, a registered buffer or a pipe holds a part are left alone");
            if (!MayMoveWithSwap)
                words.Add("nothing is merged while swap is on");
            if (!PinCountTells)
                words.Add("the count of pinned memory (VmPin) proves nothing, so references are counted, or what a process has open decides whether a page can be given back");
            return [.. words];
        }
    }

    /// <summary>Whether pages may be moved at this moment.</summary>
    public bool MayMoveNow() => MayMoveWithSwap || !SwapSpace.IsOn;
}
