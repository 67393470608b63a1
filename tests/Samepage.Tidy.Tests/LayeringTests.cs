using ArchUnitNET.Domain;
using ArchUnitNET.Domain.Extensions;
using ArchUnitNET.Loader;

namespace Samepage.TidyTests;

/// <summary>Arrows run one way: samepage → Fleet → Estimate → Linux, samepage → Agent → Linux → Engine ← Simulation ← samepage. Read out of the built assemblies, not out of project files.</summary>
public sealed class LayeringTests
{
    private static readonly Dictionary<string, string> Files = new()
    {
        ["Samepage.Engine"] = Repository.Assembly("Samepage.Engine", "Samepage.Engine.dll"),
        ["Samepage.Linux"] = Repository.Assembly("Samepage.Linux", "Samepage.Linux.dll"),
        ["Samepage.Agent"] = Repository.Assembly("Samepage.Agent", "Samepage.Agent.dll"),
        ["Samepage.Estimate"] = Repository.Assembly("Samepage.Estimate", "Samepage.Estimate.dll"),
        ["Samepage.Fleet"] = Repository.Assembly("Samepage.Fleet", "Samepage.Fleet.dll"),
        ["Samepage.Simulation"] = Repository.Assembly("Samepage.Simulation", "Samepage.Simulation.dll"),
        ["samepage"] = Repository.Assembly("Samepage", "samepage.dll"),
    };

    private static readonly Lazy<Architecture> Built = new(() =>
        new ArchLoader().LoadAssemblies([.. Files.Values.Select(System.Reflection.Assembly.LoadFrom)]).Build());

    [Theory]
    [InlineData("Samepage.Engine")]
    [InlineData("Samepage.Linux", "Samepage.Engine")]
    [InlineData("Samepage.Agent", "Samepage.Engine", "Samepage.Linux")]
    [InlineData("Samepage.Estimate", "Samepage.Engine", "Samepage.Linux")]
    [InlineData("Samepage.Fleet", "Samepage.Estimate")]
    [InlineData("Samepage.Simulation", "Samepage.Engine")]
    [InlineData("samepage", "Samepage.Engine", "Samepage.Linux", "Samepage.Agent", "Samepage.Estimate", "Samepage.Fleet", "Samepage.Simulation")]
    public void AnAssemblyDependsOnlyOnWhatStandsBelowIt(string assembly, params string[] allowed)
    {
        string[] wrong =
        [
            .. from type in Built.Value.Types
               where NameOf(type) == assembly
               from dependency in type.Dependencies
               let target = NameOf(dependency.Target)
               where Files.ContainsKey(target) && target != assembly && !allowed.Contains(target)
               select $"{type.FullName} uses {dependency.Target.FullName} of {target}",
        ];
        Assert.True(wrong.Length == 0, string.Join('\n', wrong.Distinct()));
    }

    [Theory]
    [InlineData("Samepage.Engine")]
    [InlineData("Samepage.Simulation")]
    public void ItDoesNoInputAndOutput(string assembly)
    {
        string[] forbidden = ["System.IO.File", "System.IO.Directory", "System.Net.", "System.Diagnostics.Process", "System.Threading.Thread", "System.Runtime.InteropServices.Marshal"];
        string[] wrong =
        [
            .. from type in Built.Value.Types
               where NameOf(type) == assembly
               from dependency in type.Dependencies
               where forbidden.Any(prefix => dependency.Target.FullName == prefix || (prefix.EndsWith('.') && dependency.Target.FullName.StartsWith(prefix, StringComparison.Ordinal)))
               select $"{type.FullName} uses {dependency.Target.FullName}",
        ];
        Assert.True(wrong.Length == 0, string.Join('\n', wrong.Distinct()));
    }

    private static string NameOf(IType type) => type.Assembly?.Name.Split(',')[0] ?? "";
}
