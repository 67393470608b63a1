namespace Samepage.Simulation.Memory;

/// <summary>What a physical page is used for.</summary>
internal enum PageUse : byte
{
    Free,
    Anonymous,
    Frame,
}

/// <summary>A physical page, or a swap slot, which is the same without pins.</summary>
internal struct PhysicalPage
{
    public ulong Content;
    public PageUse Use;

    /// <summary>Taken out of service.</summary>
    public bool Offline;

    /// <summary>The first entry that maps it; -1 when none does.</summary>
    public int Head;

    /// <summary>How many entries map it.</summary>
    public int Mappings;

    /// <summary>Holders that are no mappings: devices, registered buffers.</summary>
    public int Pins;

    /// <summary>The domain and the number of the frame that lies here.</summary>
    public int Domain;

    /// <inheritdoc cref="Domain"/>
    public uint Frame;
}

/// <summary>Physical pages, or swap slots: so many and no more.</summary>
internal sealed class PhysicalMemory
{
    private readonly PhysicalPage[] _pages;
    private readonly Stack<int> _free;

    public PhysicalMemory(int count)
    {
        _pages = new PhysicalPage[count];
        _free = new Stack<int>(count);
        for (int page = count - 1; page >= 0; page--)
        {
            _pages[page].Head = -1;
            _free.Push(page);
        }
    }

    public int Count => _pages.Length;

    /// <summary>Pages that are in nobody's use.</summary>
    public int FreeCount => _free.Count;

    /// <summary>Allocations that will fail from now on, before memory is to be had again.</summary>
    public int Starving { get; set; }

    public ref PhysicalPage this[int page] => ref _pages[page];

    /// <summary>Takes a page.</summary>
    /// <returns>Its number, or -1 when there is no memory.</returns>
    public int Take(PageUse use, ulong content)
    {
        if (Starving > 0)
        {
            Starving--;
            return -1;
        }

        if (!_free.TryPop(out int page))
            return -1;
        _pages[page] = new PhysicalPage { Content = content, Use = use, Head = -1 };
        return page;
    }

    /// <summary>Gives a page back that nobody maps or holds.</summary>
    public void Release(int page)
    {
        _pages[page].Use = PageUse.Free;
        if (!_pages[page].Offline)
            _free.Push(page);
    }

    /// <summary>Takes a free page out of service.</summary>
    public void Retire(int page)
    {
        int[] kept = [.. _free.Where(free => free != page).Reverse()];
        _free.Clear();
        foreach (int free in kept)
            _free.Push(free);
        _pages[page].Offline = true;
    }

    /// <summary>Puts a retired page back into service.</summary>
    public void Restore(int page)
    {
        _pages[page].Offline = false;
        _free.Push(page);
    }
}
