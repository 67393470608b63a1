using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Samepage.Demo;
using Samepage.Simulation.Scenarios;

namespace Samepage.Cli;

/// <summary><c>samepage simulate</c>: the engine on a simulated machine, everything checked after every step.</summary>
internal static class SimulateCommand
{
    private static readonly string s_more = $"""
        Runs a scenario on a simulated machine: programs, page tables, swap, forks, devices, and
        the same engine that the daemon runs. While the engine works, the world goes on between
        any two of its steps; after every step it is checked that each program reads exactly what
        it wrote, that no frame can be written, that nothing crosses a trust domain, that no page
        in use by a device is touched and that no memory is lost. Needs no root and no daemon,
        touches no real process, and takes some seconds.

        Scenarios:
        {string.Join('\n', Scenario.All.Select(scenario => $"  {scenario.Name,-10} {scenario.Summary}"))}

        The same scenario, seed and number of processes give the same run on every machine.
        Without --seed one is chosen; it is printed.

        Examples:
          samepage simulate
          samepage simulate --scenario storm --seed 7 --processes 40
          samepage simulate --scenario host-4tib --json | jq .host

        Exit code 0 means that every check held; 1, that one did not: it is printed, with the seed.
        """;

    public static Command Create()
    {
        Option<ulong?> seed = new("--seed")
        {
            Description = "Decides everything that is left to chance: a whole number from 0 on.",
            HelpName = "N",
            CustomParser = ParseSeed,
        };
        Option<string> scenario = new("--scenario")
        {
            Description = $"One of {string.Join(", ", Scenario.All.Select(known => known.Name))}.",
            HelpName = "NAME",
            DefaultValueFactory = _ => Scenario.All[0].Name,
        };
        scenario.Validators.Add(result =>
        {
            if (result.Tokens.Count > 0 && Scenario.Find(result.Tokens[0].Value) is null)
                result.AddError($"there is no scenario '{result.Tokens[0].Value}'; there are {string.Join(", ", Scenario.All.Select(known => known.Name))}");
        });
        Option<int?> processes = new("--processes")
        {
            Description = $"How many processes: 1 to {Scenario.ProcessesMax}; without it, as many as suit the scenario.",
            HelpName = "N",
            CustomParser = ParseProcesses,
        };
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("simulate", "Run the engine on a simulated machine, and check everything.", s_more) { seed, scenario, processes, json };
        command.SetAction((parsed, _) => Task.FromResult(Run(
            Scenario.Find(parsed.GetValue(scenario)!)!, parsed.GetValue(seed) ?? RandomSeed(), parsed.GetValue(processes), parsed.GetValue(json))));
        return command;
    }

    /// <summary>A seed that nobody chose, short enough to be typed again.</summary>
    public static ulong RandomSeed() => (ulong)Random.Shared.Next();

    private static int Run(Scenario scenario, ulong seed, int? processes, bool json)
    {
        SimulationReport report = ScenarioRun.Run(scenario, seed, processes ?? scenario.Processes);
        if (json)
            Output.Json(SimulationReply.Of(report), CliJson.Default.SimulationReply);
        else
            SimulationScreen.Print(report);
        if (report.Broken is null)
            return ExitCode.Done;
        Output.Complain($"an invariant did not hold: {report.Broken.Message}; please report it with the seed: samepage simulate --scenario {scenario.Name} --seed {seed}{(processes is int n ? $" --processes {n}" : "")}");
        return ExitCode.Failed;
    }

    private static ulong? ParseSeed(ArgumentResult result)
    {
        if (ulong.TryParse(result.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out ulong seed))
            return seed;
        result.AddError($"'{result.Tokens[0].Value}' is not a seed: a whole number from 0 to {ulong.MaxValue}");
        return null;
    }

    private static int? ParseProcesses(ArgumentResult result)
    {
        if (int.TryParse(result.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out int count) && count is >= 1 and <= Scenario.ProcessesMax)
            return count;
        result.AddError($"'{result.Tokens[0].Value}' is not a number of processes: 1 to {Scenario.ProcessesMax}");
        return null;
    }
}
