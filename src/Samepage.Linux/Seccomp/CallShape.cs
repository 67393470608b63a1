namespace Samepage.Linux.Seccomp;

/// <summary>A call that is going to be made, from 64-bit code: its number, and what is known of its arguments. An argument that is left out may be anything, as its register then may.</summary>
/// <param name="Name">Its name, for messages.</param>
/// <param name="Number">Its number, as x86-64 has it.</param>
/// <param name="Argument0">In <c>rdi</c>.</param>
/// <param name="Argument1">In <c>rsi</c>.</param>
/// <param name="Argument2">In <c>rdx</c>.</param>
/// <param name="Argument3">In <c>r10</c>.</param>
/// <param name="Argument4">In <c>r8</c>.</param>
/// <param name="Argument5">In <c>r9</c>.</param>
public sealed record CallShape(string Name, uint Number, KnownBits Argument0 = default, KnownBits Argument1 = default, KnownBits Argument2 = default,
    KnownBits Argument3 = default, KnownBits Argument4 = default, KnownBits Argument5 = default)
{
    /// <summary>What is known of an argument, by its place, 0 to 5.</summary>
    public KnownBits this[int index] => index switch
    {
        0 => Argument0,
        1 => Argument1,
        2 => Argument2,
        3 => Argument3,
        4 => Argument4,
        5 => Argument5,
        _ => throw new ArgumentOutOfRangeException(nameof(index)),
    };
}
