namespace Samepage.Linux.Kernels;

/// <summary>The bugs of kernels in what we use: all that are known to us, whether or not they are met. docs/kernels.md has the same rows; a test says so.</summary>
/// <remarks>
/// <para>Told by version, but for the one that can be tried without harm (<see cref="PinCount"/>): trying the others would hang or stop the kernel, or needs a race to be won.</para>
/// <para>A bug that could hang, stop or corrupt something in our use has an answer other than <see cref="BugAnswer.NotMet"/> and <see cref="BugAnswer.Told"/>: the part of our use that meets it is left off
/// (<see cref="KernelRestraints"/>), also where it cannot be told whether the kernel has it.</para>
/// </remarks>
public static class KernelBugs
{
    /// <summary>All of them, the gravest first.</summary>
    public static IReadOnlyList<KernelBug> All { get; } =
    [
        new("move-large-folio", "UFFDIO_MOVE never returns for a page of a large folio that somebody else holds a reference to (a registered buffer, a pipe, a device)",
            "6.8", "7.3.4 7.4", BugAnswer.NoLargeFolios,
            "the program would hang, and whoever looks at its mappings; a large folio is taken apart first, by a call that leaves it alone where it cannot be, and what is large still is not moved", "454143aeb4c6; seen on 6.12.117, 6.18.15, 7.0.13 and 7.2.12, not on a 6.18.44"),
        new("uncounted-pins", "io_uring counts no registered buffers as pinned memory (VmPin) of a process that has CAP_IPC_LOCK",
            "7.2", "", BugAnswer.NoFaithInPinCount,
            "what a device writes could be lost when a page is given back; references are counted in its place, and where they cannot be, what a process has open decides", "seen on 7.2.12 and 7.3.4, not on 7.1.13"),
        new("move-swap-cache", "UFFDIO_MOVE moves the entry of a page that is being swapped out, and leaves the page's place behind: the next touch is a kernel BUG",
            "6.8", "6.12.20 6.13.8 6.14", BugAnswer.NoSwap,
            "a page may be swapped out between the look at it and the move; nothing is merged while swap is on", "CVE-2025-21984, c50f8e6053b0"),
        new("move-swap-cache-race", "UFFDIO_MOVE of a page that is swapped in and out again meanwhile is a kernel BUG, or corrupts counters of memory",
            "6.8", "6.12.37 6.15.5 6.16", BugAnswer.NoSwap,
            "as with move-swap-cache; nothing is merged while swap is on", "CVE-2025-38242, 0ea148a79919"),
        new("move-migrating-huge-page", "UFFDIO_MOVE takes the entry of a huge page that is being migrated for a page: the kernel stops",
            "6.8", "6.12.43 6.15.11 6.16.2 6.17", BugAnswer.NoLargeFolios,
            "huge pages are migrated by compaction at any time; they are taken apart before any page of them is moved", "CVE-2025-38686, aba6faec0103"),
        new("move-waits-for-wrong-entry", "UFFDIO_MOVE of a huge page that is being migrated waits by the wrong lock: a hang, or a use after free",
            "6.8", "7.3", BugAnswer.NoLargeFolios,
            "met with whole huge pages only, which are taken apart before any page of them is moved", "4165b7d1c45c"),
        new("move-blocks-on-folio", "UFFDIO_MOVE waits for the lock of a large folio while it holds a reference that keeps others from splitting it: two of them never end",
            "6.8", "6.12.19 6.14", BugAnswer.NoLargeFolios,
            "large folios are taken apart first, and what is large still is not moved", "37b338eed105"),
        new("move-changes-pinned-folio", "UFFDIO_MOVE that is refused for a pin has changed the page's place already: swapping or migrating it corrupts memory",
            "6.8", "6.8.8 6.9", BugAnswer.NotServed,
            "a wrong byte", "CVE-2024-27007, d7a08838ab74, c0205eaf3af9"),
        new("scan-loses-dirty-bits", "PAGEMAP_SCAN that protects a page can lose that it was written: it is dropped instead of swapped out",
            "6.7", "6.8.10 6.9", BugAnswer.NotServed,
            "a wrong byte", "CVE-2024-36943, c70dce4982ce"),
        new("fill-against-khugepaged", "UFFDIO_COPY, _ZEROPAGE and _CONTINUE meet a page table that khugepaged takes away: a kernel BUG",
            "", "6.6.51 6.10.10 6.11", BugAnswer.NotServed,
            "the kernel stops", "CVE-2024-46787, CVE-2024-46838"),
        new("release-against-pinning", "closing a userfaultfd, or the end of who has it, hangs while somebody else pins memory that it watches",
            "", "6.12.24 6.15", BugAnswer.Told,
            "the end of a program can hang if a device or io_uring pins a page of it that is missing at that very moment", "fe4cdc2c4e24"),
        new("failed-mremap", "after a mremap that failed a userfaultfd takes it that mappings are changing: its calls answer EAGAIN for ever",
            "", "7.1.3 7.2", BugAnswer.Told,
            "a program whose mremap of merged memory fails waits for ever at the next touch of a page that it has discarded there; it harms nobody else", "0496a59"),
        new("unregister-wakes-early", "UFFDIO_UNREGISTER wakes those who wait before it locks the area: one who comes in between sleeps on",
            "6.7", "", BugAnswer.NotMet,
            "the agent wakes all once more when the area is no longer registered", "CVE-2026-99660, 35f7ecd55ce7"),
        new("wait-by-stale-entry", "who waits for a write-protected page reads an entry of swap as one of a page, and may wait though nobody need wake it",
            "", "6.12.96 7.2", BugAnswer.NotMet,
            "the agent answers every such wait, and wakes every range that it has protected when it is done with it", "8e80af52db65"),
        new("move-unset-answer", "UFFDIO_MOVE that answers EAGAIN at once does not say how much it has moved",
            "6.8", "6.12.29 6.15", BugAnswer.NotMet,
            "the field is zeroed before each call", "mm/userfaultfd: fix uninitialized output field for -EAGAIN race"),
        new("mremap-keeps-protection", "mremap of tracked memory keeps the marks of tracking without the tracking",
            "", "6.12.11 6.13", BugAnswer.NotMet,
            "a write is not noticed there; what was read is a hint, and contents are compared when nobody can change them any more", "CVE-2025-21696, 0cef0bb836e3"),
        new("merge-drops-tracking", "mremap next to tracked memory can end the tracking of its neighbours",
            "", "7.3.4 7.4", BugAnswer.NotMet,
            "as with mremap-keeps-protection: a hint is stale, and contents are compared; mappings of frames are watched through mremap", "68cb098eadda"),
        new("scan-of-holes", "PAGEMAP_SCAN does not report pages as written that are not there",
            "6.7", "6.12.103", BugAnswer.NotMet,
            "it is asked for pages that are there", "fs/proc/task_mmu: fix PAGEMAP_SCAN written state for unpopulated ptes"),
        new("scan-of-an-ending-process", "PAGEMAP_SCAN of a process that ends uses memory after it was freed",
            "6.7", "6.12.117 7.3.2 7.4", BugAnswer.NotMet,
            "met with shared pages of hugetlbfs only, which are not asked about", "fs/proc/task_mmu: pin mm_users in do_pagemap_scan()"),
        new("scan-without-room", "PAGEMAP_SCAN with no room for an answer stops the kernel",
            "6.7", "6.12.50 6.16.10 6.17", BugAnswer.NotMet,
            "it always has room", "CVE-2025-40009, 28aa29986dde"),
        new("query-build-id", "PROCMAP_QUERY for a build id can hang",
            "6.11", "6.12.70 6.18.10 6.19", BugAnswer.NotMet,
            "build ids are not asked for", "CVE-2026-23199, b5cbacd7f86f"),
        new("query-double-free", "PROCMAP_QUERY that cannot give its answer lets go of the address space twice",
            "6.11", "6.12.75", BugAnswer.NotMet,
            "met with build ids only, which are not asked for", "procfs: fix possible double mmput() in do_procmap_query()"),
        new("seal-of-joined-mappings", "mseal over mappings that join seals a wrong range",
            "6.17", "6.18.21 6.19.11 7.0", BugAnswer.NotMet,
            "nothing is sealed by us", "CVE-2026-23416, 2697dd8ae721"),
        new("noswap-remount", "a tmpfs with noswap cannot be mounted anew with other options",
            "6.4", "6.12.60", BugAnswer.NotMet,
            "the pool's mount is never changed", "shmem: fix tmpfs reconfiguration (remount) when noswap is set"),
    ];

    /// <summary>Whether a kernel has a bug.</summary>
    /// <param name="bug">The bug.</param>
    /// <param name="kernel">The kernel.</param>
    /// <param name="pinsAreCounted">What <see cref="PinCount"/> found on it; null for nothing.</param>
    public static BugPresence Presence(KernelBug bug, KernelRelease kernel, bool? pinsAreCounted)
    {
        ArgumentNullException.ThrowIfNull(bug);
        return bug.Answer == BugAnswer.NoFaithInPinCount && pinsAreCounted is bool counted ? (counted ? BugPresence.Absent : BugPresence.Present) : bug.In(kernel);
    }

    /// <summary>What is left off on a kernel.</summary>
    /// <param name="kernel">The kernel.</param>
    /// <param name="pinsAreCounted">What <see cref="PinCount"/> found on it; null for nothing.</param>
    public static KernelRestraints RestraintsOn(KernelRelease kernel, bool? pinsAreCounted)
    {
        return new KernelRestraints(MayNotMeet(BugAnswer.NoLargeFolios), MayNotMeet(BugAnswer.NoSwap), MayNotMeet(BugAnswer.NoFaithInPinCount));

        bool MayNotMeet(BugAnswer answer) => All.All(bug => bug.Answer != answer || Presence(bug, kernel, pinsAreCounted) == BugPresence.Absent);
    }
}
