using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Programs one of whose threads gets next to no processor time, beside others that take all there is.</summary>
public sealed class CrowdedTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private const string Program = """
        import sys, threading, time
        pages = bytearray(8 << 20)
        for i in range(2048):
            pages[4096 * i:4096 * i + 8] = i.to_bytes(8, "little")
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
        print("ready", flush=True)
        for line in sys.stdin:
            right = all(pages[4096 * i:4096 * i + 8] == i.to_bytes(8, "little") for i in range(2048))
            print("ok" if right else "bad", flush=True)
        """;

    /// <summary>It stops long after a hold has been given up for it: the next takes it over.</summary>
    [Fact]
    public async Task AProgramWithAThreadThatGetsNoProcessorIsMergedAndGivenBack()
    {
        string python = Needs.Program("python3", "python3"), chrt = Needs.Program("chrt", "util-linux");
        LiveProgram[] two = [LiveProgram.Start(python, "-c", Program), LiveProgram.Start(python, "-c", Program)];
        await using var together = new Together(two);
        int[] starved = new int[2];
        for (int i = 0; i < two.Length; i++)
        {
            await two[i].Ready();
            starved[i] = Assert.Single(Directory.GetDirectories($"/proc/{two[i].Pid}/task").Select(path => int.Parse(Path.GetFileName(path))), tid => tid != two[i].Pid);
            await Outside.Must(10, chrt, "--idle", "--pid", "0", $"{starved[i]}");
        }

        LiveProgram[] crowd = LiveProgram.Spinners(2 * Environment.ProcessorCount);
        await using var besides = new Together(crowd);
        for (int round = 0; round < 2; round++)
        {
            await Daemon.TakeInInTheEnd(two);
            await Daemon.Merged(two[0], 1500);
            foreach (LiveProgram program in two)
                await program.Does("verify");
            await Daemon.GiveBack(two);
            foreach (LiveProgram program in two)
                await program.Does("verify");
            // It goes on sleeping, as soon as it has had a processor for that.
            foreach (int tid in starved)
                await Until.True(() => File.ReadAllText($"/proc/{tid}/stat").Split(") ")[1].StartsWith('S'), 60, () => File.ReadAllText($"/proc/{tid}/stat"));
        }

        TestContext.Current.SendDiagnosticMessage("beside {0} that take all there is: {1}", crowd.Length, string.Join("; ", Daemon.Log.Split('\n').Where(line => line.Contains("could not be held", StringComparison.Ordinal)).TakeLast(1)));
    }
}
