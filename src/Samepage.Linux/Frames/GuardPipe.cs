using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Frames;

/// <summary>A pipe that holds pages of frames: see <see cref="FrameGuards"/>.</summary>
/// <remarks>
/// <para>Whoever reads it dry could have huge pages made, and others would see zeros. A writing end cannot be read, teed or spliced from, but by its link in /proc
/// anybody could open a reading end whom the inode's mode and owner let. So the pipe is of mode 0 and of an owner that nobody is: root without capabilities is refused
/// like everybody else. What passes is CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH in the first user namespace, see SECURITY.md. With the writing end the pipe can be
/// filled: then it takes nothing more.</para>
/// <para>And something else can be written into it. The pipe does not say whose a page is, and dead ones are told by their places in it: one foreign page, and the next living guard would be
/// thrown out for a dead one. So before any is read, the bytes in the pipe must be as many as ours are. Nobody but us takes anything out, so then all are ours; what is written later lies behind them, and
/// is seen when ours have gone through the other pipe and back. From then on nothing is taken out any more, and nothing new is guarded by it.</para>
/// <code>
///   pipe      [page of extent 0][page of extent 3][page that was punched out]…   first in, first out
///   _order    the same, as (extent, ticket)
/// </code>
/// </remarks>
internal sealed unsafe class GuardPipe : IDisposable
{
    private const int Page = 4096, SlotsFirst = 1; // the room of all pipes is charged to our user, and a user's programs get small pipes above a limit (fs.pipe-user-pages-soft)

    /// <summary>The last user id but the invalid one: no program is given it, and no user namespace but the first has it.</summary>
    private const uint NobodyAtAll = 4294967294;

    private readonly FileDescriptor _out;
    private readonly Queue<(uint Extent, long Ticket)> _order = [];
    private readonly List<FileDescriptor> _left = [];

    /// <exception cref="SyscallException">There is no pipe to be had.</exception>
    public GuardPipe() => (_out, Held) = New(SlotsFirst);

    /// <summary>Its writing end.</summary>
    public FileDescriptor Held { get; }

    /// <summary>How many pages there is room for.</summary>
    public int Slots { get; private set; } = SlotsFirst;

    /// <summary>Pages that it holds, dead ones among them.</summary>
    public int Count => _order.Count;

    /// <summary>How many of them guard something.</summary>
    public int Living { get; set; }

    /// <summary>There is no room for another page.</summary>
    public bool IsFull => _order.Count == Slots;

    /// <summary>Somebody has written something else into it: nothing is done with it any more.</summary>
    public bool IsDisturbed { get; private set; }

    /// <summary>Makes it twice as large.</summary>
    public Errno TryMakeLarger() => TryMakeLarger(2 * Slots);

    /// <summary>Makes it so large.</summary>
    public Errno TryMakeLarger(int slots)
    {
        if (LibC.fcntl(Held.Number, LibC.F_SETPIPE_SZ, slots * Page) < 0)
            return (Errno)Marshal.GetLastPInvokeError();
        Slots = slots;
        return Errno.None;
    }

    /// <summary>Takes a page of a pool in.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="extent">Whose page it is.</param>
    /// <param name="frame">The page.</param>
    /// <param name="ticket">Tells it from all others.</param>
    public Errno TryHold(FileDescriptor pool, uint extent, uint frame, long ticket)
    {
        long offset = (long)frame * Page;
        if (LibC.splice(pool.Number, &offset, Held.Number, null, Page, LibC.SPLICE_F_NONBLOCK) != Page)
            return (Errno)Marshal.GetLastPInvokeError();
        _order.Enqueue((extent, ticket));
        return Errno.None;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _out.Dispose();
        Held.Dispose();
        _left.ForEach(static pipe => pipe.Dispose());
    }

    /// <summary>Sends the living pages through another pipe and back, so that each is in one of the two at any moment, and reads the dead.</summary>
    /// <remarks>Where that stops in the middle, because there is no memory or somebody has written something else into the pipe, which any program of the domain can, what is in the other pipe is kept as
    /// well, and nothing is done with either any more.</remarks>
    /// <param name="isLiving">Whether a page, by its extent and its ticket, still guards.</param>
    public void TryThrowDeadOut(Func<uint, long, bool> isLiving)
    {
        if (IsDisturbed)
            return;
        FileDescriptor? otherOut = null, otherIn = null;
        try
        {
            (otherOut, otherIn) = New(Slots);
            if (HasOursOnly())
                ThrowDeadOut(otherOut, otherIn, isLiving);
            IsDisturbed = !HasOursOnly();
            otherOut.Dispose();
            otherIn.Dispose();
        }
        catch (SyscallException)
        {
            if (otherOut is null)
                return;
            IsDisturbed = true;
            _left.AddRange([otherOut, otherIn!]);
        }
    }

    /// <summary>Whether nobody has written into the pipe but us.</summary>
    private bool HasOursOnly()
    {
        int bytes;
        return LibC.ioctl(_out.Number, LibC.FIONREAD, &bytes) == 0 && bytes == _order.Count * Page;
    }

    private void ThrowDeadOut(FileDescriptor otherOut, FileDescriptor otherIn, Func<uint, long, bool> isLiving)
    {
        byte* dead = stackalloc byte[Page];
        for (int left = _order.Count; left > 0; left--)
        {
            (uint extent, long ticket) = _order.Dequeue();
            if (isLiving(extent, ticket))
            {
                Pass(_out, otherIn);
                _order.Enqueue((extent, ticket));
            }
            else if (LibC.read(_out.Number, dead, Page) != Page)
            {
                throw Failed("read");
            }
        }

        for (int i = 0; i < _order.Count; i++)
            Pass(otherOut, Held);
    }

    private static void Pass(FileDescriptor from, FileDescriptor to)
    {
        if (LibC.splice(from.Number, null, to.Number, null, Page, LibC.SPLICE_F_NONBLOCK) != Page)
            throw Failed("splice");
    }

    private static (FileDescriptor Out, FileDescriptor In) New(int slots)
    {
        int* ends = stackalloc int[2];
        if (LibC.pipe2(ends, LibC.O_CLOEXEC | LibC.O_NONBLOCK) != 0)
            throw Failed("pipe2");
        (FileDescriptor Out, FileDescriptor In) pipe = (new FileDescriptor(ends[0]), new FileDescriptor(ends[1]));
        // The mode first: it is the owner's to change. Without CAP_CHOWN the owner stays root: docs/limits.md.
        _ = LibC.fchmod(ends[1], 0);
        _ = LibC.fchown(ends[1], NobodyAtAll, NobodyAtAll);
        if (LibC.fcntl(ends[1], LibC.F_SETPIPE_SZ, slots * Page) >= 0)
            return pipe;
        SyscallException failed = Failed("fcntl(F_SETPIPE_SZ)");
        pipe.Out.Dispose();
        pipe.In.Dispose();
        throw failed;
    }

    private static SyscallException Failed(string call) => new(call, "the pipe that guards frames", (Errno)Marshal.GetLastPInvokeError());
}
