using System.Diagnostics;
using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Memory of every kind that a program can make comes back as it was: the same areas, as many, with the same flags, charged alike.</summary>
public sealed class KindsTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    /// <summary>Kinds that not every kernel and processor has.</summary>
    private static readonly string[] Newer = ["mergeable", "guarded", "name", "pkey", "droppable", "sealed", "policy"];

    private static readonly Lazy<HashSet<string>> Lacking = new(FindLacking);

    /// <summary>The kinds that there are here, and whether anything is merged in them; of huge pages, what lies beside whole ones. (Who watches memory himself is not served: see RefusalTests.)</summary>
    public static IEnumerable<TheoryDataRow<string, bool?>> Kinds => (((string Kind, bool? Merged)[])
    [
        ("plain", true), ("noreserve", true), ("stack", true), ("arena", true), ("moved", true), ("child", true), ("personality", true),
        ("random", true), ("sequential", true), ("mergeable", true), ("nohuge", true), ("guarded", true),
        ("dontfork", true), ("name", true), ("readonly", true), ("noaccess", true), ("code", true),
        ("huge", null), ("growsdown", false), ("executable", false), ("dontdump", false), ("wipe", false), ("locked", false), ("onfault", false),
        ("pkey", false), ("droppable", false), ("sealed", false), ("policy", false),
    ]).Where(row => !Lacking.Value.Contains(row.Kind)).Select(row => new TheoryDataRow<string, bool?>(row.Kind, row.Merged));

    /// <summary>What can become of memory while it is merged, and does not keep it from being given back; what there is here of that.</summary>
    public static IEnumerable<TheoryDataRow<string>> Late => ((string[])["random", "sequential", "mergeable", "huge", "dontfork", "dontdump", "locked", "onfault", "guarded", "readonly", "noaccess", "executable", "code", "emptied"])
        .Where(what => !Lacking.Value.Contains(what)).Select(what => new TheoryDataRow<string>(what));

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task MemoryOfAKindIsWhatItWasOnceItIsGivenBack(string kind, bool? merged)
    {
        await using LiveProgram one = LiveProgram.Start(Repository.Target("kinds"), kind), other = LiveProgram.Start(Repository.Target("kinds"), kind);
        int[] pids = [await Pid(one), await Pid(other)];
        (ulong start, ulong end) = await Area(one);
        string[] before = Look(pids[0]);
        Called taken = await Daemon.Cli("attach", "--wait", $"{pids[0]}", $"{pids[1]}");
        Assert.True(taken.ExitCode == 0, $"{taken}\n{Daemon.Tail}");
        if (merged == true)
            await Until.True(async () => (await Daemon.Status()).Of(pids[0]).PagesMerged >= 400, 120, async () => $"{(await Daemon.Status()).Of(pids[0])}\n{Daemon.Tail}");
        Assert.Equal(merged ?? true, ProcessView.Of(pids[0]).Within(start, end).Length > 2 || merged is null);
        await GiveBack(pids);
        Assert.Equal(before, Look(pids[0]));
        foreach (LiveProgram program in (LiveProgram[])[one, other])
            await program.Does("verify");
    }

    /// <summary>Also after much of it was written while it was merged, merged again, and written again.</summary>
    [Theory]
    [InlineData("noreserve")]
    [InlineData("moved")]
    [InlineData("child")]
    public async Task MemoryThatWasWrittenWhileItWasMergedIsWhatItWas(string kind)
    {
        await using LiveProgram one = LiveProgram.Start(Repository.Target("kinds"), kind), other = LiveProgram.Start(Repository.Target("kinds"), kind);
        int[] pids = [await Pid(one), await Pid(other)];
        string[] before = Look(pids[0]);
        Called taken = await Daemon.Cli("attach", "--wait", $"{pids[0]}", $"{pids[1]}");
        Assert.True(taken.ExitCode == 0, $"{taken}\n{Daemon.Tail}");
        await Until.True(async () => (await Daemon.Status()).Of(pids[0]).PagesMerged >= 400, 120, async () => $"{(await Daemon.Status()).Of(pids[0])}\n{Daemon.Tail}");
        await one.Does("write");
        long scans = (await Daemon.Status()).FullScans;
        await Until.True(async () => (await Daemon.Status()).FullScans > scans + 2, 120, async () => $"it is scanned again: {await Daemon.Status()}");
        await GiveBack(pids);
        Assert.Equal(before, Look(pids[0]));
        await one.Does("verify");
    }

    /// <summary>Held against a program of which nothing was merged when the same became of its memory.</summary>
    [Theory]
    [MemberData(nameof(Late))]
    public async Task WhatBecomesOfMergedMemoryIsAsIfItHadNotBeenMerged(string what)
    {
        LiveProgram[] three = await LiveProgram.Targets(3, "kinds", "plain");
        await using var together = new Together(three);
        await Daemon.TakeInAndWait(three[0], three[1]);
        await Daemon.Merged(three[0], 400, 120);
        string answer = await three[2].Ask($"now {what}");
        Assert.Equal("ok", answer);
        await three[0].Does($"now {what}");
        await Daemon.GiveBack(three[0], three[1]);
        Assert.Equal(await Shape(three[2]), await Shape(three[0]));
        foreach (string field in (string[])["VmLck", "VmData", "VmStk"])
            Assert.Equal(ProcessView.Of(three[2].Pid).Status(field), ProcessView.Of(three[0].Pid).Status(field));
        if (what == "guarded")
            await three[0].Does("now unguarded");
        if (what is "readonly" or "noaccess" or "executable" or "code" or "emptied")
            await three[0].Does("now accessible");
        if (what is "emptied")
            await three[0].Does("write");
        await three[0].Does("verify");
    }

    /// <summary>Nothing joins by itself here: all is joined by moving pages, whatever protection they have by now.</summary>
    [Theory]
    [InlineData("readonly")]
    [InlineData("noaccess")]
    [InlineData("executable")]
    [InlineData("code")]
    public async Task WhatDoesNotJoinByItselfIsJoinedWithTheProtectionThatItHas(string what)
    {
        LiveProgram[] three = await LiveProgram.Targets(3, "kinds", "moved");
        await using var together = new Together(three);
        await three[2].Does($"now {what}");
        string[] wanted = await Shape(three[2]);
        await Daemon.TakeInAndWait(three[0], three[1]);
        await Daemon.Merged(three[0], 400, 120);
        await three[0].Does($"now {what}");
        await Daemon.GiveBack(three[0], three[1]);
        Assert.Equal(wanted, await Shape(three[0]));
        foreach (string field in (string[])["VmData", "VmExe"])
            Assert.Equal(ProcessView.Of(three[2].Pid).Status(field), ProcessView.Of(three[0].Pid).Status(field));
        await three[0].Does("now accessible");
        await three[0].Does("verify");
    }

    /// <summary>A thread that is in a call that comes back half done is not interrupted: what was given back joins in the moments between.</summary>
    [Fact]
    public async Task MemoryJoinsAlsoWhereThreadsCanSeldomBeHeld()
    {
        await using LiveProgram one = LiveProgram.Start(Repository.Target("kinds"), "moved", "16"), other = LiveProgram.Start(Repository.Target("kinds"), "moved", "16");
        int[] pids = [await Pid(one), await Pid(other)];
        string[] before = await Shape(one);
        Called taken = await Daemon.Cli("attach", "--wait", $"{pids[0]}", $"{pids[1]}");
        Assert.True(taken.ExitCode == 0, $"{taken}\n{Daemon.Tail}");
        await Daemon.Merged(one, 1600, 180);
        await one.Does("now writing");
        await GiveBack(pids);
        Assert.Equal(before, await Shape(one));
        await one.Does("verify");
    }

    /// <summary>Memory that the kernel refuses to move, or that has a policy of its own, is tried once, and then left alone, with the reason; its program is not held for it again.</summary>
    [Fact]
    public async Task MemoryThatCannotBeMovedIsNotTriedForEver()
    {
        Assert.SkipWhen(Lacking.Value.Contains("policy"), "needs a kernel with memory policies (CONFIG_NUMA)");
        await using LiveProgram one = LiveProgram.Start(Repository.Target("kinds"), "policy"), other = LiveProgram.Start(Repository.Target("kinds"), "policy");
        int[] pids = [await Pid(one), await Pid(other)];
        Called taken = await Daemon.Cli("attach", "--wait", $"{pids[0]}", $"{pids[1]}");
        Assert.True(taken.ExitCode == 0, $"{taken}\n{Daemon.Tail}");
        await Until.True(async () => (await Daemon.Status()).Of(pids[0]).Reason.Contains("mbind", StringComparison.Ordinal), 120, async () => $"{(await Daemon.Status()).Of(pids[0])}");
        long holds = await Holds(pids[0]), scans = (await Daemon.Status()).FullScans;
        await Until.True(async () => (await Daemon.Status()).FullScans > scans + 5, 120, async () => $"it is scanned again: {await Daemon.Status()}");
        Assert.InRange(await Holds(pids[0]), holds, holds + 3);
        await GiveBack(pids);
    }

    /// <summary>A seam is where two mappings that look the same lie side by side: a program that runs may make some, thousands are ours.</summary>
    [Fact]
    public async Task APythonComesBackWithoutSeams()
    {
        string python = Needs.Program("python3", "python3");
        const string Program = """
            import sys, threading
            def work(keep):
                for i in range(3000): keep.append(bytearray(b'%6d' % (i // 2) * 2000))
            kept = []
            thread = threading.Thread(target=work, args=(kept,)); thread.start(); thread.join()
            grown = bytearray()
            for i in range(2000): grown += b'%8d' % i * 1024
            print('ready', flush=True)
            for line in sys.stdin: print('ok' if all(kept[i] == bytearray(b'%6d' % (i // 2) * 2000) for i in range(3000)) else 'bad', flush=True)
            """;
        await ComeBackWithoutSeams(() => LiveProgram.Start(python, "-c", Program), 2000);
    }

    [Fact]
    public async Task AJavaMachineComesBackWithoutSeams()
    {
        string java = Needs.Program("java", "default-jre-headless"), folder = Directory.CreateTempSubdirectory("samepage-java-").FullName;
        string source = Path.Combine(folder, "Kept.java");
        await File.WriteAllTextAsync(source, """
            import java.util.*;
            public class Kept {
                static byte[] block(int i) { byte[] b = new byte[8192]; new Random(i).nextBytes(b); return b; }
                public static void main(String[] a) throws Exception {
                    List<byte[]> kept = new ArrayList<>();
                    for (int i = 0; i < 4000; i++) kept.add(block(i));
                    System.gc();
                    System.out.println("ready");
                    Scanner in = new Scanner(System.in);
                    while (in.hasNextLine()) { in.nextLine(); boolean ok = true; for (int i = 0; i < 4000; i++) ok &= Arrays.equals(kept.get(i), block(i)); System.out.println(ok ? "ok" : "bad"); }
                }
            }
            """);
        try
        {
            await ComeBackWithoutSeams(() => LiveProgram.Start(java, "-Xmx256m", "-XX:+UseSerialGC", source), 200);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private async Task ComeBackWithoutSeams(Func<LiveProgram> start, long pages)
    {
        await using LiveProgram one = start(), other = start();
        await one.Ready(120);
        await other.Ready(120);
        int before = ProcessView.Of(one.Pid).Seams;
        await Daemon.TakeIn(one, other);
        await Daemon.Merged(one, pages, 180);
        await one.Does("check", 120);
        int during = ProcessView.Of(one.Pid).Maps.Length;
        await Daemon.GiveBack(one, other);
        int after = ProcessView.Of(one.Pid).Seams;
        TestContext.Current.SendDiagnosticMessage("{0}: {1} seams before, {2} after; {3} mappings when merged", one.Name, before, after, during);
        Assert.InRange(after, 0, before + 2);
        await one.Does("check", 120);
        await other.Does("check", 120);
    }

    private async Task GiveBack(int[] pids)
    {
        Called called = await Daemon.Cli("detach", $"{pids[0]}", $"{pids[1]}");
        Assert.True(called.ExitCode == 0 && !called.Errors.Contains("quite", StringComparison.Ordinal), $"{called}\n{Daemon.Tail}");
    }

    private async Task<long> Holds(int pid)
    {
        using var status = System.Text.Json.JsonDocument.Parse(await Daemon.Get("/v1/status"));
        return status.RootElement.GetProperty("processes").EnumerateArray().Single(process => process.GetProperty("pid").GetInt32() == pid).GetProperty("stops").GetInt64();
    }

    private static HashSet<string> FindLacking()
    {
        using Process process = Process.Start(new ProcessStartInfo(Repository.Target("kinds"), ["can", .. Newer]) { RedirectStandardOutput = true })!;
        string[] said = process.StandardOutput.ReadToEnd().Split(' ', StringSplitOptions.TrimEntries);
        process.WaitForExit();
        return process.ExitCode == 0 && said[0] == "can" ? [.. Newer.Except(said)] : throw new InvalidOperationException($"kinds can: exit {process.ExitCode}, {string.Join(' ', said)}");
    }

    /// <summary>The process that has the memory, which a program of kind <c>child</c> forked.</summary>
    private static async Task<int> Pid(LiveProgram program)
    {
        string line = await program.NextLine();
        Assert.StartsWith("ready ", line, StringComparison.Ordinal);
        return int.Parse(line[6..], CultureInfo.InvariantCulture);
    }

    private static async Task<(ulong Start, ulong End)> Area(LiveProgram program)
    {
        string[] range = (await program.Ask("address")).Split(' ');
        return (ulong.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture), ulong.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
    }

    /// <summary>The mappings, their flags, and what is counted for limits.</summary>
    private static string[] Look(int pid) =>
        [.. ProcessView.Of(pid).Within(0, ulong.MaxValue), .. ((string[])["VmSize", "VmData", "VmStk", "VmLck", "VmPin", "VmExe", "VmLib"]).Select(field => $"{field} {ProcessView.Of(pid).Status(field)}")];

    /// <summary>The mappings of the program's memory, as if it lay at the beginning of all memory.</summary>
    private static async Task<string[]> Shape(LiveProgram program)
    {
        (ulong start, ulong end) = await Area(program);
        return ProcessView.Of(program.Pid).Within(start, end, start);
    }
}
