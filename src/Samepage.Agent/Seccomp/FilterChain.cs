using Samepage.Linux.Interop;
using Samepage.Linux.Seccomp;

namespace Samepage.Agent.Seccomp;

/// <summary>All seccomp filters of a thread, and what they make of our calls. One thread at a time; what it was asked once it knows. Without filters any number at a time: <see cref="None"/> and <see cref="Strict"/> are everybody's, and note
/// nothing.</summary>
/// <remarks>
/// <para>What is asked of filters is what they answer by themselves: nothing here counts on their being suspended while we trace (PTRACE_O_SUSPEND_SECCOMP), for that ends with us. A call that they might answer with anything but
/// ALLOW or LOG is forbidden, also where that depends on what is not known of its arguments.</para>
/// <para>The verdict on a call is the same whenever it is made, and however often: a filter has nothing to go by but the call. So a call of the program's own that an interruption makes begin again gets the answer that it got, but
/// for one kind: what a supervisor is asked about (SECCOMP_RET_USER_NOTIF) he is asked about again. See <see cref="AsksSupervisor"/>.</para>
/// </remarks>
internal sealed class FilterChain
{
    /// <summary>Under no filter.</summary>
    public static readonly FilterChain None = new([], null);

    /// <summary>In strict mode: any call but read, write, exit and rt_sigreturn kills.</summary>
    public static readonly FilterChain Strict = new([], "it is in strict seccomp mode, which would kill it for a call of ours");

    private const int CallsKept = 1024;
    private readonly SeccompFilter[] _filters;
    private readonly string? _why;
    private readonly Dictionary<uint, string?> _forAgent = [];

    /// <summary>By call, whether it is made whatever its arguments are.</summary>
    private readonly Dictionary<int, bool> _allowed = [];
    private string? _forGate;
    private bool? _asks, _forbidsRestart;
    private bool _isGateKnown;
    private AgentAbilities? _abilities;

    private FilterChain(SeccompFilter[] filters, string? why) => (_filters, _why) = (filters, why);

    /// <summary>Filters that were read.</summary>
    public static FilterChain Of(List<SeccompFilter> filters) => new([.. filters], null);

    /// <summary>Filters that cannot be read.</summary>
    /// <param name="why">The reason.</param>
    public static FilterChain Unreadable(string why) => new([], $"it is under a seccomp filter, and what that forbids cannot be read: {why}");

    /// <summary>How many were read.</summary>
    public int Count => _filters.Length;

    /// <summary>How many instructions they have.</summary>
    public int Instructions => _filters.Sum(static filter => filter.Instructions.Length);

    /// <summary>There is none at all.</summary>
    public bool IsNone => _filters.Length == 0 && _why is null;

    /// <summary>Whether these are the very same.</summary>
    public bool Is(List<SeccompFilter> filters)
    {
        if (_why is not null || filters.Count != _filters.Length)
            return false;
        for (int i = 0; i < _filters.Length; i++)
        {
            if (!_filters[i].Instructions.SequenceEqual(filters[i].Instructions))
                return false;
        }

        return true;
    }

    /// <summary>Why a thread under them must not become, or make, an agent's thread; null where nothing stands in the way.</summary>
    /// <param name="personality">Of the thread, personality(2).</param>
    public string? WhyNotAgent(uint personality)
    {
        if (_filters.Length == 0)
            return _why;
        if (!_forAgent.TryGetValue(personality, out string? why))
        {
            IEnumerable<AgentCall> calls = [.. AgentCalls.Attach, .. AgentCalls.Agent.Where(static call => call.For == AgentAbilities.None), .. AgentCalls.Leave, .. AgentCalls.Gate];
            if (AgentCalls.WithoutReadImpliesExec(personality) is { } more)
                calls = calls.Append(more);
            _forAgent.Add(personality, why = FirstForbidden(calls, "which the agent must make"));
        }

        return why;
    }

    /// <summary>What an agent's thread under them can do besides what it must.</summary>
    public AgentAbilities Abilities
    {
        get
        {
            if (_filters.Length == 0)
                return _why is null ? AgentAbilities.All : AgentAbilities.None;
            if (_abilities is { } known)
                return known;
            AgentAbilities abilities = AgentAbilities.All;
            foreach (AgentCall call in AgentCalls.Agent)
            {
                if (call.For != AgentAbilities.None && !FilterWalk.IsAllowed(_filters, call.Shape))
                    abilities &= ~call.For;
            }

            _abilities = abilities;
            return abilities;
        }
    }

    /// <summary>Why a thread under them must not be held for an exchange; null where nothing stands in the way.</summary>
    public string? WhyNotGate()
    {
        if (_filters.Length == 0)
            return _why;
        if (!_isGateKnown)
            (_forGate, _isGateKnown) = (FirstForbidden(AgentCalls.Gate, "which a thread must make that was held when the daemon died"), true);
        return _forGate;
    }

    /// <summary>The kernel could not go on with a sleep that was interrupted.</summary>
    public bool ForbidsRestart => _filters.Length == 0 ? _why is not null : _forbidsRestart ??= !FilterWalk.IsAllowed(_filters, AgentCalls.Restart.Shape);

    /// <summary>A supervisor may be asked about some call.</summary>
    public bool MayAskSupervisor => _filters.Length > 0 && (_asks ??= _filters.Any(static filter => filter.Fault is not null || Asks(filter.Instructions)));

    /// <summary>Whether a supervisor may be asked about this very call: where it is interrupted, at whatever stage, he is asked once more when it begins again.</summary>
    /// <param name="number">The call.</param>
    /// <param name="arguments">Its arguments.</param>
    public bool AsksSupervisor(int number, ReadOnlySpan<ulong> arguments) =>
        MayAskSupervisor && (ActionsFor(number, arguments) & (SeccompActions.UserNotify | SeccompActions.Unknown)) != 0;

    /// <summary>Whether this very call might not be made under them. One that waits, and whose thread came under them meanwhile, would be answered otherwise if it was interrupted.</summary>
    /// <param name="number">The call.</param>
    /// <param name="arguments">Its arguments.</param>
    public bool Forbids(int number, ReadOnlySpan<ulong> arguments)
    {
        if (_filters.Length == 0)
            return false;
        bool isKept = number is >= 0 and < CallsKept;
        if (!isKept || !_allowed.TryGetValue(number, out bool allowed))
        {
            allowed = FilterWalk.IsAllowed(_filters, new CallShape("", (uint)number));
            if (isKept)
                _allowed.Add(number, allowed);
        }

        return !allowed && (ActionsFor(number, arguments) & ~(SeccompActions.Allow | SeccompActions.Log | SeccompActions.UserNotify)) != 0;
    }

    private SeccompActions ActionsFor(int number, ReadOnlySpan<ulong> arguments) =>
        FilterWalk.ActionsFor(_filters, new CallShape("", (uint)number, KnownBits.Exactly(arguments[0]), KnownBits.Exactly(arguments[1]), KnownBits.Exactly(arguments[2]), KnownBits.Exactly(arguments[3]),
            KnownBits.Exactly(arguments[4]), KnownBits.Exactly(arguments[5])));

    private static bool Asks(ReadOnlySpan<BpfInstruction> instructions)
    {
        foreach (BpfInstruction instruction in instructions)
        {
            // What it answers is the constant, or computed.
            if ((instruction.Code & 7) == LibC.BPF_RET && ((instruction.Code & LibC.BPF_A) != 0 || (instruction.K & LibC.SECCOMP_RET_ACTION_FULL) == LibC.SECCOMP_RET_USER_NOTIF))
                return true;
        }

        return false;
    }

    private string? FirstForbidden(IEnumerable<AgentCall> calls, string need)
    {
        foreach (AgentCall call in calls)
        {
            SeccompActions actions = FilterWalk.ActionsFor(_filters, call.Shape), harmless = SeccompActions.Allow | SeccompActions.Log | (call.MayFail ? SeccompActions.Errno : 0);
            if ((actions & ~harmless) is not SeccompActions.None and var harm)
                return $"a seccomp filter of it would answer {call.Shape.Name}, {need}, with {NameOf(harm)}";
        }

        return null;
    }

    /// <summary>The worst of them, as the kernel's headers spell it.</summary>
    private static string NameOf(SeccompActions actions) => actions switch
    {
        _ when actions.HasFlag(SeccompActions.Unknown) => "what cannot be told",
        _ when actions.HasFlag(SeccompActions.KillProcess) => "KILL_PROCESS",
        _ when actions.HasFlag(SeccompActions.KillThread) => "KILL_THREAD",
        _ when actions.HasFlag(SeccompActions.Trap) => "TRAP",
        _ when actions.HasFlag(SeccompActions.UserNotify) => "USER_NOTIF",
        _ when actions.HasFlag(SeccompActions.Trace) => "TRACE",
        _ => "ERRNO",
    };
}
