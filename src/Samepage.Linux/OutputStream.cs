using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux;

/// <summary>Standard output or standard error as a stream that tells the truth: .NET's own passes over a reader that has gone, and so never ends.</summary>
/// <remarks>A descriptor that was closed when the program began may be one of the runtime's by now, whose own are all close-on-exec, as no inherited one is: nothing is written there.
/// <see cref="Secure"/> says so, once, and is called before anything is opened or written.</remarks>
public sealed unsafe class OutputStream : Stream
{
    private const int Last = 2;
    private static readonly bool[] s_closed = new bool[Last + 1];
    private readonly int _number;
    private readonly bool _mayFail;

    private OutputStream(int number, bool mayFail) => (_number, _mayFail) = (number, mayFail);

    /// <summary>Standard output: writing throws where nothing can be written, with EPIPE where the reader has gone, and EBADF where it was closed.</summary>
    public static OutputStream Results { get; } = new(1, mayFail: false);

    /// <summary>Standard error: what cannot be written there is lost, for there is nowhere else to say so.</summary>
    public static OutputStream Errors { get; } = new(2, mayFail: true);

    /// <inheritdoc/>
    public override bool CanRead => false;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => true;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Notes which of descriptors 0 to 2 were closed when the program began, and puts <c>/dev/null</c> in place of those that still are, so that nothing of ours gets their numbers.</summary>
    public static void Secure()
    {
        for (int number = 0; number <= Last; number++)
        {
            int flags = LibC.fcntl(number, LibC.F_GETFD, 0);
            s_closed[number] = flags < 0 || (flags & LibC.FD_CLOEXEC) != 0;
            if (flags < 0)
                _ = LibC.open("/dev/null", LibC.O_RDWR, 0); // the lowest number that is free
        }
    }

    /// <summary>Whether whoever reads this has gone, so that writing has no end to serve: a pipe, a socket or a terminal.</summary>
    public bool IsAbandoned
    {
        get
        {
            LibC.pollfd poll = new() { fd = _number };
            return !s_closed[_number] && LibC.poll(&poll, 1, 0) > 0 && (poll.revents & (LibC.POLLERR | LibC.POLLHUP)) != 0;
        }
    }

    /// <inheritdoc/>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (s_closed[_number])
        {
            Fail(Errno.EBADF);
            return;
        }

        fixed (byte* bytes = buffer)
        {
            for (int done = 0; done < buffer.Length;)
            {
                nint written = LibC.write(_number, bytes + done, (nuint)(buffer.Length - done));
                if (written >= 0)
                {
                    done += (int)written;
                    continue;
                }

                Errno errno = (Errno)Marshal.GetLastPInvokeError();
                if (errno == Errno.EAGAIN)
                {
                    // Whoever gave us the descriptor made it one that does not wait: so we do.
                    LibC.pollfd poll = new() { fd = _number, events = LibC.POLLOUT };
                    _ = LibC.poll(&poll, 1, -1);
                }
                else if (errno != Errno.EINTR)
                {
                    Fail(errno);
                    return;
                }
            }
        }
    }

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override void Flush()
    {
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    private void Fail(Errno errno)
    {
        if (!_mayFail)
            throw new SyscallException("write", "standard output", errno);
    }
}
