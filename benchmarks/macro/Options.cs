using System.Globalization;

namespace Samepage.Bench;

/// <summary>What the command line asks for.</summary>
/// <param name="TotalMib">Memory of all targets together.</param>
/// <param name="RunLengths">Lengths of the duplicate runs, pages, in the order measured.</param>
/// <param name="Rounds">How often each run length is measured on each side.</param>
/// <param name="JsonPath">Where the results go as JSON; null for nowhere.</param>
/// <param name="Kernel">Measure the kernel's KSM.</param>
/// <param name="Samepage">Measure Samepage.</param>
/// <param name="Cold">Measure a daemon that has merged nothing yet.</param>
internal sealed record Options(
    int TotalMib, IReadOnlyList<int> RunLengths, int Rounds, string? JsonPath, bool Kernel, bool Samepage, bool Cold)
{
    public const string Help = """
        Usage: ./bench [options]

        Merges the same memory once with Samepage and once with the kernel's KSM at its fastest setting
        (pages_to_scan 100000, sleep_millisecs 0, smart_scan on), in turn, and prints a table. Half of the pages have
        a twin, in duplicate runs of 1, 16 and 256 pages; the twins are in different processes.

        Needs root, and a kernel whose own KSM is stopped. Changes /sys/kernel/mm/ksm while it runs and puts every
        setting back at the end, also after Ctrl-C and SIGTERM. Nothing is judged by time: it fails only when a page
        holds wrong content, when memory is not saved, or when something cannot be measured.

        Options:
          --quick        256 MiB and one round in place of 1 GiB and three
          --rounds N     rounds, 1 to 99; the table shows medians
          --run N[,N…]   lengths of the duplicate runs, pages (default 1,16,256)
          --side SIDE    samepage, kernel or both (default both)
          --cold         a daemon that has merged nothing before: compiling its code is included. Without
                         it each daemon first merges 32 MiB of other processes, and gives them back
          --json FILE    write every round's figures and the medians to FILE as well
          --help         this text

        Environment:
          SAMEPAGE_NO_BUILD=1           run what was built last
          SAMEPAGE_BENCH_DAEMON=DLL     measure this samepage.dll

        Exit: 0 done, 1 failed, 2 bad use, 3 not permitted.
        """;

    /// <exception cref="UsageException">Something on the line cannot be used.</exception>
    public static Options Parse(ReadOnlySpan<string> arguments)
    {
        Options options = new(1024, [1, 16, 256], 3, null, true, true, false);
        int? rounds = null;
        for (int i = 0; i < arguments.Length; i++)
        {
            switch (arguments[i])
            {
                case "--quick":
                    options = options with { TotalMib = 256, Rounds = 1 };
                    break;
                case "--cold":
                    options = options with { Cold = true };
                    break;
                case "--rounds":
                    rounds = Number(arguments, ref i, 1, 99);
                    break;
                case "--run":
                    options = options with { RunLengths = Numbers(Value(arguments, ref i)) };
                    break;
                case "--side":
                    string side = Value(arguments, ref i);
                    if (side is not ("samepage" or "kernel" or "both"))
                        throw new UsageException($"--side takes samepage, kernel or both, not '{side}'");
                    options = options with { Kernel = side != "samepage", Samepage = side != "kernel" };
                    break;
                case "--json":
                    options = options with { JsonPath = Value(arguments, ref i) };
                    break;
                default:
                    throw new UsageException($"'{arguments[i]}' is no option");
            }
        }
        options = options with { Rounds = rounds ?? options.Rounds };
        foreach (int length in options.RunLengths)
            if (new Workload(options.TotalMib, length) is { IsEven: false } work)
                throw new UsageException($"runs of {length} pages do not divide {work.PagesPerProcess} pages evenly");
        return options;
    }

    private static string Value(ReadOnlySpan<string> arguments, ref int i) =>
        i + 1 < arguments.Length ? arguments[++i] : throw new UsageException($"{arguments[i]} takes a value");

    private static int Number(ReadOnlySpan<string> arguments, ref int i, int least, int most)
    {
        string name = arguments[i], text = Value(arguments, ref i);
        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number >= least && number <= most
            ? number
            : throw new UsageException($"{name} takes a number from {least} to {most}, not '{text}'");
    }

    private static int[] Numbers(string text)
    {
        List<int> numbers = [];
        foreach (string part in text.Split(','))
            numbers.Add(int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number > 0
                ? number
                : throw new UsageException($"--run takes lengths in pages, such as 1,16,256, not '{text}'"));
        return [.. numbers];
    }
}

/// <summary>The command line cannot be used.</summary>
internal sealed class UsageException(string message) : Exception(message);

/// <summary>The bench cannot go on, or found something wrong.</summary>
internal sealed class BenchException(string message, Exception? inner = null) : Exception(message, inner);
