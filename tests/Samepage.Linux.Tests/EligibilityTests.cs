using Samepage.Live;

namespace Samepage.LinuxTests;

/// <summary>What tells a program that cannot be served, where no such program need run.</summary>
public sealed class EligibilityTests : IDisposable
{
    private readonly string _path = Path.GetTempFileName();

    [Theory]
    [InlineData(1, true)] // ELFCLASS32
    [InlineData(2, false)]
    public void TheClassOfAnExecutableIsInItsFifthByte(byte elfClass, bool thirtyTwo)
    {
        File.WriteAllBytes(_path, [0x7f, (byte)'E', (byte)'L', (byte)'F', elfClass, 1, 1, 0]);
        Assert.Equal(thirtyTwo, Eligibility.IsThirtyTwoBit(_path));
    }

    [Fact]
    public void OurOwnProgramIsServable() => Assert.False(Eligibility.IsThirtyTwoBit("/proc/self/exe"));

    [Fact]
    public void AProgramThatIsGoneIsNotThirtyTwoBit()
    {
        Assert.False(Eligibility.IsThirtyTwoBit("/proc/0/exe"));
        Assert.False(Eligibility.IsThirtyTwoBit(_path)); // empty
    }

    /// <inheritdoc/>
    public void Dispose() => File.Delete(_path);
}
