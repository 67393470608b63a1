using System.Diagnostics;

namespace Samepage.Bench;

/// <summary>Has the kernel's KSM merge a workload, and measures it.</summary>
internal static class KernelMeasure
{
    private const int PollMs = 1;
    private const int EarlyPasses = 8;

    /// <summary>By this pass every page that is not merged has reached smart_scan's longest period.</summary>
    private const int SteadyPass = 14;

    /// <summary>smart_scan's longest period: a page is looked at in one pass and passed over in eight.</summary>
    private const int SteadyPeriod = 9;

    public static async Task<Measurement> RunAsync(KernelKsm ksm, Workload work, int round, CancellationToken cancel)
    {
        await using Targets targets = await Targets.StartAsync(work, cancel);
        long before = targets.ProportionalBytes();
        await targets.OfferToKernelAsync(cancel);
        ksm.SetFastest();
        try
        {
            (TimeSpan wall, TimeSpan processor) = Merge(ksm, work, targets, cancel);
            double? recordBytes = ksm.RecordBytesPerPage();

            double early = ProcessorMsPerPass(ksm, EarlyPasses, cancel);
            Pass(ksm, SteadyPass, cancel);
            double steady = ProcessorMsPerPass(ksm, SteadyPeriod, cancel);

            long saved = ksm.Number("pages_sharing");
            long savedByPss = before - targets.ProportionalBytes();
            await targets.VerifyAsync("while merged by the kernel", cancel);
            return new Measurement(
                Measurement.KernelSide, work.RunLength, round, wall.TotalSeconds, processor.TotalSeconds, null, steady, SteadyPeriod,
                early, recordBytes, saved, savedByPss, null, null, null, null, null);
        }
        finally
        {
            ksm.Unmerge();
        }
    }

    private static (TimeSpan Wall, TimeSpan Processor) Merge(KernelKsm ksm, Workload work, Targets targets, CancellationToken cancel)
    {
        int[] pids = targets.Pids;
        TimeSpan processor = ProcessorClock.Read(ksm.Pid);
        long start = Stopwatch.GetTimestamp();
        ksm.Start();
        // The counter for the machine is the cheap one to poll; that for each process leaves out whoever else offers memory.
        bool merged = Waiting.Until(
            () => ksm.Number("pages_sharing") >= work.PagesToSave && KernelKsm.MergedPages(pids) >= work.DuplicatePages,
            Waiting.MergeBound, PollMs, cancel);
        TimeSpan wall = Stopwatch.GetElapsedTime(start);
        processor = ProcessorClock.Read(ksm.Pid) - processor;
        if (!merged)
            throw new BenchException($"the kernel merged {KernelKsm.MergedPages(pids)} of {work.DuplicatePages} pages in {wall.TotalSeconds:F0} s, "
                + $"runs of {work.RunLength}, and got no further");
        return (wall, processor);
    }

    private static double ProcessorMsPerPass(KernelKsm ksm, int passes, CancellationToken cancel)
    {
        long first = NextPass(ksm, cancel);
        TimeSpan processor = ProcessorClock.Read(ksm.Pid);
        long last = Pass(ksm, first + passes, cancel);
        return (ProcessorClock.Read(ksm.Pid) - processor).TotalMilliseconds / (last - first);
    }

    private static long NextPass(KernelKsm ksm, CancellationToken cancel) => Pass(ksm, ksm.Number("full_scans") + 1, cancel);

    /// <summary>Waits until this many passes are complete; tells how many are.</summary>
    private static long Pass(KernelKsm ksm, long passes, CancellationToken cancel)
    {
        long now = 0;
        if (!Waiting.Until(() => (now = ksm.Number("full_scans")) >= passes, Waiting.MergeBound, PollMs, cancel))
            throw new BenchException($"ksmd completed {now} of {passes} passes and got no further");
        return now;
    }
}
