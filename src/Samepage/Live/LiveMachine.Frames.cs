using Samepage.Engine;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <content>The frames of each domain.</content>
/// <remarks>Frames are written and freed by an attendant of their domain, in the order in which that is asked for. It may have to wait: every agent has an end of the pipe that guards the frames, and
/// whoever writes into that from a page of his own that nobody brings has the pipe locked. Then nothing new is merged in that domain until he lets go, and nobody else waits.</remarks>
internal sealed partial class LiveMachine
{
    private readonly Dictionary<DomainId, Pool> _pools = [];
    private readonly Dictionary<DomainId, Task<FramePool>> _making = [];
    private (Pool Pool, Attendants.Job? Job) _writing;

    /// <summary>The frame pool of a domain that has one.</summary>
    public FramePool PoolOf(DomainId domain) => _pools[domain].Frames;

    /// <summary>The frame pool of a domain, made when first asked for: by an attendant, for a mount takes its time on a crowded machine. The scanner's thread; the domain must not be forgotten meanwhile.</summary>
    /// <exception cref="SyscallException">It cannot be made.</exception>
    public async Task<FramePool> MakePoolOf(DomainId domain)
    {
        if (!HasPool(domain))
        {
            // Several of its processes may ask at a time.
            if (!_making.TryGetValue(domain, out Task<FramePool>? making))
                _making.Add(domain, making = Attendants.Begin(Lanes.OfPool(domain.Value), FramePool.Create));
            try
            {
                FramePool made = await making;
                if (!HasPool(domain))
                    _pools.Add(domain, new Pool(made));
            }
            finally
            {
                _ = _making.Remove(domain);
            }
        }

        return PoolOf(domain);
    }

    /// <summary>Why no frames could be written in a domain the last time that it was tried, for people; empty where they could.</summary>
    public string RefusalOf(DomainId domain) => _pools.TryGetValue(domain, out Pool? pool) ? pool.Frames.Refusal : "";

    /// <summary>Takes over the pool of a daemon that has died, for a domain that has none. Nothing new can be merged in that domain.</summary>
    public void Adopt(DomainId domain, FramePool pool) => _pools.Add(domain, new Pool(pool));

    /// <summary>Whether a domain has a pool.</summary>
    public bool HasPool(DomainId domain) => _pools.ContainsKey(domain);

    /// <summary>Gives the pool of a domain up in which nobody is, behind what is under way in it.</summary>
    public void Forget(DomainId domain)
    {
        if (_pools.Remove(domain, out Pool? pool))
            _ = Attendants.Begin(Lanes.OfPool(domain.Value), pool.Frames.Dispose);
    }

    /// <summary>True when a mapping is of one of our pools: in a process that was not taken in, it came by fork.</summary>
    public FramePool? PoolOf(in Mapping mapping)
    {
        foreach (Pool pool in _pools.Values)
        {
            if (pool.Frames.Has(mapping))
                return pool.Frames;
        }

        return null;
    }

    /// <inheritdoc/>
    /// <remarks>What is written is copied first: a write that is late must not find something else there.</remarks>
    public void BeginWriteFrames(DomainId domain, FrameId first, ReadOnlyMemory<byte> content)
    {
        Pool pool = _pools[domain];
        byte[] own = content.ToArray();
        _writing = (pool, Attendants.TryBegin(Lanes.OfPool(domain.Value), () => pool.IsWritten = pool.Frames.TryWrite(first.Value, own)));
    }

    /// <inheritdoc/>
    public bool EndWriteFrames()
    {
        (Pool pool, Attendants.Job? job) = _writing;
        bool inTime = job is not null && pool.Patience.Await(job);
        if (inTime && pool.IsWritten)
            return true;
        string why = inTime ? pool.Frames.Refusal : "the pipe that guards its frames is kept by one of its programs (a write or read that does not end): nothing new is merged in this domain until it lets go";
        foreach (LiveSpace space in _spaces.Values.Where(space => _pools[space.Domain] == pool))
            space.Obstacle = why;
        return false;
    }

    /// <inheritdoc/>
    public bool TryReadFrame(DomainId domain, FrameId frame, Span<byte> content) => _pools[domain].Frames.TryRead(frame.Value, content);

    /// <inheritdoc/>
    public void FindUnmapped(DomainId domain, FrameId first, Span<bool> unmapped)
    {
        _pools[domain].Frames.FindUnmapped(first.Value, unmapped);
        KeepUnsettled(domain, first, unmapped);
    }

    /// <inheritdoc/>
    /// <remarks>Behind what is under way; and who writes them anew comes behind this.</remarks>
    public void FreeFrames(DomainId domain, FrameId first, int count)
    {
        FramePool frames = _pools[domain].Frames;
        MustEnd(Attendants.Begin(Lanes.OfPool(domain.Value), () => frames.Punch(first.Value, count)));
    }

    /// <summary>Where a frame cannot be freed as it should be, frames may be without their guards: what this throws ends the scanner, and with it the daemon.</summary>
    private static async void MustEnd(Task task) => await task;

    private sealed class Pool(FramePool frames)
    {
        public FramePool Frames => frames;

        public Patience Patience { get; } = new();

        /// <summary>What came of the last write; to be read when that has ended.</summary>
        public bool IsWritten { get; set; }
    }
}
