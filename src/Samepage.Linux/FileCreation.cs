using static Samepage.Linux.Interop.FileCalls;

namespace Samepage.Linux;

/// <summary>What files may be to others when they are made, umask(2). It is the whole process's.</summary>
public sealed class FileCreation : IDisposable
{
    private const uint ForOwner = 0b000_111_111;
    private readonly uint _before;

    private FileCreation(uint mask) => _before = umask(mask);

    /// <summary>Until it is disposed, what is made is its owner's alone.</summary>
    public static FileCreation ForOwnerAlone() => new(ForOwner);

    /// <inheritdoc/>
    public void Dispose() => _ = umask(_before);
}
