using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;

namespace Samepage.Bench;

/// <summary>The processes whose memory is merged: <c>target.c</c>, once for each part of the work.</summary>
internal sealed class Targets : IAsyncDisposable
{
    private static readonly TimeSpan EndBound = TimeSpan.FromSeconds(20);

    private readonly List<Process> _processes = [];

    /// <summary>Their process ids, in the order of their memory.</summary>
    public int[] Pids => [.. _processes.Select(process => process.Id)];

    /// <summary>Starts them all; returns when each has filled its memory.</summary>
    public static async Task<Targets> StartAsync(Workload work, CancellationToken cancel)
    {
        string program = Environment.GetEnvironmentVariable("SAMEPAGE_BENCH_TARGET")
            ?? throw new BenchException("SAMEPAGE_BENCH_TARGET is not set: start the bench by ./bench, which builds the target program");
        Targets targets = new();
        try
        {
            for (int i = 0; i < Workload.Processes; i++)
                targets._processes.Add(Start(program, work, i));
            foreach (Process process in targets._processes)
                await targets.ExpectAsync(process, "ready", "filling its memory", cancel);
            return targets;
        }
        catch
        {
            await targets.DisposeAsync();
            throw;
        }
    }

    private static Process Start(string program, Workload work, int index)
    {
        ProcessStartInfo info = new(program) { RedirectStandardInput = true, RedirectStandardOutput = true, UseShellExecute = false };
        foreach (long argument in (ReadOnlySpan<long>)[work.PagesPerProcess, index * work.PagesPerProcess, work.HalfPages, work.RunLength])
            info.ArgumentList.Add(argument.ToString(CultureInfo.InvariantCulture));
        try
        {
            return Process.Start(info) ?? throw new BenchException($"{program} did not start");
        }
        catch (Win32Exception failed)
        {
            throw new BenchException($"starting {program}: {failed.Message}; ./bench builds it", failed);
        }
    }

    /// <summary>Has each of them offer its memory to the kernel's KSM.</summary>
    public Task OfferToKernelAsync(CancellationToken cancel) => AskAllAsync("merge", "offering its memory to the kernel", cancel);

    /// <summary>Has each of them compare every page with what it must hold.</summary>
    /// <exception cref="BenchException">A byte differs.</exception>
    public Task VerifyAsync(string when, CancellationToken cancel) => AskAllAsync("verify", $"verifying its content {when}", cancel);

    /// <summary>The memory that the kernel charges to them, shared pages by their share; bytes.</summary>
    public long ProportionalBytes() => Pids.Sum(pid => ProcFile.KibField($"/proc/{pid}/smaps_rollup", "Pss:") * 1024);

    private async Task AskAllAsync(string command, string doing, CancellationToken cancel)
    {
        foreach (Process process in _processes)
        {
            await process.StandardInput.WriteAsync((command + "\n").AsMemory(), cancel);
            await process.StandardInput.FlushAsync(cancel);
        }
        foreach (Process process in _processes)
            await ExpectAsync(process, "ok", doing, cancel);
    }

    private async Task ExpectAsync(Process process, string expected, string doing, CancellationToken cancel)
    {
        string? answer = await process.StandardOutput.ReadLineAsync(cancel);
        if (answer == expected)
            return;
        int index = _processes.IndexOf(process);
        if (answer is not null)
            throw new BenchException($"target {index} (pid {process.Id}), {doing}: {answer}");
        using CancellationTokenSource bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(EndBound);
        await process.WaitForExitAsync(bound.Token);
        throw new BenchException($"target {index} (pid {process.Id}) ended with {process.ExitCode} while {doing}"
            + (process.ExitCode == 128 + 9 ? "; was it killed for want of memory?" : ""));
    }

    /// <summary>Ends them by closing their input; one that does not end in time is killed.</summary>
    public async ValueTask DisposeAsync()
    {
        foreach (Process process in _processes)
            process.StandardInput.Close();
        foreach (Process process in _processes)
        {
            using CancellationTokenSource bound = new(EndBound);
            try
            {
                await process.WaitForExitAsync(bound.Token);
            }
            catch (OperationCanceledException)
            {
                process.Kill();
            }
            process.Dispose();
        }
    }
}
