using System.Globalization;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Frames;

/// <summary>Keeps the kernel from making huge pages of frames: holds one page of every 2 MiB of a pool in a pipe.</summary>
/// <remarks>
/// <para>Any program may ask for a huge page in place of the frames that it maps, madvise(2) with MADV_COLLAPSE, and no mount option stands in the way. The
/// kernel then takes those frames out of everybody's page tables, and whoever touches one next has a fault, as if it had discarded the page. But it gives up,
/// before it has touched anything, where one of the 512 pages has a reference that it cannot explain. A page in a pipe, splice(2), has one.</para>
/// <para>A pipe holds 256 pages, and so guards 512 MiB, unless fs.pipe-max-size is raised or whoever makes it larger has CAP_SYS_RESOURCE, pipe(7): then 65,536
/// and more, as long as the kernel has memory for its list in one piece. So without that there are as many pipes as the machine's memory may need, from the beginning: who maps frames must have all of them.</para>
/// <para>A pipe holds its pages for as long as somebody has it open. So every agent has its writing end, and frames are guarded behind our death too.</para>
/// <code>
///   _guards   extent → frame, pipe and ticket: what is in a pipe with another ticket is dead, and is thrown out when that is worth it
/// </code>
/// </remarks>
internal sealed unsafe class FrameGuards : IDisposable
{
    public const int ExtentFrames = 512;

    private const int Page = 4096, DeadWorthIt = 64, DeadWorthItWhenFull = 8;

    /// <summary>Pipes at most: 64 GiB of frames where each guards 512 MiB. Every agent has that many descriptors more.</summary>
    public const int PipesMost = 128;

    private readonly FileDescriptor _pool;
    private readonly GuardPipe[] _pipes;
    private readonly Dictionary<uint, (uint Frame, int Pipe, long Ticket)> _guards = [];
    private long _tickets;

    /// <param name="pool">The pool's file; stays the caller's.</param>
    /// <param name="pipes">How many pipes there are.</param>
    /// <exception cref="SyscallException">There is no pipe to be had.</exception>
    public FrameGuards(FileDescriptor pool, int pipes)
    {
        (_pool, _pipes) = (pool, new GuardPipe[pipes]);
        try
        {
            for (int i = 0; i < pipes; i++)
                _pipes[i] = new GuardPipe();
        }
        catch (SyscallException)
        {
            Dispose();
            throw;
        }

        Held = [.. _pipes.Select(static pipe => pipe.Held)];
    }

    /// <summary>What keeps the guards in place for whoever has all of it open.</summary>
    public IReadOnlyList<FileDescriptor> Held { get; }

    /// <summary>Why an extent could not be guarded, for people.</summary>
    public string Refusal { get; private set; } = "";

    /// <summary>Pages that the pipes hold, those that were punched out among them.</summary>
    internal int PagesHeld => _pipes.Sum(static pipe => pipe.Count);

    /// <summary>How many pipes the frames of a domain may need on this machine, with our privileges: one, where it can be made as large as it must be.</summary>
    public static int PipesNeeded()
    {
        if (!ProcFile.TryRead("/proc/sys/fs/pipe-max-size", out string most) || !long.TryParse(most, NumberStyles.None | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out long bytes))
            return 1;
        try
        {
            using GuardPipe probe = new();
            if (probe.TryMakeLarger((int)Math.Min(2 * bytes / Page, int.MaxValue / Page / 2)) == Errno.None)
                return 1;
        }
        catch (SyscallException)
        {
            return 1;
        }

        long guarded = Math.Max(1, bytes / Page) * ExtentFrames * Page;
        LibC.sysinfo machine;
        long memory = LibC.get_sysinfo(&machine) == 0 ? (long)machine.totalram * machine.mem_unit : long.MaxValue / 2;
        return (int)Math.Clamp((memory + guarded - 1) / guarded, 1, PipesMost);
    }

    /// <summary>Whether one of an extent's frames is held.</summary>
    public bool Has(uint extent) => _guards.ContainsKey(extent);

    /// <summary>Guards the extents of frames that were just written.</summary>
    /// <returns>False when there is no room for it: nobody may map these frames. <see cref="Refusal"/> says why.</returns>
    public bool TryGuard(uint firstFrame, int count)
    {
        for (uint extent = firstFrame / ExtentFrames; extent <= (firstFrame + (uint)count - 1) / ExtentFrames; extent++)
        {
            uint frame = Math.Max(firstFrame, extent * ExtentFrames);
            if (!_guards.ContainsKey(extent) && !TryHold(extent, frame) && !(TryMakeRoom() && TryHold(extent, frame)))
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
            if (!_guards.TryGetValue(extent, out (uint Frame, int Pipe, long Ticket) guard) || guard.Frame < firstFrame || guard.Frame >= end)
                continue;
            uint start = extent * ExtentFrames;
            uint? other = start < firstFrame ? Present(start, firstFrame) : null;
            other ??= end < start + ExtentFrames ? Present(end, start + ExtentFrames) : null;
            _guards.Remove(extent);
            _pipes[guard.Pipe].Living--;
            if (other is not uint frame || TryHold(extent, frame))
                continue;
            _guards.Add(extent, guard);
            _pipes[guard.Pipe].Living++;
            kept.Add(guard.Frame);
        }

        foreach (GuardPipe pipe in _pipes)
        {
            if (pipe.Count - pipe.Living > pipe.Living + DeadWorthIt)
                pipe.TryThrowDeadOut(IsLiving);
        }
    }

    /// <summary>Throws dead pages out of pipes that are full. Not while a guard is being replaced: the one before is among none then, and must stay.</summary>
    private bool TryMakeRoom()
    {
        bool made = false;
        foreach (GuardPipe pipe in _pipes)
        {
            if (!pipe.IsFull || pipe.IsDisturbed || pipe.Count - pipe.Living < DeadWorthItWhenFull)
                continue;
            pipe.TryThrowDeadOut(IsLiving);
            made |= !pipe.IsFull && !pipe.IsDisturbed;
        }

        return made;
    }

    private bool IsLiving(uint extent, long ticket) => _guards.TryGetValue(extent, out (uint Frame, int Pipe, long Ticket) guard) && guard.Ticket == ticket;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (GuardPipe? pipe in _pipes)
            pipe?.Dispose();
    }

    private bool TryHold(uint extent, uint frame)
    {
        Errno full = Errno.None;
        Refusal = "";
        for (int i = 0; i < _pipes.Length; i++)
        {
            GuardPipe pipe = _pipes[i];
            if (pipe.IsDisturbed)
            {
                Refusal = "somebody has written into the pipe that guards frames: nothing new is merged in this domain";
                continue;
            }

            if (pipe.IsFull && pipe.TryMakeLarger() is not Errno.None and var errno)
            {
                full = errno;
                continue;
            }

            Errno refused = pipe.TryHold(_pool, extent, frame, ++_tickets);
            if (refused != Errno.None)
            {
                Refusal = $"frames cannot be guarded (splice: {refused}): somebody has filled the pipe that guards them, or there is no memory";
                continue;
            }

            _guards.Add(extent, (frame, i, _tickets));
            pipe.Living++;
            return true;
        }

        if (Refusal.Length == 0)
        {
            Refusal = $"no more than {_pipes.Sum(static pipe => (long)pipe.Slots) * ExtentFrames * Page >> 20} MiB of frames can be guarded in a trust domain (fcntl F_SETPIPE_SZ: {full}); "
                + (full == Errno.EPERM ? "give the daemon CAP_SYS_RESOURCE, or raise fs.pipe-max-size by sysctl: each of its MiB is worth 512 MiB" : "free some of the kernel's memory");
        }

        return false;
    }

    /// <summary>The first frame of a range that has a page.</summary>
    private uint? Present(uint first, uint end)
    {
        long found = LibC.lseek(_pool.Number, (long)first * Page, LibC.SEEK_DATA);
        return found >= 0 && found < (long)end * Page ? (uint)(found / Page) : null;
    }
}
