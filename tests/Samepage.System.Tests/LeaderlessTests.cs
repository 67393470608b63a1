using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Programs whose first thread ends before the others do, and programs whose threads end one by one.</summary>
public sealed class LeaderlessTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task AProgramWithoutItsFirstThreadIsServedLikeAnyOther(bool fromTheBeginning)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "leaderless", "first");
        await using var together = new Together(two);
        if (!fromTheBeginning)
        {
            await Daemon.TakeIn(two);
            await Daemon.Merged(two[0], 1000, 120);
        }

        foreach (LiveProgram program in two)
            await program.Does("end");
        if (fromTheBeginning)
            await Daemon.TakeIn(two);
        await Daemon.Merged(two[0], 4000, 120);
        foreach (LiveProgram program in two)
        {
            await program.Does("verify");
            await program.Does("discard");
            await program.Does("write");
        }

        Assert.Equal("merging", (await Daemon.Status()).Of(two[0].Pid).State);
        await Daemon.GiveBack(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        Assert.DoesNotContain("deleted", Maps(two[0]), StringComparison.Ordinal);
        Assert.Equal(2, Directory.GetDirectories($"/proc/{two[0].Pid}/task").Length);
        foreach (LiveProgram program in two)
        {
            await program.Tell("quit");
            Assert.Equal(0, await program.Ends());
        }
    }

    [Theory]
    [InlineData("alone", 7, 7, "serves")]
    [InlineData("alone", 7, 7, "dies before")]
    [InlineData("alone", 7, 7, "dies after")]
    [InlineData("last", 9, 9, "serves")]
    [InlineData("last", 9, 9, "dies before")]
    [InlineData("last", 9, 9, "dies after")]
    [InlineData("killed", 15, 143, "serves")]
    [InlineData("killed", 15, 143, "dies before")]
    public async Task AProgramEndsWithItsLastThreadAndWithItsStatus(string mode, int code, int status, string daemon)
    {
        await using DaemonUnderTest own = await DaemonUnderTest.Start();
        LiveProgram[] two = await LiveProgram.Targets(2, "leaderless", mode, $"{code}");
        await using var together = new Together(two);
        await own.TakeIn(two);
        await own.Merged(two[0], 4000, 120);
        if (mode != "alone")
        {
            foreach (LiveProgram program in two)
                await program.Does("end");
        }

        if (daemon == "dies before")
            await own.Kill9();
        // Nothing shows the status of another thread than the first one once it has ended, so the warden must have seen in time that it is the last.
        if (mode == "last")
        {
            foreach (LiveProgram program in two)
                await Until.True(() => IsWatched(program), 120, () => $"the warden of {program.Pid} watches the last thread");
        }

        foreach (LiveProgram program in two)
            program.CloseInput();
        if (daemon == "dies after")
            await own.Kill9();
        foreach (LiveProgram program in two)
            Assert.Equal(status, await program.Ends(120));
    }

    private static bool IsWatched(LiveProgram program) => Directory.GetDirectories($"/proc/{program.Pid}/task")
        .SelectMany(thread => Directory.GetFileSystemEntries($"{thread}/fd")).Any(descriptor => new FileInfo(descriptor).LinkTarget?.Contains("pidfd", StringComparison.Ordinal) == true);

    /// <summary>By a thread that lives: the first one's are empty once it has ended.</summary>
    private static string Maps(LiveProgram program) => string.Concat(Directory.GetDirectories($"/proc/{program.Pid}/task").Select(thread => File.ReadAllText($"{thread}/maps")));
}
