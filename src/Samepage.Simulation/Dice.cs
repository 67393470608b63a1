namespace Samepage.Simulation;

/// <summary>The one source of chance of a run: the same seed gives the same rolls on every machine and every version of .NET.</summary>
/// <remarks>A counter through a 64-bit mixing function: splittable, without state but the counter.</remarks>
internal sealed class Dice(ulong seed)
{
    private ulong _state = seed;

    /// <summary>The next 64 bits.</summary>
    public ulong Next()
    {
        ulong mixed = _state += 0x9E3779B97F4A7C15;
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
        return mixed ^ (mixed >> 31);
    }

    /// <summary>A number from 0 to one below the bound.</summary>
    public int Below(int bound) => (int)(((Next() >> 32) * (ulong)bound) >> 32);

    /// <summary>True so many times out of a hundred.</summary>
    public bool Percent(int chance) => Below(100) < chance;
}
