using System.Globalization;

namespace Samepage.Simulation.Worlds;

/// <summary>What may happen on the machine. Those from <see cref="Attach"/> on are the engine's and its keeper's, and are never inside one another.</summary>
internal enum Act
{
    Start, Fork, Exit, Stop, Continue,
    Map, MapOther, Unmap, Remap, Protect, Unprotect, Lock, Unlock, Advise, Unadvise, NoFork, WipeOnFork,
    Write, WriteRising, WriteCell, WriteBlind, Read, Discard, ForeignWrite,
    Pin, Dma, Unpin,
    SwapOut, Migrate, Collapse, SplitsFail, SplitsWork, Starve, StarveEngine, Offline, Online,
    Attach, Detach, Break, UnmergeAll, MoveFrame, Retire, Visit, Scan, Pass, Rest,
}

/// <summary>One step of a run, as data.</summary>
/// <param name="Act">What happens.</param>
/// <param name="Who">To which process: its place among those that live, counted round.</param>
/// <param name="Page">To which page, counted round.</param>
/// <param name="Count">To how many pages.</param>
/// <param name="Value">With which value.</param>
/// <param name="Delay">While the engine works: behind how many opportunities; see <see cref="InExchange"/>.</param>
internal readonly record struct Step(Act Act, int Who = 0, int Page = 0, int Count = 1, int Value = 0, int Delay = 0)
{
    /// <summary>A delay from this on is counted from the beginning of an exchange.</summary>
    public const int InExchange = 1000;

    /// <summary>It is done by the engine or whoever keeps it, and is not done in the middle of another such step.</summary>
    public bool IsEngines => Act >= Act.Attach;

    /// <summary>Reads what <see cref="ToString"/> wrote.</summary>
    public static Step Parse(string line)
    {
        string[] words = line.Split([' ', ','], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        int[] numbers = [.. words.Skip(1).Select(word => int.Parse(word, CultureInfo.InvariantCulture))];
        return new Step(Enum.Parse<Act>(words[0]), numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]);
    }

    /// <summary>The act and its five numbers, in the order of the parameters.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Act} {Who} {Page} {Count} {Value} {Delay}");
}
