namespace Samepage.Engine.Records;

/// <summary>How much native memory the engine may hold, and how much it does. What finds no room is passed over, never forced (H2).</summary>
/// <param name="bytesMax">The most.</param>
internal sealed class MemoryBudget(long bytesMax)
{
    /// <summary>The most; a test lowers it to what is used, and the next growth fails.</summary>
    public long BytesMax { get; set; } = bytesMax;

    /// <summary>Held now.</summary>
    public long BytesUsed { get; private set; }

    public bool TryTake(long bytes)
    {
        if (bytes > BytesMax - BytesUsed)
            return false;
        BytesUsed += bytes;
        return true;
    }

    public void Return(long bytes) => BytesUsed -= bytes;
}
