/* A first thread in a state that few threads are ever in. It may not notice that it was borrowed or held in it.
 *
 *   oddities step        it single-steps itself all the time: the trap flag, and a handler of SIGTRAP that counts
 *   oddities dispatch    its calls go to a handler of SIGSYS, prctl(2) PR_SET_SYSCALL_USER_DISPATCH, and are made there
 *   oddities queue       it gets queued signals; each must bring the value that it was sent with
 *   oddities stack       it spends its time in handlers on an alternate stack that is disarmed meanwhile (SS_AUTODISARM)
 *
 * No thread of it ever sleeps. Ends at the end of its input, or on a line, and says `done N wrong N bad N`.
 */
#include "target.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#define PAGES 2048UL
#define TRAP_FLAG 0x100
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

static volatile long done, wrong;
static volatile int stop;
static char selector = 0; /* SYSCALL_DISPATCH_FILTER_ALLOW */

static void on_trap(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    done++;
    if (stop)
        ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

static void step(void)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    if (sigaction(SIGTRAP, &action, NULL))
        fail("sigaction");
    __asm__ volatile("pushfq\n orq $0x100, (%%rsp)\n popfq" ::: "memory", "cc");
    long steps = 0;
    while (!stop)
        steps++;
    (void)steps;
}

static void on_dispatch(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)signal;
    selector = 0;
    if (info->si_syscall != SYS_getppid)
        wrong++;
    else
        done++;
    registers[REG_RAX] = 4711;
    selector = 1; /* SYSCALL_DISPATCH_FILTER_BLOCK: rt_sigreturn is in the range that is let through */
}

static void dispatch(void)
{
    struct sigaction action = {.sa_sigaction = on_dispatch, .sa_flags = SA_SIGINFO};
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[256];
    unsigned long start = 0, end = 0;
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "libc") && strstr(line, "r-xp"))
            sscanf(line, "%lx-%lx", &start, &end);
    if (!end || sigaction(SIGSYS, &action, NULL))
        fail("sigaction");
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, start, end - start, &selector)) {
        say("ready without dispatch");
        _exit(2);
    }
    selector = 1;
    while (!stop) {
        long answer;
        __asm__ volatile("syscall" : "=a"(answer) : "a"(SYS_getppid) : "rcx", "r11", "memory");
        if (answer != 4711)
            wrong++;
    }
    selector = 0;
}

static volatile long expected;
static void on_value(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    if (info->si_code != SI_QUEUE || info->si_pid != getpid() || info->si_value.sival_ptr != (void *)(expected * 7 + 1))
        wrong++;
    done++;
    expected++;
}

static void *queue(void *to)
{
    for (long sent = 0; !stop; sent++) {
        union sigval value = {.sival_ptr = (void *)(sent * 7 + 1)};
        if (pthread_sigqueue(*(pthread_t *)to, SIGRTMIN, value))
            fail("pthread_sigqueue");
        while (expected <= sent && !stop)
            ;
    }
    return NULL;
}

static void on_stack(int signal, siginfo_t *info, void *context)
{
    stack_t now;
    (void)signal;
    (void)info;
    (void)context;
    for (volatile int turn = 0; turn < 20000; turn++)
        ;
    if (sigaltstack(NULL, &now) || !(now.ss_flags & SS_DISABLE))
        wrong++;
    done++;
}

static void stacks(void)
{
    static char room[64 << 10];
    stack_t set = {.ss_sp = room, .ss_size = sizeof room, .ss_flags = (int)SS_AUTODISARM}, now;
    struct sigaction action = {.sa_sigaction = on_stack, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (sigaltstack(&set, NULL) || sigaction(SIGUSR1, &action, NULL))
        fail("sigaltstack");
    while (!stop) {
        raise(SIGUSR1);
        if (sigaltstack(NULL, &now) || now.ss_sp != (void *)room || now.ss_size != sizeof room || now.ss_flags != (int)SS_AUTODISARM)
            wrong++;
    }
}

static void work(const char *mode)
{
    if (!strcmp(mode, "step"))
        step();
    else if (!strcmp(mode, "dispatch"))
        dispatch();
    else if (!strcmp(mode, "stack"))
        stacks();
    else
        while (!stop)
            ;
}

static void *ask_to_stop(void *argument)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};
    (void)argument;
    while (poll(&input, 1, 0) == 0)
        ;
    stop = 1;
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t asker, sender, me = pthread_self();
    struct sigaction action = {.sa_sigaction = on_value, .sa_flags = SA_SIGINFO | SA_RESTART};
    const char *mode = argc > 1 ? argv[1] : "";
    int queues = !strcmp(mode, "queue");
    unsigned char *memory = map_private(PAGES * PAGE);
    uint64_t bad = 0;
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, 1 + page);
    if (sigaction(SIGRTMIN, &action, NULL) || pthread_create(&asker, NULL, ask_to_stop, NULL) || (queues && pthread_create(&sender, NULL, queue, &me)))
        fail("setup");
    say("ready");
    work(mode);
    pthread_join(asker, NULL);
    if (queues)
        pthread_join(sender, NULL);
    for (uint64_t page = 0; page < PAGES; page++)
        bad += page_bad(memory + page * PAGE, 1 + page) != 0;
    say("done %ld wrong %ld bad %lu", done, wrong, bad);
    return 0;
}
