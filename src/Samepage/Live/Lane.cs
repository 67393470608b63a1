namespace Samepage.Live;

/// <summary>What is done for one program at a time by one attendant: work in different lanes of a program goes on at the same time.</summary>
internal enum Lane
{
    /// <summary>Holding threads, asking the agent, reading page tables and mappings: whatever changes what is known of the program.</summary>
    Hold,

    /// <summary>Reading pages.</summary>
    Read,

    /// <summary>Taking the descriptors of forked children.</summary>
    Fork,

    /// <summary>Looking at a program that is not taken in, or not for its own sake.</summary>
    Look,

    /// <summary>Looking at all descriptors that it has open, of which there may be a million.</summary>
    Files,

    /// <summary>Looking at its physical pages while its threads are held: by somebody whom the one that holds them need not wait for.</summary>
    Frames,
}

/// <summary>Which number an attendant's work has.</summary>
internal static class Lanes
{
    /// <summary>The number of a lane of a process. Process ids are below 2^22, proc(5).</summary>
    public static int Of(int pid, Lane lane) => (pid << 3) | (int)lane;

    /// <summary>Work that is about no process in particular has negative numbers: who answers for children without a warden.</summary>
    public static int OfOrphans(int number) => -3 - 3 * (number & 0xFFFFFF);

    /// <summary>A look at all processes.</summary>
    public static int OfRound(int number) => -1 - 3 * (number & 0xFFFFFF);

    /// <summary>The frames of a domain.</summary>
    public static int OfPool(int number) => -2 - 3 * number;
}
