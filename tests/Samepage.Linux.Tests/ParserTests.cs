using System.Diagnostics;
using System.Text;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>The texts of /proc.</summary>
public sealed class ParserTests
{
    private const string Smaps = """
        55d0c0a3b000-55d0c0a5c000 rw-p 00000000 00:00 0                          [heap]
        Size:                132 kB
        KernelPageSize:        4 kB
        Rss:                  12 kB
        AnonHugePages:         0 kB
        VmFlags: rd wr mr mw me ac sd 
        7f2b80000000-7f2b80400000 rw-p 00000000 00:00 0 
        Size:               4096 kB
        AnonHugePages:      2048 kB
        THPeligible:           1
        VmFlags: rd wr mr mw me nr hg uw
        7f2b9c1d5000-7f2b9c1fd000 r-xp 00028000 fe:01 131587                     /usr/lib/a name with blanks (deleted)
        Size:                160 kB
        VmFlags: rd ex mr mw me 
        7f2b9d000000-7f2b9d001000 r--s 00003000 103:1f 18446744073709551615 /dev/shm/frames
        VmFlags: rd mr me ms sd 
        ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
        VmFlags: ex 
        """;

    /// <summary>How many mappings there are, and how long their lines, a program chooses: the lines of files whose paths are 4,000 line feeds have 16,000 bytes each.</summary>
    [Theory]
    [InlineData(16_000, false)]
    [InlineData(16_000, true)]
    [InlineData(65_536, true)]
    [InlineData(200_000, true)]
    public void AdviceIsFoundInLittleMemoryWhateverTheProgramMaps(int lineBytes, bool isGiven)
    {
        string path = Path.GetTempFileName();
        try
        {
            using (StreamWriter file = new(path))
            {
                for (int i = 0; i < 40_000_000 / lineBytes; i++)
                    file.Write($"{i:x8}-{i + 1:x8} r--p 00000000 fe:01 7 {string.Concat(Enumerable.Repeat("VmFlags: mg ", lineBytes / 12))}\nSize: 4 kB\nVmFlags: rd wr\n");
                file.Write(isGiven ? "VmFlags: rd wr mg sd \n" : "VmFlags: rd wr sd \n");
            }

            long before = GC.GetAllocatedBytesForCurrentThread();
            Assert.Equal(isGiven, MergeAdvice.HasAdvisedMapping(path));
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 20);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void NoMoreThanTheBeginningOfANameIsKept()
    {
        List<Mapping> mappings = [];
        Assert.True(Parse(string.Concat(Enumerable.Range(1, 40).Select(i => $"{i:x}000-{i + 1:x}000 r--p 00000000 fe:01 7 /{i}{new string('x', 16_000)}\n")), 4096, mappings));
        Assert.Equal(40, mappings.Count);
        Assert.All(mappings, mapping => Assert.InRange(mapping.Name.Length, 200, 256));
        Assert.StartsWith("/40xxx", mappings[^1].Name, StringComparison.Ordinal);
    }

    /// <summary>What is longer than any file of /proc that is read whole is not read on and on.</summary>
    [Theory]
    [InlineData(ProcFile.LongestBytes, true)]
    [InlineData(ProcFile.LongestBytes + 1L, false)]
    [InlineData(3L << 30, false)]
    public void AFileThatIsLongerThanAnyOfProcIsNotRead(long bytes, bool isRead)
    {
        string path = Path.GetTempFileName();
        try
        {
            using (FileStream file = File.OpenWrite(path))
                file.SetLength(bytes);
            Assert.Equal(isRead, ProcFile.TryRead(path, out string text));
            Assert.Equal(isRead ? bytes : 0, text.Length);
        }
        finally
        {
            File.Delete(path);
        }
    }

    /// <summary>Whatever pieces it comes in: as much as a page of the kernel's, or a byte at a time.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(100)]
    [InlineData(4096)]
    public void SmapsAreRead(int piece)
    {
        List<Mapping> mappings = [default];
        Assert.True(Parse(Smaps + "\n", piece, mappings));
        Assert.Equal(5, mappings.Count);
        Assert.Equal(new Mapping(0x55d0c0a3b000, 0x55d0c0a5c000, true, true, false, false, 0, 0, 0, "[heap]", "rd wr mr mw me ac sd ", 0) { HeldBytes = 12 << 10 }, mappings[0]);
        Assert.Equal((0x400000ul, "", 2048ul * 1024), (mappings[1].Length, mappings[1].Name, mappings[1].AnonymousHugeBytes));
        Assert.True(mappings[1].Has("uw"));
        Assert.False(mappings[1].Has("sd"));
        Assert.Equal((true, false, true, false), (mappings[2].Readable, mappings[2].Writable, mappings[2].Executable, mappings[2].Shared));
        Assert.Equal((0x28000ul, (0xfeul << 32) | 1, 131587ul), (mappings[2].Offset, mappings[2].Device, mappings[2].Inode));
        Assert.Equal("/usr/lib/a name with blanks (deleted)", mappings[2].Name);
        Assert.Equal((true, (0x103ul << 32) | 0x1f, ulong.MaxValue, "/dev/shm/frames"), (mappings[3].Shared, mappings[3].Device, mappings[3].Inode, mappings[3].Name));
        Assert.Equal((0xffffffffff600000, false, "[vsyscall]"), (mappings[4].Start, mappings[4].Readable, mappings[4].Name));
    }

    [Fact]
    public void AnEmptyTextIsAProcessThatIsGone()
    {
        List<Mapping> mappings = [];
        Assert.False(Parse("", 1, mappings));
        Assert.False(Mapping.TryReadAll("/proc/0/smaps", mappings));
        Assert.Null(ProcessStatus.TryRead("/proc/0/status"));
    }

    /// <summary>What nobody has seen the kernel write is passed over, and harms nothing.</summary>
    [Theory]
    [InlineData("1000-2000")]
    [InlineData("1000-2000 rw-p")]
    [InlineData("1000-2000 rw-p 0 0:0")]
    [InlineData("1000 2000 rw-p 00000000 00:00 0")]
    [InlineData("fffffffffffffffff-2000 rw-p 00000000 00:00 0")]
    [InlineData("f\n\nVmFlags: rd\nAnonHugePages: many kB")]
    public void WhatIsNoMappingIsPassedOver(string text)
    {
        List<Mapping> mappings = [];
        Assert.False(Parse(text + "\n", 3, mappings));
        Assert.True(Parse(text + "\n3000-4000 r--p 00000000 00:00 0 \n" + text + "\n", 3, mappings));
        Assert.Equal((0x3000ul, true, false, 0ul), (mappings.Single().Start, mappings[0].Readable, mappings[0].Writable, mappings[0].AnonymousHugeBytes));
    }

    private static bool Parse(string text, int piece, List<Mapping> mappings)
    {
        MappingParser parser = new(mappings);
        byte[] kept = [], all = Encoding.UTF8.GetBytes(text);
        foreach (byte[] part in all.Chunk(piece))
            kept = parser.Take([.. kept, .. part]).ToArray();
        Assert.Empty(kept);
        return parser.End();
    }

    [Fact]
    public void OwnMapsAndSmapsAreRead()
    {
        List<Mapping> mappings = [];
        Assert.True(Mapping.TryReadAll("/proc/self/smaps", mappings));
        Assert.Contains(mappings, mapping => mapping is { Name: "[stack]", Writable: true } && mapping.Has("gd"));
        Assert.All(mappings, mapping => Assert.True(mapping.End > mapping.Start && mapping.Flags.EndsWith(' ')));
    }

    /// <summary>Not every processor has protection keys to show it on.</summary>
    [Theory]
    [InlineData(0, true)]
    [InlineData(3, false)]
    public void MemoryWithAProtectionKeyIsNotMerged(int key, bool merged)
    {
        List<Mapping> mappings = [];
        Assert.True(Parse($"""
            7f0000000000-7f0000100000 rw-p 00000000 00:00 0 
            Size:               1024 kB
            AnonHugePages:         0 kB
            ProtectionKey:         {key}
            VmFlags: rd wr mr mw me ac sd 

            """, 4096, mappings));
        Assert.Equal(key, mappings[0].ProtectionKey);
        Assert.Equal(merged, Samepage.Engine.AreaEligibility.IsMergeable(MappingTraits.Of(mappings[0])));
    }

    [Fact]
    public void AStatusIsRead()
    {
        ProcessStatus status = ProcessStatus.Parse("""
            Name:	tab	and: colon
            Umask:	0022
            State:	t (tracing stop)
            Tgid:	4321
            Pid:	4322
            TracerPid:	99
            Uid:	1000	4000000000	1002	1003
            Gid:	5	6	7	8
            VmSize:	    2104 kB
            SigPnd:	0000000000000000
            ShdPnd:	0000000000000200
            SigBlk:	0000000000000000
            CapPrm:	000001ffffffffff
            CapEff:	0000000000000003
            NSpid:	4322	7
            Seccomp:	2
            Seccomp_filters:	1
            x86_Thread_features:	shstk wrss 
            x86_Thread_features_locked:	
            """);
        Assert.Equal(("tab\tand: colon", 't', 4321, 99), (status.Name, status.State, status.ThreadGroup, status.Tracer));
        Assert.Equal(((1000u, 4000000000u, 1002u, 1003u), (5u, 6u, 7u, 8u)), (status.Uids, status.Gids));
        Assert.True(status.ShadowStack);
        Assert.Equal((2, 1, true, 3UL, 0x1ffffffffffUL), (status.Seccomp, status.SeccompFilters, status.HasMemory, status.Capabilities, status.Permitted));
        Assert.Equal((true, 7), (status.InnerPidNamespace, status.OwnId));
    }

    /// <summary>The name is the program's to choose; the kernel spells out line feeds in it, and nothing else at which a text can be parted.</summary>
    [Theory]
    [InlineData("a\rTgid:x")]
    [InlineData("a\fVmPin:")]
    [InlineData("a\u0085Uid:0")]
    [InlineData("a\u2028CapPrm:f")]
    public void ANameSaysNothingButTheName(string name)
    {
        ProcessStatus status = ProcessStatus.Parse($"Name:\t{name}\nState:\tS (sleeping)\nTgid:\t7\nUid:\t1\t2\t3\t4\n");
        Assert.Equal((name, 'S', 7, (1u, 2u, 3u, 4u), 0L, 0UL), (status.Name, status.State, status.ThreadGroup, status.Uids, status.PinnedKib, status.Permitted));
    }

    [Fact]
    public void TheOwnStatusIsRead()
    {
        ProcessStatus status = ProcessStatus.TryRead("/proc/self/status")!;
        Assert.Equal((Environment.ProcessId, true), (status.ThreadGroup, status.HasMemory));
    }

    [Fact]
    public void StatIsReadBehindANameWithParentheses()
    {
        const string Text = "13052 (a) b (c) R 13006 13006 5897 0 -1 4194304 99 7 3 9 41 2 0 0 20 0 1 0 1279331 3133440 361 18446744073709551615 1 1\n";
        Assert.True(ProcessStat.TryParse(Text, out ProcessStat stat));
        Assert.Equal(new ProcessStat(Faults: 102, StartTime: 1279331, Size: 3133440, ProcessorTicks: 43, Resident: 361), stat);
    }

    [Fact]
    public void FilesOfProcAreReadWholeHoweverLong()
    {
        Assert.True(ProcFile.TryRead("/proc/kallsyms", out string symbols));
        Assert.True(symbols.Length > 100_000 && symbols.EndsWith('\n'));
        Assert.False(ProcFile.TryRead("/proc/999999999/stat", out string gone));
        Assert.Equal("", gone);
    }

    [Fact]
    public void OpenFilesAreCounted()
    {
        using Process sleeper = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", "echo open; exec sleep 60"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        Assert.Equal("open", sleeper.StandardOutput.ReadLine());
        Assert.Equal(Directory.GetFileSystemEntries($"/proc/{sleeper.Id}/fd").Length, OpenFiles.Count(sleeper.Id));
        sleeper.Kill();
        sleeper.WaitForExit();
        Assert.Equal(0, OpenFiles.Count(sleeper.Id));
    }
}
