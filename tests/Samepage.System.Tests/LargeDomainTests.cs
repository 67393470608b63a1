using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>More frames in a trust domain than one pipe guards for a daemon that may not make it as large as it likes, as in most containers.</summary>
public sealed class LargeDomainTests
{
    /// <summary>Three quarters of it are in both.</summary>
    private const int Mebibytes = 900, Limit = 512 * 256;

    [Fact]
    public async Task WithoutCapSysResourceMoreThan512MiBAreMergedAndGivenBackAndOutliveTheDaemon()
    {
        Needs.Root();
        string[] limited = [Needs.Program("setpriv", "util-linux"), "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"];
        LiveProgram[] two = await LiveProgram.Targets(2, "common", $"{Mebibytes}");
        await using var together = new Together(two);
        Trace[] before = [.. two.Select(Trace.Of)];
        await using (DaemonUnderTest daemon = await DaemonUnderTest.Start(launcher: limited))
        {
            await daemon.TakeInAndWait(two);
            Assert.InRange((await daemon.Status()).Of(two[0].Pid).PagesMerged, Limit + 4096, Mebibytes * 256);
            await two[0].Does("write");
            await daemon.GiveBack(two);
            await two[0].Does("again");
        }

        await using DaemonUnderTest doomed = await DaemonUnderTest.Start(launcher: limited);
        await doomed.TakeIn(two);
        await doomed.Merged(two[1], Limit + 4096);
        await doomed.Kill9();
        foreach (LiveProgram program in two)
            await program.Does("verify");
        foreach (Trace trace in before)
            await trace.GoneAfterDeath(180);
        foreach (LiveProgram program in two)
            await program.Does("verify");
    }
}
