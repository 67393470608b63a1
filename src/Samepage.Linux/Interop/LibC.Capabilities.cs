namespace Samepage.Linux.Interop;

/// <content>linux/capability.h.</content>
internal static unsafe partial class LibC
{
    public const uint _LINUX_CAPABILITY_VERSION_3 = 0x20080522;

    public struct __user_cap_header_struct
    {
        public uint version;
        public int pid;
    }

    /// <summary>Of 32 capabilities; there are two.</summary>
    public struct __user_cap_data_struct
    {
        public uint effective;
        public uint permitted;
        public uint inheritable;
    }
}
