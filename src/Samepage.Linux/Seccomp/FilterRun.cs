using System.Numerics;
using System.Runtime.CompilerServices;
using static Samepage.Linux.Interop.LibC;

namespace Samepage.Linux.Seccomp;

/// <summary>One filter run on one call of which not all is known: wherever it could go on in two ways it goes both.</summary>
/// <remarks>
/// All jumps of classic BPF go forward. So the instructions are taken in their order, each with all states in which it can be reached, which are complete by then: a state is walked once, however many
/// paths lead to it. What is not read any more is forgotten before states are compared.
/// </remarks>
internal sealed class FilterRun(SeccompFilter filter, CallShape call)
{
    // Where registers stand; the words of memory stand above. The masks of SeccompFilter.LiveAt have their bits in the same order.
    private const int A = 0, X = 1, Memory = 2, All = Memory + BPF_MEMWORDS;

    // Where struct seccomp_data has its words of 32 bits.
    private const int NumberWord = 0, ArchitectureWord = 1, ArgumentWords = 4;

    // By instruction: the last of the states in which it can be reached, one more; 0 for none.
    private readonly int[] _last = new int[filter.Count];
    private readonly List<(Registers State, int Before)> _states = [];

    [InlineArray(All)]
    private struct Registers
    {
        private Word _first;
    }

    /// <summary>Collects all answers that can be reached.</summary>
    /// <param name="answers">They are added here, without their lower halves.</param>
    /// <param name="work">How many steps may be made; what was made is taken off.</param>
    /// <returns>False if an answer is not known, or it takes too long.</returns>
    public bool TryCollect(HashSet<uint> answers, ref int work)
    {
        Registers start = default;
        (start[A], start[X]) = (Word.Exactly(0), Word.Exactly(0));
        Reach(0, start, ref work);
        for (int at = 0; at < filter.Count; at++)
        {
            for (int i = _last[at]; i != 0; i = _states[i - 1].Before)
            {
                if (--work < 0 || !TryStep(at, _states[i - 1].State, answers, ref work))
                    return false;
            }
        }
        return true;
    }

    private void Reach(int at, Registers state, ref int work)
    {
        for (uint dead = ~filter.LiveAt(at) & ((1u << All) - 1); dead != 0; dead &= dead - 1)
            state[BitOperations.TrailingZeroCount(dead)] = default;
        for (int i = _last[at]; i != 0; i = _states[i - 1].Before, work--)
        {
            Registers seen = _states[i - 1].State;
            if (((ReadOnlySpan<Word>)seen).SequenceEqual(state))
                return;
        }
        _states.Add((state, _last[at]));
        _last[at] = _states.Count;
    }

    private bool TryStep(int at, Registers state, HashSet<uint> answers, ref int work)
    {
        BpfInstruction instruction = filter.Instructions[at];
        switch (instruction.Class)
        {
            case BPF_RET:
                Word answer = instruction.Code == (BPF_RET | BPF_A) ? state[A] : Word.Exactly(instruction.K);
                answers.Add(answer.Value & SECCOMP_RET_ACTION_FULL);
                return (answer.Known & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ACTION_FULL;
            case BPF_JMP:
                Jump(at, instruction, state, ref work);
                return true;
            case BPF_LD:
                state[A] = Load(instruction, state);
                break;
            case BPF_LDX:
                state[X] = Load(instruction, state);
                break;
            case BPF_ST:
                state[Memory + (int)instruction.K] = state[A];
                break;
            case BPF_STX:
                state[Memory + (int)instruction.K] = state[X];
                break;
            case BPF_ALU:
                Word operand = instruction.UsesX ? state[X] : Word.Exactly(instruction.K);
                if (instruction.Operation == BPF_DIV && operand.Value == 0)
                {
                    // Where the divisor is 0 the filter ends at once, with 0.
                    answers.Add(SECCOMP_RET_KILL_THREAD);
                    if (operand.IsExact)
                        return true;
                }
                state[A] = Compute(instruction.Operation, state[A], operand);
                break;
            default:
                if (instruction.Code == (BPF_MISC | BPF_TAX))
                    state[X] = state[A];
                else
                    state[A] = state[X];
                break;
        }
        Reach(at + 1, state, ref work);
        return true;
    }

    private Word Load(BpfInstruction instruction, in Registers state) => instruction.Mode switch
    {
        BPF_IMM => Word.Exactly(instruction.K),
        BPF_LEN => Word.Exactly(SeccompFilter.DataSize),
        BPF_MEM => state[Memory + (int)instruction.K],
        _ => Data((int)(instruction.K / sizeof(uint))),
    };

    /// <summary>A word of <c>struct seccomp_data</c>. Nothing is known of the instruction pointer.</summary>
    private Word Data(int word)
    {
        if (word < ArgumentWords)
            return word switch { NumberWord => Word.Exactly(call.Number), ArchitectureWord => Word.Exactly(AUDIT_ARCH_X86_64), _ => default };
        KnownBits argument = call[(word - ArgumentWords) / 2];
        int shift = word % 2 * 32;
        return new Word((uint)(argument.Value >> shift), (uint)(argument.Known >> shift));
    }

    private static Word Compute(int operation, Word a, Word operand) => operation switch
    {
        BPF_ADD => a + operand,
        BPF_SUB => a - operand,
        BPF_MUL => a * operand,
        BPF_DIV => a / operand,
        BPF_OR => a | operand,
        BPF_AND => a & operand,
        BPF_LSH => a.ShiftLeft(operand),
        BPF_RSH => a.ShiftRight(operand),
        BPF_XOR => a ^ operand,
        _ => Word.Exactly(0) - a,
    };

    private void Jump(int at, BpfInstruction instruction, Registers state, ref int work)
    {
        if (instruction.Operation == BPF_JA)
        {
            Reach(at + 1 + (int)instruction.K, state, ref work);
            return;
        }
        Word a = state[A], operand = instruction.UsesX ? state[X] : Word.Exactly(instruction.K);
        (Word? ifTrue, Word? ifFalse) = instruction.Operation switch
        {
            BPF_JEQ => Equal(a, operand),
            BPF_JGT => Above(a, operand, 1),
            BPF_JGE => Above(a, operand, 0),
            _ => Common(a, operand),
        };
        if (ifTrue is { } one)
        {
            state[A] = one;
            Reach(at + 1 + instruction.JumpTrue, state, ref work);
        }
        if (ifFalse is { } other)
        {
            state[A] = other;
            Reach(at + 1 + instruction.JumpFalse, state, ref work);
        }
    }

    /// <summary>What A can be if it is equal to the operand, and if it is not; null where that cannot be. So with the following ones.</summary>
    private static (Word? IfTrue, Word? IfFalse) Equal(Word a, Word operand)
    {
        bool canBe = ((a.Value ^ operand.Value) & a.Known & operand.Known) == 0;
        return (canBe ? a.And(operand) : null, canBe && a.IsExact && operand.IsExact ? null : a);
    }

    /// <summary>A is at least the operand and a distance, 0 or 1.</summary>
    private static (Word? IfTrue, Word? IfFalse) Above(Word a, Word operand, ulong distance)
    {
        ulong least = operand.Value + distance, greatest = operand.Greatest + distance;
        return (a.Greatest >= least ? a.And(Word.Between((uint)Math.Max(a.Value, least), a.Greatest)) : null,
            a.Value < greatest ? a.And(Word.Between(a.Value, (uint)Math.Min(a.Greatest, greatest - 1))) : null);
    }

    /// <summary>A has a bit in common with the operand.</summary>
    private static (Word? IfTrue, Word? IfFalse) Common(Word a, Word operand)
    {
        uint possible = a.Greatest & operand.Greatest;
        bool isCertain = (a.Value & operand.Value) != 0;
        return (possible == 0 ? null : BitOperations.IsPow2(possible) ? a.And(new Word(possible, possible)) : a, isCertain ? null : a.And(new Word(0, operand.Value)));
    }
}
