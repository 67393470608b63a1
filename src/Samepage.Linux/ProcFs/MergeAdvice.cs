namespace Samepage.Linux.ProcFs;

/// <summary>Whether a process asks for merging, by madvise(2) <c>MADV_MERGEABLE</c> or prctl(2) <c>PR_SET_MEMORY_MERGE</c>.</summary>
public static class MergeAdvice
{
    private const string Line = "ksm_mergeable: ";

    /// <summary>Looks at a process.</summary>
    /// <returns>False also when it is gone.</returns>
    public static bool IsGiven(int pid) => ProcFile.TryRead($"/proc/{LivingThread.Of(pid)}/ksm_stat", out string text) && TryParse(text, out bool given) ? given : HasAdvisedMapping(pid);

    /// <param name="text">What <c>ksm_stat</c> says.</param>
    /// <param name="given">Whether some mapping is advised.</param>
    /// <returns>False where an older kernel does not say it there.</returns>
    internal static bool TryParse(string text, out bool given)
    {
        int at = text.IndexOf(Line, StringComparison.Ordinal);
        given = at >= 0 && text.AsSpan(at + Line.Length).StartsWith("yes");
        return at >= 0;
    }

    private static bool HasAdvisedMapping(int pid) =>
        ProcFile.TryRead($"/proc/{LivingThread.Of(pid)}/smaps", out string text) && text.Split('\n').Any(line => line.StartsWith("VmFlags:", StringComparison.Ordinal) && line.Contains(" mg", StringComparison.Ordinal));
}
