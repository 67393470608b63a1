namespace Samepage.Linux;

/// <summary>Error numbers as <c>asm-generic/errno.h</c> spells them; only those that this project names.</summary>
public enum Errno
{
    None = 0, EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EIO = 5, ENXIO = 6, EBADF = 9, ECHILD = 10, EAGAIN = 11,
    ENOMEM = 12, EACCES = 13, EFAULT = 14, EBUSY = 16, EEXIST = 17, EXDEV = 18, ENODEV = 19, EINVAL = 22, ENFILE = 23,
    EMFILE = 24, ENOTTY = 25, ENOSPC = 28, EROFS = 30, EPIPE = 32, ERANGE = 34, ENOSYS = 38, ETIME = 62, EPROTO = 71, EILSEQ = 84, EUSERS = 87,
    EOPNOTSUPP = 95, ECONNABORTED = 103, ECONNRESET = 104, ENOTSOCK = 88, ENOTCONN = 107, ETIMEDOUT = 110, ECONNREFUSED = 111, ESTALE = 116,
}

/// <summary>The system refused a call. The message says what was tried, on what, and the errno by name.</summary>
public sealed class SyscallException : IOException
{
    /// <param name="call">The call as strace would name it.</param>
    /// <param name="subject">What it was tried on: a pid, an address range, a path.</param>
    /// <param name="errno">What the system answered.</param>
    public SyscallException(string call, string subject, Errno errno)
        : base($"{call}({subject}): {errno}")
    {
        Call = call;
        Errno = errno;
    }

    /// <summary>The call as strace would name it.</summary>
    public string Call { get; }

    /// <summary>What the system answered.</summary>
    public Errno Errno { get; }
}
