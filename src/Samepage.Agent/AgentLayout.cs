using System.Runtime.InteropServices;

namespace Samepage.Agent;

/// <summary>Where things lie in the one mapping that the agent owns in a target. The same for every processor.</summary>
/// <remarks><code>
///   base       +---------------------------+
///              | code, r-x        16 KiB   |  the gate in its last 256 bytes
///   Data       +---------------------------+  rw-, from here to the end
///              | words (below)     4 KiB   |
///              | executor's stack 16 KiB   |
///              | warden's stack   16 KiB   |
///              | operations       96 KiB   |  MaxOperations × 48 bytes
///              | a page of zeros   4 KiB   |
///              | copies to compare 64 KiB  |  CompareBytes each, of what was moved and of frames
///   Scratch    +---------------------------+
///              | scratch X         2 MiB   |  registered on T with MISSING: pages are moved here to be compared
///   Frames     +---------------------------+
///              | signal frames     8 MiB   |  MaxHeld × 4 KiB, touched for as many threads as were ever held at a time
///   base+Size  +---------------------------+
/// </code>The whole of it is MADV_DONTFORK and MADV_DONTDUMP: children inherit nothing of ours, and what lies in X stays exclusive.</remarks>
internal static class AgentLayout
{
    public const int CodeBytes = 0x4000;

    public const int GateBytes = 0x100, GateOffset = CodeBytes - GateBytes;
    public const int DataOffset = CodeBytes;
    public const int WordsBytes = 0x1000, ExecutorStackTop = 0x5000, WardenStackTop = 0x9000;
    public const int OperationsOffset = 0x9000;
    public const int MaxOperations = 2048;
    public const int ZeroPageOffset = 0x21000;
    public const int MovedCopyOffset = 0x22000, FrameCopyOffset = MovedCopyOffset + CompareBytes;
    public const int CompareBytes = 0x8000;
    public const int SettleMilliseconds = 50;
    public const int ScratchOffset = DataOffset + FrameCopyOffset + CompareBytes;
    public const int ScratchBytes = 0x200000;

    /// <summary>Signal frames: threads that can be held at a time, and those that the holder before left to be passed.</summary>
    public const int MaxHeld = 2048;
    public const int FramesOffset = ScratchOffset + ScratchBytes, FrameBytes = 0x1000;
    public const int Size = FramesOffset + MaxHeld * FrameBytes;

    // Words, as offsets from Data.
    public const int Cookie = 0x00, GateUsed = 0x08, State = 0x10;
    public const int ExecutorFar = 0x18, ExecutorNear = 0x20, WardenFar = 0x28, WardenNear = 0x30;
    public const int DeviceFd = 0x38, PoolFd = 0x40, MapsFd = 0x48, T = 0x50, M = 0x58;
    public const int ScratchUsed = 0x60, Gate = 0x68, Orphaned = 0x70, ExecutorTid = 0x78, WardenTid = 0x80;
    public const int PoolDevice = 0x88, PoolInode = 0x90, Doorbell = 0x98, WardenDoorbell = 0xA0, InheritedM = 0xA8;
    public const int AllSignals = 0xB0, LowNeighbour = 0x100, HighNeighbour = 0x108, Unmerging = 0x110, GuardFd = 0x118, Identity = 0x120, NonZero = 0xC0;
    public const int ExecutorStruct = 0x140, WardenStruct = 0x1C0, QueryStruct = 0x200, WardenMessage = 0x280;
    public const int Message = 0x2C0, MessageVector = 0x300, MessageControl = 0x310, MessagePayload = 0x338, SocketPair = 0x340;
    public const int EpollFd = 0xC58, FreeSlots = 0xC60, WantsHelp = 0xC68, LocksFuture = 0xD40, Tickets = 0xD48, MovesOn = 0xD50, MoveMode = 0xD58, Guarded = 0xD80, EpollEvent = 0xC70, EpollEvents = 0xC80, MaxEpollEvents = 16;

    // What says how many threads there are, /proc/PID/stat; the warden is to look whether it is alone; the first thread has ended; the executor is about to end;
    // the last thread but ours, as a descriptor, and for how many looks it has ended.
    public const int StatFd = 0xD58, LookAlone = 0xD60, Leaderless = 0xD68, ExecutorLeft = 0xD70, LastFd = 0xD78, LastEnded = 0xD80;

    /// <summary>What the warden hears from the last thread by; entries of its table are addresses, and its doorbell is 0.</summary>
    public const int LastThreadEntry = 1;

    /// <summary>How often the warden looks whether it is alone: once the first thread has ended, when there is no daemon, and otherwise, if the daemon does not ask it to.</summary>
    public const int LeaderlessMilliseconds = 50, OrphanedMilliseconds = 100, RestMilliseconds = 10_000;

    /// <summary>The descriptors that the warden reads: M's, and those of forked children behind it; 8 bytes each: the descriptor, -1 where there is none, and above it a
    /// ticket, another for each child.</summary>
    public const int WardenTable = 0x400, Children = WardenTable + 8;
    public const int StretchDelta = 0x128, StretchMoved = 0x130, StretchWhole = 0x138;

    // What the copies to compare are of: where they begin, how many bytes they are, and where what was moved out ends.
    public const int MovedAt = 0xC20, MovedBytes = 0xC28, MovedEnd = 0xC30, FramesAt = 0xC38, FramesBytes = 0xC40;

    /// <summary>Fresh memory that an unmerge has put in place and not filled yet: who misses a page there waits for the executor, not for the warden.</summary>
    public const int UnfilledStart = 0xC48, UnfilledEnd = 0xC50;

    /// <summary>Forked children whose descriptors the warden can watch at a time.</summary>
    public const int MaxChildren = 256;

    // States that the daemon waits for; a negative value is an errno.
    public const long StateSockets = 1, StateReady = 2, StateOrphaned = 3;

    // What the doorbells say.
    // CloseChild: and the slot; above it the child's ticket.
    public const ulong DoorbellRun = 1, DoorbellLeave = 2, DoorbellLook = 3, DoorbellCloseChild = 0x100;
}

/// <summary>What the executor can do to a range.</summary>
public enum OperationKind : uint
{
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

    /// <summary>Of an unmerge: looks once more, <see cref="AgentLayout.SettleMilliseconds"/> later, whether what was copied has changed, and then leaves it as it is (EBUSY).</summary>
    Settle = 0x800,

    /// <summary>What takes its place is mapped without reservation too (MAP_NORESERVE): charged to nobody, and so alike that it joins its neighbours again.</summary>
    NoReserve = 0x1000,

    /// <summary>Of an unmerge, with <see cref="Locked"/>: pages are locked as they are touched (MLOCK_ONFAULT), and none is made resident for it.</summary>
    OnFault = 0x2000,
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
