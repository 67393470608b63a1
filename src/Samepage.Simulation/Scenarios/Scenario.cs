namespace Samepage.Simulation.Scenarios;

/// <summary>A scenario that can be run on the simulated machine.</summary>
/// <param name="Name">What it is called.</param>
/// <param name="Summary">What happens in it, in a line.</param>
/// <param name="Processes">Processes, where nothing else is said.</param>
/// <param name="Memory">What the pages of its programs hold.</param>
public sealed record Scenario(string Name, string Summary, int Processes, MemoryMix Memory)
{
    /// <summary>The most processes that can be asked for.</summary>
    public const int ProcessesMax = 1000;

    /// <summary>All of them.</summary>
    public static IReadOnlyList<Scenario> All { get; } =
    [
        new("clones", "guests of one image: most of their memory is alike, some is zero, some is their own", 12, new MemoryMix(Common: 65, Zero: 15, Domains: 1)),
        new("workers", "a parent forks workers, which write the same things into what they shared", 12, new MemoryMix(Common: 70, Zero: 5, Domains: 1) { Forked = true }),
        new("mixed", "programs of three users: alike within a user and across users, where nothing may be shared", 12, new MemoryMix(Common: 45, Zero: 10, Domains: 3)),
        new("storm", "programs that map, unmap, protect, fork, swap and die while they are merged", 24, new MemoryMix(Common: 50, Zero: 10, Domains: 2) { Stormy = true }),
        new("host-4tib", "a 4 TiB host with 2,000 guests: some are simulated, time and memory are extrapolated from measured costs", 16, new MemoryMix(Common: 55, Zero: 15, Domains: 1) { Host = new HostSize(4L << 40, 2000) }),
    ];

    /// <summary>The one of that name; null when there is none.</summary>
    public static Scenario? Find(string name) => All.FirstOrDefault(scenario => scenario.Name == name);
}

/// <summary>What the pages of programs hold.</summary>
/// <param name="Common">How many of a hundred are the same in every program.</param>
/// <param name="Zero">How many are zero.</param>
/// <param name="Domains">Trust domains that the programs are of, in turn.</param>
public sealed record MemoryMix(int Common, int Zero, int Domains)
{
    /// <summary>All programs are forked from the first.</summary>
    public bool Forked { get; init; }

    /// <summary>Everything happens while they are merged, and not only writes.</summary>
    public bool Stormy { get; init; }

    /// <summary>A host that the figures are extrapolated to.</summary>
    public HostSize? Host { get; init; }
}

/// <summary>The size of a host.</summary>
/// <param name="Bytes">Memory of its guests.</param>
/// <param name="Guests">How many guests.</param>
public sealed record HostSize(long Bytes, int Guests);
