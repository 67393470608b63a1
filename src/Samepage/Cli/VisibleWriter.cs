using System.Text;
using Samepage.Linux;

namespace Samepage.Cli;

/// <summary>Where all text leaves us that is not drawn: what is written passes <see cref="VisibleText.OfLines"/>, so that even a name that nobody thought of cannot reach a terminal or a log as it is.</summary>
/// <remarks>Line by line to the descriptor: nothing stands in a buffer when the program ends.</remarks>
internal sealed class VisibleWriter(OutputStream stream) : TextWriter
{
    private static readonly UTF8Encoding s_utf8 = new(encoderShouldEmitUTF8Identifier: false);

    public override Encoding Encoding => s_utf8;

    public override void Write(char value) => Write(value.ToString());

    public override void Write(char[] buffer, int index, int count) => Write(new string(buffer, index, count));

    public override void Write(ReadOnlySpan<char> buffer) => Write(buffer.ToString());

    public override void Write(string? value)
    {
        if (value is { Length: > 0 })
            stream.Write(s_utf8.GetBytes(VisibleText.OfLines(value)));
    }

    public override void WriteLine(string? value) => Write(value + "\n");

    public override void WriteLine() => Write("\n");
}
