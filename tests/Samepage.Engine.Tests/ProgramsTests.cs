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
        AnyStep.Array[1, 150].Sample(program => RunAnything(kind, program), iter: 500, threads: 1, print: Print);

    [Theory]
    [MemberData(nameof(Kinds))]
    public void C3_C5_AtRestNoTwoEqualPagesOfADomainAreApart(int kind) =>
        AnyStep.Where(IsUndisturbed).Array[1, 100].Sample(program => RunUndisturbed(kind, program), iter: 200, threads: 1, print: Print);

    /// <summary>Known-bad controls: with any of these faults some test of this project fails, well within the number of programs that the others run.</summary>
    [Theory]
    [MemberData(nameof(Faults))]
    public void EveryDeliberateFaultIsNoticed(int fault)
    {
        const int Programs = 400;
        Action[] directed =
        [
            new OptingTests().A3_NewSlotGoesBehindTheCursor,
            () => new CursorTests().B2_ABatchEndsAnywhereAndTheNextGoesOnExactlyThere(tracksWrites: false, pages: 3),
            new ChecksumTests().C4_WithoutTrackingAPageWhoseChecksumChangedIsVolatile,
            new MergingTests().C6_PagesSharedByForkAreLeftUntilTheyAreWritten,
            new MergingTests().DomainsNeverShare,
            new BreakingTests().E1_AMappingOfWhichAFewPagesAreBrokenIsKeptAndOneOfWhichHalfAreIsGivenBack,
            new RestTests().G9_APageThatIsMergedAndWrittenRestsTwiceAsLongEachTime,
        ];
        Assert.DoesNotContain(directed, test => Scanned.Fails(EngineFaults.None, test));
        if (directed.Any(test => Scanned.Fails((EngineFaults)fault, test)))
            return;
        for (uint seed = 0; seed < Programs; seed++)
        {
            Step[] anything = AnyStep.Array[1, 150].Generate(new PCG(seed), null, out _);
            Step[] undisturbed = AnyStep.Where(IsUndisturbed).Array[1, 100].Generate(new PCG(seed), null, out _);
            if (Scanned.Fails((EngineFaults)fault, () => RunAnything((int)seed % Kind.All.Length, anything)) ||
                Scanned.Fails((EngineFaults)fault, () => RunUndisturbed((int)seed % Kind.All.Length, undisturbed)))
            {
                return;
            }
        }

        Assert.Fail($"{Programs} programs noticed nothing of {(EngineFaults)fault}");
    }

    public static TheoryData<int> Faults => [.. Enum.GetValues<EngineFaults>().Where(fault => fault != EngineFaults.None).Select(fault => (int)fault)];

    private static bool IsUndisturbed(Step step) => step.Act is not (Act.Force or Act.Hold or Act.Fork or Act.Surprise or Act.Retire or Act.Starve);

    private static string Print(Step[] program) => string.Join('\n', program);

    private static void RunAnything(int kind, Step[] program)
    {
        using World world = new(Kind.All[kind]);
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

    private static void RunUndisturbed(int kind, Step[] program)
    {
        using World world = new(Kind.All[kind]);
        foreach (Step step in program)
            world.Do(step);
        world.ComeToRest();
        world.CheckContents();
        world.CheckNothingIsApart();
    }
}
