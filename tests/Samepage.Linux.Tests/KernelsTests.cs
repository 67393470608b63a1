using Samepage.Linux.Kernels;

namespace Samepage.LinuxTests;

/// <summary>Which kernel a kernel is, which bugs it has by that, and what is left off for them.</summary>
public sealed class KernelsTests
{
    private const string Compiler = "(gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40)";

    [Theory]
    [InlineData("6.1.0-49-amd64", $"Linux version 6.1.0-49-amd64 (debian-kernel@lists.debian.org) {Compiler} #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-3 (2026-11-20)", "", 6, 1, 192)]
    [InlineData("6.12.117+deb12-amd64", $"Linux version 6.12.117+deb12-amd64 (debian-kernel@lists.debian.org) {Compiler} #1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1~deb12u1 (2026-11-20)", "", 6, 12, 117)]
    [InlineData("6.8.0-64-generic", "Linux version 6.8.0-64-generic (buildd@lcy02) #67-Ubuntu SMP", "Ubuntu 6.8.0-64.67-generic 6.8.12\n", 6, 8, 12)]
    [InlineData("6.12.0-55.el10.x86_64", "Linux version 6.12.0-55.el10.x86_64 (mockbuild) #1 SMP", "", 6, 12, null)]
    [InlineData("6.18.44-cloud-amd64", "Linux version 6.18.44-cloud-amd64 (builder) (gcc 15.3.0) #1 SMP", "", 6, 18, 44)]
    [InlineData("6.12.40-63.114.amzn2023.x86_64", "", "", 6, 12, 40)]
    [InlineData("6.17.4-200.fc42.x86_64", "", "", 6, 17, 4)]
    [InlineData("7.3.4", "", "", 7, 3, 4)]
    [InlineData("7.3.0", "", "", 7, 3, 0)]
    [InlineData("7.3", "", "", 7, 3, 0)]
    [InlineData("7.4.0-rc2+", "", "", 7, 4, KernelRelease.Candidate)]
    [InlineData("6.19-amd64", "Linux version 6.19-amd64 #1 SMP Debian 6.19~rc8-1~exp1 (2026-02-03)", "", 6, 19, KernelRelease.Candidate)]
    // What another machine says of itself, in a container that shows its files, is not believed.
    [InlineData("6.18.44", "Linux version 6.1.0-49-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-3 (2026-11-20)", "Ubuntu 6.8.0-64.67-generic 6.8.12", 6, 18, 44)]
    [InlineData("", "", "", 0, 0, null)]
    [InlineData("plan9", "", "", 0, 0, null)]
    public void AKernelIsToldByWhatItSaysOfItself(string release, string version, string signature, int major, int minor, int? patch)
    {
        KernelRelease told = KernelRelease.Of(release, version, signature);
        Assert.Equal((major, minor), told.Series);
        if (major > 0)
            Assert.Equal(patch, told.Patch);
        Assert.Equal(major == 0, told.IsUnknown);
    }

    [Theory]
    [InlineData("move-swap-cache", "6.7.12", BugPresence.Absent)] // it came with 6.8
    [InlineData("move-swap-cache", "6.8.12", BugPresence.Present)] // a series that ended before it was mended
    [InlineData("move-swap-cache", "6.12", BugPresence.Present)]
    [InlineData("move-swap-cache", "6.12.19", BugPresence.Present)]
    [InlineData("move-swap-cache", "6.12.20", BugPresence.Absent)]
    [InlineData("move-swap-cache", "6.13.7", BugPresence.Present)]
    [InlineData("move-swap-cache", "6.13.8", BugPresence.Absent)]
    [InlineData("move-swap-cache", "6.14", BugPresence.Absent)]
    [InlineData("move-swap-cache", "6.14-rc5", BugPresence.Present)]
    [InlineData("move-swap-cache", "6.18.1", BugPresence.Absent)]
    [InlineData("move-large-folio", "6.12.117", BugPresence.Present)]
    [InlineData("move-large-folio", "6.18.44", BugPresence.Present)]
    [InlineData("move-large-folio", "7.3.3", BugPresence.Present)]
    [InlineData("move-large-folio", "7.3.4", BugPresence.Absent)]
    [InlineData("move-large-folio", "7.4", BugPresence.Absent)]
    [InlineData("move-large-folio", "8.0.1", BugPresence.Absent)]
    [InlineData("uncounted-pins", "7.1.13", BugPresence.Absent)]
    [InlineData("uncounted-pins", "7.2-rc1", BugPresence.Present)]
    [InlineData("uncounted-pins", "9.9.9", BugPresence.Present)] // mended nowhere, as far as is known
    public void ABugIsThereBySeriesAndStableRelease(string bug, string kernel, BugPresence presence) => Assert.Equal(presence, Named(bug).In(KernelRelease.Parse(kernel, trustsZero: true)));

    /// <summary>A kernel whose stable release cannot be told: what came or went with the series is known, the rest is not.</summary>
    [Theory]
    [InlineData("move-swap-cache", "6.12.0-55.el10.x86_64", BugPresence.Unknown)]
    [InlineData("move-swap-cache", "6.9.0-1.ent", BugPresence.Unknown)] // a distribution may mend what the series never was
    [InlineData("move-swap-cache", "6.14.0-9-generic", BugPresence.Absent)]
    [InlineData("move-swap-cache", "5.14.0-503.el9", BugPresence.Absent)]
    [InlineData("uncounted-pins", "7.2.0-1.el11", BugPresence.Present)]
    [InlineData("move-large-folio", "", BugPresence.Unknown)]
    public void WhatCannotBeToldIsNotClaimed(string bug, string kernel, BugPresence presence) => Assert.Equal(presence, Named(bug).In(KernelRelease.Of(kernel, "", "")));

    [Theory]
    [InlineData("6.11.11", null, false, false, true)]
    [InlineData("6.12.19", null, false, false, true)]
    [InlineData("6.12.36", null, false, false, true)]
    [InlineData("6.12.37", null, false, true, true)]
    [InlineData("6.12.117", null, false, true, true)]
    [InlineData("6.18.44", true, false, true, true)]
    [InlineData("7.2.12", null, false, true, false)]
    [InlineData("7.3.4", null, true, true, false)]
    [InlineData("7.3.4", false, true, true, false)]
    [InlineData("7.3.4", true, true, true, true)] // tried, and mended by whoever built it
    [InlineData("6.18.44", false, false, true, false)]
    [InlineData("6.12.0-55.el10", null, false, false, true)]
    [InlineData("", null, false, false, false)]
    public void WhatABugWouldHangOrCorruptIsLeftOff(string kernel, bool? pinsAreCounted, bool large, bool swap, bool pins)
    {
        KernelRestraints restraints = KernelBugs.RestraintsOn(KernelRelease.Of(kernel, "", ""), pinsAreCounted);
        Assert.Equal(new KernelRestraints(large, swap, pins), restraints);
        Assert.Equal((large ? 0 : 1) + (swap ? 0 : 1) + (pins ? 0 : 1), restraints.Words.Length);
    }

    [Fact]
    public void EveryRowSaysWhatItIsAndWhereItIsToldOf()
    {
        Assert.InRange(KernelBugs.All.Count, 21, 100);
        Assert.Equal(KernelBugs.All.Count, KernelBugs.All.Select(bug => bug.Name).Distinct().Count());
        Assert.All(KernelBugs.All, bug =>
        {
            Assert.All((string[])[bug.Name, bug.What, bug.ForUs, bug.Source], text => Assert.False(string.IsNullOrWhiteSpace(text), bug.Name));
            KernelRelease[] mended = [.. bug.Mended.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(release => KernelRelease.Parse(release, trustsZero: true))];
            Assert.All(mended, release => Assert.False(release.IsUnknown, bug.Name));
            Assert.Equal(mended.OrderBy(release => release.Series), mended);
        });
    }

    /// <summary>Trying it must leave nothing behind, and say the same twice.</summary>
    [Fact]
    public void WhetherPinsAreCountedCanBeTriedAgain()
    {
        int descriptors = Directory.GetFiles("/proc/self/fd").Length;
        bool? first = PinCount.IsKept;
        Assert.Equal(first, PinCount.IsKept);
        Assert.InRange(Directory.GetFiles("/proc/self/fd").Length, 0, descriptors + 8); // other tests open some
    }

    [Fact]
    public void SwapIsOnWhereTheKernelListsSome() => Assert.Equal(File.ReadAllLines("/proc/swaps").Length > 1, SwapSpace.IsOn);

    private static KernelBug Named(string name) => KernelBugs.All.Single(bug => bug.Name == name);
}
