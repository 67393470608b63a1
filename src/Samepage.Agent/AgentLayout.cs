using System.Runtime.InteropServices;
using Samepage.Linux.Frames;

namespace Samepage.Agent;

/// <summary>Where things lie in the range that the agent owns in a target. The same for every processor.</summary>
/// <remarks><code>
///   base       +---------------------------+
///              | code, r-x        20 KiB   |  the gate in its last 512 bytes
///   Data       +---------------------------+  rw-, from here to the end
///              | words (below)     4 KiB   |  the agent's own
///              | executor's stack 16 KiB   |
///              | warden's stack   16 KiB   |
///              | a page of zeros   4 KiB   |
///              | copies to compare 64 KiB  |  CompareBytes each, of what was moved and of frames
///   Scratch    +---------------------------+
///              | scratch X         2 MiB   |  registered on T: pages are moved here to be compared
///   Home       +---------------------------+
///              | a signal frame    4 KiB   |  takes the thread home that was borrowed for the attach
///   Shared     +---------------------------+  from here on a file that the daemon maps as well, see AgentMemory
///              | words (below)     4 KiB   |  those that both use
///              | operations       96 KiB   |  MaxOperations × 48 bytes
///              | signal frames     8 MiB   |  MaxHeld × 4 KiB, touched for as many threads as were ever held at a time
///   base+Size  +---------------------------+
/// </code>The whole of it is MADV_DONTFORK and MADV_DONTDUMP: children inherit nothing of ours, and what lies in X stays exclusive.</remarks>
internal static class AgentLayout
{
    public const int CodeBytes = 0x5000;

    public const int GateBytes = 0x200, GateOffset = CodeBytes - GateBytes;
    public const int DataOffset = CodeBytes;
    public const int WordsBytes = 0x1000, ExecutorStackTop = 0x5000, WardenStackTop = 0x9000;
    public const int ZeroPageOffset = 0x9000;
    public const int MovedCopyOffset = 0xA000, FrameCopyOffset = MovedCopyOffset + CompareBytes;
    public const int CompareBytes = 0x8000;
    public const int ScratchOffset = DataOffset + FrameCopyOffset + CompareBytes;
    public const int ScratchBytes = 0x200000;

    public const int FrameBytes = 0x1000, HomeFrameOffset = ScratchOffset + ScratchBytes;

    /// <summary>The part that both map. Offsets of what lies in it are counted from its beginning.</summary>
    public const int SharedOffset = HomeFrameOffset + FrameBytes, SharedBytes = FramesAtShared + MaxHeld * FrameBytes;
    public const int OperationsAtShared = WordsBytes, MaxOperations = 2048;

    /// <summary>Signal frames: threads that can be held at a time, and those that the holder before left to be passed.</summary>
    public const int MaxHeld = 2048;
    public const int FramesAtShared = OperationsAtShared + 0x18000;
    public const int Size = SharedOffset + SharedBytes;

    // Structures and tables, as offsets from Data; words are OwnWord's and SharedWord's.
    public const int AllSignals = 0xB0, NonZero = 0xC0, ExecutorStruct = 0x140, WardenStruct = 0x1C0, QueryStruct = 0x200, WardenMessage = 0x280;
    public const int Message = 0x2C0, MessageVector = 0x300, MessagePayload = 0x310, SocketPair = 0x318, MessageControl = 0x320, MessageControlBytes = 16 + 4 * MaxDescriptors;
    public const int Name = 0xE80, NameBytes = 0x80; // of a mapping: brackets, what kind of memory has it, at most 79 characters of its own, and the end
    public const int Guarded = 0xD80, EpollEvent = 0xC70, EpollEvents = 0xC80, MaxEpollEvents = 16;

    // Values of SharedWord.Batch: none, or it has ended; asked for, and not begun; under way; under way, and somebody waits at the gate for its end.
    public const int BatchNone = 0, BatchAsked = 1, BatchRunning = 2, BatchAwaited = 3;

    /// <summary>What the warden hears from the last thread by; entries of its table are addresses, and its doorbell is 0.</summary>
    public const int LastThreadEntry = 1;

    /// <summary>How often the warden looks whether it is alone: once the first thread has ended, when there is no daemon, and otherwise, if the daemon does not ask it to.</summary>
    public const int LeaderlessMilliseconds = 50, OrphanedMilliseconds = 100, RestMilliseconds = 10_000;

    /// <summary>The descriptors that the warden reads, from Shared on: M's, and those of forked children behind it; 8 bytes each: the descriptor, -1 where there is none, and above it a
    /// ticket, another for each child.</summary>
    public const int WardenTable = 0x400, Children = WardenTable + 8;
    /// <summary>Forked children whose descriptors the warden can watch at a time.</summary>
    public const int MaxChildren = 256;

    // Descriptors in a message to the executor: two sockets, and, for a new one, the others, spares, and perhaps the M that was inherited; then what else guards frames, which nobody names, and without which there are no spares.
    public const int Sockets = 2, MinDescriptors = 8, Spares = 2, MaxDescriptors = MinDescriptors + Spares + 1 + FrameGuards.PipesMost - 1;

    // What that message says, by its bits: an M is among them, and so are spares. Its upper half is how many descriptors there are.
    public const ulong Handed = 1, HandedInherited = 2, HandedSpares = 4;

    /// <summary>Descriptors that an agent must be able to have for it to come: those that it is sent, and the pair over which they are.</summary>
    /// <param name="pipes">Of guards.</param>
    public static int LeastDescriptors(int pipes) => MinDescriptors + 1 + (pipes > 1 ? Spares + pipes - 1 : 0) + 2;

    // States that the daemon waits for; a negative value is an errno.
    public const long StateSocket = 1, StateReady = 2, StateOrphaned = 3;

    // What the doorbells say.
    // CloseChild: and the slot; above it the child's ticket.
    public const ulong DoorbellRun = 1, DoorbellLeave = 2, DoorbellLook = 3, DoorbellCloseChild = 0x100;

    // In the middle of a batch, when nobody can write any more to what is to be given back: the executor asks which operations may go on. The answer is that those may which have not become None, or that none may; the number of the question stands above both.
    public const uint Asks = 4, MayGoOn = 5, MayNot = 6;

    /// <summary>How long the executor waits for that: the daemon may have been killed, and its end of the socket be held open by a thread that does not come out of the kernel.</summary>
    public const int QuestionMilliseconds = 2000;
}

/// <summary>What the executor can do to a range.</summary>
public enum OperationKind : uint
{
    /// <summary>Nothing: it was withheld.</summary>
    None = 0,

    /// <summary>Map neighbouring pages to neighbouring frames, if they are equal.</summary>
    Merge = 1,

    /// <summary>Leave pages that are all zero to the kernel's zero page.</summary>
    Zero = 2,

    /// <summary>Give a mapping of frames its own memory back.</summary>
    Unmerge = 3,

    /// <summary>Makes memory that was given back a part of the area right before it, which it did not join.</summary>
    Join = 4,
}

/// <summary>Advice that the new mapping must carry on, and what brackets runs that are merged together.</summary>
[Flags]
public enum OperationFlags : uint
{
    None = 0,
    Mergeable = 1,
    HugePage = 2,
    NoHugePage = 4,
    DontFork = 8,
    DontDump = 16,

    /// <summary>Of an unmerge: what takes the place of the frames is locked, mlock(2), as they are.</summary>
    Locked = 32,

    /// <summary>It is read at random, MADV_RANDOM.</summary>
    Random = 64,

    /// <summary>It is read from its beginning to its end, MADV_SEQUENTIAL.</summary>
    Sequential = 128,
    Advice = Mergeable | HugePage | NoHugePage | DontFork | DontDump | Random | Sequential,

    /// <summary>Not a run: moves a stretch of one area out whole. As many runs as FrameOffset says follow, by rising address, and then its end.</summary>
    BeginStretch = 0x100,

    /// <summary>A run in the stretch that was begun; its advice comes with the end.</summary>
    InStretch = 0x200,

    /// <summary>Not a run: gives back what of the stretch was not merged, and gives all of it the advice that stands beside. Address, Length and FrameOffset are those of its beginning.</summary>
    EndStretch = 0x400,

    /// <summary>Of an unmerge: once nobody can write to it any more who does not hold its pages already, the daemon is asked whether somebody does. It is left as it is then (EBUSY).</summary>
    Ask = 0x800,

    /// <summary>What takes its place is mapped without reservation too (MAP_NORESERVE): charged to nobody, and so alike that it joins its neighbours again.</summary>
    NoReserve = 0x1000,

    /// <summary>Of an unmerge, with <see cref="Locked"/>: pages are locked as they are touched (MLOCK_ONFAULT), and none is made resident for it.</summary>
    OnFault = 0x2000,

    /// <summary>Of what is moved: it cannot be both read and written. That is lifted for as long as the operation goes on.</summary>
    Protected = 0x4000,

    /// <summary>With <see cref="Protected"/>: it may be memory that can be executed.</summary>
    Executable = 0x8000,

    /// <summary>It has a name, PR_SET_VMA_ANON_NAME, which what takes its place is given.</summary>
    Named = 0x10000,
}

/// <summary>One operation as it lies in the target: 48 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct AgentOperation
{
    public OperationKind Kind;
    public OperationFlags Flags;
    public ulong Address;
    public ulong Length;
    public ulong FrameOffset;

    /// <summary>0, or why it stopped after <see cref="Done"/> bytes: an errno; EILSEQ where the content differs.</summary>
    public long Error;
    public ulong Done;
}
