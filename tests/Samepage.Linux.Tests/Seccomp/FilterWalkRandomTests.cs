using CsCheck;
using Samepage.Linux.Seccomp;

namespace Samepage.LinuxTests;

/// <summary>The walker against an interpreter that knows everything, on random filters and calls.</summary>
public sealed class FilterWalkRandomTests
{
    private static readonly Gen<ulong[]> Arguments = RandomPrograms.Argument.Array[6];

    /// <summary>Which bits are known: all, none, the lower half, or any.</summary>
    private static readonly Gen<ulong[]> Masks = Gen.OneOf(RandomPrograms.OneOf<ulong>(ulong.MaxValue, 0, uint.MaxValue), Gen.ULong, Gen.Int[0, 63].Select(bit => ~(1ul << bit))).Array[6];

    /// <summary>Of a call of which all is known exactly one thing comes, the right one.</summary>
    [Fact]
    public void WhatIsKnownIsTold() => Gen.Select(RandomPrograms.Programs(looksAtPointer: false).Array[1, 3], Arguments).Sample(
        (programs, arguments) => TellsExactly(programs, arguments), iter: 20_000);

    private static bool TellsExactly(BpfInstruction[][] programs, ulong[] arguments)
    {
        uint[] data = Bpf.Data(RandomPrograms.Number, 0, arguments);
        SeccompActions expected = Bpf.Action(Bpf.Lowest(programs.Select(program => Bpf.Run(program, data))));
        return FilterWalk.ActionsFor([.. programs.Select(program => Bpf.Filter(program))], RandomPrograms.Exactly(RandomPrograms.Number, arguments)) == expected;
    }

    /// <summary>Whatever the bits are that are not known, what comes is among what was told.</summary>
    [Fact]
    public void WhatCanComeIsTold()
    {
        int all = 0, unknown = 0, several = 0, notAll = 0;
        Gen.Select(RandomPrograms.Programs(looksAtPointer: true).Array[1, 2], Arguments, Masks, Gen.Select(Arguments, Gen.ULong).Array[12]).Sample((programs, arguments, known, others) =>
        {
            SeccompActions told = FilterWalk.ActionsFor([.. programs.Select(program => Bpf.Filter(program))], RandomPrograms.Known(RandomPrograms.Number, arguments, known));
            Interlocked.Increment(ref all);
            if (told.HasFlag(SeccompActions.Unknown))
            {
                Interlocked.Increment(ref unknown);
                return told == SeccompActions.Unknown;
            }
            if (!int.IsPow2((int)told))
                Interlocked.Increment(ref several);
            SeccompActions seen = SeccompActions.None;
            foreach ((ulong[] other, ulong pointer) in others)
            {
                ulong[] concrete = [.. arguments.Select((argument, i) => (argument & known[i]) | (other[i] & ~known[i]))];
                uint[] data = Bpf.Data(RandomPrograms.Number, pointer, concrete);
                seen |= Bpf.Action(Bpf.Lowest(programs.Select(program => Bpf.Run(program, data))));
            }
            if (seen != told)
                Interlocked.Increment(ref notAll);
            return (seen & ~told) == SeccompActions.None;
        }, iter: 60_000);
        // The test is one only if much is told, and of more than one thing that may come, and not by saying that all may.
        Assert.True(unknown < all / 10, $"{unknown} of {all} unknown");
        Assert.True(several > all / 20, $"{several} of {all} with several actions");
        Assert.True(notAll < all / 10, $"{notAll} of {all} with more told than seen");
    }
}
