using System.Globalization;
using System.Text;

namespace Samepage.Cli;

/// <summary>Text that others chose (names, paths, what a program calls its memory), as it may be shown: what a terminal would obey, or an eye not see, is spelled out.</summary>
/// <remarks>Spelled out are control characters of both kinds (C0 with ESC, BEL, CR and line ends; DEL; C1), what turns the direction of writing or has no width (Unicode's format characters),
/// separators of lines and paragraphs, and halves of surrogate pairs: <c>\x1b</c>, <c>\u202e</c>, <c>\n</c>. What is no UTF-8 has become U+FFFD when it was read. A backslash stays one: so
/// a name can look like another's spelling, and do no more than that. JSON is never treated so; it has its own escapes.</remarks>
internal static class VisibleText
{
    /// <summary>A piece of a line: line ends and tabulators are spelled out too.</summary>
    public static string Of(string? text) => Spell(text ?? "", lines: false);

    /// <summary>Text of ours that may hold several lines.</summary>
    public static string OfLines(string? text) => Spell(text ?? "", lines: true);

    /// <summary>Whether a character is shown as it is.</summary>
    internal static bool IsPlain(Rune rune) => Rune.GetUnicodeCategory(rune) is not (UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.Surrogate or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator);

    private static string Spell(string text, bool lines)
    {
        int at = 0;
        while (at < text.Length && IsUsual(text[at], lines))
            at++;
        if (at == text.Length)
            return text;
        StringBuilder shown = new(text, 0, at, text.Length + 16);
        while (at < text.Length)
        {
            bool whole = Rune.TryGetRuneAt(text, at, out Rune rune);
            int length = whole ? rune.Utf16SequenceLength : 1;
            if (IsUsual(text[at], lines) || (whole && IsPlain(rune)))
                shown.Append(text, at, length);
            else
                shown.Append(Spelled(whole ? rune.Value : text[at]));
            at += length;
        }

        return shown.ToString();
    }

    private static bool IsUsual(char letter, bool lines) => letter is >= ' ' and <= '~' || (lines && letter is '\n' or '\t');

    private static string Spelled(int value) => value switch
    {
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        <= 0xff => $"\\x{value:x2}",
        <= 0xffff => $"\\u{value:x4}",
        _ => $"\\U{value:x8}",
    };
}
