using System.IO.Pipes;
using Samepage.Linux;
using Samepage.Linux.Processes;

namespace Samepage.LinuxTests;

/// <summary>What is put there is open for as long as anybody has the store, and is found by whoever opens it; nothing else is.</summary>
public sealed class DescriptorStoreTests
{
    /// <summary>More than fit into a socket one by one (net.core.wmem_max, 208 KiB by default), and into a message.</summary>
    private const int Many = 1000;

    [Fact]
    public void WhatWasPutThereIsFoundWithItsOwner()
    {
        using DescriptorStore first = DescriptorStore.Create();
        (AnonymousPipeServerStream reader, FileDescriptor writer) = Pipe();
        using (reader)
        {
            Assert.True(first.TryPut(writer, 7) && first.TryPut(writer, 8));
            writer.Dispose();
            using DescriptorStore next = Open(first);
            (FileDescriptor found, ulong owner) = Assert.Single(next.TakeOver());
            Assert.Equal(7UL, owner);
            File.WriteAllBytes($"/proc/self/fd/{found.Number}", [42]);
            Assert.Equal(42, reader.ReadByte());
            // With the last copy the pipe ends.
            next.Forget(found);
            found.Dispose();
            Assert.Equal(-1, reader.ReadByte());
            Assert.Empty(Open(first).TakeOver());
        }
    }

    [Fact]
    public void OfManyAllAreFoundButThoseThatWereForgottenOrClosed()
    {
        using DescriptorStore first = DescriptorStore.Create();
        List<FileDescriptor> all = [.. Enumerable.Range(0, Many).Select(_ => FileDescriptor.Open("/dev/null"))];
        for (int one = 0; one < Many; one++)
            Assert.True(first.TryPut(all[one], (ulong)one));
        for (int one = 0; one < Many; one += 10)
            all[one].Dispose();
        first.Forget(all[1]);
        using DescriptorStore next = Open(first);
        for (int time = 0; time < 2; time++)
        {
            List<(FileDescriptor Descriptor, ulong Owner)> found = time == 0 ? next.TakeOver() : Open(next).TakeOver();
            Assert.Equal(Enumerable.Range(0, Many).Where(one => one % 10 != 0 && one != 1), found.Select(one => (int)one.Owner).Order());
            Assert.All(found, one => Assert.Equal("/dev/null", File.ResolveLinkTarget($"/proc/self/fd/{one.Descriptor.Number}", returnFinalTarget: false)!.FullName));
        }
    }

    /// <summary>A program can have as many children as it likes. Once they are gone there is room again, and what was kept for others can be left out at any time.</summary>
    [Fact]
    public void OneThatWasFullKeepsAndForgetsAsBefore()
    {
        using DescriptorStore store = DescriptorStore.Create(100 << 10);
        List<FileDescriptor> all = [];
        do
            all.Add(FileDescriptor.Open("/dev/null"));
        while (store.TryPut(all[^1], (ulong)all.Count));
        all[^1].Dispose();
        all.RemoveAt(all.Count - 1);
        store.Forget(all[0]);
        Assert.Equal(Enumerable.Range(2, all.Count - 1), Found());
        all[10..].ForEach(one => one.Dispose());
        FileDescriptor[] others = [.. Enumerable.Range(0, 300).Select(_ => FileDescriptor.Open("/dev/null"))];
        Assert.All(others, one => Assert.True(store.TryPut(one, 1_000_000)));
        store.Forget(all[1]);
        Assert.Equal(Enumerable.Range(3, 8).Concat(Enumerable.Repeat(1_000_000, others.Length)), Found());
        Array.ForEach(others, one => one.Dispose());

        IEnumerable<int> Found()
        {
            using DescriptorStore next = Open(store);
            List<(FileDescriptor Descriptor, ulong Owner)> found = next.TakeOver();
            found.ForEach(one => one.Descriptor.Dispose());
            return found.Select(one => (int)one.Owner).Order();
        }
    }

    /// <summary>Whoever comes later goes on with what he found, as if he had put it there.</summary>
    [Fact]
    public void WhoTakesItOverGoesOnWithIt()
    {
        using DescriptorStore first = DescriptorStore.Create();
        using FileDescriptor null1 = FileDescriptor.Open("/dev/null"), null2 = FileDescriptor.Open("/dev/null");
        Assert.True(first.TryPut(null1, 1));
        using DescriptorStore next = Open(first);
        FileDescriptor found = Assert.Single(next.TakeOver()).Descriptor;
        Assert.True(next.TryPut(null2, 2));
        next.Forget(found);
        Assert.Equal([2UL], Open(next).TakeOver().Select(one => one.Owner));
    }

    [Fact]
    public void OneThatIsGoneIsNotOpened()
    {
        using DescriptorStore store = DescriptorStore.Create();
        StorePlace place = store.PlaceIn(Environment.ProcessId);
        Assert.Null(DescriptorStore.TryOpen(place with { StartTime = place.StartTime + 1 }));
        Assert.Null(DescriptorStore.TryOpen(place with { Pid = int.MaxValue }));
        Assert.Null(DescriptorStore.TryOpen(place with { Out = 1 << 20 }));
        Assert.Null(DescriptorStore.TryInherit(1 << 20, (1 << 20) + 1));
    }

    private static DescriptorStore Open(DescriptorStore store) => DescriptorStore.TryOpen(store.PlaceIn(Environment.ProcessId))!;

    private static (AnonymousPipeServerStream Reader, FileDescriptor Writer) Pipe()
    {
        AnonymousPipeServerStream reader = new(PipeDirection.In);
        FileDescriptor writer = FileDescriptor.Open($"/proc/self/fd/{reader.GetClientHandleAsString()}", writable: true);
        reader.DisposeLocalCopyOfClientHandle();
        return (reader, writer);
    }
}
