/* A program that would have a real-time priority, which its user may not have: a child of its own looks at the agent's first thread all the time, and has it fork at a moment at which that comes before
 * all others.
 *
 *   grabber
 *
 * 4096 pages of common content. It says `ready`, and once it has caught the moment `caught POLICY`: the scheduling policy of what the agent's thread forked. Commands: `verify`, `quit`.
 */
#include "target.h"
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define PAGES 4096UL

extern char system_call[];
__asm__(".text\nsystem_call: syscall\nint3\n");

/* The first thread that the program has not made, once there are two. */
static pid_t executor_of(pid_t parent)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", parent);
    for (;; pause_ms(5)) {
        int others = 0;
        pid_t first = 0;
        DIR *tasks = opendir(path);
        for (struct dirent *task; tasks && (task = readdir(tasks));) {
            pid_t thread = atoi(task->d_name);
            if (thread == 0 || thread == parent)
                continue;
            others++;
            first = first == 0 || thread < first ? thread : first;
        }
        if (tasks)
            closedir(tasks);
        if (others >= 2 || getppid() != parent)
            return first;
    }
}

/* Has the thread fork, and go on with what it was at. -1 when it came too late. */
static int fork_in(pid_t thread)
{
    struct user_regs_struct saved, registers;
    unsigned long forked = 0;
    int status, policy = -1;
    if (ptrace(PTRACE_SEIZE, thread, NULL, PTRACE_O_TRACEFORK) || ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) || waitpid(thread, &status, __WALL) != thread)
        return -1;
    if (sched_getscheduler(thread) == SCHED_OTHER || ptrace(PTRACE_GETREGS, thread, NULL, &saved))
        goto leave;
    registers = saved;
    registers.rip = (unsigned long)system_call;
    registers.rax = SYS_fork;
    registers.orig_rax = ~0UL;
    if (ptrace(PTRACE_SETREGS, thread, NULL, &registers) || ptrace(PTRACE_CONT, thread, NULL, NULL) || waitpid(thread, &status, __WALL) != thread)
        goto leave;
    if (status >> 8 == (SIGTRAP | PTRACE_EVENT_FORK << 8) && !ptrace(PTRACE_GETEVENTMSG, thread, NULL, &forked)) {
        policy = sched_getscheduler((pid_t)forked) & ~SCHED_RESET_ON_FORK;
        kill((pid_t)forked, SIGKILL);
        waitpid((pid_t)forked, &status, __WALL);
    }
    if ((long)saved.orig_rax >= 0) { /* the call that it was in begins again */
        saved.rax = saved.orig_rax;
        saved.orig_rax = ~0UL;
        saved.rip -= 2;
    }
    ptrace(PTRACE_SETREGS, thread, NULL, &saved);
leave:
    ptrace(PTRACE_DETACH, thread, NULL, NULL);
    return policy;
}

static void grab(pid_t parent)
{
    pid_t executor = executor_of(parent);
    while (getppid() == parent) {
        struct timespec rest = {0, 50000};
        int policy = (sched_getscheduler(executor) & ~SCHED_RESET_ON_FORK) == SCHED_FIFO ? fork_in(executor) : -1;
        if (policy >= 0) {
            say("caught %d", policy);
            return;
        }
        nanosleep(&rest, NULL);
    }
}

int main(void)
{
    char line[64];
    pid_t parent = getpid();
    if (prctl(PR_SET_DUMPABLE, 1))
        fail("prctl");
    if (fork() == 0) { /* before there is memory that it would share */
        grab(parent);
        _exit(0);
    }
    unsigned char *memory = map_private(PAGES * PAGE);
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, 1 + page);
    say("ready");
    while (next_command(line, sizeof line)) {
        uint64_t bad = 0;
        for (uint64_t page = 0; page < PAGES; page++)
            bad += page_bad(memory + page * PAGE, 1 + page) != 0;
        if (bad)
            say("bad %lu", bad);
        else
            say("ok");
    }
    return 0;
}
