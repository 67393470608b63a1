namespace Samepage.SystemTests.Harness;

/// <summary>What a process looked like before it was taken in, to be held against what it looks like once it is given back.</summary>
internal sealed class Trace
{
    /// <summary>Room for page tables that are not charged back, and for what the program itself touched meanwhile.</summary>
    private const long PssSlackBytes = 1 << 20;

    private readonly ProcessView _view;
    private readonly string[] _threads;
    private readonly string[] _descriptors;
    private readonly string[] _names;
    private readonly long _mappedBytes;
    private readonly long _pssBytes;
    private readonly long _shmemBytes;

    private Trace(int pid)
    {
        _view = ProcessView.Of(pid);
        _threads = _view.ThreadIds;
        _descriptors = _view.Descriptors;
        _names = _view.MappedNames;
        _mappedBytes = _view.MappedBytes;
        _pssBytes = _view.PssBytes;
        _shmemBytes = _view.PssShmemBytes;
    }

    public static Trace Of(LiveProgram program) => new(program.Pid);

    /// <returns>What is left of us in the process; empty when nothing is.</returns>
    /// <param name="memoryGrewBack">It takes as much memory as before.</param>
    public string Left(bool memoryGrewBack = true)
    {
        long mapped = _view.MappedBytes - _mappedBytes;
        var left = new List<string>();
        // A thread of its own may have ended meanwhile.
        if (_view.ThreadIds.Except(_threads).ToArray() is { Length: > 0 } threads)
            left.Add($"threads {string.Join(", ", threads)}");
        if (!_view.Descriptors.SequenceEqual(_descriptors))
            left.Add($"descriptors {string.Join("; ", _view.Descriptors.Except(_descriptors))}");
        if (_view.MappedNames.Except(_names).ToArray() is { Length: > 0 } names)
            left.Add($"mappings of {string.Join("; ", names)}");
        if (mapped != 0)
            left.Add($"{mapped} more bytes mapped than the {_mappedBytes} before");
        if (_view.WatchedAreas is > 0 and var watched)
            left.Add($"{watched} areas watched by a userfaultfd");
        if (_view.PssShmemBytes != _shmemBytes)
            left.Add($"{_view.PssShmemBytes} bytes of shared memory, were {_shmemBytes}");
        if (memoryGrewBack && Math.Abs(_view.PssBytes - _pssBytes) > PssSlackBytes)
            left.Add($"Pss is {_view.PssBytes}, was {_pssBytes}");
        return string.Join(", ", left);
    }

    /// <summary>After the daemon was killed: waits until nothing is left, within a bound.</summary>
    public Task GoneAfterDeath(int seconds, bool memoryGrewBack = true) =>
        Until.True(() => Left(memoryGrewBack).Length == 0, seconds, () => Left(memoryGrewBack));

    /// <summary>Nothing is left now.</summary>
    public void IsGone(bool memoryGrewBack = true)
    {
        string left = Left(memoryGrewBack);
        Assert.True(left.Length == 0, $"left in the process: {left}");
    }
}
