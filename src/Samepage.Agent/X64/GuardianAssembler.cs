using System.Buffers.Binary;
using Iced.Intel;
using Samepage.Agent.Tracing;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>The guardian, as an executable file: a process of some kilobytes that outlives the daemon, and does not stop when the daemon is stopped.</summary>
/// <remarks>
/// <para>Its arguments: its name; the daemon's <see cref="HoldBoard"/>; the daemon's <c>/proc/PID/stat</c>; a command. Its standard input is a pipe from the daemon.</para>
/// <list type="number">
/// <item>It leaves the daemon's session, so that no signal of a terminal, Ctrl-Z among them, reaches it.</item>
/// <item>A line <c>well</c> ends it. The end of the pipe is the daemon's death: it becomes the command.</item>
/// <item>A daemon that was killed keeps its end of the pipe for as long as one of its threads waits in the kernel. So every other second the guardian looks whether its first thread has ended (Z),
/// which is its death too.</item>
/// <item>Four times a second it looks at the board. A counter that is odd and the same as at the look before is a hold that lasts too long. If the daemon is stopped
/// by a signal, the guardian forbids new holds for two seconds and wakes it (SIGCONT); it ends its hold within milliseconds, and is stopped again (SIGSTOP), because
/// somebody wanted it stopped. Who wakes it in just these milliseconds finds it stopped, and must wake it again.</item>
/// <item>Threads that linger are no hold of the daemon's to end: they may do so for as long as their programs live. A daemon that is stopped while it has such is woken every other second, for a tenth of a second,
/// in which it lets go of those that can be let go.</item>
/// <item>If a debugger holds the daemon, nothing can wake it, and after a second it is killed: its death harms nobody, and a program that stands still is harm.</item>
/// </list>
/// <para>A daemon that is merely slow is left alone: it is neither T nor t.</para>
/// </remarks>
internal sealed class GuardianAssembler
{
    private const ulong LoadAt = 0x400000;
    private const int HeaderBytes = 64 + 2 * 56;
    private const int SYS_read = 0, SYS_open = 2, SYS_close = 3, SYS_poll = 7, SYS_mmap = 9, SYS_rt_sigaction = 13, SYS_dup2 = 33, SYS_execve = 59, SYS_exit = 60,
        SYS_kill = 62, SYS_getppid = 110, SYS_setsid = 112, SYS_prctl = 157, SYS_clock_gettime = 228;

    private const int SIGKILL = 9, SIGCONT = 18, PR_SET_NAME = 15, CLOCK_MONOTONIC = 1;
    private const int LookMilliseconds = 250, AgainMilliseconds = 10, LooksBeforeKill = 4, LooksPerStateLook = 8, LooksForLingerers = 10;
    private const long PauseNanoseconds = 2_000_000_000;

    // On the stack.
    private const int Buffer = 0, BufferBytes = 512, Seen = BufferBytes, Small = Seen + HoldBoard.Slots * 8, Looks = Small + 40, StackBytes = Small + 64;
    private readonly Assembler c = new(64);

    /// <summary>Assembles the executable: one segment, no libraries, elf(5).</summary>
    public static byte[] Assemble()
    {
        GuardianAssembler assembler = new();
        assembler.Main();
        using MemoryStream code = new();
        assembler.c.Assemble(new StreamCodeWriter(code), LoadAt + HeaderBytes);
        byte[] image = new byte[HeaderBytes + code.Length];
        Header(image);
        code.ToArray().CopyTo(image.AsSpan(HeaderBytes));
        return image;
    }

    private static void Header(Span<byte> image)
    {
        ReadOnlySpan<byte> identification = [0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1, 0];
        identification.CopyTo(image);
        BinaryPrimitives.WriteUInt16LittleEndian(image[16..], 2); // ET_EXEC
        BinaryPrimitives.WriteUInt16LittleEndian(image[18..], 62); // EM_X86_64
        BinaryPrimitives.WriteUInt32LittleEndian(image[20..], 1);
        BinaryPrimitives.WriteUInt64LittleEndian(image[24..], LoadAt + HeaderBytes);
        BinaryPrimitives.WriteUInt64LittleEndian(image[32..], 64);
        BinaryPrimitives.WriteUInt16LittleEndian(image[52..], 64);
        BinaryPrimitives.WriteUInt16LittleEndian(image[54..], 56);
        BinaryPrimitives.WriteUInt16LittleEndian(image[56..], 2);
        ProgramHeader(image[64..], 1, 5, LoadAt, image.Length); // PT_LOAD, readable and executable
        ProgramHeader(image[120..], 0x6474e551, 6, 0, 0); // PT_GNU_STACK: not executable
    }

    private static void ProgramHeader(Span<byte> at, uint type, uint flags, ulong address, int bytes)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(at, type);
        BinaryPrimitives.WriteUInt32LittleEndian(at[4..], flags);
        BinaryPrimitives.WriteUInt64LittleEndian(at[16..], address);
        BinaryPrimitives.WriteUInt64LittleEndian(at[24..], address);
        BinaryPrimitives.WriteUInt64LittleEndian(at[32..], (ulong)bytes);
        BinaryPrimitives.WriteUInt64LittleEndian(at[40..], (ulong)bytes);
        BinaryPrimitives.WriteUInt64LittleEndian(at[48..], 4096);
    }

    /// <summary>r15 = the arguments as exec left them, r12 = the daemon, r13 = the board (0: none), ebx = looks since the daemon was woken, which is to be stopped again, 0 when it was not; ebp = looks at which a
    /// debugger held it.</summary>
    private void Main()
    {
        Label wait = c.CreateLabel(), loop = c.CreateLabel(), dead = c.CreateLabel(), end = c.CreateLabel(), bounded = c.CreateLabel(), look = c.CreateLabel();
        c.mov(r15, rsp);
        c.sub(rsp, StackBytes);
        Sys(SYS_setsid);
        Sys(SYS_getppid);
        c.mov(r12, rax);
        c.mov(edi, PR_SET_NAME);
        c.mov(rsi, Argument(1));
        Sys(SYS_prctl);
        c.mov(__qword_ptr[rsp + Small], 1); // SIG_IGN
        for (int word = 1; word < 4; word++)
            c.mov(__qword_ptr[rsp + Small + 8 * word], 0);
        foreach (int signal in (int[])[1, 2, 3, 15]) // SIGHUP, SIGINT, SIGQUIT, SIGTERM: those are for the daemon
        {
            c.mov(edi, signal);
            c.lea(rsi, __[rsp + Small]);
            c.xor(edx, edx);
            c.mov(r10d, 8);
            Sys(SYS_rt_sigaction);
        }

        for (int slot = 0; slot < HoldBoard.Slots; slot++)
            c.mov(__qword_ptr[rsp + Seen + 8 * slot], 0);
        c.mov(__qword_ptr[rsp + Looks], 0);
        OpenBoard();
        c.xor(ebx, ebx);
        c.xor(ebp, ebp);

        c.Label(ref loop);
        c.mov(__dword_ptr[rsp + Small], 0);
        c.mov(__dword_ptr[rsp + Small + 4], LibC.POLLIN);
        c.lea(rdi, __[rsp + Small]);
        c.mov(esi, 1);
        c.mov(edx, -1);
        c.test(r13, r13);
        c.jz(wait);
        c.mov(edx, LookMilliseconds);
        c.test(ebx, ebx);
        c.jz(bounded);
        c.mov(edx, AgainMilliseconds);
        c.Label(ref bounded);
        c.nop();
        c.Label(ref wait);
        Sys(SYS_poll);
        c.test(rax, rax);
        c.jz(look);
        c.js(loop);
        c.xor(edi, edi);
        c.lea(rsi, __[rsp + Buffer]);
        c.mov(edx, BufferBytes);
        Sys(SYS_read);
        c.cmp(rax, 4);
        c.jl(dead);
        c.cmp(__dword_ptr[rsp + Buffer], BinaryPrimitives.ReadInt32LittleEndian("well"u8));
        c.je(end);
        c.Label(ref dead);
        c.nop();
        c.mov(edi, 2); // what it says goes where errors go
        c.mov(esi, 1);
        Sys(SYS_dup2);
        c.mov(rdi, Argument(4));
        c.lea(rsi, __[r15 + 8 + 4 * 8]);
        c.mov(rax, __qword_ptr[r15]);
        c.lea(rdx, __[r15 + rax * 8 + 16]);
        Sys(SYS_execve);
        c.Label(ref end);
        c.xor(edi, edi);
        Sys(SYS_exit);

        c.Label(ref look);
        Look(loop, dead);
    }

    private void OpenBoard()
    {
        Label none = c.CreateLabel(), mapped = c.CreateLabel();
        c.mov(rdi, Argument(2));
        c.mov(esi, LibC.O_RDWR | LibC.O_CLOEXEC);
        Sys(SYS_open);
        c.test(rax, rax);
        c.js(none);
        c.mov(r14, rax);
        c.xor(edi, edi);
        c.mov(esi, HoldBoard.Bytes);
        c.mov(edx, LibC.PROT_READ | LibC.PROT_WRITE);
        c.mov(r10d, LibC.MAP_SHARED);
        c.mov(r8, r14);
        c.xor(r9d, r9d);
        Sys(SYS_mmap);
        c.mov(r13, rax);
        c.mov(rdi, r14);
        Sys(SYS_close);
        c.cmp(r13, -4096);
        c.jb(mapped);
        c.Label(ref none);
        c.xor(r13d, r13d);
        c.Label(ref mapped);
        c.nop();
    }

    private void Look(Label loop, Label dead)
    {
        Label alive = c.CreateLabel();
        c.inc(__qword_ptr[rsp + Looks]);
        c.test(__dword_ptr[rsp + Looks], LooksPerStateLook - 1);
        c.jnz(alive);
        State(alive);
        c.cmp(al, (sbyte)'Z');
        c.je(dead);
        c.Label(ref alive);
        c.nop();
        Label slot = c.CreateLabel(), again = c.CreateLabel(), fine = c.CreateLabel(), ask = c.CreateLabel(), stop = c.CreateLabel(), stopped = c.CreateLabel(), wake = c.CreateLabel();
        // r8d = somebody holds, r9d = somebody has held since the look before, r10d = some linger.
        c.xor(r8d, r8d);
        c.xor(r9d, r9d);
        c.xor(r10d, r10d);
        c.xor(ecx, ecx);
        c.Label(ref slot);
        Consider();
        c.inc(ecx);
        c.cmp(ecx, HoldBoard.Lingerers);
        c.jb(slot);
        c.mov(r10, __qword_ptr[r13 + HoldBoard.Lingerers * 8]);
        c.and(r10d, 1);

        c.test(ebx, ebx);
        c.jz(again);
        c.test(r8d, r8d);
        c.jnz(wake); // not yet
        c.test(r10d, r10d);
        c.jz(stop);
        c.inc(ebx);
        c.cmp(ebx, LooksForLingerers);
        c.jb(wake);
        c.Label(ref stop);
        c.xor(ebx, ebx);
        Kill(LibC.SIGSTOP);
        c.jmp(loop);

        c.Label(ref again);
        c.test(r9d, r9d);
        c.jnz(ask);
        c.test(r10d, r10d);
        c.jz(fine);
        c.test(__dword_ptr[rsp + Looks], LooksPerStateLook - 1);
        c.jnz(loop);
        c.Label(ref ask);
        State(fine);
        c.cmp(al, (sbyte)'T');
        c.je(stopped);
        c.cmp(al, (sbyte)'t');
        c.jne(fine);
        c.inc(ebp);
        c.cmp(ebp, LooksBeforeKill);
        c.jb(loop);
        Kill(SIGKILL);
        c.jmp(loop);
        c.Label(ref fine);
        c.xor(ebp, ebp);
        c.jmp(loop);

        c.Label(ref stopped);
        c.mov(ebx, 1);
        c.Label(ref wake);
        c.mov(edi, CLOCK_MONOTONIC);
        c.lea(rsi, __[rsp + Small]);
        Sys(SYS_clock_gettime);
        c.imul(rax, __qword_ptr[rsp + Small], 1_000_000_000);
        c.add(rax, __qword_ptr[rsp + Small + 8]);
        c.mov(rcx, PauseNanoseconds);
        c.add(rax, rcx);
        c.mov(__qword_ptr[r13 + HoldBoard.PauseAt], rax);
        Kill(SIGCONT);
        c.jmp(loop);
    }

    /// <summary>Looks at slot rcx of the board: r8d where it is odd, r9d where it is odd and the same as at the look before.</summary>
    private void Consider()
    {
        Label even = c.CreateLabel();
        c.mov(rax, __qword_ptr[r13 + rcx * 8]);
        c.test(eax, 1);
        c.jz(even);
        c.mov(r8d, 1);
        c.cmp(rax, __qword_ptr[rsp + rcx * 8 + Seen]);
        c.jne(even);
        c.mov(r9d, 1);
        c.Label(ref even);
        c.mov(__qword_ptr[rsp + rcx * 8 + Seen], rax);
    }

    /// <summary>al = the daemon's state, the letter behind the last parenthesis of its stat.</summary>
    private void State(Label unknown)
    {
        Label back = c.CreateLabel();
        c.mov(rdi, Argument(3));
        c.mov(esi, LibC.O_CLOEXEC);
        Sys(SYS_open);
        c.test(rax, rax);
        c.js(unknown);
        c.mov(r14, rax);
        c.mov(rdi, rax);
        c.lea(rsi, __[rsp + Buffer]);
        c.mov(edx, BufferBytes);
        Sys(SYS_read);
        c.xchg(rax, r14);
        c.mov(rdi, rax);
        Sys(SYS_close);
        c.Label(ref back);
        c.sub(r14, 1);
        c.jl(unknown);
        c.cmp(__byte_ptr[rsp + r14 + Buffer], ')');
        c.jne(back);
        c.movzx(eax, __byte_ptr[rsp + r14 + Buffer + 2]);
    }

    private void Kill(int signal)
    {
        c.mov(rdi, r12);
        c.mov(esi, signal);
        Sys(SYS_kill);
    }

    private static AssemblerMemoryOperand Argument(int number) => __qword_ptr[r15 + 8 + 8 * number];

    private void Sys(int number)
    {
        c.mov(eax, number);
        c.syscall();
    }
}
