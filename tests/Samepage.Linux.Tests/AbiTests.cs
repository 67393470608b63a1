using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using Samepage.Agent.X64;
using Samepage.Linux;
using Samepage.Linux.Interop;

namespace Samepage.LinuxTests;

/// <summary>Every constant and structure that stands in C# is what the C headers say: a compiler is asked.</summary>
public sealed class AbiTests
{
    private const BindingFlags Everything = BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic;

    private const string Headers = """
        #define _GNU_SOURCE
        #include <dirent.h>
        #include <errno.h>
        #include <fcntl.h>
        #include <poll.h>
        #include <sched.h>
        #include <signal.h>
        #include <stddef.h>
        #include <sys/mman.h>
        #include <sys/ptrace.h>
        #include <sys/resource.h>
        #include <sys/ioctl.h>
        #include <sys/socket.h>
        #include <sys/stat.h>
        #include <sys/statvfs.h>
        #include <sys/syscall.h>
        #include <sys/sysinfo.h>
        #include <sys/uio.h>
        #include <sys/user.h>
        #include <sys/vfs.h>
        #include <sys/wait.h>
        #include <linux/audit.h>
        #include <linux/bpf.h>
        #include <linux/btf.h>
        #include <linux/capability.h>
        #include <linux/elf.h>
        #include <linux/fs.h>
        #include <linux/filter.h>
        #include <linux/fuse.h>
        #include <linux/io_uring.h>
        #include <linux/ioctl.h>
        #include <linux/kernel-page-flags.h>
        #include <linux/magic.h>
        #include <linux/mount.h>
        #include <linux/seccomp.h>
        #include <linux/types.h>
        #include <linux/userfaultfd.h>
        enum { MNT_DETACH = 2, UMOUNT_NOFOLLOW = 8 }; /* of sys/mount.h, which some versions of linux/fs.h exclude */
        #define ptrace_rseq_configuration __ptrace_rseq_configuration /* glibc's names for the kernel's structures */
        #define ptrace_syscall_info __ptrace_syscall_info
        #define DirentName offsetof(struct dirent, d_name)

        """;

    /// <summary>What headers older than a kernel that this project runs on lack, as the kernel's documentation has it.</summary>
    private const string NewerThanSomeHeaders = """
        #ifndef MADV_COLLAPSE
        #define MADV_COLLAPSE 25
        #endif
        #ifndef PIDFD_THREAD
        #define PIDFD_THREAD O_EXCL
        #endif
        #ifndef MFD_NOEXEC_SEAL
        #define MFD_NOEXEC_SEAL 0x0008U
        #endif
        #ifndef F_SEAL_EXEC
        #define F_SEAL_EXEC 0x0020
        #endif
        #ifndef NT_X86_SHSTK
        #define NT_X86_SHSTK 0x204
        #endif
        #ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
        #define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
        struct ptrace_sud_config { __u64 mode, selector, offset, len; };
        #endif
        #ifndef MFD_EXEC
        #define MFD_EXEC 0x0010U
        #endif
        #ifndef UFFD_FEATURE_WP_UNPOPULATED
        #define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
        #endif
        #ifndef UFFD_FEATURE_WP_ASYNC
        #define UFFD_FEATURE_WP_ASYNC (1 << 15)
        #endif
        #ifndef UFFD_FEATURE_MOVE
        #define UFFD_FEATURE_MOVE (1 << 16)
        #endif
        #ifndef UFFDIO_MOVE
        struct uffdio_move { __u64 dst, src, len, mode; __s64 move; };
        #define UFFDIO_MOVE _IOWR(0xAA, 0x05, struct uffdio_move)
        #endif
        #ifndef PAGEMAP_SCAN
        struct page_region { __u64 start, end, categories; };
        struct pm_scan_arg {
            __u64 size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask, category_anyof_mask, return_mask;
        };
        #define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
        #define PM_SCAN_WP_MATCHING (1 << 0)
        #define PM_SCAN_CHECK_WPASYNC (1 << 1)
        #define PAGE_IS_WPALLOWED (1 << 0)
        #define PAGE_IS_WRITTEN (1 << 1)
        #define PAGE_IS_FILE (1 << 2)
        #define PAGE_IS_PRESENT (1 << 3)
        #define PAGE_IS_SWAPPED (1 << 4)
        #define PAGE_IS_PFNZERO (1 << 5)
        #define PAGE_IS_HUGE (1 << 6)
        #endif
        #ifndef PROCMAP_QUERY
        struct procmap_query {
            __u64 size, query_flags, query_addr, vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
            __u32 dev_major, dev_minor, vma_name_size, build_id_size;
            __u64 vma_name_addr, build_id_addr;
        };
        #define PROCMAP_QUERY _IOWR('f', 17, struct procmap_query)
        enum {
            PROCMAP_QUERY_VMA_READABLE = 0x01, PROCMAP_QUERY_VMA_WRITABLE = 0x02, PROCMAP_QUERY_VMA_EXECUTABLE = 0x04,
            PROCMAP_QUERY_VMA_SHARED = 0x08, PROCMAP_QUERY_COVERING_OR_NEXT_VMA = 0x10, PROCMAP_QUERY_FILE_BACKED_VMA = 0x20,
        };
        #endif

        """;

    /// <summary>Fields that C# lays out flat and C does not.</summary>
    private static readonly Dictionary<string, string> Nested = new()
    {
        ["uffdio_register.start"] = "range.start",
        ["uffdio_writeprotect.start"] = "range.start",
        ["uffdio_writeprotect.len"] = "range.len",
        ["uffdio_register.len"] = "range.len",
        ["uffdio_zeropage.start"] = "range.start",
        ["uffdio_zeropage.len"] = "range.len",
        ["uffd_msg.flags"] = "arg.pagefault.flags",
        ["uffd_msg.address"] = "arg.pagefault.address",
        ["uffd_msg.ufd"] = "arg.fork.ufd",
        ["bpf_attr.test_prog_fd"] = "test.prog_fd",
    };

    [Fact]
    public void ConstantsAreThoseOfTheHeaders()
    {
        StringBuilder source = new(Headers + NewerThanSomeHeaders);
        int count = 0;
        foreach (FieldInfo constant in typeof(LibC).GetFields(Everything).Where(field => field.IsLiteral))
        {
            source.AppendLine(Equal(constant.Name, constant.GetRawConstantValue() is int signed ? unchecked((ulong)signed) : Convert.ToUInt64(constant.GetRawConstantValue(), CultureInfo.InvariantCulture)));
            count++;
        }

        Assert.InRange(count, 60, 1000);
        Compile(source);
    }

    [Fact]
    public void StructuresAreThoseOfTheHeaders()
    {
        StringBuilder source = new(Headers + NewerThanSomeHeaders);
        Type[] structures = [.. typeof(LibC).GetNestedTypes(BindingFlags.Public | BindingFlags.NonPublic).Where(type => type is { IsValueType: true, IsEnum: false } && char.IsLower(type.Name[0]))];
        Assert.InRange(structures.Length, 12, 100);
        foreach (Type structure in structures)
        {
            // A union to which each kernel adds, of which only the beginning stands in C#.
            if (structure != typeof(LibC.bpf_attr))
                source.AppendLine(Equal($"sizeof({Spelled(structure)})", (ulong)Marshal.SizeOf(structure)));
            foreach (FieldInfo field in structure.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic))
            {
                string name = Nested.GetValueOrDefault($"{structure.Name}.{field.Name}", field.Name);
                int size = field.FieldType.IsPointer ? IntPtr.Size : Marshal.SizeOf(field.FieldType);
                source.AppendLine(Equal($"offsetof({Spelled(structure)}, {name})", (ulong)Marshal.OffsetOf(structure, field.Name)));
                source.AppendLine(Equal($"sizeof((({Spelled(structure)} *)0)->{name})", (ulong)size));
            }
        }

        Compile(source);
    }

    [Fact]
    public void ErrorNumbersAreThoseOfTheHeaders()
    {
        StringBuilder source = new(Headers);
        foreach (Errno errno in Enum.GetValues<Errno>().Where(errno => errno != Errno.None))
            source.AppendLine(Equal(errno.ToString(), (ulong)errno));
        Compile(source);
    }

    [Fact]
    public void SystemCallsHaveTheNumbersOfTheHeaders()
    {
        StringBuilder source = new(Headers);
        foreach (FieldInfo call in typeof(SyscallNumbers).GetFields(Everything).Where(field => field.IsLiteral))
            source.AppendLine(Equal("SYS_" + call.Name, (ulong)(int)call.GetRawConstantValue()!));
        foreach (FieldInfo constant in typeof(AgentAssembler).GetFields(Everything).Where(field => field.IsLiteral))
        {
            if (constant.Name.StartsWith("SYS_", StringComparison.Ordinal) || constant.Name.StartsWith("CLONE_", StringComparison.Ordinal))
                source.AppendLine(Equal(constant.Name, (ulong)(int)constant.GetRawConstantValue()!));
        }

        ulong[] arguments = [.. Enumerable.Repeat(ulong.MaxValue, 6)];
        for (int number = 0; number < 1000; number++)
        {
            if (CallTable.MayReturnHalfDone(number, arguments))
                source.AppendLine(Equal("SYS_" + CallTable.Name(number), (ulong)number));
        }

        string[] notRestarted = ["epoll_wait", "epoll_pwait", "epoll_pwait2", "semop", "semtimedop", "rt_sigtimedwait", "io_uring_enter"];
        int[] numbers = [.. Enumerable.Range(0, 1000).Where(number => !CallTable.RestartsByItself(number))];
        Assert.Equal(notRestarted.Length, numbers.Length);
        string sum = string.Join(" + ", notRestarted.Select(name => "SYS_" + name)), squares = string.Join(" + ", notRestarted.Select(name => $"SYS_{name} * SYS_{name}"));
        source.AppendLine(Equal(sum, (ulong)numbers.Sum()));
        source.AppendLine(Equal(squares, (ulong)numbers.Sum(number => number * number)));
        Compile(source);
    }

    /// <summary>A type that C gives a name of its own ends with <c>_t</c>.</summary>
    private static string Spelled(Type structure) =>
        structure.Name.EndsWith("_t", StringComparison.Ordinal) ? structure.Name : structure == typeof(LibC.bpf_attr) ? "union bpf_attr" : $"struct {structure.Name}";

    private static string Equal(string expression, ulong value) =>
        string.Create(CultureInfo.InvariantCulture, $"_Static_assert((unsigned long long)({expression}) == {value}ULL, \"{expression} is {value} in C#\");");

    private static void Compile(StringBuilder source)
    {
        ProcessStartInfo start = new("gcc", ["-std=gnu17", "-fsyntax-only", "-x", "c", "-"])
        {
            RedirectStandardInput = true,
            RedirectStandardError = true,
        };
        Process? compiler = null;
        try
        {
            compiler = Process.Start(start);
        }
        catch (Win32Exception)
        {
            Assert.Skip("needs gcc: install gcc and libc6-dev");
        }

        using (compiler)
        {
            compiler!.StandardInput.Write(source);
            compiler.StandardInput.Close();
            string complaints = compiler.StandardError.ReadToEnd();
            compiler.WaitForExit();
            Assert.True(compiler.ExitCode == 0, complaints);
        }
    }
}
