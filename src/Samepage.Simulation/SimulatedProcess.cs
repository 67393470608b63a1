using Samepage.Engine;

namespace Samepage.Simulation;

/// <summary>A process of the simulated machine.</summary>
internal sealed class SimulatedProcess(int slot, int domain, ulong firstPage)
{
    /// <summary>Which part of the page tables is its address space.</summary>
    public int Slot => slot;

    /// <summary>Its trust domain.</summary>
    public int Domain => domain;

    /// <summary>The number of its first page: what the engine calls its pages by.</summary>
    public ulong FirstPage => firstPage;

    /// <summary>It has not ended.</summary>
    public bool Alive { get; set; } = true;

    /// <summary>Stopped by a signal: nothing can be done in it.</summary>
    public bool Stopped { get; set; }

    /// <summary>Only areas that it advised may be merged; otherwise it was chosen whole.</summary>
    public bool ByAdvice { get; set; }

    /// <summary>Its threads are held at the moment: it does nothing of its own accord.</summary>
    public bool Held { get; set; }

    /// <summary>The engine's name for it, once it was taken in.</summary>
    public SpaceId? Space { get; set; }

    /// <summary>Something in its mappings of frames changed since the engine last collected.</summary>
    public bool MergedChanged { get; set; } = true;

    /// <summary>Where the engine last collected.</summary>
    public Area[] MergedAreas { get; set; } = [];
}
