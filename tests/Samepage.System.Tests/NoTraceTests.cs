using System.Globalization;
using System.Runtime.InteropServices;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Core dumps and debuggers find in a merged program what they would have found without us, during and after.</summary>
public sealed partial class NoTraceTests(SharedDaemon shared) : OnOneDaemon(shared), IDisposable
{
    private const int SIGINT = 2;
    private const int Pages = 4096;
    private readonly string _folder = Directory.CreateTempSubdirectory("samepage-trace-").FullName;

    public void Dispose()
    {
        GC.SuppressFinalize(this);
        Directory.Delete(_folder, recursive: true);
    }

    /// <summary>Exactly the mappings that there were, with the flags that they had, and as much of them in memory.</summary>
    [Fact]
    public async Task A5_GivenBackItsMappingsAreThoseThatItHad()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "32", "run=3");
        await using var together = new Together(two);
        await two[0].Does("verify");
        (string[] mappings, string[] flags, long resident) = Look(two[0]);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 32 * 256 / 2);
        Assert.NotEqual(mappings.Length, Look(two[0]).Mappings.Length);
        await Daemon.GiveBack(two);
        (string[] mappingsAfter, string[] flagsAfter, long residentAfter) = Look(two[0]);
        Assert.Equal(mappings, mappingsAfter);
        Assert.Equal(flags, flagsAfter);
        Assert.InRange(residentAfter, resident - 64, resident + 64);
    }

    /// <summary>A program that dies of a signal leaves a core with all its memory in it, what was merged too.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task TheCoreOfAProgramThatDiesHasAllItsMemory(bool merged)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "attacker");
        await using var together = new Together(two);
        await Outside.Must(10, Needs.Program("prlimit", "util-linux"), "--core=unlimited:unlimited", "--pid", $"{two[0].Pid}");
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 4000);
        if (!merged)
            await Daemon.GiveBack(two);
        (ulong start, ulong end) = await Range(two[0]);
        using (new Setting("/proc/sys/kernel/core_pattern", Path.Combine(_folder, "core.%p")))
        using (new Setting("/proc/sys/kernel/core_uses_pid", "0"))
        {
            await two[0].Tell("dump");
            await two[0].Ends(30);
        }

        CoreHas(Path.Combine(_folder, $"core.{two[0].Pid}"), start, await Memory(two[1]));
        Assert.Equal((ulong)Pages * 4096, end - start);
        await two[1].Does("verify");
    }

    [Fact]
    public async Task DebuggersReadAndWriteAMergedProgramAndOnlyThat()
    {
        string gdb = Needs.Program("gdb", "gdb"), gcore = Needs.Program("gcore", "gdb");
        LiveProgram[] two = await LiveProgram.Targets(2, "attacker");
        await using var together = new Together(two);
        Trace[] before = [.. two.Select(Trace.Of)];
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 4000);
        await Debugger(gcore, "-o", Path.Combine(_folder, "during"), $"{two[0].Pid}");
        CoreHas(Path.Combine(_folder, $"during.{two[0].Pid}"), (await Range(two[0])).Start, await Memory(two[1]));
        await Debug();
        await two[0].Does("verify");
        // Whoever is traced is left as soon as its threads can be held; one that is not traced any more may stay.
        await Until.True(async () => (await Daemon.Cli("detach", $"{two[0].Pid}")).ExitCode == 0, 20, async () => $"{(await Daemon.Status()).Of(two[0].Pid)}");
        await Daemon.GiveBack(two[1]);
        // gcore brought in what the program had not touched of its libraries.
        foreach (Trace trace in before)
            trace.IsGone(memoryGrewBack: false);
        await Debug();
        foreach (LiveProgram program in two)
            await program.Does("verify");

        // A thread has one tracer at a time: a debugger that comes in the milliseconds of a hold is refused by the kernel, and comes again. It says
        // who traces the thread if that is still so when it looks.
        async Task<string> Debugger(string program, params string[] arguments)
        {
            Called called = await Outside.Run(60, program, arguments);
            for (int attempt = 1; attempt < 20 && called.ToString().Contains("ptrace: Operation not permitted", StringComparison.Ordinal); attempt++)
            {
                await Task.Delay(50);
                called = await Outside.Run(60, program, arguments);
            }

            Assert.True(called.ExitCode == 0, $"{program} {string.Join(' ', arguments)}: {called}");
            return called.Output;
        }

        async Task Debug()
        {
            (ulong start, _) = await Range(two[0]);
            string session = await Debugger(gdb, "-nx", "-batch", "-p", $"{two[0].Pid}", "-ex", $"x/1gx {start + 4096}", "-ex", $"set *(long*){start + 4096} = 4711", "-ex", $"x/1gd {start + 4096}", "-ex", "info threads");
            Assert.Contains("4711", session, StringComparison.Ordinal);
            Assert.Contains("bad 1", await two[0].Ask("verify"), StringComparison.Ordinal);
            await two[1].Does("verify");
            ulong word = BitConverter.ToUInt64(await Memory(two[1]), 4096);
            Assert.Contains($"0x{word:x16}", session, StringComparison.Ordinal);
            await Debugger(gdb, "-nx", "-batch", "-p", $"{two[0].Pid}", "-ex", $"set *(unsigned long*){start + 4096} = {word}");
            await two[0].Does("verify");
        }
    }

    /// <summary>Somebody who traces a program that is merged already, at work, is not in our way, nor we in his.</summary>
    [Fact]
    public async Task StraceMayComeAndGoWhileAProgramIsMerged()
    {
        string strace = Needs.Program("strace", "strace");
        LiveProgram[] two = await StormTests.Storms("write", 0);
        await using var together = new Together(two);
        await Daemon.TakeIn(two);
        await Daemon.Merged(two[0], 500);
        for (int round = 0; round < 2; round++)
        {
            await using LiveProgram tracer = await Strace(two[0]);
            await StormTests.Report(two[0]);
            await Task.Delay(700);
            await StormTests.Report(two[0]);
            Assert.Equal(0, kill(tracer.Pid, SIGINT));
            await tracer.Ends(20);
            await Until.True(() => ProcessView.Of(two[0].Pid).Status("TracerPid") == 0, 10, () => "strace has let go");
        }

        Assert.True(File.ReadLines(Path.Combine(_folder, "calls")).Count() > 10, "strace saw nothing");
        await Until.True(async () => (await Daemon.Status()).Of(two[0].Pid).State is "skipped" || (await Daemon.Status()).Of(two[0].Pid).PagesMerged > 300, 30,
            async () => $"left or merged, but not in between: {(await Daemon.Status()).Of(two[0].Pid)}");
        foreach (LiveProgram storm in two)
        {
            storm.CloseInput();
            await StormTests.Found(storm, "done");
        }

        // Who comes in a hold is refused, and comes again.
        async Task<LiveProgram> Strace(LiveProgram program)
        {
            for (int attempt = 1; ; attempt++)
            {
                LiveProgram tracer = LiveProgram.Start(strace, "-f", "-o", Path.Combine(_folder, "calls"), "-p", $"{program.Pid}");
                await Until.True(() => tracer.HasExited || ProcessView.Of(program.Pid).Status("TracerPid") == tracer.Pid, 20, () => $"strace traces: {tracer.Errors}");
                if (!tracer.HasExited)
                    return tracer;
                await tracer.DisposeAsync();
                Assert.True(attempt < 20 && tracer.Errors.Contains("Operation not permitted", StringComparison.Ordinal), tracer.Errors);
                await Task.Delay(50);
            }
        }
    }

    private static (string[] Mappings, string[] Flags, long ResidentKib) Look(LiveProgram program) =>
        (ProcessView.Of(program.Pid).Maps, [.. File.ReadLines($"/proc/{program.Pid}/smaps").Where(line => line.StartsWith("VmFlags:", StringComparison.Ordinal))], ProcessView.Of(program.Pid).Status("RssAnon"));

    private static async Task<(ulong Start, ulong End)> Range(LiveProgram program)
    {
        string[] range = (await program.Ask("address")).Split(' ');
        return (ulong.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture), ulong.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
    }

    private static async Task<byte[]> Memory(LiveProgram program)
    {
        (ulong start, ulong end) = await Range(program);
        var bytes = new byte[end - start];
        using FileStream memory = File.OpenRead($"/proc/{program.Pid}/mem");
        memory.Position = (long)start;
        memory.ReadExactly(bytes);
        return bytes;
    }

    /// <summary>A core file has these bytes at this address, whatever segments they lie in, elf(5).</summary>
    private static void CoreHas(string path, ulong address, byte[] expected)
    {
        Assert.True(File.Exists(path), $"{path} is there; in the folder are {string.Join(", ", Directory.GetFiles(Path.GetDirectoryName(path)!))}");
        using FileStream core = File.OpenRead(path);
        var header = new byte[64];
        core.ReadExactly(header);
        long table = BitConverter.ToInt64(header, 32);
        (int size, int count) = (BitConverter.ToUInt16(header, 54), BitConverter.ToUInt16(header, 56));
        long found = 0;
        for (int i = 0; i < count; i++)
        {
            var segment = new byte[size];
            core.Position = table + (long)i * size;
            core.ReadExactly(segment);
            (long offset, ulong start, ulong inFile) = (BitConverter.ToInt64(segment, 8), BitConverter.ToUInt64(segment, 16), BitConverter.ToUInt64(segment, 32));
            ulong from = Math.Max(start, address), to = Math.Min(start + inFile, address + (ulong)expected.Length);
            if (BitConverter.ToInt32(segment, 0) != 1 /* PT_LOAD */ || from >= to)
                continue;
            var bytes = new byte[to - from];
            core.Position = offset + (long)(from - start);
            core.ReadExactly(bytes);
            Assert.True(bytes.AsSpan().SequenceEqual(expected.AsSpan((int)(from - address), bytes.Length)), $"{bytes.Length} bytes at 0x{from:x} of {path} are not what is in memory");
            found += bytes.Length;
        }

        Assert.Equal(expected.Length, found);
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);
}
