namespace Samepage.Linux.Userfault;

/// <summary>What was left where events of a userfaultfd were read.</summary>
public enum Unread
{
    /// <summary>Nothing waits.</summary>
    Nothing,

    /// <summary>As many were read as are at a time, and there may be more.</summary>
    More,

    /// <summary>A fork may wait for its event to be read, which takes a descriptor, and none is left for programs.</summary>
    NoRoom,
}
