using CsCheck;
using Samepage.Linux;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Seccomp;
using static Samepage.Linux.Interop.LibC;
using static Samepage.LinuxTests.Bpf;

namespace Samepage.LinuxTests;

/// <summary>The walker and the reader against the kernel.</summary>
public sealed class KernelFiltersTests
{
    /// <summary>Random filters over a process that makes random calls: what comes of each is what the walker says; and filters are read back as they were given.</summary>
    [Fact]
    public async Task WhatTheWalkerSaysComes()
    {
        await using ForeignProgram program = await FilteredProgram.Start();
        HashSet<SeccompActions> met = [];
        await Gen.Select(RandomPrograms.Programs(looksAtPointer: false).Array[1, 3], RandomPrograms.Argument.Array[6].Array[8]).SampleAsync(async (tails, calls) =>
        {
            BpfInstruction[][] programs = [.. tails.Select(OfOneCall)];
            SeccompFilter[] filters = [.. programs.Select(one => Filter(one))];
            string[] comes = await program.Judges(programs, calls);
            Assert.Equal(calls.Length, comes.Length);
            for (int i = 0; i < calls.Length; i++)
            {
                SeccompActions told = FilterWalk.ActionsFor(filters, RandomPrograms.Exactly(RandomPrograms.Number, calls[i]));
                met.Add(told);
                uint[] data = Data(RandomPrograms.Number, 0, calls[i]);
                uint answer = Lowest(programs.Reverse().Select(one => Run(one, data))); // Of equal ones the kernel takes the newest filter's.
                Assert.Equal(told switch
                {
                    SeccompActions.Allow or SeccompActions.Log => "made",
                    SeccompActions.Errno => $"errno:{Math.Min(answer & 0xFFFF, 4095)}",
                    SeccompActions.Trap => "trap",
                    SeccompActions.Trace or SeccompActions.UserNotify => $"errno:{(int)Errno.ENOSYS}", // Nobody is there to decide.
                    SeccompActions.KillThread or SeccompActions.KillProcess => "killed",
                    _ => $"nothing that is known: {told}",
                }, comes[i]);
            }
        }, iter: 150, threads: 1);
        Assert.Equal(8, met.Count);
    }

    /// <summary>What is read is what was given, whether filters are suspended or not, the oldest first.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task FiltersAreReadAsTheyWereGiven(bool isSuspended)
    {
        await using ForeignProgram program = await FilteredProgram.Start();
        await RandomPrograms.Programs(looksAtPointer: true).Array[1, 4].SampleAsync(async tails =>
        {
            BpfInstruction[][] programs = [.. tails.Select(OfOneCall)];
            int pid = await program.Holds(programs);
            List<SeccompFilter> filters = [Filter(Return(Allow))];
            FilteredProgram.Stopped(pid, pid, isSuspended, () =>
            {
                Assert.True(ThreadFilters.TryRead(pid, filters, out Errno errno), errno.ToString());
                Assert.Equal(Errno.None, errno);
            });
            Assert.Equal(programs, filters.Select(filter => filter.Instructions.ToArray()));
            Assert.All(filters, filter => Assert.Null(filter.Fault));
        }, iter: 10, threads: 1);
    }

    /// <summary>The longest filter that there can be, and the most that are read.</summary>
    [Fact]
    public async Task AsManyAreReadAsAreLikelyAndNoMore()
    {
        await using ForeignProgram program = await FilteredProgram.Start();
        BpfInstruction[] allow = [Return(Allow)], longest = [.. Enumerable.Repeat(LoadWord(0), BPF_MAXINSNS - 1), Return(Allow)];
        int most = await program.Holds([longest, .. Enumerable.Repeat(allow, ThreadFilters.FiltersMax - 1)]), tooMany = await program.Holds([.. Enumerable.Repeat(allow, ThreadFilters.FiltersMax + 1)]);
        List<SeccompFilter> filters = [];
        FilteredProgram.Stopped(most, most, true, () => Assert.True(ThreadFilters.TryRead(most, filters, out _)));
        Assert.Equal((ThreadFilters.FiltersMax, BPF_MAXINSNS), (filters.Count, filters[0].Count));
        FilteredProgram.Stopped(tooMany, tooMany, true, () =>
        {
            Assert.False(ThreadFilters.TryRead(tooMany, filters, out Errno errno));
            Assert.Equal(Errno.ERANGE, errno);
        });
    }

    /// <summary>A thread that has no filter, one that is not stopped, and one that is not ours.</summary>
    [Fact]
    public async Task WhatCannotBeReadIsSaid()
    {
        await using ForeignProgram program = await FilteredProgram.Start();
        int pid = program.Pid;
        List<SeccompFilter> filters = [];
        FilteredProgram.Stopped(pid, pid, false, () =>
        {
            Assert.False(ThreadFilters.TryRead(pid, filters, out Errno errno));
            Assert.Equal(Errno.EINVAL, errno);
        });
        Assert.False(ThreadFilters.TryRead(pid, filters, out Errno notTraced));
        Assert.Equal(Errno.ESRCH, notTraced);
    }

    /// <summary>A thread is given filters by another of its process while it stands and is read: each time all that it had before are there, and none twice.</summary>
    [Fact]
    public async Task WhatComesMeanwhileHidesNothing()
    {
        await using ForeignProgram program = await FilteredProgram.Start();
        int tid = int.Parse(await program.Answers("thread"));
        await program.Says("more 0 1", "done");
        Assert.Equal(2, ProcessStatus.TryRead($"/proc/{tid}/status")!.Seccomp);
        int before = 1, reads = 0;
        FilteredProgram.Stopped(program.Pid, tid, true, () =>
        {
            Task<string> more = program.Answers($"more 1 {ThreadFilters.FiltersMax}");
            List<SeccompFilter> filters = [];
            for (bool isOver = false; ;)
            {
                Assert.True(ThreadFilters.TryRead(tid, filters, out Errno errno), errno.ToString());
                Assert.True(filters.Count >= before, $"{filters.Count} after {before}");
                Assert.Equal(Enumerable.Range(0, filters.Count).Select(i => Allow | (uint)i), filters.Select(filter => filter.Instructions[0].K));
                (before, reads) = (filters.Count, reads + 1);
                if (isOver)
                    break;
                isOver = more.IsCompleted;
            }
        });
        Assert.Equal(ThreadFilters.FiltersMax, before);
        Assert.True(reads > 1);
    }

    /// <summary>The filter looks at getppid(2) alone: the program needs other calls to say what came of it.</summary>
    private static BpfInstruction[] OfOneCall(BpfInstruction[] tail) => [LoadWord(0), Op(BPF_JMP | BPF_JEQ, RandomPrograms.Number, 1, 0), Return(Allow), .. tail];
}
