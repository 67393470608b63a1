using Iced.Intel;
using Samepage.Linux.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace Samepage.Agent.X64;

/// <summary>The agent's threads do not outlive the program's own.</summary>
/// <remarks>
/// <para>A program need not end as a whole, exit_group(2): its threads may end one by one, and the last takes it along. Our threads would keep it. Nothing tells a thread that the first one has ended (since
/// Linux 6.15 its descriptor, pidfd_open(2) with PIDFD_THREAD, does not before all have), so the warden looks: when the daemon asks it to, which sees such a process at its next visit; ten times a second without a daemon; and every ten
/// seconds in any case, for a daemon can be stopped. Once the first thread has ended, which few programs go on without, it looks more often. No other thread stays once it has ended, so they can be counted.</para>
/// <para>The kernel gives a process the status of the thread that ends last. Where that is the first one its status is to be read as long as it is there, and the warden ends the process with it. Of another
/// thread nothing is left but what a descriptor keeps that was opened before (Linux 6.15), so the warden opens one of the last when there is but one (docs/limits.md). A signal ends all threads at once, ours too.</para>
/// </remarks>
internal sealed partial class AgentAssembler
{
    private const int SYS_pread64 = 17, SYS_getpid = 39, SYS_getdents64 = 217, SYS_exit_group = 231, SYS_pidfd_open = 434;
    private const int SYS_open = 2;

    // Fields of /proc/PID/stat by the blanks before them, counted from the name's end.
    private const int ThreadsField = 18, ExitCodeField = 50, StatBytes = 1024;

    // struct pidfd_info, linux/pidfd.h.
    private const uint PIDFD_GET_INFO = 0xC040FF0B;
    private const int PIDFD_INFO_EXIT = 8, PidfdInfoBytes = 64, PidfdExitCodeAt = 60;

    /// <summary>Looks for which a thread that ended may still be counted.</summary>
    private const int LooksUntilGone = 4;

    /// <summary>alone: ends the process if no thread but ours is left. Destroys all registers but r12.</summary>
    private void Alone(Label alone)
    {
        Label name = c.CreateLabel(), field = c.CreateLabel(), read = c.CreateLabel(), digit = c.CreateLabel(), fieldEnd = c.CreateLabel();
        Label notAlone = c.CreateLabel(), watched = c.CreateLabel(), watchLast = c.CreateLabel(), both = c.CreateLabel(), known = c.CreateLabel(), done = c.CreateLabel(), status = c.CreateLabel();
        At(ref alone);
        c.sub(rsp, StatBytes);
        c.mov(rdi, Word(OwnWord.StatFd));
        c.mov(rsi, rsp);
        c.mov(edx, StatBytes);
        c.xor(r10d, r10d);
        Sys(SYS_pread64);
        c.test(rax, rax);
        c.jle(done);
        c.lea(r13, __[rsp + rax]); // its end
        c.mov(rsi, r13);
        At(ref name);
        c.dec(rsi);
        c.cmp(rsi, rsp);
        c.jb(done);
        c.cmp(__byte_ptr[rsi], (sbyte)')');
        c.jne(name);
        c.cmp(__byte_ptr[rsi + 2], (sbyte)'Z');
        c.jne(done);
        c.xor(r8d, r8d); // blanks
        c.xor(ebp, ebp); // threads
        At(ref field);
        c.inc(rsi);
        c.cmp(rsi, r13);
        c.jae(done);
        c.cmp(__byte_ptr[rsi], (sbyte)' ');
        c.jne(field);
        c.inc(r8d);
        c.cmp(r8d, ThreadsField);
        c.je(read);
        c.cmp(r8d, ExitCodeField);
        c.jne(field);
        At(ref read);
        c.xor(ecx, ecx);
        At(ref digit);
        c.inc(rsi);
        c.cmp(rsi, r13);
        c.jae(fieldEnd);
        c.movzx(eax, __byte_ptr[rsi]);
        c.sub(eax, '0');
        c.cmp(eax, 9);
        c.ja(fieldEnd);
        c.imul(ecx, ecx, 10);
        c.add(ecx, eax);
        c.jmp(digit);
        At(ref fieldEnd);
        c.dec(rsi);
        c.cmp(r8d, ThreadsField);
        c.jne(both);
        c.mov(ebp, ecx);
        c.jmp(field);

        // Looked at behind the count: an executor that was not counted has said so before it went.
        At(ref both);
        c.mov(eax, 3);
        c.cmp(Word(OwnWord.ExecutorLeft), 0);
        c.je(known);
        c.dec(eax);
        At(ref known);
        c.cmp(ebp, eax);
        c.ja(notAlone);
        c.mov(edi, ecx);
        c.cmp(Word(OwnWord.Leaderless), 0);
        c.je(status);
        for (int word = 0; word < PidfdInfoBytes; word += 8)
            c.mov(__qword_ptr[rsp + word], word == 0 ? PIDFD_INFO_EXIT : 0);
        c.mov(rdi, Word(OwnWord.LastFd));
        c.mov(esi, unchecked((int)PIDFD_GET_INFO));
        c.mov(rdx, rsp);
        Sys(SYS_ioctl);
        c.xor(edi, edi);
        c.test(rax, rax);
        c.jnz(status);
        c.test(__byte_ptr[rsp], PIDFD_INFO_EXIT);
        c.jz(status);
        c.mov(edi, __dword_ptr[rsp + PidfdExitCodeAt]);
        At(ref status);
        c.shr(edi, 8);
        Sys(SYS_exit_group);

        // There are others, which end after the first: theirs is the status.
        At(ref notAlone);
        c.mov(Word(OwnWord.Leaderless), 1);
        c.inc(eax);
        c.cmp(ebp, eax);
        c.jne(done);
        c.cmp(Word(OwnWord.LastEnded), 0);
        c.je(watched);
        c.inc(Word(OwnWord.LastEnded));
        c.cmp(Word(OwnWord.LastEnded), LooksUntilGone);
        c.jb(done);
        c.mov(rdi, Word(OwnWord.LastFd));
        Sys(SYS_close);
        c.mov(Word(OwnWord.LastFd), 0);
        c.mov(Word(OwnWord.LastEnded), 0);
        At(ref watched);
        c.cmp(Word(OwnWord.LastFd), 0);
        c.jne(done);
        c.call(watchLast);
        At(ref done);
        c.add(rsp, StatBytes);
        c.ret();
        WatchLast(watchLast);
    }

    /// <summary>watchLast: opens the one thread that is neither the first nor ours, by what the program's own /proc says; where there is none its status is lost.</summary>
    private void WatchLast(Label watchLast)
    {
        Label path = c.CreateLabel(), entry = c.CreateLabel(), digit = c.CreateLabel(), read = c.CreateLabel(), following = c.CreateLabel(), listed = c.CreateLabel(), done = c.CreateLabel();
        At(ref path);
        c.db("/proc/self/task\0"u8.ToArray());
        At(ref watchLast);
        c.sub(rsp, StatBytes);
        Sys(SYS_gettid);
        c.mov(r8d, eax);
        Sys(SYS_getpid);
        c.mov(r14d, eax);
        c.lea(rdi, __[path]);
        c.mov(esi, LibC.O_RDONLY | LibC.O_DIRECTORY | LibC.O_CLOEXEC);
        Sys(SYS_open);
        c.test(rax, rax);
        c.js(done);
        c.mov(ebx, eax);
        c.xor(ebp, ebp);
        c.mov(edi, ebx);
        c.mov(rsi, rsp);
        c.mov(edx, StatBytes);
        Sys(SYS_getdents64);
        c.mov(rsi, rsp);
        c.lea(r13, __[rsp + rax]);
        c.test(rax, rax);
        c.jle(listed);
        // struct linux_dirent64: d_reclen at 16, d_name at 19.
        At(ref entry);
        c.cmp(rsi, r13);
        c.jae(listed);
        c.lea(rdx, __[rsi + 19]);
        c.xor(ecx, ecx);
        At(ref digit);
        c.movzx(eax, __byte_ptr[rdx]);
        c.sub(eax, '0');
        c.cmp(eax, 9);
        c.ja(read);
        c.imul(ecx, ecx, 10);
        c.add(ecx, eax);
        c.inc(rdx);
        c.jmp(digit);
        At(ref read);
        c.test(ecx, ecx);
        c.jz(following);
        c.cmp(ecx, r8d);
        c.je(following);
        c.cmp(ecx, __dword_ptr[r12 + (int)OwnWord.ExecutorTid]);
        c.je(following);
        c.cmp(ecx, r14d);
        c.je(following);
        c.mov(ebp, ecx);
        At(ref following);
        c.movzx(eax, __word_ptr[rsi + 16]);
        c.add(rsi, rax);
        c.jmp(entry);
        At(ref listed);
        c.mov(edi, ebx);
        Sys(SYS_close);
        c.mov(edi, ebp);
        c.mov(esi, LibC.PIDFD_THREAD);
        Sys(SYS_pidfd_open);
        c.test(rax, rax);
        c.jle(done);
        c.mov(Word(OwnWord.LastFd), rax);
        c.mov(esi, eax);
        c.mov(edx, AgentLayout.LastThreadEntry);
        Watch();
        At(ref done);
        c.add(rsp, StatBytes);
        c.ret();
    }
}
