using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>A control group is frozen at a moment at which all threads of its program are held, in the middle of a batch: whatever else is merged meanwhile, and however long it lasts, every byte is right when it goes on.</summary>
public sealed class FrozenTests
{
    /// <summary>Bounds on hanging, seconds.</summary>
    private const int Bound = 120;

    /// <param name="milliseconds">Longer than a batch is waited for before its threads are let go; or than its agent is waited for at all.</param>
    /// <param name="rounds">How often.</param>
    [Theory]
    [InlineData(1600, 4)]
    [InlineData(11_500, 1)]
    public async Task AProgramFrozenInTheMiddleOfABatchIsRightWhenItGoesOn(int milliseconds, int rounds)
    {
        using UnifiedGroup group = UnifiedGroup.Make();
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        LiveProgram[] two = await StormTests.Storms("siege", 0);
        await using var together = new Together(two);
        group.Take(two[0].Pid);
        await daemon.TakeIn(two);
        await daemon.MergesWithoutRest();
        await daemon.Merged(two[0], 200, Bound);
        for (int round = 0; round < rounds; round++)
        {
            await Until.True(() => IsFrozenInABatch(group, two[0]), Bound, () => Task.FromResult($"it was never frozen in the middle of a batch\n{daemon.Tail}"));
            await Task.Delay(milliseconds, TestContext.Current.CancellationToken);
            await StormTests.Report(two[1]);
            group.Freeze(false);
            await StormTests.IsRight(two[0], Bound);
        }

        await daemon.Merged(two[0], 200, Bound);
        foreach (LiveProgram storm in two)
        {
            await StormTests.GivenBackInTheEnd(daemon, storm);
            await StormTests.IsRight(storm, Bound);
        }
    }

    private static async Task<bool> IsFrozenInABatch(UnifiedGroup group, LiveProgram program)
    {
        for (int look = 0; look < 2000; look++)
        {
            if (!IsHeld(program))
                continue;
            group.Freeze(true);
            await Task.Delay(50, TestContext.Current.CancellationToken);
            // Held still: its batch had not ended when it was frozen.
            if (IsHeld(program))
                return true;
            group.Freeze(false);
        }

        return false;
    }

    /// <summary>Its first thread stands before the gate.</summary>
    private static bool IsHeld(LiveProgram program) => File.ReadAllText($"/proc/{program.Pid}/status") is var status &&
        status.Contains("State:\tt", StringComparison.Ordinal) && status.Contains("SigBlk:\tfffffffffffbfeff", StringComparison.Ordinal);
}
