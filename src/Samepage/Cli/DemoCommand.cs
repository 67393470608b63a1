using System.CommandLine;
namespace Samepage.Cli;
internal static class DemoCommand
{
    public static Command Create() => new("demo", "x");
}
