using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Virtual machines with an operating system. They ask for merging by themselves, their memory is in huge pages, and what they hold they check.</summary>
public sealed class GuestsTests
{
    private const int Mib = 8;

    /// <summary>Of 4,096 pages of data in each guest, which are two copies of what both hold.</summary>
    private const long Floor = 3_500;

    /// <summary>Those who asked for merging, but for what other tests start.</summary>
    private static readonly string s_guests = $"settle_seconds = 1\n{Repository.OthersExcluded}";

    [Fact]
    public async Task GuestsAreFoundMergedAndGivenBackAgainAndAgainWhileTheyCheckTheirMemory()
    {
        Needs.Root();
        Assert.SkipUnless(Directory.Exists("/sys/kernel/mm/ksm"), "this kernel keeps no advice to merge: it is built without its own merging");
        GuestUnderTest[] two = await GuestUnderTest.Boot(2, Mib);
        await using var together = new Together(two[0].Machine, two[1].Machine);
        foreach (GuestUnderTest guest in two)
            await guest.Check();
        Trace[] before = [.. two.Select(guest => Trace.Of(guest.Machine))];

        string rules = Path.GetTempFileName();
        await File.WriteAllTextAsync(rules, s_guests);
        await using (DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: rules))
        {
            for (int round = 0; round < 2; round++)
            {
                foreach (GuestUnderTest guest in two)
                    await daemon.Merged(guest.Machine, Floor, 60);
                long[] rounds = [await two[0].Rounds(), await two[1].Rounds()];
                await two[round % 2].Write();
                for (int i = 0; i < two.Length; i++)
                {
                    await Until.True(async () => await two[i].Rounds() > rounds[i] + 1, 60, "it looks at its memory while it is merged");
                    await two[i].Check();
                }

                await daemon.GiveBack(two[0].Machine);
                before[0].IsGone(memoryGrewBack: false);
                await two[1].Check();
                await daemon.GiveBack(two[1].Machine);
                WireStatus states = await daemon.Status();
                before[1].IsGone(memoryGrewBack: false);
                foreach (GuestUnderTest guest in two)
                    await guest.Check();
                // Frames go when nobody maps them any more. On a machine with other programs that ask for merging there may be frames of theirs.
                await Until.True(async () => await daemon.Status() is var status && (status.PagesShared == 0 || status.Processes.Any(process => process.PagesMerged > 0)), 30,
                    async () => $"no frame is left: {(await daemon.Status()).PagesShared} are\n{daemon.Tail}");
                Assert.All(two, guest => Assert.Equal("absent", states.Of(guest.Machine.Pid).State));

                // What was given back by hand is not looked for again until the rules are read again.
                Assert.Equal(0, (await daemon.Cli("reload")).ExitCode);
            }
        }

        File.Delete(rules);
        for (int i = 0; i < two.Length; i++)
        {
            before[i].IsGone(memoryGrewBack: false);
            await two[i].Check();
        }
    }
}
