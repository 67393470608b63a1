using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux;

/// <summary>Wakes a thread that waits in poll(2): an eventfd(2). Any thread may set it.</summary>
public sealed unsafe class EventSignal : IDisposable
{
    private const int EFD_NONBLOCK = LibC.O_NONBLOCK, EFD_CLOEXEC = LibC.O_CLOEXEC;
    private readonly FileDescriptor _descriptor;

    /// <exception cref="SyscallException">No descriptor is free.</exception>
    public EventSignal()
    {
        int number = LibC.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        _descriptor = number >= 0 ? new FileDescriptor(number) : throw new SyscallException("eventfd", "", (Errno)Marshal.GetLastPInvokeError());
    }

    /// <summary>What to wait on: it can be read from as long as it is set.</summary>
    public int Number => _descriptor.Number;

    /// <summary>Wakes who waits, now or later.</summary>
    public void Set()
    {
        ulong one = 1;
        _ = LibC.write(_descriptor.Number, &one, sizeof(ulong));
    }

    /// <summary>Waits until it is set, without spinning: who waits long is not to wake a cold processor twice.</summary>
    /// <param name="atMost">How long; rounded up to milliseconds.</param>
    public void Wait(TimeSpan atMost)
    {
        LibC.pollfd poll = new() { fd = _descriptor.Number, events = LibC.POLLIN };
        _ = LibC.poll(&poll, 1, (int)Math.Min(Math.Ceiling(atMost.TotalMilliseconds), int.MaxValue));
    }

    /// <summary>Takes the signal back.</summary>
    public void Clear()
    {
        ulong count;
        _ = LibC.read(_descriptor.Number, &count, sizeof(ulong));
    }

    /// <inheritdoc/>
    public void Dispose() => _descriptor.Dispose();
}
