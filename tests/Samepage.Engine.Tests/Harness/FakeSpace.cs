using Samepage.Engine;

namespace Samepage.EngineTests.Harness;

/// <summary>One page of a simulated address space.</summary>
internal struct FakePage
{
    /// <summary>The program has it mapped.</summary>
    public bool Exists;

    /// <summary>The program does not want it merged.</summary>
    public bool OptedOut;

    /// <summary>The program's own copy; null where it has none.</summary>
    public byte[]? Own;

    /// <summary>The kernel's zero page is mapped here: the program read a page that was not there.</summary>
    public bool ShowsZeroPage;

    /// <summary>Its mapping is one of frames, and this is the frame that the mapping has for it.</summary>
    public uint? Mapped;

    /// <summary>No write and no discard has broken it: the frame itself is what the program sees.</summary>
    public bool InFrame;

    /// <summary>Written, or mapped anew, since this was last asked.</summary>
    public bool Written;

    /// <summary>A forked relation maps the same physical page.</summary>
    public bool SharedByFork;
}

/// <summary>A simulated address space: some pages from number <see cref="First"/> on.</summary>
internal sealed class FakeSpace(SpaceId id, DomainId domain, ulong first, int count)
{
    public readonly FakePage[] Pages = [.. Enumerable.Repeat(new FakePage { Exists = true }, count)];

    /// <summary>What is to become of a page's next plan, whatever its content; null lets the machine find out.</summary>
    public Func<PlanKind, ulong, PageOutcome?>? Force { get; set; }

    public SpaceId Id => id;

    public DomainId Domain => domain;

    public ulong First => first;

    public bool Gone { get; set; }

    /// <summary>The list of areas differs from the last one listed.</summary>
    public bool Changed { get; set; } = true;

    public ref FakePage this[ulong page] => ref Pages[page - first];

    public long InFrames => Pages.LongCount(page => page.InFrame);
}
