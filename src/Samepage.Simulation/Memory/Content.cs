namespace Samepage.Simulation.Memory;

/// <summary>What is in a page: eight cells of one byte value each. Kept as 64 bits, and written out only when somebody reads the bytes.</summary>
/// <remarks>
/// <para>Each cell fills an eighth of the page, so that two contents have the same bytes just when they have the same cells, and no cell set means
/// all zero. A program that writes part of a page sets a cell.</para>
/// <para>A first cell of <see cref="Blind"/> is written out as the first eight bytes of the key that XXH3 is documented to use. Its multiplication then
/// yields zero whatever the second cell holds: in pages of 64 bytes such contents differ and have the same digest. Hash collisions are thus ordinary here.</para>
/// </remarks>
internal static class Content
{
    public const int Cells = 8;

    /// <summary>All zero.</summary>
    public const ulong Zero = 0;

    /// <summary>A first cell that makes the digest blind to the second.</summary>
    public const byte Blind = 0xCC;

    private static ReadOnlySpan<byte> BlindingKey => [0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe];

    /// <summary>The same value in all cells.</summary>
    public static ulong Filled(byte value) => value * 0x0101010101010101UL;

    /// <summary>The content with one cell changed.</summary>
    public static ulong With(ulong content, int cell, byte value) => (content & ~(0xFFUL << (cell * 8))) | ((ulong)value << (cell * 8));

    /// <summary>Writes the bytes of a page out.</summary>
    public static void Expand(ulong content, Span<byte> bytes)
    {
        if (content == Zero)
        {
            bytes.Clear();
            return;
        }

        int size = bytes.Length / Cells;
        for (int cell = 0; cell < Cells; cell++)
            bytes.Slice(cell * size, size).Fill((byte)(content >> (cell * 8)));
        if ((byte)content == Blind)
            BlindingKey.CopyTo(bytes);
    }

    /// <summary>The cells of a page written out.</summary>
    public static ulong Contract(ReadOnlySpan<byte> bytes)
    {
        int size = bytes.Length / Cells;
        ulong content = 0;
        for (int cell = 0; cell < Cells; cell++)
            content |= (ulong)bytes[cell * size] << (cell * 8);
        return bytes.StartsWith(BlindingKey) ? With(content, 0, Blind) : content;
    }
}
