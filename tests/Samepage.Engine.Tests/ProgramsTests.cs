using CsCheck;
using Samepage.Engine;
using Samepage.EngineTests.Harness;

namespace Samepage.EngineTests;

/// <summary>Random programs in several spaces of two domains: nobody ever sees anything but what he wrote, and the counters are exact.</summary>
public sealed class ProgramsTests
{
    private static readonly Gen<Step> AnyStep =
        Gen.Select(Gen.Int[0, (int)Act.End], Gen.Int[0, World.SpaceCount - 1], Gen.Int[0, World.PageCount - 1], Gen.Int[0, 3])
            .Select((act, space, page, value) => new Step((Act)act, space, page, (byte)value));

    public static TheoryData<int> Kinds => [.. Enumerable.Range(0, Kind.All.Length)];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void D8_G10_EveryPageShowsWhatWasWrittenAndTheCountersEqualARecount(int kind) =>
        AnyStep.Array[1, 150].Sample(program => RunAnything(kind, program, EngineFaults.None), iter: 500, threads: 1, print: Print);

    [Theory]
    [MemberData(nameof(Kinds))]
    public void C3_C5_AtRestNoTwoEqualPagesOfADomainAreApart(int kind) =>
        AnyStep.Where(IsUndisturbed).Array[1, 100].Sample(program => RunUndisturbed(kind, program, EngineFaults.None), iter: 200, threads: 1, print: Print);

    private static bool IsUndisturbed(Step step) => step.Act is not (Act.Force or Act.Fork or Act.Surprise or Act.Retire or Act.Starve);

    private static string Print(Step[] program) => string.Join('\n', program);

    private static void RunAnything(int kind, Step[] program, EngineFaults faults)
    {
        using World world = new(Kind.All[kind], faults);
        foreach (Step step in program)
        {
            world.Do(step);
            world.CheckContents();
        }

        world.CheckInvariants();
        world.ComeToRest();
        world.CheckContents();
        world.Recount();
        world.EndAll();
    }

    private static void RunUndisturbed(int kind, Step[] program, EngineFaults faults)
    {
        using World world = new(Kind.All[kind], faults);
        foreach (Step step in program)
            world.Do(step);
        world.ComeToRest();
        world.CheckContents();
        world.CheckNothingIsApart();
    }
}
