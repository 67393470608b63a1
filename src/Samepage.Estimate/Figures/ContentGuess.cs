using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;

namespace Samepage.Estimate.Figures;

/// <summary>What a page's content looks like; a guess for people, and nothing depends on it.</summary>
public static class ContentGuess
{
    private const int PreviewBytes = 48;

    /// <summary>Guesses, in a few words.</summary>
    /// <param name="page">A whole page.</param>
    public static string Of(ReadOnlySpan<byte> page)
    {
        if (page.StartsWith("\u007fELF"u8))
            return "the beginning of an ELF file";
        foreach (int period in (ReadOnlySpan<int>)[1, 2, 4, 8, 16])
        {
            if (page[period..].SequenceEqual(page[..^period]))
                return $"a pattern of {period} {(period == 1 ? "byte" : "bytes")}: {Convert.ToHexStringLower(page[..period])}";
        }

        int zeros = page.Count((byte)0), printable = 0;
        ulong high = 0;
        foreach (byte value in page)
        {
            printable += value is >= 32 and < 127 or (byte)'\n' or (byte)'\t' or (byte)'\r' ? 1 : 0;
            high |= 1UL << (value >> 2);
        }

        if (printable * 10 >= page.Length * 9)
            return "text";
        if (zeros * 20 >= page.Length * 19)
            return "zeros, but for a few bytes";
        int pointers = 0;
        foreach (ulong word in MemoryMarshal.Cast<byte, ulong>(page))
            pointers += word >> 40 is >= 0x55 and <= 0x7f ? 1 : 0;
        if (pointers * 4 >= page.Length / 8)
            return "many pointers: objects of a program";
        return BitOperations.PopCount(high) == 64 && zeros < page.Length / 100 ? "random, compressed or encrypted" : "binary data";
    }

    /// <summary>The first 48 bytes, those that can be printed as they are.</summary>
    /// <param name="page">A whole page.</param>
    public static string Preview(ReadOnlySpan<byte> page)
    {
        StringBuilder text = new();
        foreach (byte value in page[..PreviewBytes])
            text.Append(value is >= 32 and < 127 ? (char)value : '.');
        return text.ToString();
    }
}
