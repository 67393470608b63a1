namespace Samepage.Linux.ProcFs;

/// <summary>How the machine counts memory that is promised, proc_sys_vm(5).</summary>
public static class Overcommit
{
    /// <summary>All private writable memory counts, whatever its program asked for (vm.overcommit_memory is 2).</summary>
    public static bool ReservesAll => ProcFile.TryRead("/proc/sys/vm/overcommit_memory", out string mode) && mode.StartsWith('2');
}
