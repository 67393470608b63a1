using Samepage.Agent;
using Samepage.Linux;

namespace Samepage.Live;

/// <summary>Takes a copy of each forked child's descriptor as soon as its parent's warden has one, on a thread of its own.</summary>
/// <remarks>The copy keeps the child watched when its parent ends right after the fork, as a program does that turns itself into a daemon. A parent
/// that is killed within some ten microseconds of its fork's return is not caught. The thread sleeps until something happens, and costs nothing.</remarks>
internal sealed class ForkWatch : IDisposable
{
    private readonly List<LiveSpace> _spaces = [];
    private readonly EventSignal _changed = new();
    private readonly Thread _thread;
    private volatile bool _ended;

    public ForkWatch()
    {
        _thread = new Thread(Run) { Name = "fork watch", IsBackground = true };
        _thread.Start();
    }

    public void Add(LiveSpace space)
    {
        lock (_spaces)
            _spaces.Add(space);
        _changed.Set();
    }

    public void Remove(LiveSpace space)
    {
        lock (_spaces)
            _spaces.Remove(space);
        _changed.Set();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ended = true;
        _changed.Set();
        _thread.Join();
        _changed.Dispose();
    }

    private void Run()
    {
        List<AgentSession> forked = [], gone = [];
        while (!_ended)
        {
            // Cleared before the list is read: what is added later sets it again.
            _changed.Clear();
            LiveSpace[] spaces;
            lock (_spaces)
                spaces = [.. _spaces];
            forked.Clear();
            gone.Clear();
            AgentSession.AwaitForks([.. spaces.Select(space => space.Session)], _changed, forked, gone);
            lock (_spaces)
            {
                _spaces.RemoveAll(space => gone.Contains(space.Session));
                foreach (LiveSpace space in spaces)
                {
                    if (forked.Contains(space.Session) && _spaces.Contains(space))
                        Offspring.TakeNew(space);
                }
            }
        }
    }
}
