using Samepage.Simulation.Memory;

namespace Samepage.Simulation.Worlds;

/// <summary>The programs that run on the machine, and what each knows of its own memory: what it wrote and what it asked for. The machine never sees this.</summary>
internal sealed class Programs
{
    /// <summary>What an unusual area is made of.</summary>
    private static readonly AreaFlags[] Others =
    [
        AreaFlags.Plain | AreaFlags.Shared | AreaFlags.NoFork, AreaFlags.Plain | AreaFlags.Device | AreaFlags.NoFork, AreaFlags.Plain | AreaFlags.HugeTlb,
        AreaFlags.Plain | AreaFlags.NoExpand, AreaFlags.Plain | AreaFlags.Executable, AreaFlags.Plain | AreaFlags.NoFork, AreaFlags.Plain | AreaFlags.WipeOnFork,
        AreaFlags.Mapped | AreaFlags.Readable,
    ];

    private readonly SimulatedMachine _machine;
    private readonly PageTables _tables;
    private readonly ulong[] _contents;
    private readonly AreaFlags[] _areas;
    private readonly List<Waiter> _waiters = [];
    private readonly List<Held> _pins = [];

    public Programs(SimulatedMachine machine)
    {
        _machine = machine;
        _tables = machine.Tables;
        _contents = new ulong[_tables.Places];
        _areas = new AreaFlags[_tables.Places];
        machine.Woken = Wake;
    }

    /// <summary>Writes that wait for an exchange to end.</summary>
    public int Waiting => _waiters.Count(waiter => waiter.Process.Alive);

    /// <summary>Pages that a device wrote past the page tables: no tracking of writes sees that.</summary>
    public HashSet<int> WrittenByDevices { get; } = [];

    /// <summary>Pages held by devices.</summary>
    public int Pins => _pins.Count;

    /// <summary>What a program last wrote to a page.</summary>
    public ulong Content(int place) => _contents[place];

    /// <summary>What a program asked a page to be.</summary>
    public AreaFlags Area(int place) => _areas[place];

    /// <summary>Starts a program with some pages of ordinary memory.</summary>
    public SimulatedProcess? Start(int domain, int page, int count, bool byAdvice)
    {
        SimulatedProcess? process = _machine.Start(domain);
        if (process is null)
            return null;
        process.ByAdvice = byAdvice;
        Array.Clear(_contents, _machine.PlaceOf(process, 0), _tables.Stride);
        Array.Clear(_areas, _machine.PlaceOf(process, 0), _tables.Stride);
        for (int i = page; i < Math.Min(page + count, _tables.Window); i++)
            Map(_machine.PlaceOf(process, i), AreaFlags.Plain);
        return process;
    }

    public SimulatedProcess? Fork(SimulatedProcess parent)
    {
        SimulatedProcess? child = _machine.Fork(parent);
        if (child is null)
            return null;
        child.ByAdvice = parent.ByAdvice;
        for (int page = 0; page < _tables.Window; page++)
        {
            (int from, int to) = (_machine.PlaceOf(parent, page), _machine.PlaceOf(child, page));
            bool copied = (_areas[from] & AreaFlags.NoFork) == 0;
            _areas[to] = copied ? _areas[from] & ~AreaFlags.Locked : AreaFlags.None;
            _contents[to] = copied && (_areas[from] & AreaFlags.WipeOnFork) == 0 ? _contents[from] : Memory.Content.Zero;
        }

        return child;
    }

    public void Exit(SimulatedProcess process)
    {
        for (int i = 0; i < _pins.Count; i++)
        {
            if (_pins[i].Place / _tables.Stride == process.Slot)
                _pins[i] = _pins[i] with { Place = -1 };
        }

        _machine.End(process);
    }

    public void Map(int place, AreaFlags area)
    {
        Detach(place);
        _machine.Map(place, area);
        (_contents[place], _areas[place]) = (Memory.Content.Zero, area);
    }

    public void MapOther(int place, int value) => Map(place, Others[value % Others.Length]);

    public void Unmap(int place)
    {
        Detach(place);
        _machine.Unmap(place);
        (_contents[place], _areas[place]) = (Memory.Content.Zero, AreaFlags.None);
    }

    /// <summary>mremap(2) waits while the page is being exchanged: here it is not tried then.</summary>
    public void Remap(int from, int to)
    {
        if (from == to || (_areas[from] & AreaFlags.Mapped) == 0 || _tables[from].Has(EntryFlags.Missing | EntryFlags.Protected))
            return;
        Detach(to);
        for (int i = 0; i < _pins.Count; i++)
        {
            if (_pins[i].Place == from)
                _pins[i] = _pins[i] with { Place = to };
        }

        if (WrittenByDevices.Remove(from))
            WrittenByDevices.Add(to);
        _machine.Remap(from, to);
        (_contents[to], _areas[to]) = (_contents[from], _areas[from]);
        (_contents[from], _areas[from]) = (Memory.Content.Zero, AreaFlags.None);
    }

    /// <summary>Changes some flags of an area.</summary>
    public void Become(int place, AreaFlags on, AreaFlags off)
    {
        AreaFlags area = (_areas[place] | on) & ~off;
        if ((_areas[place] & AreaFlags.Mapped) != 0 && _machine.Become(place, area))
            _areas[place] = area;
    }

    public void Discard(int place)
    {
        if ((_areas[place] & (AreaFlags.Mapped | AreaFlags.Locked | AreaFlags.Shared)) != AreaFlags.Mapped)
            return;
        Detach(place);
        _machine.Discard(place);
        _contents[place] = Memory.Content.Zero;
    }

    /// <summary>A program reads: it must find what it wrote.</summary>
    public void Read(int place)
    {
        if (_machine.Read(place, out ulong content) == Access.Done && content != _contents[place])
            throw new BrokenInvariantException(Invariant.EachReadsWhatItWrote, $"place {place} reads {content:x16} instead of {_contents[place]:x16}");
    }

    /// <summary>A program writes the cells of a mask. Where it must wait, it writes when it is woken.</summary>
    public void Write(SimulatedProcess process, int place, ulong mask, ulong content)
    {
        switch (_machine.Write(place, mask, content))
        {
            case Access.Done:
                _contents[place] = (_contents[place] & ~mask) | (content & mask);
                WrittenByDevices.Remove(place);
                break;
            case Access.Waits:
                _waiters.Add(new Waiter(process, place, mask, content));
                break;
            default:
                break;
        }
    }

    public void Pin(int place)
    {
        int page = _machine.Pin(place);
        if (page >= 0)
            _pins.Add(new Held(place, page));
    }

    /// <summary>A device writes a cell of the page that it holds.</summary>
    public void Dma(int pin, byte value)
    {
        if (_pins.Count == 0)
            return;
        Held held = _pins[pin % _pins.Count];
        _tables.Store(held.Page, Memory.Content.With(_tables.Physical[held.Page].Content, 1, value));
        if (held.Place < 0)
            return;
        _contents[held.Place] = Memory.Content.With(_contents[held.Place], 1, value);
        WrittenByDevices.Add(held.Place);
    }

    public void Unpin(int pin)
    {
        if (_pins.Count == 0)
            return;
        Held held = _pins[pin % _pins.Count];
        _pins.Remove(held);
        _tables.Unpin(held.Page);
    }

    /// <summary>The program lets a page go that a device may hold: what the device writes later reaches nobody.</summary>
    private void Detach(int place)
    {
        WrittenByDevices.Remove(place);
        for (int i = 0; i < _pins.Count; i++)
        {
            if (_pins[i].Place == place)
                _pins[i] = _pins[i] with { Place = -1 };
        }
    }

    private void Wake(int from, int to)
    {
        Waiter[] woken = [.. _waiters.Where(waiter => waiter.Place >= from && waiter.Place < to)];
        _waiters.RemoveAll(waiter => waiter.Place >= from && waiter.Place < to);
        foreach (Waiter waiter in woken)
        {
            if (waiter.Process.Alive)
                Write(waiter.Process, waiter.Place, waiter.Mask, waiter.Content);
        }
    }

    private readonly record struct Waiter(SimulatedProcess Process, int Place, ulong Mask, ulong Content);

    private readonly record struct Held(int Place, int Page);
}
