/* A program that turns against what it finds in itself: a child of its own stops each thread that it has not made, by ptrace(2), and has it do something.
 *
 *   hostile
 *
 * 2048 pages of common content. Commands: `close` (those threads close all their descriptors), `exit` (they end), `stop` (they are held for ever),
 * `verify`, `quit`.
 */
#include "target.h"
#include <dirent.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define PAGES 2048UL

extern char system_call[];
__asm__(".text\nsystem_call: syscall\nint3\n");

static unsigned char *memory;

static uint64_t verify(void)
{
    uint64_t bad = 0;
    for (uint64_t page = 0; page < PAGES; page++)
        bad += page_bad(memory + page * PAGE, 1 + page) != 0;
    return bad;
}

/* Makes a thread of another process do a system call, and go on with what it was at. */
static int make_call(pid_t thread, long number, long a, long b, long c)
{
    struct user_regs_struct saved, registers;
    int status;
    if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) || ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) || waitpid(thread, &status, __WALL) != thread ||
        ptrace(PTRACE_GETREGS, thread, NULL, &saved))
        return -1;
    registers = saved;
    registers.rip = (unsigned long)system_call;
    registers.rax = (unsigned long)number;
    registers.orig_rax = ~0UL;
    registers.rdi = (unsigned long)a;
    registers.rsi = (unsigned long)b;
    registers.rdx = (unsigned long)c;
    if (ptrace(PTRACE_SETREGS, thread, NULL, &registers) || ptrace(PTRACE_SINGLESTEP, thread, NULL, NULL))
        return -1;
    if (waitpid(thread, &status, __WALL) != thread || WIFEXITED(status))
        return 0;
    if ((long)saved.orig_rax >= 0) { /* the call that it waited in begins again */
        saved.rax = saved.orig_rax;
        saved.orig_rax = ~0UL;
        saved.rip -= 2;
    }
    return ptrace(PTRACE_SETREGS, thread, NULL, &saved) || ptrace(PTRACE_DETACH, thread, NULL, NULL) ? -1 : 0;
}

/* What the child does to its parent's threads; how many there were. */
static int turn(pid_t parent, const char *what)
{
    char path[64];
    int turned = 0;
    snprintf(path, sizeof path, "/proc/%d/task", parent);
    DIR *tasks = opendir(path);
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        pid_t thread = atoi(task->d_name);
        if (thread == 0 || thread == parent)
            continue;
        int failed = -1;
        /* Whoever holds the thread at this moment lets it go again. */
        for (int attempt = 0; attempt < 200 && failed; attempt++, pause_ms(5)) {
            if (!strcmp(what, "close"))
                failed = make_call(thread, SYS_close_range, 0, -1, 0);
            else if (!strcmp(what, "exit"))
                failed = make_call(thread, SYS_exit, 0, 0, 0);
            else
                failed = (int)ptrace(PTRACE_SEIZE, thread, NULL, NULL) || (int)ptrace(PTRACE_INTERRUPT, thread, NULL, NULL);
        }
        turned += !failed;
    }
    return turned;
}

int main(void)
{
    memory = map_private(PAGES * PAGE);
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, 1 + page);
    say("ready");
    char line[64];
    while (next_command(line, sizeof line)) {
        if (strcmp(line, "verify")) {
            int answer[2];
            char turned = 0;
            if (pipe(answer))
                fail("pipe");
            pid_t parent = getpid();
            if (fork() == 0) {
                turned = (char)turn(parent, line);
                if (write(answer[1], &turned, 1) != 1)
                    _exit(1);
                while (!strcmp(line, "stop") && getppid() == parent)
                    pause_ms(50);
                _exit(0);
            }
            if (read(answer[0], &turned, 1) != 1)
                fail("read");
            say("turned %d", turned);
            continue;
        }
        uint64_t bad = verify();
        if (bad)
            say("bad %lu", bad);
        else
            say("ok");
    }
    return 0;
}
