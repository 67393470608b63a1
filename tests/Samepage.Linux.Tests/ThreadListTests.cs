using System.Diagnostics;
using System.IO.MemoryMappedFiles;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

public sealed class ThreadListTests
{
    private const int Lives = 64, Lists = 2000;

    /// <summary>
    /// While others end, the kernel's list passes living threads over. Of 15,000 lists of a program like this 75 lacked one; 31 of these, of 6,466, were as long as the kernel counted threads; of the 681 whose threads that are
    /// there still were as many, none.
    /// </summary>
    [Fact]
    public async Task AListHasAllThatLiveWhoeverEndsMeanwhile()
    {
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName, program = Path.Combine(folder, "comers"), words = Path.Combine(folder, "living");
        await Make(folder, program);
        using Process comers = Process.Start(new ProcessStartInfo(program, [words]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        try
        {
            Assert.Equal("ready", await comers.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken));
            using var file = MemoryMappedFile.CreateFromFile(words);
            using MemoryMappedViewAccessor living = file.CreateViewAccessor();
            int[] before = new int[Lives];
            List<int> listed = [];
            int partial = 0, whole = 0, lacking = 0;
            bool Lacks() => Enumerable.Range(0, Lives).Any(slot => before[slot] != 0 && before[slot] == living.ReadInt32(slot * sizeof(int)) && !listed.Contains(before[slot]));
            for (int lists = 0; lists < Lists; lists++)
            {
                living.ReadArray(0, before, 0, Lives);
                Assert.True(Threads.TryList(comers.Id, listed));
                partial += Lacks() ? 1 : 0;
                living.ReadArray(0, before, 0, Lives);
                if (!Threads.TryListAll(comers.Id, listed))
                    continue;
                whole++;
                lacking += Lacks() ? 1 : 0;
            }

            TestContext.Current.SendDiagnosticMessage("{0} of {1} lists lacked a living thread; {2} were known to be whole", partial, Lists, whole);
            Assert.Equal(0, lacking);
            Assert.NotEqual(0, whole);
        }
        finally
        {
            comers.Kill();
            await comers.WaitForExitAsync(TestContext.Current.CancellationToken);
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void AThreadIsFoundByItsOwnId()
    {
        Assert.Equal(Environment.ProcessId, Threads.FindByOwnId(Environment.ProcessId, Environment.ProcessId));
        Assert.Equal(0, Threads.FindByOwnId(Environment.ProcessId, 1));
        Assert.Equal(0, Threads.FindByOwnId(Environment.ProcessId, 0));
    }

    private static async Task Make(string folder, string program)
    {
        DirectoryInfo? root = new(AppContext.BaseDirectory);
        while (root is not null && !File.Exists(Path.Combine(root.FullName, "Samepage.slnx")))
            root = root.Parent;
        Assert.NotNull(root);
        using Process make = Process.Start("make", ["-s", "-C", Path.Combine(root.FullName, "tests", "targets"), $"OUT={folder}", program]);
        await make.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, make.ExitCode);
    }
}
