using Samepage.Agent;

namespace Samepage.Live;

/// <summary>Takes a copy of each forked child's descriptor as soon as its parent's warden has one, on a thread of its own.</summary>
/// <remarks>The copy keeps the child watched when its parent ends right after the fork, as a program does that turns itself into a daemon. A parent
/// that is killed within some ten microseconds of its fork's return is not caught.</remarks>
internal sealed class ForkWatch : IDisposable
{
    private readonly List<LiveSpace> _spaces = [];
    private volatile bool _ended;

    public ForkWatch() => new Thread(Run) { Name = "fork watch", IsBackground = true }.Start();

    public void Add(LiveSpace space)
    {
        lock (_spaces)
            _spaces.Add(space);
    }

    public void Remove(LiveSpace space)
    {
        lock (_spaces)
            _spaces.Remove(space);
    }

    /// <inheritdoc/>
    public void Dispose() => _ended = true;

    private void Run()
    {
        List<AgentSession> forked = [];
        while (!_ended)
        {
            LiveSpace[] spaces;
            lock (_spaces)
                spaces = [.. _spaces];
            forked.Clear();
            // A session that is added is waited for from the next round on; until then the visits take its children.
            AgentSession.AwaitForks([.. spaces.Select(space => space.Session)], 50, forked);
            lock (_spaces)
            {
                foreach (LiveSpace space in spaces)
                {
                    if (forked.Contains(space.Session) && _spaces.Contains(space))
                        Offspring.TakeNew(space);
                }
            }
        }
    }
}
