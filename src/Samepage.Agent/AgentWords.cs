namespace Samepage.Agent;

/// <summary>Words of 64 bits that only the agent uses: offsets from Data. The borrowed thread and whoever reads the program's memory can reach them, too.</summary>
/// <remarks>Of another type than <see cref="SharedWord"/>, so that nobody can write one and read the other.</remarks>
internal enum OwnWord
{
    /// <summary>As the shared one: it is written here before there is shared memory.</summary>
    Cookie = 0x00,

    /// <summary>How far it has been set up, or an errno, negative.</summary>
    State = 0x10,

    // Descriptors.
    ExecutorFar = 0x18, ExecutorNear = 0x20, WardenNear = 0x30, DeviceFd = 0x38, PoolFd = 0x40, MapsFd = 0x48, T = 0x50, M = 0x58, WordsFd = 0xB8, GuardFd = 0x118, EpollFd = 0xC58,

    /// <summary>Bytes of X that are in use.</summary>
    ScratchUsed = 0x60,

    /// <summary>The warden has noticed that the daemon is gone.</summary>
    Orphaned = 0x70,
    ExecutorTid = 0x78,
    PoolDevice = 0x88,
    PoolInode = 0x90,

    // What was read from the sockets last.
    Doorbell = 0x98, WardenDoorbell = 0xA0,

    /// <summary>M came by fork.</summary>
    InheritedM = 0xA8,

    // Of an unmerge: the pages on either side that are registered with it, 0 where there is none, and which mapping it is. A join keeps what became of it in the first.
    LowNeighbour = 0x100, HighNeighbour = 0x108, Identity = 0x120,

    /// <summary>The protection of what is joined, merged or left to the zero page; and that it was lifted.</summary>
    Protection = 0xD68, Lifted = 0xE30,

    // As the shared ones: they are written here before there is shared memory.
    RoomSoft = 0xD70, RoomHard = 0xD78,

    /// <summary>Something is given back: the warden is not to sleep.</summary>
    Unmerging = 0x110,

    // Of a stretch: how far X is from it, that it was moved out, and up to where it is whole again.
    StretchDelta = 0x128, StretchMoved = 0x130, StretchWhole = 0x138,

    // What the copies to compare are of: where they begin, how many bytes they are, and where what was moved out ends.
    MovedAt = 0xC20, MovedBytes = 0xC28, MovedEnd = 0xC30, FramesAt = 0xC38, FramesBytes = 0xC40,

    /// <summary>Slots for children that are free.</summary>
    FreeSlots = 0xC60,

    /// <summary>Children so far.</summary>
    Tickets = 0xD48,

    /// <summary>Questions so far.</summary>
    Questions = 0xD60,

    // Of moves: the userfaultfd, and the mode.
    MovesOn = 0xD50, MoveMode = 0xD58,

    // What says how many threads there are, /proc/PID/stat; the warden is to look whether it is alone; the first thread has ended; the executor is about to end;
    // the last thread but ours, as a descriptor, and for how many looks it has ended.
    StatFd = 0xE00, LookAlone = 0xE08, Leaderless = 0xE10, ExecutorLeft = 0xE18, LastFd = 0xE20, LastEnded = 0xE28,
}

/// <summary>Words of 64 bits that the agent and the daemon use: offsets from Shared.</summary>
internal enum SharedWord
{
    /// <summary>Tells this agent from all others.</summary>
    Cookie = 0x00,

    // Of the gate: see AgentAssembler, the gate.
    GateUsed = 0x08, Gate = 0x68,

    // What the executor publishes, as its own words of these names.
    State = OwnWord.State, ExecutorFar = OwnWord.ExecutorFar, PoolFd = OwnWord.PoolFd, T = OwnWord.T, M = OwnWord.M, ExecutorTid = OwnWord.ExecutorTid, GuardFd = OwnWord.GuardFd,

    WardenTid = 0x80,

    /// <summary>Fresh memory that is put in place, and not filled yet: who misses a page there waits for the executor, not for the warden. Both threads read and write it here.</summary>
    UnfilledStart = 0xC48, UnfilledEnd = 0xC50,

    /// <summary>The warden has no slot or no descriptor for a child.</summary>
    WantsHelp = 0xC68,

    /// <summary>The program has asked that all that is mapped from now on be locked.</summary>
    LocksFuture = 0xD40,

    /// <summary>How far the batch has come, so that whoever stands before the gate can tell whether the program may run: see <see cref="X64.AgentAssembler"/>, the gate.</summary>
    Batch = 0xD60,

    /// <summary>The executor was given a priority that it must give up itself if it becomes an orphan.</summary>
    Hurried = 0xD68,

    // What the process's bound of descriptors was before the daemon raised it for the agent, and one, 0 where it did not; and the hard one. See DescriptorRoom.
    RoomSoft = OwnWord.RoomSoft, RoomHard = OwnWord.RoomHard,
}
