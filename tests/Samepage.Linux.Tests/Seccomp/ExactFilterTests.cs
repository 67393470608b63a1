using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using Samepage.Agent.Seccomp;
using Samepage.Api;
using Samepage.Daemon;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Seccomp;
using static Samepage.Linux.Interop.LibC;

namespace Samepage.LinuxTests;

/// <summary>Agents live under a filter that allows what stands in the list of calls, with these arguments, and kills the program for anything else.</summary>
public sealed class ExactFilterTests
{
    [Fact]
    public async Task UnderAFilterThatAllowsTheListAloneAProgramIsMergedAndGivenBack()
    {
        string folder = Directory.CreateTempSubdirectory("exact-filter-").FullName, target = Path.Combine(folder, "filtered"), filter = Path.Combine(folder, "exact");
        Compile(target);
        await File.WriteAllBytesAsync(filter, Bpf.Bytes([.. Exact([.. AgentCalls.Attach, .. AgentCalls.Agent, .. AgentCalls.Gate, .. AgentCalls.Leave])]), TestContext.Current.CancellationToken);
        await using ForeignProgram one = ForeignProgram.Start(target, "4", $"exactly:{filter}"), other = ForeignProgram.Start(target, "4", $"exactly:{filter}");
        Assert.Equal("ready", await one.Line());
        Assert.Equal("ready", await other.Line());
        int first = one.Pid, second = other.Pid;
        ForeignProgram.Trace(() =>
        {
            using Coordinator coordinator = new(NullLogger.Instance, new AgentRecords(folder));
            StepByStep steps = StepByStep.Here();
            foreach (int pid in (int[])[first, second])
            {
                ProcessOutcome taken = steps.Run(coordinator.Attach(pid));
                Assert.True(taken.Done, $"{taken}");
            }

            // The agent's threads have the filter of the thread with the fewest.
            Assert.All((int[])[one.Threads[^2], one.Threads[^1]], thread => Assert.Equal(1, ProcessStatus.TryRead($"/proc/{first}/task/{thread}/status")?.SeccompFilters));
            for (int pass = 0; pass < 20; pass++)
                StepByStep.Pass(coordinator, pass % 2 == 0 ? first : second);
            Assert.InRange(coordinator.Engine.Figures.PagesSharing, 900, 2000);
            foreach (int pid in (int[])[first, second])
            {
                ProcessOutcome left = steps.Run(coordinator.Detach(pid));
                Assert.True(left.Done, $"{left}");
            }
        });
        foreach (ForeignProgram program in (ForeignProgram[])[one, other])
        {
            await program.Says("verify", "ok");
            Assert.Equal(2, program.Threads.Length);
            Assert.DoesNotContain(program.Maps, line => line.Contains("samepage", StringComparison.Ordinal));
        }

        Directory.Delete(folder, recursive: true);
    }

    private static void Compile(string target)
    {
        DirectoryInfo? root = new(AppContext.BaseDirectory);
        while (root is not null && !File.Exists(Path.Combine(root.FullName, "Samepage.slnx")))
            root = root.Parent;
        using Process compiler = Process.Start("cc", ["-O2", "-o", target, Path.Combine(root!.FullName, "tests", "targets", "filtered.c"), "-pthread"]);
        compiler.WaitForExit();
        Assert.Equal(0, compiler.ExitCode);
    }

    /// <summary>Each call of the list in turn: where its number, or a bit of an argument, is another, the next one.</summary>
    private static IEnumerable<BpfInstruction> Exact(IEnumerable<AgentCall> calls)
    {
        foreach (CallShape shape in calls.Select(call => call.Shape).Distinct())
        {
            List<BpfInstruction> arguments = [];
            for (int argument = 0; argument < 6; argument++)
            {
                foreach (bool upper in (bool[])[false, true])
                {
                    (uint value, uint known) = ((uint)(shape[argument].Value >> (upper ? 32 : 0)), (uint)(shape[argument].Known >> (upper ? 32 : 0)));
                    if (known == 0)
                        continue;
                    arguments.AddRange([Bpf.LoadArgument(argument, upper), Bpf.Op(BPF_ALU | BPF_AND, known), Bpf.Op(BPF_JMP | BPF_JEQ, value)]);
                }
            }

            List<BpfInstruction> all = [Bpf.LoadWord(0), Bpf.Op(BPF_JMP | BPF_JEQ, shape.Number), .. arguments, Bpf.Return(Bpf.Allow)];
            for (int at = 0; at < all.Count; at++)
                yield return (all[at].Code & 7) == BPF_JMP ? all[at] with { JumpFalse = (byte)(all.Count - 1 - at) } : all[at];
        }

        yield return Bpf.Return(Bpf.Kill);
    }
}
