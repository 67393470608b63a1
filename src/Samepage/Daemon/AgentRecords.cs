using System.Collections.Concurrent;
using System.Globalization;
using Samepage.Agent;
using Samepage.Linux;

namespace Samepage.Daemon;

/// <summary>What is written down of a process that is taken in.</summary>
/// <param name="Place">Where its agent lies.</param>
/// <param name="PoolDevice">The device of the frame pool that it maps.</param>
/// <param name="PoolInode">Its inode. Those of one pool are given back together.</param>
/// <param name="Domain">Its trust domain.</param>
internal sealed record AgentRecord(AgentPlace Place, ulong PoolDevice, ulong PoolInode, string Domain);

/// <summary>The agents of a daemon as files, one a process, for whoever comes after it: they say where to look, and are never believed without a look.</summary>
/// <remarks><code>
///   SAMEPAGE_RUN_DIR/agents/PID    START BASE COOKIE DEVICE:INODE DOMAIN    decimal, hexadecimal, hexadecimal, decimal both, text
/// </code>A file that is not whole was being written when its daemon died, and its agent had not begun to run.</remarks>
internal sealed class AgentRecords(string runDirectory)
{
    private readonly string _folder = Path.Combine(runDirectory, "agents");
    private readonly Lock _changed = new();
    private readonly ConcurrentDictionary<int, AgentPlace> _unremoved = [];

    /// <exception cref="IOException">It cannot be written.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be written.</exception>
    public void Write(AgentRecord record)
    {
        Directory.CreateDirectory(_folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        AgentPlace place = record.Place;
        lock (_changed)
        {
            File.WriteAllText(PathOf(place.Pid), string.Create(CultureInfo.InvariantCulture,
                $"{place.StartTime} {place.BaseAddress:x} {place.Cookie:x} {record.PoolDevice}:{record.PoolInode} {record.Domain}\n"));
            _unremoved.TryRemove(place.Pid, out _);
        }
    }

    /// <summary>Removes a record. One that cannot be removed now (a file system that became read-only) does no harm, as none is believed without a look: it is tried again later.</summary>
    /// <param name="place">The agent that is gone. The record of another one in the same process, which somebody else has brought there since, stays.</param>
    public void Remove(AgentPlace place)
    {
        int pid = place.Pid;
        lock (_changed)
        {
            bool isAnothers = ReadText(PathOf(pid)) is { } text && TryParse(Path.GetFileName(PathOf(pid)), text, out AgentRecord? there) && there!.Place.Cookie != place.Cookie;
            if (isAnothers || TryDelete(PathOf(pid)))
                _unremoved.TryRemove(new KeyValuePair<int, AgentPlace>(pid, place));
            else
                _unremoved[pid] = place;
        }
    }

    /// <summary>Removes what could not be removed before, unless another agent has been written down in its place.</summary>
    public void RemoveLeft()
    {
        foreach (AgentPlace place in _unremoved.IsEmpty ? [] : _unremoved.Values)
            Remove(place);
    }

    public List<AgentRecord> ReadAll()
    {
        List<AgentRecord> records = [];
        if (!Directory.Exists(_folder))
            return records;
        foreach (string path in Directory.EnumerateFiles(_folder).Order(StringComparer.Ordinal))
        {
            if (ReadText(path) is not { } text)
                continue; // Not ours, or not to be read now: whoever comes later may.
            if (TryParse(Path.GetFileName(path), text, out AgentRecord? record))
                records.Add(record!);
            else
                _ = TryDelete(path);
        }

        return records;
    }

    private static string? ReadText(string path)
    {
        try
        {
            return FileFacts.TryRead(path, follow: false, out FileFacts facts) == Errno.None && facts.Kind == FileKind.File ? File.ReadAllText(path) : null;
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static bool TryDelete(string path)
    {
        try
        {
            File.Delete(path);
            return true;
        }
        catch (DirectoryNotFoundException)
        {
            return true;
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    internal static bool TryParse(string name, string text, out AgentRecord? record)
    {
        record = null;
        string[] fields = text.TrimEnd('\n').Split(' ', 5);
        string[] pool = fields.Length == 5 ? fields[3].Split(':') : [];
        if (!text.EndsWith('\n') || pool.Length != 2 || !int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int pid) || pid <= 0 ||
            !ulong.TryParse(fields[0], NumberStyles.None, CultureInfo.InvariantCulture, out ulong start) ||
            !ulong.TryParse(fields[1], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong at) ||
            !ulong.TryParse(fields[2], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong cookie) ||
            !ulong.TryParse(pool[0], NumberStyles.None, CultureInfo.InvariantCulture, out ulong device) ||
            !ulong.TryParse(pool[1], NumberStyles.None, CultureInfo.InvariantCulture, out ulong inode))
        {
            return false;
        }

        record = new AgentRecord(new AgentPlace(pid, start, at, cookie), device, inode, fields[4]);
        return true;
    }

    private string PathOf(int pid) => Path.Combine(_folder, pid.ToString(CultureInfo.InvariantCulture));
}
