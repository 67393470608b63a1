using System.Runtime.InteropServices;

namespace Samepage.Linux.Interop;

/// <content>sys/sysinfo.h and linux/io_uring.h: what is asked of the kernel to find out what it does.</content>
internal static unsafe partial class LibC
{
    public const int IORING_REGISTER_BUFFERS = 0, IORING_UNREGISTER_BUFFERS = 1;

    [LibraryImport("libc", EntryPoint = "sysinfo", SetLastError = true)]
    public static partial int get_sysinfo(sysinfo* info);

    /// <summary><c>struct sysinfo</c>, linux/sysinfo.h.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct sysinfo
    {
        public long uptime;
        public fixed ulong loads[3];
        public ulong totalram;
        public ulong freeram;
        public ulong sharedram;
        public ulong bufferram;
        public ulong totalswap;
        public ulong freeswap;
        public ushort procs;
        public ushort pad;
        public ulong totalhigh;
        public ulong freehigh;
        public uint mem_unit;
    }

    /// <summary><c>struct io_uring_params</c>, linux/io_uring.h; where in the ring things are is not looked at.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct io_uring_params
    {
        public uint sq_entries;
        public uint cq_entries;
        public uint flags;
        public uint sq_thread_cpu;
        public uint sq_thread_idle;
        public uint features;
        public uint wq_fd;
        public fixed uint resv[3];
        public fixed ulong sq_off[5];
        public fixed ulong cq_off[5];
    }
}
