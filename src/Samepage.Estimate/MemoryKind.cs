namespace Samepage.Estimate;

/// <summary>What a page's memory is used for, as its mapping tells.</summary>
public enum MemoryKind : byte
{
    /// <summary>The heap that brk(2) grows.</summary>
    Heap,

    /// <summary>Anonymous memory.</summary>
    Anonymous,

    /// <summary>Anonymous memory that the program named, PR_SET_VMA_ANON_NAME.</summary>
    Named,

    /// <summary>Anonymous memory in which the stack pointer of a thread lay that waited in a system call.</summary>
    ThreadStack,

    /// <summary>The first thread's stack.</summary>
    MainStack,

    /// <summary>Pages of a private mapping of a file that the process has written: they are its own.</summary>
    FileData,

    /// <summary>A core dump's or an image's.</summary>
    Image,
}
