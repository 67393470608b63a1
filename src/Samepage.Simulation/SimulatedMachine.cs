using Samepage.Engine;
using Samepage.Simulation.Memory;

namespace Samepage.Simulation;

/// <summary>How a machine is made.</summary>
internal sealed record MachineOptions
{
    /// <summary>Processes at a time.</summary>
    public int Processes { get; init; } = 8;

    /// <summary>Pages of an address space.</summary>
    public int Window { get; init; } = 32;

    /// <summary>Physical pages.</summary>
    public int Pages { get; init; } = 4096;

    /// <summary>Swap slots.</summary>
    public int Slots { get; init; } = 1024;

    /// <summary>Bytes per page.</summary>
    public int PageSize { get; init; } = 64;

    /// <summary>It can say which pages were written.</summary>
    public bool TracksWrites { get; init; } = true;

    /// <summary>A program's own threads are held while something of it is exchanged; without, only what it touches waits.</summary>
    public bool HoldsThreads { get; init; } = true;

    /// <summary>What was begun is done late: plans are carried out one whenever something is read meanwhile, the others when their end is waited for, and frames are written then.</summary>
    public bool Lags { get; init; }

    /// <summary>Deliberate faults.</summary>
    public MachineFaults Faults { get; init; }
}

/// <summary>A machine with processes, page tables, physical memory and swap, behind the engine's port. It does nothing by chance: whoever drives it says
/// what happens, and in <see cref="Between"/> also what happens in the middle of what the engine asks for.</summary>
/// <remarks>
/// <para>Where a real kernel would let others run (between system calls, between pages, while a lock is not held) it calls <see cref="Between"/>. What stands
/// between two such calls is atomic, as the kernel's own page-table locks make it.</para>
/// <para>The pool of frames is a file as in the live system, and its mappings are private; other than there, frames can be swapped out, as the kernel's can.</para>
/// </remarks>
internal sealed partial class SimulatedMachine : IMachine
{
    /// <summary>Pages of a transparent huge page.</summary>
    public const int HugePages = 8;

    private readonly MachineOptions _options;
    private readonly SimulatedProcess?[] _processes;
    private readonly Dictionary<int, SimulatedProcess> _spaces = [];
    private int _nextSpace = 1;

    public SimulatedMachine(MachineOptions options)
    {
        _options = options;
        _processes = new SimulatedProcess?[options.Processes];
        Tables = new PageTables(options.Processes, options.Window, options.Pages, options.Slots);
    }

    /// <inheritdoc/>
    public int PageSize => _options.PageSize;

    /// <inheritdoc cref="MachineOptions.TracksWrites"/>
    public bool TracksWrites => _options.TracksWrites;

    public PageTables Tables { get; }

    /// <summary>Called wherever others may run in the middle of what the engine asked for.</summary>
    public Action Between { get; set; } = static () => { };

    /// <summary>Called when those who wait for places from one to before another may go on.</summary>
    public Action<int, int> Woken { get; set; } = static (_, _) => { };

    /// <summary>The process that the engine asked about last; null when its call has ended.</summary>
    public SimulatedProcess? Working { get; set; }

    /// <summary>The part of it that is being exchanged: first page and count.</summary>
    public (int Page, int Count) Exchanging { get; private set; }

    /// <summary>Called when the engine begins with a space.</summary>
    public Action<SpaceId> Listed { get; set; } = static _ => { };

    /// <summary>Splitting a huge page fails.</summary>
    public bool SplitsFail { get; set; }

    /// <summary>Times that something was given up half-way because the world had moved.</summary>
    public long Races { get; private set; }

    /// <summary>Runs that were merged into neighbouring frames at a stroke, and the pages in them.</summary>
    public (long Runs, long Pages) Merged { get; private set; }

    /// <summary>The process in a slot; null when there is none.</summary>
    public SimulatedProcess? this[int slot] => _processes[slot];

    /// <summary>Processes that live, by slot.</summary>
    public IEnumerable<SimulatedProcess> Living => _processes.Where(process => process is { Alive: true })!;

    /// <summary>The process whose a place is.</summary>
    public SimulatedProcess OwnerOf(int place) => _processes[place / Tables.Stride]!;

    /// <summary>The place of a page of a process's window.</summary>
    public int PlaceOf(SimulatedProcess process, int page) => process.Slot * Tables.Stride + page;

    /// <summary>The place of a page by the engine's number of it.</summary>
    public int PlaceOf(SimulatedProcess process, ulong page) => PlaceOf(process, (int)(page - process.FirstPage));

    /// <summary>The process that the engine knows under a name; null when it has ended and been forgotten.</summary>
    public SimulatedProcess? Of(SpaceId space) => _spaces.GetValueOrDefault(space.Value);

    /// <summary>Starts a process with an empty address space.</summary>
    /// <returns>Null when there is no slot.</returns>
    public SimulatedProcess? Start(int domain)
    {
        int slot = Array.FindIndex(_processes, process => process is null);
        if (slot < 0)
            return null;
        // Windows lie across the border of two of the engine's slabs, in most slots, and never at the same place in it.
        ulong first = (ulong)(slot + 1) * 4096 - (ulong)((slot * 7 + 3) % Tables.Window);
        return _processes[slot] = new SimulatedProcess(slot, domain, first);
    }

    /// <summary>Gives a process a name that the engine may know it by.</summary>
    public SpaceId TakeIn(SimulatedProcess process)
    {
        SpaceId space = new(_nextSpace++);
        process.Space = space;
        process.MergedChanged = true;
        _spaces.Add(space.Value, process);
        return space;
    }

    /// <summary>The engine knows a process no more.</summary>
    public void LetGo(SpaceId space)
    {
        if (!_spaces.Remove(space.Value, out SimulatedProcess? process))
            return;
        process.Space = null;
        for (int page = 0; page < Tables.Window && process.Alive; page++)
            Tables.Change(PlaceOf(process, page)).Set(EntryFlags.Tracked, false);
        if (!process.Alive)
            _processes[process.Slot] = null;
    }

    /// <summary>Ends a process: all its memory goes, at whatever moment.</summary>
    public void End(SimulatedProcess process)
    {
        process.Alive = false;
        int first = PlaceOf(process, 0);
        for (int place = first; place < first + Tables.Stride; place++)
        {
            ReleaseHuge(place);
            Tables.Clear(place);
            ref PageEntry entry = ref Tables.Change(place);
            (entry.Area, entry.Flags, entry.Backing) = (AreaFlags.None, EntryFlags.None, 0);
        }

        if (process.Space is null)
            _processes[process.Slot] = null;
    }

    private bool Fails(MachineFaults fault) => (_options.Faults & fault) != 0;

    private int PoolOf(SimulatedProcess process) => Fails(MachineFaults.OnePoolForAll) ? 0 : process.Domain;
}
