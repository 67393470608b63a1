using Samepage.Estimate.Figures;

namespace Samepage.Estimate.Census;

/// <summary>Pages that would be saved, but for zeros, with what is known of them.</summary>
/// <param name="Pages">The estimate.</param>
/// <param name="Low">The lower end of the 95 % interval.</param>
/// <param name="High">Its upper end.</param>
internal readonly record struct Saving(long Pages, long Low, long High);

/// <summary>What contents save, and between which bounds the truth lies where only one of so many was kept.</summary>
/// <remarks><para>A content is kept or not as a whole, with all its copies, so each is one draw: 1. Contents with very many copies were counted in full
/// (<see cref="HeavyContents"/>), and are certain but for what was missed. 2. The others are drawn with the same chance each. Their sum is scaled up, and its interval is that of a Poisson number
/// of draws of their effective size, by the score method: it holds for few draws too, and is not empty where none was kept.</para>
/// <para>With everything kept all of it is exact.</para></remarks>
internal sealed class SampledSaving(int domains, int oneOf, Dictionary<(ulong Digest, int Domain), HeavyContents.Count> heavy)
{
    private const double Z = 1.96;
    private readonly Draws[] _byDomain = new Draws[domains];
    private Draws _all;
    private ulong _digest;
    private long _ofDigest;

    /// <summary>All domains together.</summary>
    public Saving All => Of(_all.With(_ofDigest), heavy.Values);

    /// <summary>One domain.</summary>
    public Saving this[int domain] => Of(_byDomain[domain], heavy.Where(entry => entry.Key.Domain == domain).Select(entry => entry.Value));

    /// <summary>Of all that would be saved, what kept its content over the samples.</summary>
    /// <param name="figures">The sums over everything, scaled up or not.</param>
    /// <remarks>Pages of zeros are known one by one. With a sample the others are as stable as the copies that were kept: contents that did not change were kept in every
    /// reading, being chosen by their digest. Contents that were counted in full are taken to be as stable as these.</remarks>
    public long StableOf(PageFigures figures)
    {
        long copies = figures.Internal + figures.InDomain;
        return oneOf == 1 || copies == 0 ? figures.Stable : figures.StableZero + (long)((double)All.Pages * (figures.Stable - figures.StableZero) / copies);
    }

    /// <summary>Enters a content that was kept; the domains of one follow each other.</summary>
    public void Add(ulong digest, int domain, long copies)
    {
        if (digest != _digest)
            (_all, _digest, _ofDigest) = (_all.With(_ofDigest), digest, 0);
        if (oneOf > 1 && heavy.ContainsKey((digest, domain)))
            return;
        _ofDigest += copies - 1;
        _byDomain[domain] = _byDomain[domain].With(copies - 1);
    }

    private Saving Of(Draws draws, IEnumerable<HeavyContents.Count> certain)
    {
        if (oneOf == 1)
            return new Saving((long)draws.Sum, (long)draws.Sum, (long)draws.Sum);
        long least = 0, most = 0;
        foreach (HeavyContents.Count count in certain)
            (least, most) = (least + count.Copies - 1, most + count.Copies - 1 + count.Missed);
        double size = draws.Sum > 0 ? draws.Squares / draws.Sum : 1, effective = draws.Sum / size;
        double middle = effective + Z * Z / 2, half = Z * Math.Sqrt(effective + Z * Z / 4);
        double low = (middle - half) * size * oneOf, high = (middle + half) * size * oneOf;
        return new Saving((long)(draws.Sum * oneOf) + (least + most) / 2, (long)Math.Max(low, draws.Sum) + least, (long)high + most);
    }

    private readonly record struct Draws(double Sum, double Squares)
    {
        public Draws With(long saved) => new(Sum + saved, Squares + (double)saved * saved);
    }
}
