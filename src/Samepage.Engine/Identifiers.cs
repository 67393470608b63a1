namespace Samepage.Engine;

/// <summary>The number of a page in an address space: its address divided by the page size.</summary>
public readonly record struct PageNumber(ulong Value);

/// <summary>A frame of one trust domain: its number in that domain's pool.</summary>
public readonly record struct FrameId(uint Value);

/// <summary>A trust domain: nothing is ever shared between two.</summary>
public readonly record struct DomainId(int Value);

/// <summary>An address space that was taken in. Never reused while the engine lives.</summary>
public readonly record struct SpaceId(int Value);
