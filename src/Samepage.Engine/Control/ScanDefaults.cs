namespace Samepage.Engine.Control;

/// <summary>What a scanner's values are before anybody writes them; the ones here are the kernel's.</summary>
/// <param name="Run">What it does.</param>
/// <param name="PagesToScan">Pages a batch; what the end of the advisor goes back to.</param>
/// <param name="SleepMilliseconds">The pause between two batches, milliseconds.</param>
/// <param name="UsesZeroPage">Pages of zeros are left to the kernel's zero page.</param>
public sealed record ScanDefaults(RunState Run = RunState.Stopped, uint PagesToScan = 100, uint SleepMilliseconds = 20, bool UsesZeroPage = false);
