using System.Globalization;

namespace Samepage.Engine.Control;

/// <summary>How the kernel reads the values of its control files, as far as can be seen from outside. What follows a NUL is cut off before.</summary>
internal static class ControlText
{
    /// <summary>A whole number in base 10: a leading <c>+</c>, leading zeros and one newline at the end are taken.</summary>
    /// <param name="text">What was written.</param>
    /// <param name="value">The number.</param>
    /// <returns>Done; out of range where it is a number that 64 bits cannot hold; invalid otherwise.</returns>
    public static ControlOutcome ReadWhole(ReadOnlySpan<char> text, out ulong value)
    {
        text = WithoutNewline(text);
        if (text.StartsWith('+'))
            text = text[1..];
        value = 0;
        if (text.IsEmpty || text.ContainsAnyExceptInRange('0', '9'))
            return ControlOutcome.Invalid;
        return ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value) ? ControlOutcome.Done : ControlOutcome.OutOfRange;
    }

    /// <summary>A truth, by the first letter alone, but for <c>on</c> and <c>off</c>, which need two.</summary>
    public static bool TryReadTruth(ReadOnlySpan<char> text, out bool value)
    {
        char first = text.IsEmpty ? ' ' : char.ToLowerInvariant(text[0]), second = text.Length < 2 ? ' ' : char.ToLowerInvariant(text[1]);
        value = first is '1' or 'y' or 't' || (first, second) == ('o', 'n');
        return value || first is '0' or 'n' or 'f' || (first, second) == ('o', 'f');
    }

    /// <summary>A word, and at most one newline behind it.</summary>
    public static ReadOnlySpan<char> WithoutNewline(ReadOnlySpan<char> text) => text.EndsWith('\n') ? text[..^1] : text;
}
