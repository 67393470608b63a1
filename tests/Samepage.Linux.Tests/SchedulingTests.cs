using System.Globalization;
using Samepage.Linux.Processes;

namespace Samepage.LinuxTests;

/// <summary>Who keeps others standing still comes first for that time, and no longer; and so does who is waited for meanwhile.</summary>
public sealed class SchedulingTests : IDisposable
{
    private static readonly TimeSpan Long = TimeSpan.FromMinutes(2);
    private readonly Attendants _attendants = new();

    public void Dispose() => _attendants.Dispose();

    [Fact]
    public void AThreadComesFirstAndHasItsPriorityAgainBehindIt()
    {
        OnAThread(5, () =>
        {
            Assert.Equal(5, Nice());
            Scheduling.ComeFirst();
            Scheduling.ComeFirst();
            Scheduling.ComeAsBefore();
            Assert.True(Scheduling.ComesFirst);
            Assert.Equal(-20, Nice());
            // What it starts meanwhile does not.
            int made = 0;
            Thread other = new(() => made = Nice());
            other.Start();
            other.Join();
            Assert.InRange(made, 0, 19);
            Scheduling.ComeAsBefore();
            Assert.False(Scheduling.ComesFirst);
            Assert.Equal(5, Nice());
        });
    }

    [Fact]
    public void WorkForWhoComesFirstComesFirst()
    {
        OnAThread(5, () =>
        {
            for (int i = 0; i < 3; i++)
            {
                // By a thread that is new, then by the same one.
                Assert.Equal(-20, NiceOfWork(first: true));
                Assert.Equal(5, NiceOfWork(first: false));
            }
        });
    }

    private int NiceOfWork(bool first)
    {
        int nice = int.MaxValue;
        if (first)
            Scheduling.ComeFirst();
        Assert.True(_attendants.TryDo(1, () => nice = Nice(), Long, out bool begun) && begun);
        if (first)
            Scheduling.ComeAsBefore();
        return nice;
    }

    private static void OnAThread(int nice, Action work)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root, to come first");
        Exception? failed = null;
        Thread thread = new(() =>
        {
            try
            {
                Scheduling.BeNice(nice);
                work();
            }
            catch (Exception exception)
            {
                failed = exception;
            }
        });
        thread.Start();
        thread.Join();
        Assert.Null(failed);
    }

    /// <summary>The calling thread's nice value, as the kernel has it: proc_pid_stat(5).</summary>
    private static int Nice()
    {
        string stat = File.ReadAllText("/proc/thread-self/stat");
        return int.Parse(stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[16], CultureInfo.InvariantCulture);
    }
}
