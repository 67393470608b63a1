using System.Diagnostics;
using Samepage.Engine;

namespace Samepage.MicroBench;

/// <summary>The whole engine on very many pages of a machine that costs next to nothing: what its records hold and what its decisions take.</summary>
internal static class PagesSweep
{
    private static readonly (string Name, Func<long, long, ulong> Content)[] Contents =
    [
        ("all different", (space, page) => (ulong)((space << 32) + page + 1)),
        ("half alike", (space, page) => page % 2 == 0 ? (ulong)(page + 1) : (ulong)((space << 32) + page + 1)),
        ("all alike", (space, page) => (ulong)page + 1),
    ];

    public static void Run(long[] sizes)
    {
        Console.WriteLine("   pages  spaces  contents       index  tracked  bytes/page   peak  ns/page, second pass  ns/page, idle pass  unique/frames");
        // 256 MiB of 4 KiB pages in eight processes.
        Measure(1 << 16, Contents[1].Name, Contents[1].Content, IndexKind.Hash, tracksWrites: true, spaceCount: 8);
        foreach (long size in sizes)
        {
            foreach ((string name, Func<long, long, ulong> content) in Contents)
            {
                foreach (IndexKind kind in Enum.GetValues<IndexKind>())
                    Measure(size, name, content, kind, tracksWrites: true);
            }

            Measure(size, Contents[0].Name, Contents[0].Content, IndexKind.Hash, tracksWrites: false);
            Measure(size, Contents[0].Name, Contents[0].Content, IndexKind.Tree, tracksWrites: false);
        }
    }

    private static void Measure(long pages, string name, Func<long, long, ulong> content, IndexKind kind, bool tracksWrites, int spaceCount = 2)
    {
        PagesMachine machine = new(pages / spaceCount, content) { TracksWrites = tracksWrites };
        using ScanEngine engine = new(machine, new EngineOptions { Index = kind });
        SpaceId[] spaces = [.. Enumerable.Range(1, spaceCount).Select(i => new SpaceId(i))];
        foreach (SpaceId space in spaces)
            engine.Add(space, new DomainId(1));
        long peak = 0;
        double second = 0, idle = 0;
        for (int pass = 0; pass < 5; pass++)
        {
            long start = Stopwatch.GetTimestamp();
            foreach (SpaceId space in spaces)
            {
                engine.Visit(space);
                peak = Math.Max(peak, engine.MetadataBytes);
            }

            engine.EndPass();
            double took = Stopwatch.GetElapsedTime(start).TotalNanoseconds / pages;
            (second, idle) = (pass == 1 ? took : second, took);
        }

        EngineFigures figures = engine.Figures;
        Console.WriteLine($"{pages,9}  {spaceCount,6}  {name,-13}  {kind,-5}  {tracksWrites,7}  {(double)engine.MetadataBytes / pages,10:F2}  {(double)peak / pages,5:F1}  {second,20:F0}  {idle,18:F1}  {figures.PagesUnshared,9}/{figures.PagesShared}");
    }
}
