using Samepage.Agent.Seccomp;
using Samepage.Agent.X64;

namespace Samepage.LinuxTests.Seccomp;

/// <summary>The list of calls by which it is decided whether a program's filters allow us what we do, against the code that makes them.</summary>
public sealed class AgentCallsTests
{
    private const ulong Base = 0x7f12_3456_7000;

    [Fact]
    public void EveryCallInTheAgentsCodeIsInTheList() => Covers(AgentAssembler.Assemble(Base, 0x1_0000_0002, 42), [.. AgentCalls.Attach, .. AgentCalls.Agent, AgentCalls.AnyPersonality], required: [.. AgentCalls.Agent, AgentCalls.AnyPersonality]);

    /// <summary>restart_syscall(2) is not made by the gate's code, but at the instruction of the program's own call.</summary>
    [Fact]
    public void EveryCallInTheGatesCodeIsInTheList() => Covers(AgentAssembler.AssembleGate(), AgentCalls.Gate, required: [.. AgentCalls.Gate.Where(call => call != AgentCalls.Restart)]);

    /// <param name="code">What is to be looked through.</param>
    /// <param name="known">The list.</param>
    /// <param name="required">Those of the list that must be found: a list that has more than is made refuses programs for nothing.</param>
    private static void Covers(byte[] code, AgentCall[] known, AgentCall[] required)
    {
        CallSites finder = new(code);
        List<CallSite> sites = finder.Find();
        // Such bytes elsewhere are a part of another instruction, which no way leads into.
        Assert.All(Enumerable.Range(0, code.Length - 1).Where(at => code[at] == 0x0f && code[at + 1] == 0x05), at => Assert.True(finder.IsReached(at), $"the call at 0x{at:x} is not reached"));
        HashSet<AgentCall> met = [];
        foreach (CallSite site in sites)
        {
            foreach ((ulong number, Held[] arguments) in site.Cases())
            {
                AgentCall[] covering = [.. known.Where(call => call.Shape.Number == number && Enumerable.Range(0, 6).All(i => arguments[i].Has(call.Shape[i].Value, call.Shape[i].Known)))];
                Assert.True(covering.Length > 0, $"the call {number} at 0x{site.At:x} is not in the list, with {string.Join(", ", arguments.Select(held => held.Values is null ? $"{held.Value:x}/{held.Known:x}" : string.Join('|', held.Values.Select(v => $"{v:x}"))))}");
                met.UnionWith(covering);
            }
        }

        Assert.Empty(required.Except(met).Select(call => call.Shape.ToString()));
    }
}
