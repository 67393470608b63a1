namespace Samepage.Linux.Processes;

/// <summary>Tries again for work for which there was no thread: nobody else may ever come by. One thread for all <see cref="Attendants"/>.</summary>
/// <remarks>
/// <para>It is there before it is needed, for it is needed when no thread can be started: a timer would not do, whose callback waits for a thread of the pool. Where it cannot be started
/// either, that is tried again with the next attendants, and with the next work for which there is no thread.</para>
/// <para>It sleeps while nobody waits. It never waits for a program: what it calls starts threads, and does no work. Any thread may call this, but not with a lock that attendants take.</para>
/// </remarks>
internal static class Usher
{
    private const int StackBytes = 256 << 10;
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(50);

    /// <summary>Those who have such work. Whoever is taken out of it is asked, or puts itself in again.</summary>
    private static readonly HashSet<Attendants> s_short = [];
    private static bool s_isThere;

    /// <summary>Starts the thread, if it does not run yet.</summary>
    public static void BeThere()
    {
        lock (s_short)
            s_isThere = s_isThere || OwnThread.TryStart(new Thread(Run, StackBytes) { Name = "usher", IsBackground = true });
    }

    /// <summary>There is work for which no thread could be started.</summary>
    /// <param name="attendants">Where; called in a while, until there is none.</param>
    public static void Call(Attendants attendants)
    {
        lock (s_short)
        {
            s_short.Add(attendants);
            Monitor.Pulse(s_short);
        }

        BeThere();
    }

    private static void Run()
    {
        for (; ; )
        {
            lock (s_short)
            {
                while (s_short.Count == 0)
                    Monitor.Wait(s_short);
            }

            Thread.Sleep(s_pause);
            Attendants[] all;
            lock (s_short)
            {
                all = [.. s_short];
                s_short.Clear();
            }

            foreach (Attendants one in all)
            {
                if (one.ServeUnserved())
                    Call(one);
            }
        }
    }
}
