using Samepage.Engine;
using Samepage.Simulation.Memory;

namespace Samepage.Simulation.Worlds;

/// <content>What each act does.</content>
internal sealed partial class World
{
    private const ulong Whole = ulong.MaxValue;

    private void Call(Step step)
    {
        switch (step.Act)
        {
            case Act.Attach when Someone(step) is { } process:
                Attach(process);
                break;
            case Act.Detach when _taken.Count > 0:
                Detach(_taken[step.Who % _taken.Count]);
                break;
            case Act.Break when _taken.Count > 0:
                SimulatedProcess broken = _taken[step.Who % _taken.Count];
                Break(broken, new PageRun(new PageNumber(broken.FirstPage + (ulong)(step.Page % Machine.Tables.Window)), step.Count));
                break;
            case Act.UnmergeAll:
                UnmergeAll();
                break;
            case Act.MoveFrame:
                MoveFrame(step.Who % _options.Domains, step.Page);
                break;
            case Act.Retire:
                Retire(step.Who % _options.Domains, (uint)(step.Page % 64), step.Count);
                break;
            case Act.Visit when _taken.Count > 0 && Machine.TracksWrites:
                Visit(_taken[step.Who % _taken.Count]);
                break;
            case Act.Scan:
                Scan(step.Count);
                break;
            case Act.Pass:
                Pass();
                break;
            case Act.Rest:
                Rest();
                break;
            default:
                break;
        }
    }

    private void Do(Step step)
    {
        switch (step.Act)
        {
            case Act.Start:
                if (Programs.Start(step.Value % _options.Domains, step.Page % Machine.Tables.Window, step.Count, byAdvice: step.Who % 8 == 7) is { } started && step.Who % 2 == 0)
                    Write(started, step with { Act = Act.WriteRising, Value = step.Value / 4 });
                break;
            case Act.SplitsFail or Act.SplitsWork:
                Machine.SplitsFail = step.Act == Act.SplitsFail;
                break;
            case Act.Starve:
                Machine.Tables.Physical.Starving = step.Count;
                break;
            case Act.StarveEngine:
                Engine.Budget.BytesMax = step.Value % 2 == 0 ? Engine.Budget.BytesUsed : long.MaxValue;
                _engineStarved = true;
                break;
            case Act.Offline:
                Machine.TakeOffline(step.Value * 7 % (Machine.Tables.Physical.Count - 16), step.Count % 16);
                break;
            case Act.Online:
                Machine.BringOnline(0, Machine.Tables.Physical.Count);
                break;
            case Act.Dma:
                Programs.Dma(step.Page, (byte)step.Value);
                break;
            case Act.Unpin:
                Programs.Unpin(step.Page);
                break;
            default:
                if (Someone(step) is { } process)
                    Do(Aim(step), process);
                break;
        }
    }

    private void Do(Step step, SimulatedProcess process)
    {
        switch (step.Act)
        {
            case Act.Exit:
                Programs.Exit(process);
                return;
            case Act.Stop or Act.Continue:
                process.Stopped = step.Act == Act.Stop;
                return;
            case Act.ForeignWrite:
                Write(process, step);
                return;
            case Act.Pin or Act.SwapOut or Act.Migrate or Act.Collapse:
                ForEach(process, step, place => KernelActs(step.Act, place));
                return;
            default:
                // A thread that is held, or stopped, does nothing.
                if (!process.Held && !process.Stopped)
                    OwnAct(step, process);
                return;
        }
    }

    private void KernelActs(Act act, int place)
    {
        PageEntry entry = Machine.Tables[place];
        if (act == Act.Pin && (Programs.Area(place) & AreaFlags.Mapped) != 0)
            Programs.Pin(place);
        else if (act == Act.Collapse && place + SimulatedMachine.HugePages - place % Machine.Tables.Stride % SimulatedMachine.HugePages <= (place / Machine.Tables.Stride * Machine.Tables.Stride) + Machine.Tables.Window)
            Machine.Collapse(place);
        else if (act == Act.SwapOut && entry.State == EntryState.Present)
            Machine.SwapOut(entry.Target);
        else if (act == Act.Migrate && entry.State == EntryState.Present)
            Machine.Migrate(entry.Target);
    }

    private void OwnAct(Step step, SimulatedProcess process)
    {
        switch (step.Act)
        {
            case Act.Fork:
                Programs.Fork(process);
                break;
            case Act.Map:
                ForEach(process, step, place => Programs.Map(place, AreaFlags.Plain));
                break;
            case Act.MapOther:
                ForEach(process, step, place => Programs.MapOther(place, step.Value));
                break;
            case Act.Unmap:
                ForEach(process, step, Programs.Unmap);
                break;
            case Act.Remap:
                ForEach(process, step, place => Programs.Remap(place, Machine.PlaceOf(process, (place % Machine.Tables.Stride + step.Value) % Machine.Tables.Window)));
                break;
            case Act.Read:
                ForEach(process, step, Programs.Read);
                break;
            case Act.Discard:
                ForEach(process, step, Programs.Discard);
                break;
            case Act.Write or Act.WriteRising or Act.WriteCell or Act.WriteBlind:
                Write(process, step);
                break;
            default:
                (AreaFlags on, AreaFlags off) = Changed(step.Act);
                ForEach(process, step, place => Programs.Become(place, on, off));
                break;
        }
    }

    private static (AreaFlags On, AreaFlags Off) Changed(Act act) => act switch
    {
        Act.Protect => (AreaFlags.None, AreaFlags.Writable),
        Act.Unprotect => (AreaFlags.Writable, AreaFlags.None),
        Act.Lock => (AreaFlags.Locked, AreaFlags.None),
        Act.Unlock => (AreaFlags.None, AreaFlags.Locked),
        Act.Advise => (AreaFlags.Advised, AreaFlags.None),
        Act.Unadvise => (AreaFlags.None, AreaFlags.Advised),
        Act.NoFork => (AreaFlags.NoFork, AreaFlags.None),
        _ => (AreaFlags.WipeOnFork, AreaFlags.None),
    };

    private void Write(SimulatedProcess process, Step step)
    {
        int index = 0;
        ForEach(process, step, place =>
        {
            (ulong mask, ulong content) = step.Act switch
            {
                Act.WriteRising => (Whole, Content.Filled((byte)(step.Value + index))),
                Act.WriteCell => (0xFFUL << (step.Value % 8 * 8), Content.Filled((byte)(step.Value / 8))),
                Act.WriteBlind => (Whole, Content.Blind | ((ulong)(step.Value % 4) << 8)),
                _ => (Whole, Content.Filled((byte)step.Value)),
            };
            index++;
            if ((Programs.Area(place) & AreaFlags.Writable) != 0)
                Programs.Write(process, place, mask, content);
        });
    }

    private void ForEach(SimulatedProcess process, Step step, Action<int> act)
    {
        int first = step.Page % Machine.Tables.Window, end = Math.Min(first + step.Count, Machine.Tables.Window);
        for (int page = first; page < end && process.Alive; page++)
            act(Machine.PlaceOf(process, page));
    }

    /// <summary>Every other step that is taken while a process is worked on aims at that process, and half of those at the pages that are being exchanged.</summary>
    private Step Aim(Step step)
    {
        (int page, int count) = Machine.Exchanging;
        return count > 0 && step.Who % 4 == 0 ? step with { Page = page + step.Page % count } : step;
    }

    private SimulatedProcess? Someone(Step step)
    {
        if (Machine.Working is { Alive: true } working && step.Who % 2 == 0)
            return working;
        int living = Machine.Living.Count();
        return living == 0 ? null : Machine.Living.ElementAt(step.Who % living);
    }
}
