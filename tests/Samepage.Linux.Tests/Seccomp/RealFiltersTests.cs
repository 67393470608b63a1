using Samepage.Agent;
using Samepage.Agent.Seccomp;
using Samepage.Linux.Seccomp;

namespace Samepage.LinuxTests;

/// <summary>
/// Filters as they are met, read from programs by ptrace(2): of runc under Docker's default profile (moby/profiles cd3bed80) and under Podman's (containers-common 0.50.1), both with the capabilities that a container has
/// as a rule; three of systemd 252 for MemoryDenyWriteExecute=, RestrictNamespaces= and SystemCallFilter=@system-service, whose last one kills (<c>systemd-kill</c>) or gives EPERM; and an allow-list such as Firecracker's, which kills.
/// </summary>
public sealed class RealFiltersTests
{
    private const uint ProtRead = 1, ProtWrite = 2, ProtExec = 4;

    private static readonly KnownBits s_descriptor = KnownBits.Low32(5), s_pointer = KnownBits.Anything, s_size = KnownBits.Exactly(0x1000);

    /// <summary>What an attach and the agent call, as far as filters are known to look at it.</summary>
    private static readonly CallShape[] s_calls =
    [
        new("mmap of the agent", 9, KnownBits.Exactly(0), KnownBits.Exactly(0xA40000), KnownBits.Exactly(ProtRead | ProtExec), KnownBits.Exactly(0x4022), KnownBits.Exactly(ulong.MaxValue), KnownBits.Exactly(0)),
        new("mmap of a frame", 9, s_pointer, s_size, KnownBits.Exactly(ProtRead | ProtWrite), KnownBits.Exactly(0x12), s_descriptor, s_pointer),
        Protect(ProtRead | ProtWrite),
        Protect(ProtRead),
        new("madvise DONTFORK", 28, s_pointer, s_size, KnownBits.Exactly(10)),
        new("madvise DONTNEED", 28, s_pointer, s_size, KnownBits.Exactly(4)),
        new("rt_sigprocmask", 14, KnownBits.Exactly(2), s_pointer, s_pointer, KnownBits.Exactly(8)),
        Clone(0x100 | 0x200 | 0x800 | 0x10000 | 0x40000),
        Clone(0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000),
        new("gettid", 186),
        new("close_range", 436, KnownBits.Exactly(0), KnownBits.Exactly(uint.MaxValue), KnownBits.Exactly(0)),
        new("socketpair", 53, KnownBits.Exactly(1), KnownBits.Exactly(0x80005), KnownBits.Exactly(0), s_pointer),
        new("recvmsg", 47, s_descriptor, s_pointer, KnownBits.Exactly(0x40000000)),
        new("close", 3, s_descriptor),
        new("ioctl USERFAULTFD_IOC_NEW", 16, s_descriptor, KnownBits.Exactly(0xAA00), KnownBits.Exactly(0x80800)),
        new("ioctl UFFDIO_MOVE", 16, s_descriptor, KnownBits.Exactly(0xC028AA05), s_pointer),
        new("ioctl PROCMAP_QUERY", 16, s_descriptor, KnownBits.Exactly(0xC0686611), s_pointer),
        new("epoll_create1", 291, KnownBits.Exactly(0x80000)),
        new("epoll_ctl", 233, s_descriptor, KnownBits.Exactly(1), s_descriptor, s_pointer),
        new("epoll_wait", 232, s_descriptor, s_pointer, KnownBits.Exactly(16), KnownBits.Low32(uint.MaxValue)),
        new("munmap", 11, s_pointer, s_size),
        new("mremap", 25, s_pointer, s_size, s_size, KnownBits.Exactly(3), s_pointer),
        new("process_vm_readv", 310, KnownBits.Anything, s_pointer, KnownBits.Exactly(1), s_pointer, KnownBits.Exactly(1), KnownBits.Exactly(0)),
        new("futex WAIT_PRIVATE", 202, s_pointer, KnownBits.Exactly(128), KnownBits.Anything, KnownBits.Exactly(0)),
        new("sigaltstack", 131, KnownBits.Exactly(0), s_pointer),
        new("rt_sigreturn", 15),
        new("exit", 60),
    ];

    [Theory]
    [InlineData("docker", 1015)]
    [InlineData("podman", 1139)]
    [InlineData("systemd-kill", 30, 40, 308)]
    [InlineData("systemd-errno", 30, 40, 308)]
    public void TheAgentsCallsAreAllowed(string name, params int[] instructions)
    {
        SeccompFilter[] filters = Read(name);
        Assert.Equal(instructions, filters.Select(filter => filter.Count));
        Assert.All(filters, filter => Assert.Null(filter.Fault));
        Assert.All(s_calls, call => Assert.True(FilterWalk.ActionsFor(filters, call) == SeccompActions.Allow, $"{call.Name}: {FilterWalk.ActionsFor(filters, call)}"));
    }

    /// <summary>Where code is forbidden it is left alone, and nothing else for that.</summary>
    [Theory]
    [InlineData("docker", AgentAbilities.All)]
    [InlineData("podman", AgentAbilities.All)]
    [InlineData("systemd-kill", AgentAbilities.Names)]
    [InlineData("systemd-errno", AgentAbilities.Names)]
    public void WhatFiltersForbidBesidesIsNotDone(string name, AgentAbilities abilities)
    {
        FilterChain chain = FilterChain.Of([.. Read(name)]);
        Assert.Null(chain.WhyNotAgent(0));
        Assert.Equal(abilities, chain.Abilities);
        Assert.Equal((AgentAbilities.All, AgentAbilities.None), (FilterChain.None.Abilities, FilterChain.Strict.Abilities));
    }

    /// <summary>Code may be made executable in a container, and not in a service that has denied itself this; memory that is writable too may not even be mapped there.</summary>
    [Fact]
    public void MemoryDenyWriteExecuteForbidsCode()
    {
        CallShape mapped = new("mmap", 9, s_pointer, s_size, KnownBits.Exactly(ProtRead | ProtWrite | ProtExec), KnownBits.Exactly(0x22), s_descriptor, KnownBits.Exactly(0)), anyhow = new("mprotect", 10);
        foreach (string name in new[] { "docker", "podman" })
            Assert.All([Protect(ProtRead | ProtExec), mapped, anyhow], call => Assert.Equal(SeccompActions.Allow, FilterWalk.ActionsFor(Read(name), call)));
        foreach (string name in new[] { "systemd-kill", "systemd-errno" })
        {
            Assert.All([Protect(ProtRead | ProtExec), Protect(ProtRead | ProtWrite | ProtExec), mapped], call => Assert.Equal(SeccompActions.Errno, FilterWalk.ActionsFor(Read(name), call)));
            Assert.Equal(SeccompActions.Allow | SeccompActions.Errno, FilterWalk.ActionsFor(Read(name), anyhow));
        }
    }

    /// <summary>What a filter looks at and is not known may be refused: flags of clone(2) that make namespaces, of which the upper half counts for nothing.</summary>
    [Fact]
    public void WhatIsNotKnownMayBeRefused()
    {
        foreach (string name in new[] { "docker", "systemd-kill" })
        {
            SeccompFilter[] filters = Read(name);
            Assert.Equal(SeccompActions.Allow | SeccompActions.Errno, FilterWalk.ActionsFor(filters, new CallShape("clone", 56)));
            Assert.Equal(SeccompActions.Allow, FilterWalk.ActionsFor(filters, new CallShape("clone", 56, KnownBits.Low32(0x50F00))));
            Assert.Equal(SeccompActions.Errno, FilterWalk.ActionsFor(filters, Clone(0x10000000)));
        }
        Assert.Equal(SeccompActions.Allow, FilterWalk.ActionsFor(Read("podman"), new CallShape("clone", 56)));
        Assert.Equal(SeccompActions.KillProcess, FilterWalk.ActionsFor(Read("systemd-kill"), new CallShape("ptrace", 101)));
        Assert.Equal(SeccompActions.Errno, FilterWalk.ActionsFor(Read("systemd-errno"), new CallShape("ptrace", 101)));
        Assert.Equal(SeccompActions.Errno, FilterWalk.ActionsFor(Read("docker"), new CallShape("userfaultfd", 323)));
    }

    /// <summary>An allow-list kills for what the agent does, and looks at arguments where it does not.</summary>
    [Fact]
    public void AnAllowListKills()
    {
        SeccompFilter[] filters = Read("allowlist");
        Assert.Equal(SeccompActions.KillProcess, FilterWalk.ActionsFor(filters, Clone(0x50F00)));
        Assert.Equal(SeccompActions.KillProcess, FilterWalk.ActionsFor(filters, new("madvise DONTFORK", 28, s_pointer, s_size, KnownBits.Exactly(10))));
        Assert.Equal(SeccompActions.Allow, FilterWalk.ActionsFor(filters, new("madvise DONTNEED", 28, s_pointer, s_size, KnownBits.Exactly(4))));
        Assert.Equal(SeccompActions.Allow | SeccompActions.KillProcess, FilterWalk.ActionsFor(filters, new("madvise", 28)));
        Assert.Equal(SeccompActions.Allow, FilterWalk.ActionsFor(filters, new("rt_sigreturn", 15)));
    }

    private static CallShape Protect(uint how) => new($"mprotect {how}", 10, s_pointer, s_size, KnownBits.Exactly(how));

    private static CallShape Clone(uint flags) => new($"clone 0x{flags:x}", 56, KnownBits.Exactly(flags), s_pointer, KnownBits.Exactly(0), KnownBits.Exactly(0), KnownBits.Exactly(0));

    private static SeccompFilter[] Read(string name)
    {
        List<SeccompFilter> filters = [];
        while (typeof(RealFiltersTests).Assembly.GetManifestResourceStream($"{name}.{filters.Count}.bpf") is { } stream)
        {
            using BinaryReader reader = new(stream);
            filters.Add(SeccompFilter.Parse(reader.ReadBytes((int)stream.Length)));
        }
        Assert.NotEmpty(filters);
        return [.. filters];
    }
}
