namespace Samepage.Engine.Control;

/// <summary>How pressed for memory a machine is at one moment.</summary>
/// <param name="AvailablePercent">The share of its memory that programs can have without swapping, percent.</param>
/// <param name="SomeAverage">The share of time in which somebody waited for memory, lately, percent; null where the kernel does not say.</param>
public readonly record struct MemoryPressure(double AvailablePercent, double? SomeAverage);

/// <summary>A measure of pressure with two thresholds: pressed at the one, relieved at the other, and between them as before.</summary>
/// <param name="Start">What is pressed.</param>
/// <param name="Stop">What is relieved.</param>
public readonly record struct PressureLimits(double Start, double Stop);

/// <summary>Says whether a scanner is to work: from when memory is short until it is not any more.</summary>
/// <remarks>It opens when one measure is below, or above, where it starts, and closes when all are back where they stop. A measure that cannot be read at the
/// moment says neither. One thread.</remarks>
public sealed class PressureGate
{
    private bool _isOpen;

    /// <summary>By available memory, percent: starts below, stops above. Null: not by it.</summary>
    public PressureLimits? Available { get; init; }

    /// <summary>By the share of time waited, percent: starts above, stops at or below. Null: not by it.</summary>
    public PressureLimits? Some { get; init; }

    /// <summary>Whether to work. Without any limits always; otherwise not before the first look.</summary>
    public bool IsOpen => !HasLimits || _isOpen;

    /// <summary>There is something to look at.</summary>
    public bool HasLimits => Available is not null || Some is not null;

    /// <summary>Looks at the pressure.</summary>
    /// <returns>Whether to work from now on.</returns>
    public bool Look(MemoryPressure pressure)
    {
        bool pressed = pressure.AvailablePercent < Available?.Start || pressure.SomeAverage > Some?.Start;
        bool relieved = (Available is null || pressure.AvailablePercent > Available?.Stop) && (Some is null || pressure.SomeAverage <= Some?.Stop);
        _isOpen = pressed || (_isOpen && !relieved);
        return IsOpen;
    }
}
