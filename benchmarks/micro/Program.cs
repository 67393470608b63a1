using System.Globalization;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;

namespace Samepage.MicroBench;

/// <summary>Measures the engine's indexes and records.</summary>
internal static class Program
{
    private const string Usage = """
        usage: micro [BenchmarkDotNet's own options]    a million entries and eight, with BenchmarkDotNet's care
               micro sweep [MILLIONS…]                  indexes of so many million entries, each filled, searched and emptied once (1 4 16 64)
               micro pages [MILLIONS…]                  the whole engine on so many million pages: bytes and time a page (1 4 16)
        """;

    private static int Main(string[] arguments)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        switch (arguments)
        {
            case ["--help" or "-h"]:
                Console.WriteLine(Usage);
                return 0;
            case ["sweep", .. string[] millions]:
                IndexSweep.Run(Sizes(millions, 1, 4, 16, 64));
                return 0;
            case ["pages", .. string[] millions]:
                PagesSweep.Run(Sizes(millions, 1, 4, 16));
                return 0;
            default:
                // In this process: a project that the harness generates elsewhere would not see the engine's internals.
                BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly)
                    .Run(arguments, ManualConfig.Create(DefaultConfig.Instance).AddJob(Job.ShortRun.WithToolchain(InProcessEmitToolchain.Instance)));
                return 0;
        }
    }

    private static long[] Sizes(string[] millions, params long[] otherwise) =>
        [.. (millions.Length > 0 ? millions.Select(text => long.Parse(text, CultureInfo.InvariantCulture)) : otherwise).Select(million => million << 20)];
}
