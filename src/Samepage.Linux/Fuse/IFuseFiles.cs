namespace Samepage.Linux.Fuse;

/// <summary>What a node of a served tree is.</summary>
public enum FuseKind
{
    /// <summary>A directory that everybody may list.</summary>
    Directory,

    /// <summary>A file that everybody may read and nobody may write.</summary>
    ReadOnly,

    /// <summary>A file that everybody may read and its owner, root, may write.</summary>
    Writable,
}

/// <summary>A file or directory of a served tree.</summary>
/// <param name="Id">Names it for ever; 1 is the root, 0 is none.</param>
/// <param name="Name">What it is called in its directory.</param>
/// <param name="Kind">What it is.</param>
public readonly record struct FuseNode(ulong Id, string Name, FuseKind Kind);

/// <summary>The files behind a <see cref="FuseSession"/>: small texts that are live, as in sysfs.</summary>
/// <remarks>Called by the session's thread, one call at a time: all but the ends of reads and writes must answer at once, and wait for nobody who might use the files.</remarks>
public interface IFuseFiles
{
    /// <summary>Looks a name up.</summary>
    /// <param name="directory">The directory.</param>
    /// <param name="name">The name.</param>
    /// <param name="node">What bears it.</param>
    /// <returns>False when nothing does.</returns>
    bool TryFind(ulong directory, string name, out FuseNode node);

    /// <summary>A node by its id.</summary>
    /// <param name="id">The id.</param>
    /// <param name="node">The node.</param>
    /// <returns>False when it is gone.</returns>
    bool TryGet(ulong id, out FuseNode node);

    /// <summary>What is in a directory.</summary>
    IEnumerable<FuseNode> List(ulong directory);

    /// <summary>What a file says now; null when it is gone.</summary>
    /// <param name="file">The file.</param>
    /// <param name="atOnce">What is known is said: the reader has waited for long enough.</param>
    /// <returns>Ends within a bound, for a reader cannot be interrupted. Other requests are served meanwhile.</returns>
    ValueTask<string?> ReadAsync(ulong file, bool atOnce);

    /// <summary>Writes a file: one write is one value, wherever it is written to.</summary>
    /// <param name="file">The file.</param>
    /// <param name="text">What was written, a character a byte.</param>
    /// <returns>What the writer is to be told, when it is so. Other requests are served meanwhile.</returns>
    Task<Errno> WriteAsync(ulong file, string text);
}
