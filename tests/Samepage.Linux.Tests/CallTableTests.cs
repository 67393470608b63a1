using Samepage.Agent.X64;

namespace Samepage.LinuxTests;

/// <summary>Which system calls are left alone; that the numbers are right is asked of a compiler in <see cref="AbiTests"/>.</summary>
public sealed class CallTableTests
{
    private static readonly ulong[] NoArguments = new ulong[6];

    [Theory]
    [InlineData(1, "write")]
    [InlineData(46, "sendmsg")]
    [InlineData(40, "sendfile")]
    [InlineData(208, "io_getevents")]
    [InlineData(42, "connect")]
    [InlineData(3, "close")]
    public void CallsThatMayEndHalfDoneAreKnownByName(int number, string name)
    {
        Assert.True(CallTable.MayReturnHalfDone(number, NoArguments));
        Assert.Equal(name, CallTable.Name(number));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(7)]
    [InlineData(35)]
    [InlineData(232)]
    public void ReadPollSleepAndEpollMayBeInterrupted(int number)
    {
        Assert.False(CallTable.MayReturnHalfDone(number, [.. Enumerable.Repeat(ulong.MaxValue, 6)]));
        Assert.Equal(number != 232, CallTable.RestartsByItself(number));
        Assert.Equal($"call {number}", CallTable.Name(number));
    }

    [Theory]
    [InlineData(232, -4, true)] // epoll_wait, EINTR
    [InlineData(232, 0, false)]
    [InlineData(3, -4, false)] // close: the descriptor is closed all the same
    [InlineData(42, -4, false)] // connect: it is under way
    [InlineData(321, -11, true)] // bpf, EAGAIN
    public void OnlyWhatHasDoneNothingIsBegunAgain(int number, long answer, bool nothing) => Assert.Equal(nothing, CallTable.CameToNothing(number, answer));

    /// <summary>The flags of clone3 (435) lie where its program can change them: it is taken for one that waits for its child.</summary>
    [Theory]
    [InlineData(58, 0, true)] // vfork
    [InlineData(56, 0, false)]
    [InlineData(56, 0x4000, true)] // clone with CLONE_VFORK
    [InlineData(435, 0, true)]
    [InlineData(57, 0, false)] // fork
    public void WhereNoSignalReachesNobodyIsInterrupted(int number, ulong flags, bool uninterruptible) =>
        Assert.Equal(uninterruptible, CallTable.IsUninterruptible(number, [flags, 0, 0, 0, 0, 0]));

    [Theory]
    [InlineData(45, 3, 0x100)]
    [InlineData(202, 1, 11)] // FUTEX_WAIT_REQUEUE_PI
    [InlineData(47, 2, 0x100)]
    [InlineData(426, 1, 1)]
    public void SomeCallsDependOnTheirArguments(int number, int argument, ulong value)
    {
        ulong[] arguments = new ulong[6];
        Assert.False(CallTable.MayReturnHalfDone(number, arguments));
        arguments[argument] = value;
        Assert.True(CallTable.MayReturnHalfDone(number, arguments));
    }
}
