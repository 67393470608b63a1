namespace Samepage.Linux.Seccomp;

/// <summary>What is known of a 64-bit argument: the bits that are set in <paramref name="Known"/> have the value that they have in <paramref name="Value"/>; the others may be anything.</summary>
/// <param name="Value">The bits; those that are not known count for nothing.</param>
/// <param name="Known">Which of them are known.</param>
public readonly record struct KnownBits(ulong Value, ulong Known)
{
    /// <summary>Nothing is known. This is the default value, too.</summary>
    public static readonly KnownBits Anything;

    /// <summary>All 64 bits are known.</summary>
    public static KnownBits Exactly(ulong value) => new(value, ulong.MaxValue);

    /// <summary>The lower half is known, and the upper one, which the kernel does not look at for an argument of 32 bits but a filter may, is not.</summary>
    public static KnownBits Low32(uint value) => new(value, uint.MaxValue);
}
