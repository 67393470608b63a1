using System.Globalization;

namespace Samepage.SystemTests.Harness;

/// <summary>A virtual machine under QEMU, booted from Debian's kernel: it checks its memory again and again, and answers on its serial port (tests/guest/init).</summary>
internal sealed class GuestUnderTest : IAsyncDisposable
{
    /// <summary>Where tests/install-programs puts the kernel.</summary>
    private static readonly string Kernel = Path.Combine(Repository.Root, "artifacts", "guest", "vmlinuz");

    private GuestUnderTest(LiveProgram machine) => Machine = machine;

    /// <summary>QEMU, whose memory the guest's is.</summary>
    public LiveProgram Machine { get; }

    /// <summary>Boots guests with the same file system, which is theirs in memory.</summary>
    /// <param name="count">Guests.</param>
    /// <param name="mib">Mebibytes of data that they have in common: each of them holds these twice.</param>
    public static async Task<GuestUnderTest[]> Boot(int count, int mib)
    {
        string qemu = Needs.Program("qemu-system-x86_64", "qemu-system-x86");
        Needs.Program("busybox", "busybox-static");
        Assert.SkipUnless(File.Exists(Kernel), $"needs {Kernel}: run tests/install-programs");
        string fileSystem = Path.GetTempFileName();
        var guests = new List<GuestUnderTest>();
        try
        {
            await Outside.Must(60, Path.Combine(Repository.Root, "tests", "guest", "initramfs"), fileSystem, $"{mib}");
            for (int i = 0; i < count; i++)
            {
                guests.Add(new GuestUnderTest(LiveProgram.Start(qemu, "-accel", Accelerator, "-m", "128", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
                    "-kernel", Kernel, "-initrd", fileSystem, "-append", "console=ttyS0 quiet panic=-1")));
            }

            foreach (GuestUnderTest guest in guests)
                await guest.Machine.Ready(120);
            return [.. guests];
        }
        catch
        {
            foreach (GuestUnderTest guest in guests)
                await guest.DisposeAsync();
            throw;
        }
        finally
        {
            File.Delete(fileSystem);
        }
    }

    /// <summary>All of its memory is right, and was whenever it looked.</summary>
    /// <returns>How often it has looked by itself.</returns>
    public Task<long> Check() => Ask("check");

    /// <summary>How often it has looked by itself at what is common.</summary>
    public Task<long> Rounds() => Ask("rounds");

    /// <summary>It writes to its memory: what is there already over half of what is common, something new into what is its own.</summary>
    public Task Write() => Machine.Does("write");

    public ValueTask DisposeAsync() => Machine.DisposeAsync();

    private async Task<long> Ask(string command)
    {
        string answer = await Machine.Ask(command);
        Assert.True(answer.StartsWith("ok ", StringComparison.Ordinal), $"{Machine.Name} ({Machine.Pid}) on {command}: {answer}: {Machine.Errors}");
        return long.Parse(answer.AsSpan(3), CultureInfo.InvariantCulture);
    }

    /// <summary>KVM where the processor offers it; /dev/kvm alone is no sign of that inside of a virtual machine.</summary>
    private static string Accelerator => File.Exists("/dev/kvm") && File.ReadLines("/proc/cpuinfo").Any(line =>
        line.StartsWith("flags", StringComparison.Ordinal) && (line.Contains(" vmx ", StringComparison.Ordinal) || line.Contains(" svm ", StringComparison.Ordinal))) ? "kvm" : "tcg";
}
