using Samepage.Linux.Interop;

namespace Samepage.Linux;

/// <summary>Landlock, landlock(7): a program confines itself by it, and may not look into any program outside of that from then on. Nothing shows who has.</summary>
public static class Landlock
{
    private const nint CreateRulesetVersion = 1;

    /// <summary>The kernel has it, and it is on.</summary>
    public static bool IsThere { get; } = LibC.syscall(SyscallNumbers.landlock_create_ruleset, 0, 0, CreateRulesetVersion, 0, 0) > 0;
}
