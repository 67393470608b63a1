using Samepage.Agent;
using Samepage.Agent.Tracing;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>What came of sending the warden away.</summary>
internal enum Parting
{
    /// <summary>It is gone, or there was nothing for it to do.</summary>
    Done,

    /// <summary>The program has frames or children again: they are to be given back first.</summary>
    NotYet,

    /// <summary>The program's threads cannot be held.</summary>
    Never,
}

/// <summary>What of ours is in a process.</summary>
internal enum Remains
{
    /// <summary>Nothing: it has ended, or called exec.</summary>
    None,

    /// <summary>An agent, and no frames.</summary>
    Agent,

    /// <summary>Frames.</summary>
    Frames,

    /// <summary>Its mappings cannot be read.</summary>
    Unknown,
}

/// <content>What is left of us in it, and the moment from which on nothing may come any more.</content>
internal sealed partial class LiveSpace
{
    /// <summary>What is said of a process in which nobody is left to give anything back.</summary>
    public const string WithoutExecutor = "the agent's thread in it was ended by somebody (a seccomp filter, perhaps): what is merged stays so, and right, until the program ends";

    /// <summary>It was found to have no frames, and its warden was sent away (<see cref="Part"/>): nothing is exchanged in it any more. The thread of <see cref="Lane.Hold"/>.</summary>
    public bool HasParted { get; private set; }

    /// <summary>It was found to have called exec while it was given back: another program is there.</summary>
    public bool HasCalledExec { get; private set; }

    /// <summary>More than another thread needs that takes descriptors of children.</summary>
    private static readonly TimeSpan ParentBound = TimeSpan.FromSeconds(1);

    /// <summary>Sends the warden away at a moment at which nothing needs it: every thread is held, so that no mapping can move past the one who reads the list, and no fork
    /// can be under way.</summary>
    /// <remarks>A list that cannot be read says nothing. It is read by way of the executor, which is there also when the program's first thread has ended. Where the executor is gone (exec, or
    /// somebody ended it) it is looked whether frames are left, which nobody could give back.</remarks>
    /// <returns>Not <see cref="Parting.Done"/>: it is as it was.</returns>
    public Parting Part()
    {
        if (HasParted)
            return Parting.Done;
        Parting parting = TryPart();
        HasParted = parting == Parting.Done;
        return parting;
    }

    private Parting TryPart()
    {
        string executor = $"/proc/{Pid}/task/{Session.ExecutorThread}";
        Session.AreElsewhere = false;
        if (!Session.HasExchanged)
            return Parting.Done;
        if (Session.HasExecutorEnded)
            return HasFrames() ? Parting.Never : Parting.Done;
        HoldOutcome outcome = HoldOutcome.Busy;
        for (int attempt = 0; attempt < 200 && outcome == HoldOutcome.Busy; attempt++)
        {
            Thread.Sleep(Math.Min(25, attempt));
            outcome = _world.TryHold(Session, out string why, insist: true);
            Obstacle = why;
        }

        if (outcome != HoldOutcome.Held)
            return outcome != HoldOutcome.Gone || HasFrames() ? Parting.Never : Parting.Done;
        try
        {
            List<Mapping> mappings = [];
            if (!Offspring.TryLook(this) || HasChildren || !Mapping.TryReadAll($"{executor}/maps", mappings) || mappings.Exists(mapping => Pool.Has(mapping)))
                return Parting.NotYet;
            _ = Session.DismissWarden(_world.Suspended);
            Session.AreElsewhere = true;
            // A warden that was late may have published one behind the look.
            _ = Offspring.TryTakeNew(this, ParentBound);
            return Parting.Done;
        }
        finally
        {
            _world.Release();
        }
    }

    /// <summary>Looks what of ours is in it, by a thread of its own: its agent may be gone. This may wait for as long as the program likes.</summary>
    public Remains LookForRemains()
    {
        List<Mapping> mappings = [];
        if (!Mapping.TryReadAll($"/proc/{Pid}/task/{OwnThread}/maps", mappings))
            return Samepage.Linux.Processes.PidFd.HasEnded(PidFd) ? Remains.None : Remains.Unknown;
        return mappings.Exists(mapping => Pool.Has(mapping)) ? Remains.Frames : Session.IsIn(mappings) ? Remains.Agent : Remains.None;
    }

    /// <summary>Looks whether there is another program by now, in which nothing of ours is.</summary>
    public bool LookForExec() => HasCalledExec = Session.HasExecutorEnded && LookForRemains() == Remains.None;

    /// <summary>Whether frames are left in a process that has no executor any more, or may be; then why nothing can be done stands in <see cref="Obstacle"/>.</summary>
    public bool HasFrames()
    {
        Remains left = LookForRemains();
        if (left is Remains.Frames or Remains.Unknown)
            Obstacle = left == Remains.Unknown ? "its mappings cannot be read" : WithoutExecutor;
        return left is Remains.Frames or Remains.Unknown;
    }
}
