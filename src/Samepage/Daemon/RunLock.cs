using System.Globalization;
using System.Text;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Daemon;

/// <summary>Who has a run directory.</summary>
/// <param name="Kind">What he does.</param>
/// <param name="Pid">His process.</param>
/// <param name="StartTime">When it started, as <see cref="ProcessStat.StartTime"/> has it.</param>
/// <param name="Store">Where descriptors are kept that whoever comes after him needs; null where there are none, or nobody would keep them.</param>
internal sealed record RunLockHolder(string Kind, int Pid, ulong StartTime, StorePlace? Store = null)
{
    /// <summary>He serves programs.</summary>
    public const string Daemon = "daemon";

    /// <summary>He gives back what a daemon has left, and may be interrupted.</summary>
    public const string Recovery = "recovery";

    /// <summary>He has given back all that can be, and watches the rest; whoever comes may take his place.</summary>
    public const string Watch = "watch";

    /// <summary>The process that is meant, and no later one of its number, is there.</summary>
    public bool IsThere => ProcessStat.TryRead(Pid, out ProcessStat stat) && stat.StartTime == StartTime;

    /// <summary>It was killed, and nothing of it will run any more: what is left are threads that wait in the kernel and end as soon as that lets them.</summary>
    public bool IsDying
    {
        get
        {
            List<int> threads = [];
            return IsThere && Threads.TryList(Pid, threads) && threads.TrueForAll(tid =>
                ProcessStatus.TryRead($"/proc/{Pid}/task/{tid}/status") is not { } status || status.State is 'Z' or 'X' || (status.State == 'D' && status.IsKilled));
        }
    }
}

/// <summary>The lock of whoever serves in, or recovers, a run directory: flock(2), which death gives up.</summary>
/// <remarks>
/// <para>Death gives it up when the last thread has ended, and a thread that waits in the kernel for a program may end never. So whoever finds the lock taken looks at who has it, and if he is dying puts
/// a lock of his own in its place.</para>
/// <list type="number">
/// <item>Everything here is done behind a door, a lock of its own that is held for no longer than it takes to open, read, write and rename files of this directory.</item>
/// <item>Behind the door nobody else opens, takes, replaces or signs the lock, so the file that its path leads to is the one that counts, and who has it has signed it: he signs it before he leaves the
/// door. A signature in a file that nobody has is an old one, and not looked at.</item>
/// <item>Of two that find a dying holder, the first replaces the file; the second comes behind the door later, opens the new file, and finds a holder who lives.</item>
/// <item>A holder who dies is no danger to the one who replaces him: none of his threads returns from the kernel, and the call in which one still is concerns the one program that keeps it.</item>
/// </list>
/// </remarks>
internal sealed class RunLock : IDisposable
{
    private const UnixFileMode Ours = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private readonly FileStream _file;

    private RunLock(FileStream file) => _file = file;

    /// <summary>Takes it, if it can be had.</summary>
    /// <param name="folder">The run directory.</param>
    /// <param name="kind">For what.</param>
    /// <param name="holder">Who has it otherwise, or had it before; null where that is not known.</param>
    /// <param name="store">Where descriptors are kept by then; null for where they were before.</param>
    /// <returns>Null when somebody else has it.</returns>
    /// <exception cref="IOException">The files cannot be made.</exception>
    /// <exception cref="UnauthorizedAccessException">They may not be.</exception>
    public static RunLock? TryTake(string folder, string kind, out RunLockHolder? holder, StorePlace? store = null)
    {
        holder = null;
        using RunLock? door = TryLock(Path.Combine(folder, "lock.door"));
        if (door is null)
            return null;
        string path = Path.Combine(folder, "lock"), fresh = Path.Combine(folder, "lock.new");
        RunLock? mine = TryLock(path);
        if (mine is null)
        {
            holder = TryReadHolder(path);
            if (holder is not { IsDying: true })
                return null;
            File.Delete(fresh);
            mine = TryLock(fresh) ?? throw new IOException($"{fresh}: a new file is locked by somebody");
            mine.Sign(kind, store ?? holder.Store);
            File.Move(fresh, path, overwrite: true);
            return mine;
        }

        // What he who had it left is there until it is taken over, also if we die before.
        holder = TryReadHolder(path);
        mine.Sign(kind, store ?? holder?.Store);
        return mine;
    }

    /// <summary>Says who has it, for what, and where descriptors are kept. By who has it.</summary>
    public void Sign(string kind, StorePlace? store)
    {
        _ = ProcessStat.TryRead(Environment.ProcessId, out ProcessStat stat);
        string kept = store is { } place ? string.Create(CultureInfo.InvariantCulture, $" {place.Pid} {place.StartTime} {place.In} {place.Out}") : "";
        byte[] text = Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{kind} {Environment.ProcessId} {stat.StartTime}{kept}\n"));
        // Whoever reads meanwhile, or after a death in between, finds a whole first line.
        _file.Position = 0;
        _file.Write(text);
        _file.Flush();
        _file.SetLength(text.Length);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // A program that is being started may have a copy of the descriptor for a moment.
        if (!_file.SafeFileHandle.IsClosed)
            FileLock.GiveUp(_file.SafeFileHandle);
        _file.Dispose();
    }

    internal static RunLockHolder? Parse(string text) =>
        text.Split('\n')[0].Split(' ') is [var kind, var pid, var start, .. var kept] && int.TryParse(pid, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number > 0 &&
        ulong.TryParse(start, NumberStyles.None, CultureInfo.InvariantCulture, out ulong time) ? new RunLockHolder(kind, number, time, ParseStore(kept)) : null;

    private static StorePlace? ParseStore(string[] fields) =>
        fields is [var pid, var start, var into, var from] && int.TryParse(pid, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number > 0 &&
        ulong.TryParse(start, NumberStyles.None, CultureInfo.InvariantCulture, out ulong time) && int.TryParse(into, NumberStyles.None, CultureInfo.InvariantCulture, out int one) &&
        int.TryParse(from, NumberStyles.None, CultureInfo.InvariantCulture, out int other) ? new StorePlace(number, time, one, other) : null;

    private static RunLockHolder? TryReadHolder(string path) => ProcFile.TryRead(path, out string text) ? Parse(text) : null;

    private static RunLock? TryLock(string path)
    {
        FileStream file = new(path, new FileStreamOptions { Mode = FileMode.OpenOrCreate, Access = FileAccess.ReadWrite, Share = FileShare.ReadWrite | FileShare.Delete, BufferSize = 1, UnixCreateMode = Ours });
        bool isOurs = false;
        try
        {
            isOurs = FileLock.TryTake(file.SafeFileHandle);
            if (isOurs)
                File.SetUnixFileMode(file.SafeFileHandle, Ours);
            return isOurs ? new RunLock(file) : null;
        }
        finally
        {
            if (!isOurs)
                file.Dispose();
        }
    }
}
