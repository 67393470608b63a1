using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Programs in a container that runc has made, with the calls forbidden that Docker forbids by default.</summary>
public sealed partial class ContainerTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private const string Script = """
        import mmap, sys
        pages = 4096
        memory = mmap.mmap(-1, pages * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        content = lambda page: (page + 1).to_bytes(4, 'little') * 1024
        for page in range(pages): memory[page * 4096:(page + 1) * 4096] = content(page)
        print('ready', flush=True)
        for line in sys.stdin:
            print('ok' if all(memory[page * 4096:(page + 1) * 4096] == content(page) for page in range(pages)) else 'wrong', flush=True)
        """;

    /// <summary>What Docker's default profile forbids to who has its default capabilities, of the calls that x86-64 has: the others are allowed, but for some arguments of some.</summary>
    private const string Forbidden = """
        _sysctl acct add_key afs_syscall bpf clock_settime create_module delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick get_kernel_syms get_mempolicy getpmsg init_module
        io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind migrate_pages mount mount_setattr move_mount move_pages nfsservctl
        open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root process_madvise putpmsg query_module quotactl quotactl_fd reboot request_key security set_mempolicy
        set_mempolicy_home_node setdomainname sethostname setns settimeofday swapoff swapon sysfs syslog tuxcall umount2 unshare uselib userfaultfd ustat vhangup vserver
        """;

    private const string Headers = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";

    [GeneratedRegex(@"__NR_(\w+)")]
    private static partial Regex CallName { get; }

    [Fact]
    public async Task TwoProgramsOfAContainerAreMergedAndGivenBack()
    {
        string runc = Needs.Program("runc", "runc"), python = Needs.Program("python3", "python3");
        Assert.SkipUnless(File.Exists(Headers), "needs linux-libc-dev: the names of all calls");
        string folder = Directory.CreateTempSubdirectory("samepage-runc-").FullName, name = Path.GetFileName(folder);
        Assert.Equal(0, (await Outside.Run(60, new System.Diagnostics.ProcessStartInfo(runc, ["spec"]) { WorkingDirectory = folder })).ExitCode);
        await File.WriteAllTextAsync(Path.Combine(folder, "config.json"), Configure(await File.ReadAllTextAsync(Path.Combine(folder, "config.json")), python), TestContext.Current.CancellationToken);
        foreach (string place in (string[])["proc", "usr"])
            Directory.CreateDirectory(Path.Combine(folder, "rootfs", place));
        foreach (string link in (string[])["bin", "lib", "lib64", "sbin"])
            File.CreateSymbolicLink(Path.Combine(folder, "rootfs", link), $"usr/{link}");
        string root = Path.Combine(folder, "state"), firstFile = Path.Combine(folder, "first"), secondFile = Path.Combine(folder, "second");
        try
        {
            await using LiveProgram first = LiveProgram.Start(runc, "--root", root, "run", "--bundle", folder, "--pid-file", firstFile, name);
            await first.Ready();
            await using LiveProgram second = LiveProgram.Start(runc, "--root", root, "exec", "--pid-file", secondFile, name, python, "-c", Script);
            await second.Ready();
            int[] pids = [await PidIn(firstFile), await PidIn(secondFile)];
            Assert.All(pids, pid => Assert.Equal(2, ProcessView.Of(pid).Status("Seccomp")));
            Called called = await Daemon.Cli("attach", "--wait", $"{pids[0]}", $"{pids[1]}");
            Assert.True(called.ExitCode == 0, $"{called}\n{Daemon.Tail}");
            await Until.True(async () => (await Daemon.Status()).Of(pids[0]).PagesMerged >= 4000, 120, async () => $"{(await Daemon.Status()).Of(pids[0])}\n{Daemon.Tail}");
            Assert.True((await Daemon.Status()).Processes.Where(process => pids.Contains(process.Pid)).Sum(process => process.ProfitBytes) > 8 << 20);
            await first.Does("verify");
            await second.Does("verify");
            called = await Daemon.Cli("detach", $"{pids[0]}", $"{pids[1]}");
            Assert.True(called.ExitCode == 0, $"{called}\n{Daemon.Tail}");
            foreach (int pid in pids)
            {
                Assert.Equal(1, ProcessView.Of(pid).Threads);
                Assert.DoesNotContain(ProcessView.Of(pid).MappedNames, mapped => mapped.Contains("samepage", StringComparison.Ordinal));
            }

            await first.Does("verify");
            await second.Does("verify");
        }
        finally
        {
            await Outside.Run(60, runc, "--root", root, "delete", "--force", name);
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<int> PidIn(string file) => int.Parse(await File.ReadAllTextAsync(file), CultureInfo.InvariantCulture);

    /// <summary>A container that sees this machine's programs, in namespaces of its own, with Docker's capabilities and its seccomp profile.</summary>
    private static string Configure(string spec, string python)
    {
        JsonNode all = JsonNode.Parse(spec)!;
        JsonNode process = all["process"]!, linux = all["linux"]!;
        process["args"] = new JsonArray(python, "-c", Script);
        process["terminal"] = false;
        process["noNewPrivileges"] = false;
        string[] capabilities = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "AUDIT_WRITE"];
        process["capabilities"] = new JsonObject(((string[])["bounding", "effective", "permitted"]).Select(kind => KeyValuePair.Create<string, JsonNode?>(kind, new JsonArray([.. capabilities.Select(capability => JsonValue.Create($"CAP_{capability}"))]))));
        ((JsonObject)process).Remove("rlimits");
        all["mounts"] = new JsonArray(
            new JsonObject { ["destination"] = "/proc", ["type"] = "proc", ["source"] = "proc" },
            new JsonObject { ["destination"] = "/usr", ["type"] = "bind", ["source"] = "/usr", ["options"] = new JsonArray("rbind", "ro") });
        linux["namespaces"] = new JsonArray([.. ((string[])["pid", "ipc", "uts", "mount"]).Select(kind => new JsonObject { ["type"] = kind })]);
        ((JsonObject)linux).Remove("resources");
        string[] forbidden = Forbidden.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries), some = ["socket", "personality", "clone", "clone3"];
        string[] allowed = [.. CallName.Matches(File.ReadAllText(Headers)).Select(match => match.Groups[1].Value).Distinct().Except(forbidden).Except(some)];
        JsonArray rules = [new JsonObject { ["names"] = new JsonArray([.. allowed.Select(call => JsonValue.Create(call))]), ["action"] = "SCMP_ACT_ALLOW" }];
        foreach ((string call, ulong value, string comparison) in ((string, ulong, string)[])[("socket", 38, "LT"), ("socket", 39, "EQ"), ("socket", 40, "GT"), ("personality", 0, "EQ"), ("personality", 8, "EQ"),
            ("personality", 0x20000, "EQ"), ("personality", 0x20008, "EQ"), ("personality", 0xFFFFFFFF, "EQ"), ("clone", 0x7E020000, "MASKED_EQ")])
        {
            rules.Add((JsonNode)new JsonObject { ["names"] = new JsonArray(call), ["action"] = "SCMP_ACT_ALLOW", ["args"] = new JsonArray(new JsonObject { ["index"] = 0, ["value"] = value, ["op"] = $"SCMP_CMP_{comparison}" }) });
        }

        rules.Add((JsonNode)new JsonObject { ["names"] = new JsonArray("clone3"), ["action"] = "SCMP_ACT_ERRNO", ["errnoRet"] = 38 });
        linux["seccomp"] = new JsonObject { ["defaultAction"] = "SCMP_ACT_ERRNO", ["defaultErrnoRet"] = 1, ["architectures"] = new JsonArray("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"), ["syscalls"] = rules };
        return all.ToJsonString();
    }
}
