using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>The control files at other places, from a daemon's first moment to behind its end.</summary>
public sealed class ControlMountsTests
{
    /// <summary>Who reads <c>ready</c> can use all that is served.</summary>
    [Fact]
    public async Task ReadyMeansThatTheFilesAreServed()
    {
        for (int round = 0; round < 3; round++)
        {
            using Place place = new();
            await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
            Called mounted = await daemon.Cli("control", "--mount", place.Path);
            Assert.True(mounted.ExitCode == 0, $"{mounted}");
            Assert.Equal("1\n", File.ReadAllText(Path.Combine(place.Path, "run")));
            Assert.Equal(0, await daemon.Terminate());
        }
    }

    /// <summary>A place without a server is an error to whoever looks there; it is as it was instead.</summary>
    [Fact]
    public async Task AnEndOfTheDaemonTakesThePlacesDown()
    {
        using Place one = new(), two = new();
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await Show(daemon, one, two);
        Assert.Equal(0, await daemon.Terminate());
        Assert.Equal((0, 0), (one.Mounts, two.Mounts));
        Assert.Empty(Directory.GetFiles(one.Path));
    }

    [Fact]
    public async Task SoDoesItsGuardianWhenItWasKilled()
    {
        using Place one = new(), two = new();
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await Show(daemon, one, two);
        await daemon.Kill9();
        await Until.True(() => one.Mounts + two.Mounts == 0, 60, () => $"the guardian takes the places down: {one.Mounts}, {two.Mounts}");
        Assert.Empty(Directory.GetFiles(one.Path));
    }

    [Fact]
    public async Task SoDoesTheNextDaemonWhenBothWereKilled()
    {
        using Place one = new(), two = new();
        string folder;
        await using (DaemonUnderTest daemon = await DaemonUnderTest.Start(keep: true))
        {
            folder = daemon.RunFolder;
            await Show(daemon, one, two);
            daemon.KillGuardian();
            await daemon.Kill9();
            Assert.Equal((1, 1), (one.Mounts, two.Mounts));
        }

        await using DaemonUnderTest next = await DaemonUnderTest.Start(folder);
        Assert.Equal((0, 0), (one.Mounts, two.Mounts));
        await Show(next, one);
        Assert.Equal("1\n", File.ReadAllText(Path.Combine(one.Path, "run")));
        Assert.Equal(0, await next.Terminate());
        Assert.Equal(0, one.Mounts);
    }

    /// <summary>What others have mounted there is theirs.</summary>
    [Fact]
    public async Task WhatLiesOverAPlaceStays()
    {
        using Place one = new();
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await Show(daemon, one);
        Assert.Equal(0, (await Outside.Run(20, "mount", "-t", "tmpfs", "none", one.Path)).ExitCode);
        Assert.Equal(0, await daemon.Terminate());
        Assert.Equal(2, one.Mounts);
    }

    private static async Task Show(DaemonUnderTest daemon, params Place[] places)
    {
        foreach (Place place in places)
        {
            Called mounted = await daemon.Cli("control", "--mount", place.Path);
            Assert.True(mounted.ExitCode == 0, $"{mounted}");
        }
    }

    /// <summary>A directory at which something may be mounted.</summary>
    private sealed class Place : IDisposable
    {
        public string Path { get; } = Directory.CreateTempSubdirectory("samepage-test-").FullName;

        /// <summary>How many mounts there are at it.</summary>
        public int Mounts => File.ReadAllText("/proc/self/mountinfo").Split('\n').Count(line => line.Contains($" {Path} ", StringComparison.Ordinal));

        public void Dispose()
        {
            while (Mounts > 0 && Outside.Run(20, "umount", "-l", Path).Result.ExitCode == 0)
            {
                // Whatever a failed test has left.
            }

            Directory.Delete(Path);
        }
    }
}
