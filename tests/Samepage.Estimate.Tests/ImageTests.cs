using System.Buffers.Binary;
using Samepage.Estimate;
using Samepage.Estimate.Sources;

namespace Samepage.EstimateTests;

/// <summary>Core dumps and raw images, as files.</summary>
public sealed class ImageTests : IDisposable
{
    private const int Page = 4096;
    private readonly string _folder = Directory.CreateTempSubdirectory("samepage-image-").FullName;

    [Fact]
    public void ARawImageIsItsWholePages()
    {
        string path = Write("raw.mem", [.. Pages(1, 2, 2, 0), .. new byte[100]]);
        EstimateReport report = Counted.Of(new ImageSource(path, "uid:1"));
        Assert.Equal((4, 1, 1, 2), (report.Totals.Figures.Resident, report.Totals.Figures.Zero, report.Totals.Figures.Internal, report.Totals.Figures.Unique));
        Assert.Equal(MemoryKind.Image, Assert.Single(report.Kinds).Kind);
        Assert.Equal(0, report.Costs.AgentBytes);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)] // more segments than e_phnum can say
    public void ACoreDumpIsItsLoadableSegmentsWhereverTheyBegin(bool manySegments)
    {
        string path = Write("core.elf", Core(manySegments, (4, Pages(9)), (1, Pages(1, 2)), (1, Pages(2, 3, 0))));
        EstimateReport report = Counted.Of(new ImageSource(path, "uid:1"));
        Assert.Equal((5, 1, 1, 3), (report.Totals.Figures.Resident, report.Totals.Figures.Zero, report.Totals.Figures.Internal, report.Totals.Figures.Unique));
    }

    [Fact]
    public void ImagesAndProcessesAreCountedTogether()
    {
        string path = Write("raw.mem", Pages(1, 2, 3));
        EstimateReport report = Counted.Of(new ImageSource(path, "uid:1"), new ImageSource(path, "uid:1"));
        Assert.Equal(3, report.Totals.SavedPages);
    }

    [Theory]
    [InlineData("a segment that the file has not got")]
    [InlineData("a program header that the file has not got")]
    [InlineData("32 bits")]
    [InlineData("an executable")]
    [InlineData("a compressed dump")]
    public void WhatIsNoMemoryIsRefusedAndSaysWhy(string defect)
    {
        byte[] core = Core(false, (1, Pages(1, 2)));
        switch (defect)
        {
            case "a segment that the file has not got": core = core[..^1]; break;
            case "a program header that the file has not got": BinaryPrimitives.WriteInt64LittleEndian(core.AsSpan(32), 1 << 20); break;
            case "32 bits": core[4] = 1; break;
            case "an executable": core[16] = 2; break;
            default: "KDUMP   "u8.CopyTo(core); break;
        }

        string path = Write("bad", core);
        InvalidDataException refused = Assert.Throws<InvalidDataException>(() => new ImageSource(path, "uid:1"));
        Assert.Contains(path, refused.Message, StringComparison.Ordinal);
    }

    /// <summary>Bytes in several segments are one memory; what a later segment adds is counted on its own grid of pages.</summary>
    [Fact]
    public void OverlappingSegmentsCountTheirBytesOnce()
    {
        byte[] core = Core(false, (1, Pages(1, 2, 3)), (1, Pages(4)), (1, Pages(5)));
        // The second segment is the last two pages of the first, and more.
        long first = BinaryPrimitives.ReadInt64LittleEndian(core.AsSpan(64 + 8));
        BinaryPrimitives.WriteInt64LittleEndian(core.AsSpan(64 + 56 + 8), first + Page);
        BinaryPrimitives.WriteInt64LittleEndian(core.AsSpan(64 + 56 + 32), 2 * Page);
        EstimateReport report = Counted.Of(new ImageSource(Write("overlap.elf", core), "uid:1"));
        Assert.Equal((4, 4), (report.Totals.Figures.Resident, report.Totals.Figures.Unique));
    }

    [Fact]
    public void HolesAreZerosAndAreNotRead()
    {
        string path = Path.Combine(_folder, "sparse");
        using (FileStream file = File.Create(path))
        {
            file.Position = 64 << 20;
            file.Write(Pages(9, 9, 0));
            file.SetLength(128 << 20);
        }

        EstimateReport report = Counted.Of(new ImageSource(path, "uid:1"));
        Assert.Equal((32768, 32766, 1, 1), (report.Totals.Figures.Resident, report.Totals.Figures.Zero, report.Totals.Figures.Internal, report.Totals.Figures.Unique));
        Assert.Equal(32767, report.Totals.SavedPages);
        Assert.InRange(report.Effort.BytesRead, 3 * Page, 4 << 20);
    }

    [Fact]
    public void AnEmptyFileHasNoPages() => Assert.Equal(0, Counted.Of(new ImageSource(Write("empty", []), "uid:1")).Totals.Figures.Resident);

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Write(string name, byte[] content)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllBytes(path, content);
        return path;
    }

    private static byte[] Pages(params byte[] contents) => [.. contents.SelectMany(content => Enumerable.Repeat(content, Page))];

    /// <summary>An ELF core file by hand, elf(5): the header, the program headers, a section header, then the segments at odd places.</summary>
    private static byte[] Core(bool manySegments, params (uint Type, byte[] Content)[] segments)
    {
        int sections = 64 + 56 * segments.Length, at = sections + 64 + 13;
        byte[] file = new byte[at + segments.Sum(segment => segment.Content.Length + 7) - 7];
        "\u007fELF"u8.CopyTo(file);
        (file[4], file[5], file[16]) = (2, 1, 4);
        BinaryPrimitives.WriteInt64LittleEndian(file.AsSpan(32), 64);
        BinaryPrimitives.WriteInt64LittleEndian(file.AsSpan(40), sections);
        BinaryPrimitives.WriteUInt16LittleEndian(file.AsSpan(56), manySegments ? (ushort)0xffff : (ushort)segments.Length);
        BinaryPrimitives.WriteInt32LittleEndian(file.AsSpan(sections + 44), manySegments ? segments.Length : 0);
        for (int i = 0; i < segments.Length; i++)
        {
            Span<byte> header = file.AsSpan(64 + 56 * i);
            BinaryPrimitives.WriteUInt32LittleEndian(header, segments[i].Type);
            BinaryPrimitives.WriteInt64LittleEndian(header[8..], at);
            BinaryPrimitives.WriteInt64LittleEndian(header[32..], segments[i].Content.Length);
            segments[i].Content.CopyTo(file, at);
            at += segments[i].Content.Length + 7;
        }

        return file;
    }
}
