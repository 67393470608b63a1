namespace Samepage.Bench;

/// <summary>What one side did with one workload, once.</summary>
/// <param name="Side"><c>kernel</c> or <c>samepage</c>.</param>
/// <param name="RunLength">Length of the duplicate runs, pages.</param>
/// <param name="Round">Which round, from 1.</param>
/// <param name="MergeSeconds">From the start until all that can be saved is saved.</param>
/// <param name="MergeProcessorSeconds">Processor time used for that.</param>
/// <param name="SettledSeconds">Until the daemon had nothing more to do; null for the kernel.</param>
/// <param name="IdlePassProcessorMs">Processor time per pass with nothing left to merge; null when no pass was seen.</param>
/// <param name="IdlePasses">How many passes that is the mean of.</param>
/// <param name="EarlyPassProcessorMs">
/// The kernel's first passes after merging; null for Samepage, whose passes are all alike. smart_scan passes a page over
/// the more often, the longer it has not been merged: 8 passes of 9 in the end.
/// </param>
/// <param name="RecordBytesPerPage">Bytes of records per tracked page.</param>
/// <param name="PagesSaved">Pages saved, by the side's own count.</param>
/// <param name="SavedByPssBytes">Bytes saved, by the kernel's count of the targets' memory.</param>
/// <param name="DaemonProcessorSeconds">The daemon's part of the processor time; null for the kernel.</param>
/// <param name="AgentProcessorSeconds">The part of the threads inside the targets; null for the kernel.</param>
/// <param name="Holds">How often pages were held for a batch of merges; null for the kernel.</param>
/// <param name="LongestHoldMicroseconds">The longest such hold; null for the kernel.</param>
/// <param name="IdleHolds">Holds during the idle passes: 0 for a daemon that is at rest when nothing changes; null for the kernel.</param>
internal sealed record Measurement(
    string Side, int RunLength, int Round, double MergeSeconds, double MergeProcessorSeconds, double? SettledSeconds,
    double? IdlePassProcessorMs, long IdlePasses, double? EarlyPassProcessorMs, double? RecordBytesPerPage, long PagesSaved,
    long SavedByPssBytes, double? DaemonProcessorSeconds, double? AgentProcessorSeconds, long? Holds, double? LongestHoldMicroseconds,
    long? IdleHolds)
{
    public const string KernelSide = "kernel";
    public const string SamepageSide = "samepage";
}
