using System.Buffers.Text;
using System.Text;

namespace Samepage.Linux.ProcFs;

/// <summary>Parses <c>/proc/PID/maps</c> and <c>smaps</c> as they are read, proc_pid_smaps(5).</summary>
/// <remarks>A process may have tens of thousands of mappings with two dozen lines each, and is read often while it is merged: so bytes are parsed where they lie, lines of no
/// interest are told by their first byte, and the few different names and flags are made strings once.</remarks>
internal sealed class MappingParser
{
    private const int RememberedMax = 16;

    /// <summary>Longer than the names that the kernel gives, and than what <c>PR_SET_VMA</c> allows.</summary>
    private const int NameBytesMax = 256;
    private static readonly string s_none = "";
    private readonly List<Mapping> _mappings;
    private readonly List<string> _names = [s_none], _flags = [s_none];
    private Mapping _current;
    private bool _any;

    /// <param name="mappings">Cleared, then filled by rising address.</param>
    public MappingParser(List<Mapping> mappings)
    {
        _mappings = mappings;
        mappings.Clear();
    }

    /// <summary>Takes whole lines.</summary>
    /// <returns>The beginning of a line that is not whole yet; it is to be given again with what follows it.</returns>
    public ReadOnlySpan<byte> Take(ReadOnlySpan<byte> text)
    {
        for (int end; (end = text.IndexOf((byte)'\n')) >= 0; text = text[(end + 1)..])
            TakeLine(text[..end]);
        return text;
    }

    /// <summary>There is no more.</summary>
    /// <returns>False when there was no mapping.</returns>
    public bool End()
    {
        if (_any)
            _mappings.Add(_current);
        _any = false;
        return _mappings.Count > 0;
    }

    private void TakeLine(ReadOnlySpan<byte> line)
    {
        if (line.IsEmpty)
            return;
        switch (line[0])
        {
            case >= (byte)'0' and <= (byte)'9' or >= (byte)'a' and <= (byte)'f':
                if (TryParseLine(line, out Mapping mapping))
                {
                    _ = End();
                    (_current, _any) = (mapping, true);
                }

                break;
            case (byte)'V' when _any && line.StartsWith("VmFlags:"u8):
                _current = _current with { Flags = Remembered(_flags, line[8..].TrimStart((byte)' '), flags: true) };
                break;
            case (byte)'A' when _any && line.StartsWith("AnonHugePages:"u8):
                if (Utf8Parser.TryParse(line[14..].TrimStart((byte)' '), out ulong kilobytes, out _) && kilobytes > 0)
                    _current = _current with { AnonymousHugeBytes = kilobytes * 1024 };
                break;
            case (byte)'R' when _any && line.StartsWith("Rss:"u8):
            case (byte)'S' when _any && line.StartsWith("Swap:"u8):
                if (Utf8Parser.TryParse(line[(line.IndexOf((byte)':') + 1)..].TrimStart((byte)' '), out ulong held, out _) && held > 0)
                    _current = _current with { HeldBytes = _current.HeldBytes + held * 1024 };
                break;
            case (byte)'P' when _any && line.StartsWith("ProtectionKey:"u8):
                if (Utf8Parser.TryParse(line[14..].TrimStart((byte)' '), out int key, out _))
                    _current = _current with { ProtectionKey = key };
                break;
            default:
                break;
        }
    }

    private bool TryParseLine(ReadOnlySpan<byte> line, out Mapping mapping)
    {
        mapping = default;
        ReadOnlySpan<byte> rest = line;
        if (!TryField(ref rest, 'x', (byte)'-', out ulong start) || !TryField(ref rest, 'x', (byte)' ', out ulong end) || rest.Length < 5)
            return false;
        ReadOnlySpan<byte> modes = rest[..4];
        rest = rest[5..];
        if (!TryField(ref rest, 'x', (byte)' ', out ulong offset) || !TryField(ref rest, 'x', (byte)':', out ulong major) ||
            !TryField(ref rest, 'x', (byte)' ', out ulong minor) || !TryField(ref rest, 'D', (byte)' ', out ulong inode))
        {
            return false;
        }

        mapping = new Mapping(start, end, modes[0] == 'r', modes[1] == 'w', modes[2] == 'x', modes[3] == 's', offset,
            (major << 32) | minor, inode, Remembered(_names, Beginning(rest.TrimStart((byte)' ')), flags: false), s_none, 0);
        return true;
    }

    /// <summary>Parses a number, and what ends it: a separator, or the end of the line.</summary>
    private static bool TryField(ref ReadOnlySpan<byte> rest, char format, byte separator, out ulong value)
    {
        if (!Utf8Parser.TryParse(rest, out value, out int used, format) || (used < rest.Length && rest[used] != separator))
            return false;
        rest = used < rest.Length ? rest[(used + 1)..] : [];
        return true;
    }

    /// <summary>A program may have tens of thousands of mappings of files whose paths are as long as paths can be, and all of them are kept at once.</summary>
    private static ReadOnlySpan<byte> Beginning(ReadOnlySpan<byte> name) => name[..Math.Min(name.Length, NameBytesMax)];

    /// <summary>The same text again is the same string: most mappings are anonymous, or of one file, and there are a handful of different flags.</summary>
    private static string Remembered(List<string> known, ReadOnlySpan<byte> text, bool flags)
    {
        for (int i = known.Count - 1; i >= 0; i--)
        {
            if (Ascii.Equals(text, known[i]))
                return known[i];
        }

        string made = Encoding.UTF8.GetString(text);
        if (flags)
            made = string.Intern(made.EndsWith(' ') ? made : made + " ");
        if (known.Count == RememberedMax)
            known.RemoveAt(1); // the empty one stays
        known.Add(made);
        return made;
    }
}
