using System.CommandLine;
using Samepage.Demo;

namespace Samepage.Cli;

/// <summary><c>samepage demo</c>: the whole of it, on programs started for the purpose.</summary>
internal static class DemoCommand
{
    private const string More = """
        Starts a daemon of its own and four ordinary Python programs that load the same data set,
        and shows their memory before, the merging, and their memory after by the kernel's own
        figures. Then the programs prove that no byte changed, write to their pages and read back
        while the others still read the old; and it gives them back and shows that no thread,
        descriptor or mapping is left. Takes about a minute and 800 MiB of memory, needs root, and
        leaves nothing behind. If there is no Python 3, it is installed with apt-get.

        Where the machine cannot merge live (no root, an old kernel), it says why and shows a
        simulated run instead; see 'samepage simulate'.

        Example:
          samepage demo

        Exit code 0 means that every check held, those of the simulation if it was simulated; a
        check that did not is shown, and gives 1.
        """;

    public static Command Create()
    {
        DocumentedCommand command = new("demo", "See it happen: start programs, merge, check, give back.", More);
        command.SetAction((_, cancellation) => DemoRun.RunAsync(cancellation));
        return command;
    }
}
