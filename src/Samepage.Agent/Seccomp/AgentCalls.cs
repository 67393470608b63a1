using Samepage.Linux.Interop;
using Samepage.Linux.Seccomp;
using static Samepage.Linux.Seccomp.KnownBits;

namespace Samepage.Agent.Seccomp;

/// <summary>A system call that is made for an agent.</summary>
/// <param name="Shape">The call, and what is known of its arguments.</param>
/// <param name="MayFail">An errno in its place harms nobody: see where it stands.</param>
/// <param name="For">It is made for these alone; for none, always.</param>
internal sealed record AgentCall(CallShape Shape, bool MayFail = false, AgentAbilities For = AgentAbilities.None)
{
    /// <summary>Whether a call as it was made is this one.</summary>
    /// <param name="number">Its number.</param>
    /// <param name="arguments">Its six arguments.</param>
    public bool Covers(ulong number, ReadOnlySpan<ulong> arguments)
    {
        bool covers = number == Shape.Number;
        for (int i = 0; covers && i < arguments.Length; i++)
            covers = ((arguments[i] ^ Shape[i].Value) & Shape[i].Known) == 0;
        return covers;
    }
}

/// <summary>Every system call that is made in a program on our account: by a thread that is borrowed, by the agent's threads, and by the program's own where they go back by themselves.</summary>
/// <remarks>
/// <para>By this list it is decided whether a program under seccomp filters can be served: see <see cref="FilterChain"/>. So it must have every call, and say of no argument more than is so. A test finds every system call in the
/// assembled code, with all that its registers can hold there, and holds it against this list, in both directions; another watches the threads of a program while it is taken in, merged, given back and left.</para>
/// <para>What is not said of an argument may be anything: addresses, lengths, descriptors, and what the call does not take.</para>
/// </remarks>
internal static class AgentCalls
{
    private const ulong Cloned = 0x50F00; // CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
    private const ulong CloneFiles = 0x400, ReadImpliesExec = 0x400000, NoReserve = LibC.MAP_NORESERVE, AnonymousDescriptor = ulong.MaxValue;
    private const uint PIDFD_GET_INFO = 0xC040FF0B;
    private const int AllOfIt = LibC.PROT_READ | LibC.PROT_WRITE | LibC.PROT_EXEC;

    /// <summary>Makes a mapping that is private and has no file. Whether it is without reservation is the program's memory's affair.</summary>
    private static AgentCall Anonymous(int protection, int more = 0, AgentAbilities ability = AgentAbilities.None) =>
        new(new CallShape("mmap", 9, default, default, Exactly((ulong)protection), With(LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | more), Exactly(AnonymousDescriptor), Exactly(0)), For: ability);

    private static KnownBits With(int flags) => new((ulong)flags, ~NoReserve);

    private static AgentCall Advice(uint advice) => new(new CallShape("madvise", 28, default, default, Exactly(advice)));

    private static AgentCall Request(string name, ulong request, KnownBits argument = default) => new(new CallShape($"ioctl {name}", 16, default, Exactly(request), argument));

    private static readonly AgentCall
        BlockSignals = new(new CallShape("rt_sigprocmask", 14, Exactly(2), default, Exactly(0), Exactly(8))),
        Unmap = new(new CallShape("munmap", 11)),
        ReadWrite = new(new CallShape("mprotect", 10, default, default, Exactly(LibC.PROT_READ | LibC.PROT_WRITE))),
        Wake = new(new CallShape("futex", 202, default, Exactly(129), Exactly(int.MaxValue))), // FUTEX_WAKE_PRIVATE
        Return = new(new CallShape("rt_sigreturn", 15));

    /// <summary>With which the kernel goes on with a sleep that was interrupted.</summary>
    public static readonly AgentCall Restart = new(new CallShape("restart_syscall", 219));

    /// <summary>Made by the thread that is borrowed: what is asked of it one by one, and the agent's first code (AgentAssembler.Bootstrap), from which it comes back through the gate.</summary>
    public static readonly AgentCall[] Attach =
    [
        new(new CallShape("mmap", 9, default, Exactly(AgentLayout.Size), Exactly(LibC.PROT_READ | LibC.PROT_EXEC),
            Exactly(LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_NORESERVE | LibC.MAP_FIXED_NOREPLACE), Exactly(AnonymousDescriptor), Exactly(0))),
        new(new CallShape("prctl", 157, Exactly(3))), // PR_GET_DUMPABLE
        ReadWrite, Unmap, Return,
        Advice(10), Advice(16), Advice(15), BlockSignals, // MADV_DONTFORK, MADV_DONTDUMP, MADV_NOHUGEPAGE
        new(new CallShape("clone", 56, Exactly(Cloned & ~CloneFiles), default, Exactly(0), Exactly(0), Exactly(0))),
    ];

    /// <summary>Made by the executor and the warden.</summary>
    public static readonly AgentCall[] Agent =
    [
        new(new CallShape("gettid", 186)),
        new(new CallShape("personality", 135, Exactly(uint.MaxValue))),
        new(new CallShape("close_range", 436, Exactly(0), Exactly(uint.MaxValue), Exactly(0))),
        new(new CallShape("socketpair", 53, Exactly(1), Exactly(5 | LibC.O_CLOEXEC), Exactly(0))),
        new(new CallShape("recvmsg", 47, default, default, Exactly(0x40000000))), // MSG_CMSG_CLOEXEC
        new(new CallShape("sendto", 44, default, default, Exactly(8), Exactly(0x4000), Exactly(0), Exactly(0))), // MSG_NOSIGNAL
        new(new CallShape("sendto", 44, default, default, Exactly(8), Exactly(0x4040), Exactly(0), Exactly(0))), // and MSG_DONTWAIT
        new(new CallShape("setsockopt", 54, default, Exactly(1), Exactly(20), default, Exactly(16))), // SOL_SOCKET, SO_RCVTIMEO
        new(new CallShape("read", 0, default, default, Exactly(8))),
        new(new CallShape("read", 0, default, default, Exactly(32))),
        new(new CallShape("pread64", 17, default, default, Exactly(AgentLayout.CompareBytes))),
        new(new CallShape("pread64", 17, default, default, Exactly(1024), Exactly(0))), // the program's stat
        new(new CallShape("close", 3)),
        new(new CallShape("clone", 56, Exactly(Cloned), default, Exactly(0), Exactly(0), Exactly(0))),
        new(new CallShape("epoll_create1", 291, Exactly(LibC.O_CLOEXEC))),
        new(new CallShape("epoll_ctl", 233, default, Exactly(1))),
        new(new CallShape("epoll_ctl", 233, default, Exactly(2), default, Exactly(0))),
        new(new CallShape("epoll_wait", 232, default, default, Exactly(AgentLayout.MaxEpollEvents))),
        new(new CallShape("sched_yield", 24)),
        new(new CallShape("poll", 7, Exactly(0), Exactly(0), Exactly(1))),
        new(new CallShape("poll", 7, Exactly(0), Exactly(0), Exactly(100))),
        new(new CallShape("sched_setscheduler", 144, Exactly(0), Exactly(LibC.SCHED_OTHER | LibC.SCHED_RESET_ON_FORK))),
        Request("USERFAULTFD_IOC_NEW", LibC.USERFAULTFD_IOC_NEW, Exactly(LibC.O_CLOEXEC | LibC.O_NONBLOCK)),
        Request("UFFDIO_REGISTER", LibC.UFFDIO_REGISTER), Request("UFFDIO_UNREGISTER", LibC.UFFDIO_UNREGISTER), Request("UFFDIO_WAKE", LibC.UFFDIO_WAKE),
        Request("UFFDIO_COPY", LibC.UFFDIO_COPY), Request("UFFDIO_ZEROPAGE", LibC.UFFDIO_ZEROPAGE), Request("UFFDIO_MOVE", LibC.UFFDIO_MOVE),
        Request("UFFDIO_WRITEPROTECT", LibC.UFFDIO_WRITEPROTECT), Request("UFFDIO_CONTINUE", LibC.UFFDIO_CONTINUE), Request("PROCMAP_QUERY", LibC.PROCMAP_QUERY),
        new(new CallShape("mmap", 9, default, Exactly(AgentLayout.SharedBytes), Exactly(LibC.PROT_READ | LibC.PROT_WRITE), Exactly(LibC.MAP_SHARED | LibC.MAP_FIXED), default, Exactly(0))),
        new(new CallShape("mmap", 9, default, default, Exactly(LibC.PROT_READ | LibC.PROT_WRITE), With(LibC.MAP_PRIVATE | LibC.MAP_FIXED))),
        Anonymous(LibC.PROT_NONE), Anonymous(LibC.PROT_READ | LibC.PROT_WRITE), Anonymous(LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_FIXED),
        Advice(10), Advice(16), Advice(12), Advice(14), Advice(15), Advice(1), Advice(2), // DONTFORK, DONTDUMP, MERGEABLE, HUGEPAGE, NOHUGEPAGE, RANDOM, SEQUENTIAL
        Advice(4), Advice(22), Advice(23), Advice(102), // DONTNEED, POPULATE_READ, POPULATE_WRITE, GUARD_INSTALL
        new(new CallShape("mprotect", 10, default, default, new KnownBits(0, ~3ul))),
        // What was made executable while it was merged stays merged, and right, where this is refused, as under PR_SET_MDWE (docs/limits.md). What is executable before is not merged there.
        new(new CallShape("mprotect with PROT_EXEC", 10, default, default, new KnownBits(LibC.PROT_EXEC, ~3ul)), MayFail: true),
        new(new CallShape("mprotect with PROT_EXEC", 10, default, default, new KnownBits(LibC.PROT_EXEC, ~3ul)), For: AgentAbilities.Code),
        new(new CallShape("mmap with PROT_EXEC", 9, default, default, Exactly(AllOfIt), With(LibC.MAP_PRIVATE | LibC.MAP_FIXED)), For: AgentAbilities.Code),
        Anonymous(AllOfIt, LibC.MAP_FIXED, AgentAbilities.Code), Anonymous(LibC.PROT_READ | LibC.PROT_EXEC, LibC.MAP_FIXED, AgentAbilities.Code),
        new(new CallShape("prctl PR_SET_VMA_ANON_NAME", 157, Exactly(0x53564d41), Exactly(0)), For: AgentAbilities.Names),
        Unmap,
        new(new CallShape("mremap", 25, default, default, default, Exactly(3))), // MREMAP_MAYMOVE | MREMAP_FIXED
        new(new CallShape("mremap", 25, default, default, default, Exactly(7))), // and MREMAP_DONTUNMAP
        new(new CallShape("mremap", 25, default, default, default, Exactly(0))),
        new(new CallShape("munlock", 150)),
        new(new CallShape("mlock2", 325, default, default, new KnownBits(0, ~1ul))),
        // Without an answer memory counts as without a policy. Who forbids this one mostly forbids mbind(2), too.
        new(new CallShape("get_mempolicy", 239, default, Exactly(0), Exactly(0), default, Exactly(2)), MayFail: true),
        new(new CallShape("process_vm_readv", 310, default, default, Exactly(1), default, Exactly(1), Exactly(0))),
        Wake,
        new(new CallShape("getpid", 39)),
        new(new CallShape("open", 2, default, Exactly(LibC.O_RDONLY | LibC.O_DIRECTORY | LibC.O_CLOEXEC))),
        new(new CallShape("getdents64", 217, default, default, Exactly(1024))),
        new(new CallShape("pidfd_open", 434, default, Exactly(LibC.PIDFD_THREAD))),
        Request("PIDFD_GET_INFO", PIDFD_GET_INFO),
        new(new CallShape("exit_group", 231)),
        new(new CallShape("exit", 60, Exactly(0))),
    ];

    /// <summary>Made by the program's own threads: by one that was held, and whose holder died, on its way through the gate; and for a sleep that a hold has interrupted, which the kernel goes on with by restart_syscall(2).</summary>
    public static readonly AgentCall[] Gate =
    [
        BlockSignals, Wake,
        new(new CallShape("futex", 202, default, Exactly(128), default, Exactly(0))), // FUTEX_WAIT_PRIVATE
        new(new CallShape("rt_sigpending", 127, default, Exactly(8))),
        new(new CallShape("sigaltstack", 131, Exactly(0))),
        Return, Restart,
    ];

    /// <summary>Made by a thread that is borrowed once the agent's threads are gone.</summary>
    public static readonly AgentCall[] Leave = [Unmap, Return];

    /// <summary>The executor takes READ_IMPLIES_EXEC off its personality where the program has it.</summary>
    /// <param name="value">The program's personality; that it has the flag makes the call be made.</param>
    /// <returns>Null where it does not.</returns>
    public static AgentCall? WithoutReadImpliesExec(uint value) =>
        (value & ReadImpliesExec) == 0 ? null : new AgentCall(new CallShape("personality", 135, Exactly(value & ~(uint)ReadImpliesExec)));

    /// <summary>As <see cref="WithoutReadImpliesExec"/>, where the value is not known: all other bits may be anything.</summary>
    public static readonly AgentCall AnyPersonality = new(new CallShape("personality", 135, new KnownBits(0, ~(ulong)uint.MaxValue | ReadImpliesExec)));
}
