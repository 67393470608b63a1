namespace Samepage.Engine;

/// <summary>Something that must hold does not: a defect of the engine, or of the machine behind its port.</summary>
/// <param name="invariant">Its name, such as <c>G10 counters</c>.</param>
/// <param name="message">What was found.</param>
public sealed class EngineInvariantException(string invariant, string message) : InvalidOperationException($"{invariant}: {message}")
{
    /// <summary>The name of what does not hold.</summary>
    public string Invariant => invariant;
}
