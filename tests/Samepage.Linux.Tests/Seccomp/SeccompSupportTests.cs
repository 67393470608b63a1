using Samepage.Linux;
using Samepage.Linux.Seccomp;

namespace Samepage.LinuxTests;

/// <summary>Whether filters can be read here.</summary>
public sealed class SeccompSupportTests
{
    private const ulong SysAdmin = 1ul << 21;

    [Theory]
    [InlineData(Errno.EPERM, 0, SysAdmin, true, null)]
    [InlineData(Errno.EPERM, 0, ~SysAdmin, true, "CAP_SYS_ADMIN is missing")]
    [InlineData(Errno.EPERM, 0, SysAdmin, false, "CAP_SYS_ADMIN is in force in a user namespace only, not in the whole system")]
    [InlineData(Errno.EPERM, 2, SysAdmin, true, "this process is under a seccomp filter itself: who is may not read those of others")]
    [InlineData(Errno.EINVAL, 0, SysAdmin, true, "the kernel lacks CONFIG_CHECKPOINT_RESTORE, without which nobody can read a seccomp filter")]
    [InlineData(Errno.ENOSYS, 0, SysAdmin, true, "ptrace(PTRACE_SEIZE, self, PTRACE_O_SUSPEND_SECCOMP): ENOSYS")]
    [InlineData(Errno.None, 0, SysAdmin, true, "ptrace(PTRACE_SEIZE, self, PTRACE_O_SUSPEND_SECCOMP): None")]
    public void ItSaysWhyNot(Errno answer, int seccomp, ulong capabilities, bool isOfSystem, string? expected) =>
        Assert.Equal(expected, SeccompSupport.WhyNot(answer, seccomp, capabilities, isOfSystem));

    /// <summary>What it says without tracing anybody is what comes of reading.</summary>
    [Fact]
    public async Task ItSaysWhatComes()
    {
        await using ForeignProgram program = await FilteredProgram.Start();
        int pid = await program.Holds([Bpf.Return(Bpf.Allow)]);
        FilteredProgram.Stopped(pid, pid, false, () => Assert.Equal(ThreadFilters.TryRead(pid, [], out _), SeccompSupport.WhyNot() is null));
    }
}
