using System.Diagnostics;
using Samepage.Api;
using Samepage.Cli;
using Samepage.Doctor;
using Samepage.Linux;
using Samepage.Simulation.Scenarios;

namespace Samepage.Demo;

/// <summary>The demo from its first line to its last. Whatever it starts it ends, on errors and on Ctrl-C too.</summary>
internal sealed class DemoRun(PrivateDaemon daemon, DataSetProgram[] programs, DemoScreen screen)
{
    private const int ProgramCount = 4;
    private const int CommonMib = 128;
    private const int OwnMib = 16;
    private const long SaveableBytes = (ProgramCount - 1) * (long)CommonMib << 20;
    private const double SavedShareMin = 0.95;

    // Four programs of this size take seconds; a merging that stands still is to be shown as failed, not waited on.
    private static readonly TimeSpan s_settleLimit = TimeSpan.FromMinutes(3);

    private readonly Dictionary<int, Footprint> _footprints = [];

    public static async Task<int> RunAsync(CancellationToken cancellation)
    {
        if (Refusal() is { } refusal)
            return Simulate(refusal);
        DemoScreen screen = new();
        screen.Stage("Ordinary programs with memory in common");
        string python = await Python.FindOrInstallAsync(screen.Say, cancellation);
        List<DataSetProgram> programs = [];
        try
        {
            for (int number = 1; number <= ProgramCount; number++)
                programs.Add(DataSetProgram.Start(python, number, CommonMib, OwnMib));
            screen.Say($"{ProgramCount} programs ({python}) load {CommonMib} MiB that they have in common and {OwnMib} MiB each of their own.");
            // After the programs, so that on the way out it gives them back before they are ended.
            await using PrivateDaemon daemon = await PrivateDaemon.StartAsync(cancellation);
            DemoRun run = new(daemon, [.. programs], screen);
            await run.ThroughAsync(cancellation);
        }
        finally
        {
            foreach (DataSetProgram program in programs)
                await program.DisposeAsync();
        }
        screen.Say("");
        screen.Say(screen.Failed == 0 ? $"All {screen.Held} checks held." : $"{screen.Failed} of {screen.Held + screen.Failed} checks failed.");
        return screen.Failed == 0 ? ExitCode.Done : ExitCode.Failed;
    }

    /// <summary>Where nothing can be merged live, the same engine is shown on a simulated machine: plainly called that, and with the reason.</summary>
    private static int Simulate(string refusal)
    {
        DemoScreen screen = new();
        screen.Stage("No live demo on this machine as it is");
        screen.Say(refusal);
        screen.Say("");
        screen.Say("What follows is SIMULATED: the same engine, on a machine that exists in this process alone.");
        screen.Stage("A simulated run");
        Scenario scenario = Scenario.All[0];
        SimulationReport report = ScenarioRun.Run(scenario, SimulateCommand.RandomSeed(), scenario.Processes);
        SimulationScreen.Print(report);
        screen.Check(report.Broken is null, "in the simulation every program read what it wrote, nothing crossed a domain, and no memory was lost");
        screen.Check(report.ProfitBytes > 0, $"in the simulation {Quantity.Bytes(report.ProfitBytes)} were saved");
        screen.Say("");
        screen.Say(screen.Failed == 0 ? $"All {screen.Held} checks held, on a simulated machine. No real process was merged." : $"{screen.Failed} of {screen.Held + screen.Failed} checks of the simulation failed.");
        return screen.Failed == 0 ? ExitCode.Done : ExitCode.Failed;
    }

    /// <summary>Why this machine cannot merge live; null when it can.</summary>
    private static string? Refusal()
    {
        if (!Environment.IsPrivilegedProcess)
            return "The live demo needs root, because it puts an agent into the programs that it starts. Try: sudo samepage demo";
        DoctorCheck[] failures = Checkup.Failures();
        return failures.Length == 0
            ? null
            : string.Join(Environment.NewLine, failures.Select(f => $"  {f.Name}: {f.Found} -> {f.Remedy}").Prepend("This machine cannot merge live:"));
    }

    private async Task ThroughAsync(CancellationToken cancellation)
    {
        long before = await LoadAsync(cancellation);
        await MergeAsync(cancellation);
        await CompareMemoryAsync(before, cancellation);
        await CompareDigestsAsync(cancellation);
        await WriteAsync(cancellation);
        await DetachAsync(cancellation);
        await EndAsync(cancellation);
    }

    private async Task<long> LoadAsync(CancellationToken cancellation)
    {
        foreach (DataSetProgram program in programs)
            await program.LoadedAsync(cancellation);
        // Each program does once all that it will do later, so that what it allocates for its own ends is there already.
        string[] checks = await Task.WhenAll(programs.Select(p => p.CheckAsync(cancellation)));
        await Task.WhenAll(programs.Select(p => p.DigestAsync(cancellation)));
        screen.Check(checks.All(c => c == "right"), "each program finds its data to be what they must be");

        Table table = new(">pid", "program", ">memory (Pss)", ">threads", ">descriptors", ">mappings", "sha256 of its data");
        long sum = 0;
        foreach (DataSetProgram program in programs)
        {
            Footprint footprint = _footprints[program.Pid] = Footprint.Read(program.Pid);
            long pss = ProcessMemory.Read(program.Pid).PssBytes;
            sum += pss;
            table.Add($"{program.Pid}", $"python {program.Number}", Quantity.Bytes(pss), $"{footprint.Threads.Length}", $"{footprint.Descriptors}", $"{footprint.Mappings}", program.LastDigest[..16]);
        }
        table.Sum("sum", "", Quantity.Bytes(sum), "", "", "", "");
        table.Write();
        return sum;
    }

    private async Task MergeAsync(CancellationToken cancellation)
    {
        screen.Stage("Merging, while they run");
        int[] pids = [.. programs.Select(p => p.Pid)];
        Stopwatch clock = Stopwatch.StartNew();
        OutcomeReply reply = await daemon.Api.AttachAsync(pids, cancellation);
        foreach (ProcessOutcome outcome in reply.Processes.Where(p => !p.Done))
            screen.Say($"process {outcome.Pid} was {outcome.State}: {outcome.Reason}");
        screen.Check(reply.Processes.All(p => p.Done), $"all {programs.Length} programs were taken in, in {clock.ElapsedMilliseconds} ms");

        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(s_settleLimit);
        bool settled = true;
        try
        {
            await screen.FollowAsync(async report =>
            {
                await foreach (Settling.Look look in Settling.WatchAsync(daemon.Api, pids, TimeSpan.MaxValue, limit.Token))
                {
                    long saved = (look.Status.PagesSharing + look.Status.ZeroPages) * look.Status.PageSize;
                    report(Math.Min(1, (double)saved / SaveableBytes), $"{Quantity.Bytes(saved)} saved, {look.Finished} of {pids.Length} settled");
                }
            });
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            settled = false;
        }
        screen.Check(settled, settled ? $"nothing more to merge after {clock.Elapsed.TotalSeconds:F1} s" : $"merging was not done within {s_settleLimit.TotalMinutes} minutes");
    }

    private async Task CompareMemoryAsync(long before, CancellationToken cancellation)
    {
        screen.Stage("Memory after, by the kernel's own figures");
        StatusReport status = await daemon.Api.StatusAsync(cancellation);
        long own = programs.Sum(p => ProcessMemory.Read(p.Pid).OwnBytes);
        // The kernel's count of blocks and the daemon's own: the larger, so as not to flatter.
        long pool = Math.Max(PoolMemory.Read(daemon.Pid), status.Daemon.PoolBytes);
        long saved = before - own - pool;
        Table table = new("", ">memory");
        table.Add("before: the programs (sum of Pss)", Quantity.Bytes(before));
        table.Add("after: the programs, without shared frames (sum of Pss less Pss_Shmem)", Quantity.Bytes(own));
        table.Add("after: the pool of shared frames (blocks of its files)", Quantity.Bytes(pool));
        table.Add("saved", Quantity.Bytes(saved));
        table.Add("what could be saved", Quantity.Bytes(SaveableBytes));
        table.Add("the daemon itself (Pss less Pss_Shmem)", Quantity.Bytes(ProcessMemory.Read(daemon.Pid).OwnBytes));
        table.Write();
        screen.Say("Frames that a program maps are also in its Pss; they are left out there, so that each counts once, in the pool.");
        screen.Check(saved >= SaveableBytes * SavedShareMin, $"{(double)saved / SaveableBytes:P1} of what could be saved is saved; at least {SavedShareMin:P0} was to be");
    }

    private async Task CompareDigestsAsync(CancellationToken cancellation)
    {
        screen.Stage("Not a byte has changed");
        string[] before = [.. programs.Select(p => p.LastDigest)];
        for (int i = 0; i < programs.Length; i++)
        {
            string now = await programs[i].DigestAsync(cancellation);
            screen.Check(now == before[i], $"python {programs[i].Number}: sha256 {now[..16]}… {(now == before[i] ? "as before" : $"was {before[i][..16]}…")}");
        }
    }

    private async Task WriteAsync(CancellationToken cancellation)
    {
        screen.Stage("Each writes to all its pages; the others still read the old");
        foreach (DataSetProgram writer in programs)
        {
            string[] before = [.. programs.Select(p => p.LastDigest)];
            string found = await writer.WriteAsync(cancellation);
            screen.Check(found == "right", $"python {writer.Number} wrote to {Quantity.Count(CommonMib << 8)} pages and {(found == "right" ? "reads back what it wrote" : $"finds that its memory {found}")}");
            await Task.WhenAll(programs.Select(p => p.DigestAsync(cancellation)));
            int[] disturbed = [.. programs.Where((p, i) => p != writer && p.LastDigest != before[i]).Select(p => p.Number)];
            screen.Check(disturbed.Length == 0, disturbed.Length == 0 ? "  the others still read the old" : $"  python {string.Join(", ", disturbed)} no longer reads the old");
        }
    }

    private async Task DetachAsync(CancellationToken cancellation)
    {
        screen.Stage("Given back, without a trace");
        foreach (DataSetProgram program in programs)
        {
            Footprint now = Footprint.Read(program.Pid);
            screen.Say($"python {program.Number} while taken in: {now}");
        }
        Stopwatch clock = Stopwatch.StartNew();
        OutcomeReply reply = await daemon.Api.DetachAllAsync(cancellation);
        foreach (ProcessOutcome outcome in reply.Processes.Where(p => !p.Done))
            screen.Say($"process {outcome.Pid} was not given back: {outcome.Reason}");
        screen.Check(reply.Processes.Length == programs.Length && reply.Processes.All(p => p.Done), $"detach --all gave {reply.Processes.Count(p => p.Done)} programs back in {clock.ElapsedMilliseconds} ms");
        foreach (DataSetProgram program in programs)
        {
            Footprint now = Footprint.Read(program.Pid);
            string[] left = now.DifferenceFrom(_footprints[program.Pid]);
            screen.Check(left.Length == 0, $"python {program.Number}: {now}{(left.Length == 0 ? ", as before it was taken in" : ", and that is not as before:")}");
            foreach (string difference in left)
                screen.Say($"         {difference}");
        }
        string[] before = [.. programs.Select(p => p.LastDigest)];
        await Task.WhenAll(programs.Select(p => p.DigestAsync(cancellation)));
        screen.Check(programs.Select(p => p.LastDigest).SequenceEqual(before), "every program still reads what it read");
    }

    private async Task EndAsync(CancellationToken cancellation)
    {
        int daemonExit = await daemon.StopAsync(cancellation);
        screen.Check(daemonExit == 0, $"the daemon was told to end (SIGTERM), and ended with {daemonExit}");
        List<int> exits = [];
        foreach (DataSetProgram program in programs)
            exits.Add(await program.QuitAsync(cancellation));
        screen.Check(exits.All(e => e == 0), $"the programs ended by themselves, with {string.Join(", ", exits)}");
    }
}
