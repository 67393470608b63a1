using System.Globalization;
using System.Runtime.InteropServices;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Seccomp;

namespace Samepage.Agent.Seccomp;

/// <summary>What is known of the seccomp filters of one process's threads.</summary>
/// <remarks>
/// <para>The filters of a thread are a chain that only grows, so a thread that has as many as it had has the same. A number that another thread has by now would be taken for the one before: whoever holds all threads
/// forgets those that are not among them (<see cref="Keep"/>), so that takes a number that comes again from one hold to the next. Wrong would be then what is done with that thread if the daemon dies while it is held.</para>
/// <para>One thread at a time, which is the tracer of the threads that are read. What <see cref="HasAny"/> says may be asked by any.</para>
/// </remarks>
/// <param name="pid">The process.</param>
internal sealed unsafe class FilterBook(int pid)
{
    /// <summary>Chains of filters, and instructions in all of them, that are kept of one process. Programs have one or two of some hundred instructions; whoever has more could have us keep, and walk, as many as he has threads.</summary>
    private const int ChainsMost = 64, InstructionsMost = 1 << 16;

    private readonly Dictionary<int, FilterChain> _threads = [];
    private readonly List<FilterChain> _chains = [];
    private readonly List<int> _gone = [];
    private readonly List<SeccompFilter> _filters = [];
    private volatile bool _hasAny;

    /// <summary>A thread of it was found to be under a filter.</summary>
    public bool HasAny => _hasAny;

    /// <summary>Threads of which something is known.</summary>
    public int Count => _threads.Count;

    /// <summary>How many filters the thread had that was lent for the agent's threads, when it was found that they allow what these do.</summary>
    public int AgentFilters { get; set; }

    /// <summary>And what they allow besides.</summary>
    public AgentAbilities AgentAbilities { get; set; } = AgentAbilities.All;

    /// <summary>The filters of a thread that the calling thread has stopped.</summary>
    public FilterChain Of(int tid)
    {
        _threads.TryGetValue(tid, out FilterChain? known);
        if (known is null || !IsAsItWas(tid, known))
            _threads[tid] = known = Read(tid);
        _hasAny |= !known.IsNone;
        return known;
    }

    /// <summary>What was last read of a thread; null where nothing was.</summary>
    public FilterChain? Known(int tid) => _threads.GetValueOrDefault(tid);

    /// <summary>Whether a thread that sleeps in a call waits for a supervisor's answer, or would ask him again if it was interrupted; as far as that can be seen from outside.</summary>
    /// <remarks>Of a thread whose filters are not known the kernel says where it sleeps: that shows the first part of such a call, until the supervisor has answered.</remarks>
    public bool AsksSupervisor(int tid, in ThreadCall call) =>
        _hasAny && (MayAsk(tid, call.Number, call.Arguments) || WaitsForSupervisor(pid, tid));

    /// <summary>Whether a supervisor may be asked about what a thread does. One of which nothing is known is under the filters of whoever made it: any that are known may be its own.</summary>
    public bool MayAskSupervisor(int tid) => _hasAny && (Known(tid) is { } known ? known.MayAskSupervisor : _chains.Exists(static chain => chain.MayAskSupervisor));

    private bool MayAsk(int tid, int number, ulong[] arguments) =>
        Known(tid) is { } known ? known.AsksSupervisor(number, arguments) : _chains.Exists(chain => chain.AsksSupervisor(number, arguments));

    /// <summary>Whether a call in which a thread waits is forbidden by filters that came behind its beginning, as far as they are known: of another thread, where they came over all (SECCOMP_FILTER_FLAG_TSYNC). Interrupted, it would begin
    /// again, before them.</summary>
    public bool ForbidsAgain(int tid, in ThreadCall call)
    {
        (int number, ulong[] arguments) = (call.Number, call.Arguments);
        if (!call.Blocked || !_chains.Exists(chain => chain.Forbids(number, arguments)))
            return false;
        int count = ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status")?.SeccompFilters ?? 0;
        return Known(tid) is { } known && known.Count == count ? known.Forbids(number, arguments) : _chains.Exists(chain => chain.Count == count && chain.Forbids(number, arguments));
    }

    /// <summary>Whether a thread sleeps where the kernel asks a supervisor, <c>/proc/PID/task/TID/wchan</c>.</summary>
    public static bool WaitsForSupervisor(int pid, int tid) => ProcFile.TryRead($"/proc/{pid}/task/{tid}/wchan", out string where) && where.Contains("seccomp", StringComparison.Ordinal);

    /// <summary>Forgets all threads but some.</summary>
    public void Keep(Predicate<int> isThere)
    {
        foreach (int tid in _threads.Keys)
        {
            if (!isThere(tid))
                _gone.Add(tid);
        }

        foreach (int tid in _gone)
            _threads.Remove(tid);
        _gone.Clear();
    }

    private void ForgetUnused() => _chains.RemoveAll(chain => !_threads.ContainsValue(chain));

    /// <summary>The personality of a thread, personality(2). One that cannot be read has all flags.</summary>
    public static uint PersonalityOf(int tid) =>
        ProcFile.TryRead($"/proc/{tid}/personality", out string text) && uint.TryParse(text.AsSpan().TrimEnd('\n'), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out uint value) ? value : uint.MaxValue;

    /// <summary>Whether it has as many as before: one number less is one of them, and the next one none.</summary>
    private static bool IsAsItWas(int tid, FilterChain known) =>
        known.Count == 0 ? known.IsNone && Ask(tid, 0) == Errno.EINVAL : Ask(tid, known.Count - 1) == Errno.None && Ask(tid, known.Count) == Errno.ENOENT;

    private static Errno Ask(int tid, int index) => LibC.ptrace(LibC.PTRACE_SECCOMP_GET_FILTER, tid, (void*)index, null) < 0 ? (Errno)Marshal.GetLastPInvokeError() : Errno.None;

    private FilterChain Read(int tid)
    {
        Errno errno = Ask(tid, 0);
        if (errno != Errno.None || !ThreadFilters.TryRead(tid, _filters, out errno))
        {
            // The same is answered for a thread without filters as for one in strict mode.
            return ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status")?.Seccomp switch
            {
                null or 0 => FilterChain.None,
                1 => FilterChain.Strict,
                _ => FilterChain.Unreadable(SeccompSupport.WhyNot() ?? $"ptrace(PTRACE_SECCOMP_GET_FILTER, {tid}): {errno}"),
            };
        }

        FilterChain? chain = _chains.Find(chain => chain.Is(_filters));
        if (chain is not null)
            return chain;
        ForgetUnused();
        chain = FilterChain.Of(_filters);
        if (_chains.Count >= ChainsMost || _chains.Sum(static one => one.Instructions) + chain.Instructions > InstructionsMost)
            return FilterChain.Unreadable($"they are too many: {ChainsMost} different ones, {InstructionsMost} instructions at most");
        _chains.Add(chain);
        return chain;
    }
}
