using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Frames;

/// <summary>Keeps the kernel from making huge pages of frames: holds one page of every 2 MiB of a pool in a pipe.</summary>
/// <remarks>
/// <para>Any program may ask for a huge page in place of the frames that it maps, madvise(2) with MADV_COLLAPSE, and no mount option stands in the way. The
/// kernel then takes those frames out of everybody's page tables, and whoever touches one next has a fault, as if it had discarded the page. But it gives up,
/// before it has touched anything, where one of the 512 pages has a reference that it cannot explain. A page in a pipe, splice(2), has one.</para>
/// <para>A pipe holds 256 pages, and so guards 512 MiB, unless fs.pipe-max-size is raised or whoever makes it larger has CAP_SYS_RESOURCE, pipe(7): then 65,536
/// and more, as long as the kernel has memory for its list in one piece.</para>
/// <para>The pipe holds its pages for as long as somebody has it open. So every agent has its writing end, and frames are guarded behind our death too.</para>
/// <para>Whoever reads it dry could have huge pages made, and others would see zeros. A writing end cannot be read, teed or spliced from, but by its link in /proc
/// anybody could open a reading end whom the inode's mode and owner let. So the pipe is of mode 0 and of an owner that nobody is: root without capabilities is refused
/// like everybody else. What passes is CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH in the first user namespace, see SECURITY.md. With the writing end the pipe can be
/// filled: then nothing more is merged.</para>
/// <para>And something else can be written into it. The pipe does not say whose a page is, and dead ones are told by their places in it: one foreign page, and the next living guard would be
/// thrown out for a dead one. So before any is read, the bytes in the pipe must be as many as ours are. Nobody but us takes anything out, so then all are ours; what is written later lies behind them, and
/// is seen when ours have gone through the other pipe and back. From then on nothing is taken out any more, and nothing new is guarded.</para>
/// <code>
///   pipe      [page of extent 0][page of extent 3][page that was punched out]…   first in, first out
///   _order    the same, as (extent, ticket)
///   _guards   extent → frame and ticket: what is in _order with another ticket is dead, and is thrown out when that is worth it
/// </code>
/// </remarks>
internal sealed unsafe class FrameGuards : IDisposable
{
    public const int ExtentFrames = 512;

    private const int Page = 4096, SlotsFirst = 16, DeadWorthIt = 64;

    /// <summary>The last user id but the invalid one: no program is given it, and no user namespace but the first has it.</summary>
    private const uint NobodyAtAll = 4294967294;
    private readonly FileDescriptor _pool, _out;
    private readonly Dictionary<uint, (uint Frame, long Ticket)> _guards = [];
    private readonly Queue<(uint Extent, long Ticket)> _order = [];
    private readonly List<FileDescriptor> _left = [];
    private bool _isDisturbed;
    private int _slots = SlotsFirst;
    private long _tickets;

    /// <param name="pool">The pool's file; stays the caller's.</param>
    /// <exception cref="SyscallException">There is no pipe to be had.</exception>
    public FrameGuards(FileDescriptor pool)
    {
        _pool = pool;
        (_out, Held) = NewPipe(SlotsFirst);
    }

    /// <summary>What keeps the guards in place for whoever has it open.</summary>
    public FileDescriptor Held { get; }

    /// <summary>Why an extent could not be guarded, for people.</summary>
    public string Refusal { get; private set; } = "";

    /// <summary>Pages that the pipe holds, those that were punched out among them.</summary>
    internal int PagesHeld => _order.Count;

    /// <summary>Whether one of an extent's frames is held.</summary>
    public bool Has(uint extent) => _guards.ContainsKey(extent);

    /// <summary>Guards the extents of frames that were just written.</summary>
    /// <returns>False when there is no room for it: nobody may map these frames. <see cref="Refusal"/> says why.</returns>
    public bool TryGuard(uint firstFrame, int count)
    {
        for (uint extent = firstFrame / ExtentFrames; extent <= (firstFrame + (uint)count - 1) / ExtentFrames; extent++)
        {
            if (!_guards.ContainsKey(extent) && !TryHold(extent, Math.Max(firstFrame, extent * ExtentFrames)))
                return false;
        }

        return true;
    }

    /// <summary>Frames are about to be punched out: where one of them is a guard, another frame of its extent takes its place first.</summary>
    /// <param name="firstFrame">The first.</param>
    /// <param name="count">How many.</param>
    /// <param name="kept">Receives those that must stay, by rising number: they guard others, and no other could take their place (there is no memory, or somebody has filled the pipe).</param>
    public void Release(uint firstFrame, int count, List<uint> kept)
    {
        uint end = firstFrame + (uint)count;
        for (uint extent = firstFrame / ExtentFrames; extent <= (end - 1) / ExtentFrames; extent++)
        {
            if (!_guards.TryGetValue(extent, out (uint Frame, long Ticket) guard) || guard.Frame < firstFrame || guard.Frame >= end)
                continue;
            uint start = extent * ExtentFrames;
            uint? other = start < firstFrame ? Present(start, firstFrame) : null;
            other ??= end < start + ExtentFrames ? Present(end, start + ExtentFrames) : null;
            _guards.Remove(extent);
            if (other is not uint frame || TryHold(extent, frame))
                continue;
            _guards.Add(extent, guard);
            kept.Add(guard.Frame);
        }

        if (_order.Count - _guards.Count > _guards.Count + DeadWorthIt && !_isDisturbed)
            TryThrowDeadOut();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _out.Dispose();
        Held.Dispose();
        _left.ForEach(static pipe => pipe.Dispose());
    }

    private bool TryHold(uint extent, uint frame)
    {
        if (_isDisturbed)
        {
            Refusal = "somebody has written into the pipe that guards frames: nothing new is merged in this domain";
            return false;
        }

        if (_order.Count == _slots)
        {
            if (LibC.fcntl(Held.Number, LibC.F_SETPIPE_SZ, _slots * 2 * Page) < 0)
            {
                var errno = (Errno)Marshal.GetLastPInvokeError();
                Refusal = $"no more than {(long)_slots * ExtentFrames * Page >> 20} MiB of frames can be guarded in a trust domain (fcntl F_SETPIPE_SZ: {errno}); "
                    + (errno == Errno.EPERM ? "give the daemon CAP_SYS_RESOURCE, or raise fs.pipe-max-size by sysctl: each of its MiB is worth 512 MiB" : "free some of the kernel's memory");
                return false;
            }

            _slots *= 2;
        }

        long offset = (long)frame * Page;
        if (LibC.splice(_pool.Number, &offset, Held.Number, null, Page, LibC.SPLICE_F_NONBLOCK) != Page)
        {
            Refusal = $"frames cannot be guarded (splice: {(Errno)Marshal.GetLastPInvokeError()}): somebody has filled the pipe that guards them, or there is no memory";
            return false;
        }

        _order.Enqueue((extent, ++_tickets));
        _guards.Add(extent, (frame, _tickets));
        return true;
    }

    /// <summary>The first frame of a range that has a page.</summary>
    private uint? Present(uint first, uint end)
    {
        long found = LibC.lseek(_pool.Number, (long)first * Page, LibC.SEEK_DATA);
        return found >= 0 && found < (long)end * Page ? (uint)(found / Page) : null;
    }

    /// <summary>Sends the living pages through another pipe and back, so that each is in one of the two at any moment, and reads the dead.</summary>
    /// <remarks>Where that stops in the middle, because there is no memory or somebody has written something else into the pipe, which any program of the domain can, what is in the other pipe is kept as
    /// well, and nothing is done with either any more.</remarks>
    private void TryThrowDeadOut()
    {
        FileDescriptor? otherOut = null, otherIn = null;
        try
        {
            (otherOut, otherIn) = NewPipe(_slots);
            if (HasOursOnly())
                ThrowDeadOut(otherOut, otherIn);
            _isDisturbed = !HasOursOnly();
            otherOut.Dispose();
            otherIn.Dispose();
        }
        catch (SyscallException)
        {
            if (otherOut is null)
                return;
            _isDisturbed = true;
            _left.AddRange([otherOut, otherIn!]);
        }
    }

    /// <summary>Whether nobody has written into the pipe but us.</summary>
    private bool HasOursOnly()
    {
        int bytes;
        return LibC.ioctl(_out.Number, LibC.FIONREAD, &bytes) == 0 && bytes == _order.Count * Page;
    }

    private void ThrowDeadOut(FileDescriptor otherOut, FileDescriptor otherIn)
    {
        byte* dead = stackalloc byte[Page];
        for (int left = _order.Count; left > 0; left--)
        {
            (uint extent, long ticket) = _order.Dequeue();
            if (_guards.TryGetValue(extent, out (uint Frame, long Ticket) guard) && guard.Ticket == ticket)
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

    private static (FileDescriptor Out, FileDescriptor In) NewPipe(int slots)
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
