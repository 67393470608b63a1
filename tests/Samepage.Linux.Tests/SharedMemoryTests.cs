using System.Runtime.InteropServices;
using Samepage.Linux;
using Samepage.Linux.Processes;

namespace Samepage.LinuxTests;

public sealed partial class SharedMemoryTests
{
    private const int Bytes = 4 * 4096, FALLOC_FL_KEEP_SIZE = 1, FALLOC_FL_PUNCH_HOLE = 2;

    [Fact]
    public void WhatIsWrittenIsReadByWhoeverHasTheFile()
    {
        using SharedMemory ours = SharedMemory.Create("samepage-test", Bytes);
        Assert.True(SharedMemory.TryOpen($"/proc/self/fd/{ours.File.Number}", Bytes, out SharedMemory? theirs, out string why), why);
        Assert.True(ours.TryWrite(4090, [1, 2, 3, 4, 5, 6, 7, 8]));
        byte[] read = new byte[8];
        Assert.True(theirs!.TryRead(4090, read));
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8], read);
        theirs.Dispose();
        Assert.False(theirs.TryRead(0, read));
    }

    [Fact]
    public void NobodyWhoHasTheFileCanShortenIt_AndWhatHePunchesOutIsZero()
    {
        using SharedMemory memory = SharedMemory.Create("samepage-test", Bytes);
        Assert.NotEqual(0, ftruncate(memory.File.Number, 0));
        Assert.NotEqual(0, ftruncate(memory.File.Number, 2 * Bytes));
        Assert.True(memory.TryWrite(0, [9]));
        Assert.Equal(0, fallocate(memory.File.Number, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, Bytes));
        byte[] read = [7];
        Assert.True(memory.TryRead(0, read));
        Assert.Equal(0, read[0]);
    }

    [Theory]
    [InlineData("/dev/zero")]
    [InlineData("/proc/self/maps")]
    [InlineData("/proc/self/exe")]
    public void AnotherFileIsRefused(string path) => Assert.False(SharedMemory.TryOpen(path, Bytes, out _, out _));

    [Fact]
    public void AFileWithoutSealsIsRefused_AndOneOfAnotherLength()
    {
        int plain = memfd_create("samepage-test", 0);
        Assert.Equal(0, ftruncate(plain, Bytes));
        using (FileDescriptor file = new(plain))
            Assert.False(SharedMemory.TryOpen($"/proc/self/fd/{plain}", Bytes, out _, out _));
        using SharedMemory memory = SharedMemory.Create("samepage-test", 2 * Bytes);
        Assert.False(SharedMemory.TryOpen($"/proc/self/fd/{memory.File.Number}", Bytes, out _, out _));
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ftruncate(int fd, long length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fallocate(int fd, int mode, long offset, long length);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int memfd_create(string name, uint flags);
}
