using System.Numerics;

namespace Samepage.Linux.Seccomp;

/// <summary>What is known of 32 bits: those that are set in <see cref="Known"/> are as in <see cref="Value"/>, the others may be anything. It stands for the set of all words that agree with it.</summary>
/// <remarks>
/// The one rule for what is computed here: if <c>a</c> is in the set of A and <c>s</c> in that of S, then <c>a op s</c> is in the set of the result. Whether a result is as narrow as could be is a
/// question of how many filters can be told, not of whether what is told is right; but of operands that are known whole it is known whole.
/// </remarks>
internal readonly record struct Word
{
    public Word(uint value, uint known) => (Value, Known) = (value & known, known);

    /// <summary>The known bits, and 0 for the others: the least that it can be.</summary>
    public uint Value { get; }

    /// <summary>Which bits are known.</summary>
    public uint Known { get; }

    /// <summary>The greatest that it can be.</summary>
    public uint Greatest => Value | ~Known;

    /// <summary>It can be one word only, <see cref="Value"/>.</summary>
    public bool IsExact => Known == uint.MaxValue;

    public static Word Exactly(uint value) => new(value, uint.MaxValue);

    /// <summary>All words from one to another, as far as bits can say it: what both have in common at their upper end.</summary>
    public static Word Between(uint least, uint greatest)
    {
        int differing = 32 - BitOperations.LeadingZeroCount(least ^ greatest);
        return new Word(least, differing == 32 ? 0 : uint.MaxValue << differing);
    }

    /// <summary>Both are true of one word.</summary>
    public Word And(Word also) => new(Value | also.Value, Known | also.Known);

    /// <summary>One of both is true.</summary>
    public Word Or(Word other) => new(Value, Known & other.Known & ~(Value ^ other.Value));

    public static Word operator &(Word a, Word s) => new(a.Value & s.Value, (a.Known & s.Known) | (a.Known & ~a.Value) | (s.Known & ~s.Value));

    public static Word operator |(Word a, Word s) => new(a.Value | s.Value, (a.Known & s.Known) | a.Value | s.Value);

    public static Word operator ^(Word a, Word s) => new(a.Value ^ s.Value, a.Known & s.Known);

    public static Word operator ~(Word a) => new(~a.Value, a.Known);

    public static Word operator +(Word a, Word s) => Sum(a, s, 0);

    /// <summary>In two's complement, <c>a + ~s + 1</c>.</summary>
    public static Word operator -(Word a, Word s) => Sum(a, ~s, 1);

    /// <remarks>The lowest n bits of a product depend on the lowest n of the factors alone; and zeros below the lowest one that can be set in either add up.</remarks>
    public static Word operator *(Word a, Word s)
    {
        int low = Math.Min(BitOperations.TrailingZeroCount(~a.Known), BitOperations.TrailingZeroCount(~s.Known));
        int zeros = Math.Min(32, BitOperations.TrailingZeroCount(a.Greatest) + BitOperations.TrailingZeroCount(s.Greatest));
        return new Word(unchecked(a.Value * s.Value) & Lowest(low), Lowest(Math.Max(low, zeros)));
    }

    /// <summary>The quotient by a divisor that is not 0, whatever its bits say.</summary>
    public static Word operator /(Word a, Word s) => Between(a.Value / s.Greatest, a.Greatest / Math.Max(1, s.Value));

    /// <summary>Shifted to the left by as many bits as the lowest five of the amount say: so the kernel does it.</summary>
    public Word ShiftLeft(Word amount) => Shift(amount, static (word, bits) => new Word(word.Value << bits, (word.Known << bits) | Lowest(bits)));

    /// <summary>Shifted to the right, with zeros, by as many bits as the lowest five of the amount say.</summary>
    public Word ShiftRight(Word amount) => Shift(amount, static (word, bits) => new Word(word.Value >> bits, (word.Known >> bits) | ~(uint.MaxValue >> bits)));

    private Word Shift(Word amount, Func<Word, int, Word> by)
    {
        Word? all = null;
        for (int bits = 0; bits < 32; bits++)
        {
            if (((amount.Value ^ (uint)bits) & amount.Known & 31) == 0)
                all = all is { } before ? before.Or(by(this, bits)) : by(this, bits);
        }
        return all!.Value;
    }

    /// <summary>The addition that is taught at school, with a carry that may be unknown.</summary>
    private static Word Sum(Word a, Word s, int carry)
    {
        uint value = 0, known = 0;
        int mostCarry = carry;
        for (int i = 0; i < 32; i++)
        {
            int least = (int)(a.Value >> i & 1) + (int)(s.Value >> i & 1) + carry;
            int most = (int)(a.Greatest >> i & 1) + (int)(s.Greatest >> i & 1) + mostCarry;
            if (least == most)
            {
                known |= 1u << i;
                value |= (uint)(least & 1) << i;
            }
            (carry, mostCarry) = (least >> 1, most >> 1);
        }
        return new Word(value, known);
    }

    private static uint Lowest(int bits) => bits == 32 ? uint.MaxValue : (1u << bits) - 1;
}
