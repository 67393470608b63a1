using System.Globalization;

namespace Samepage.Linux.ProcFs;

/// <summary>What <c>/proc/PID/status</c> says of a process or thread, proc_pid_status(5); only the lines that decide something here.</summary>
/// <param name="Name">The command name, up to 15 characters.</param>
/// <param name="State">One letter: R, S, D, T, t, Z, X, I.</param>
/// <param name="ThreadGroup">The process that a thread belongs to.</param>
/// <param name="Tracer">The pid of who traces it; 0 for nobody.</param>
/// <param name="Uids">Real, effective, saved and file-system user.</param>
/// <param name="Gids">The same of the group.</param>
/// <param name="Seccomp">0 none, 1 strict, 2 filter.</param>
/// <param name="HasMemory">It has an address space of its own: not a kernel thread, not a zombie.</param>
/// <param name="Capabilities">The effective capabilities.</param>
/// <param name="PinnedKib">Memory pinned for long, VmPin.</param>
/// <param name="ShadowStack">Its return addresses are kept twice, the second time where the processor alone writes (CET).</param>
/// <param name="Permitted">The permitted capabilities: those that it can make effective.</param>
/// <param name="InnerPidNamespace">It is in a pid namespace within that of the /proc that was read.</param>
/// <param name="OwnId">The id that it has for itself, in its own pid namespace.</param>
/// <param name="VoluntarySwitches">How often a thread has gone to sleep.</param>
public sealed record ProcessStatus(
    string Name, char State, int ThreadGroup, int Tracer, (uint Real, uint Effective, uint Saved, uint FileSystem) Uids,
    (uint Real, uint Effective, uint Saved, uint FileSystem) Gids, int Seccomp, bool HasMemory, ulong Capabilities, long PinnedKib, bool ShadowStack, int OwnId,
    ulong Permitted, bool InnerPidNamespace, long VoluntarySwitches)
{
    /// <summary>SIGKILL is pending: it does nothing more once it leaves the kernel.</summary>
    public bool IsKilled { get; init; }

    /// <summary>The signals for which it has handlers.</summary>
    public ulong Handled { get; init; }

    /// <summary>It gains nothing by exec any more, PR_SET_NO_NEW_PRIVS.</summary>
    public bool NoNewPrivileges { get; init; }

    /// <summary>How many seccomp filters look at its calls.</summary>
    public int SeccompFilters { get; init; }

    /// <summary>Reads a status file.</summary>
    /// <param name="path">Such as <c>/proc/1/status</c>.</param>
    /// <returns>Null when the process is gone.</returns>
    public static ProcessStatus? TryRead(string path) => ProcFile.TryRead(path, out string text) ? Parse(text) : null;

    /// <summary>Reads the status of a process, by a thread of it that lives: of a first thread that has ended little is left.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="passOver">Threads that will not do.</param>
    /// <returns>Null when it is gone; that of a zombie when no other thread lives.</returns>
    public static ProcessStatus? TryReadLiving(int pid, params ReadOnlySpan<int> passOver)
    {
        ProcessStatus? first = TryRead($"/proc/{pid}/status");
        return first is { State: 'Z' or 'X' } && LivingThread.Of(pid, passOver) is var other && other != pid ? TryRead($"/proc/{pid}/task/{other}/status") ?? first : first;
    }

    private const ulong SigKill = 1UL << (9 - 1);

    internal static ProcessStatus Parse(string text)
    {
        string name = "";
        char state = '?';
        int group = 0, tracer = 0, seccomp = 0, filters = 0, own = 0;
        (uint, uint, uint, uint) uids = default, gids = default;
        bool memory = false, shadowStack = false, inner = false, noNewPrivileges = false;
        long pinned = 0, switches = 0;
        ulong pending = 0, sharedPending = 0, handled = 0, capabilities = 0, permitted = 0;
        // A line ends with a line feed and with nothing else. The name is the program's to choose: the kernel spells out its line feeds, and no other character at which a text can be parted.
        foreach (Range part in text.AsSpan().Split('\n'))
        {
            ReadOnlySpan<char> line = text.AsSpan(part);
            int colon = line.IndexOf(':');
            if (colon < 0)
                continue;
            ReadOnlySpan<char> value = line[(colon + 1)..].Trim();
            switch (line[..colon])
            {
                case "Name": name = value.ToString(); break;
                case "State": state = value.IsEmpty ? '?' : value[0]; break;
                case "Tgid": group = Number(value); break;
                case "NSpid":
                    inner = value.ContainsAny(' ', '\t');
                    own = Number(value[(value.LastIndexOfAny(' ', '\t') + 1)..]);
                    break;
                case "TracerPid": tracer = Number(value); break;
                case "Uid": uids = Four(value); break;
                case "Gid": gids = Four(value); break;
                case "NoNewPrivs": noNewPrivileges = Number(value) != 0; break;
                case "Seccomp": seccomp = Number(value); break;
                case "Seccomp_filters": filters = Number(value); break;
                case "VmSize": memory = true; break;
                case "VmPin": pinned = Number(value[..value.IndexOf(' ')]); break;
                case "SigPnd": pending = Hex(value); break;
                case "ShdPnd": sharedPending = Hex(value); break;
                case "SigCgt": handled = Hex(value); break;
                case "CapPrm": permitted = Hex(value); break;
                case "CapEff": capabilities = Hex(value); break;
                case "voluntary_ctxt_switches": switches = long.Parse(value, CultureInfo.InvariantCulture); break;
                case "x86_Thread_features": shadowStack = value.Contains("shstk", StringComparison.Ordinal); break;
                default: break;
            }
        }

        return new ProcessStatus(name, state, group, tracer, uids, gids, seccomp, memory, capabilities, pinned, shadowStack, own,
            permitted, inner, switches)
        {
            Handled = handled,
            IsKilled = ((pending | sharedPending) & SigKill) != 0,
            NoNewPrivileges = noNewPrivileges,
            SeccompFilters = filters,
        };
    }

    private static int Number(ReadOnlySpan<char> value) => int.Parse(value, NumberStyles.Integer, CultureInfo.InvariantCulture);

    private static ulong Hex(ReadOnlySpan<char> value) => ulong.Parse(value, NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private static (uint, uint, uint, uint) Four(ReadOnlySpan<char> value)
    {
        Span<uint> numbers = stackalloc uint[4];
        int count = 0;
        foreach (Range field in value.SplitAny(' ', '\t'))
        {
            if (!value[field].IsEmpty && count < 4)
                numbers[count++] = uint.Parse(value[field], NumberStyles.None, CultureInfo.InvariantCulture);
        }

        return (numbers[0], numbers[1], numbers[2], numbers[3]);
    }
}
