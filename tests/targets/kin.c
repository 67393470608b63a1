/* Processes that share one address space without being threads of one program, clone(2) with CLONE_VM: whoever of them is taken in, the others go on.
 *
 *   kin WHO [later]
 *
 * WHO: `child`: a child by CLONE_VM works in the memory; `sibling`: one with CLONE_PARENT; `orphan`: a child's child whose parent has ended;
 * `parent`: the one that is to be taken in is such a child, and its parent works; `vfork`: it is one of vfork(2), which waits, and another thread of its parent's works.
 * `later`: the first three only come with the command `share`.
 *
 * The worker gives pages up (MADV_DONTNEED), which then must be zero, writes them, and fills them again. `ready PID` names who is to be taken in.
 * Commands: `share`, `report` (prints `done N bad N`), `quit`.
 */
#include "target.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGES 8192UL
#define STACK (256UL << 10)

static unsigned char *memory;
static volatile uint64_t done, bad;
static volatile int stop, child_pid;
static int first; /* the program that was started */

static uint64_t seed_of(uint64_t page)
{
    return 1 + page;
}

/* Nobody goes on when the first has been killed: those that are no children of it would do so for ever. */
static int is_over(void)
{
    return stop || kill(first, 0) != 0;
}

static int works(void *unused)
{
    unsigned chance = 17;
    (void)unused;
    while (!is_over()) {
        uint64_t first = (uint64_t)rand_r(&chance) % (PAGES - 256);
        madvise(memory + first * PAGE, 256 * PAGE, MADV_DONTNEED);
        for (uint64_t page = first; page < first + 256; page++)
            bad += page_bad(memory + page * PAGE, 0) != 0;
        for (uint64_t page = first; page < first + 256; page++)
            page_fill(memory + page * PAGE, seed_of(page));
        for (uint64_t page = first; page < first + 256; page++)
            bad += page_bad(memory + page * PAGE, seed_of(page)) != 0;
        done++;
        struct timespec rest = {0, 20000000};
        nanosleep(&rest, NULL);
    }
    return 0;
}

static void *works_as_thread(void *unused)
{
    works(NULL);
    return unused;
}

static int waits(void *unused)
{
    (void)unused;
    while (!is_over()) {
        struct timespec rest = {0, 100000000};
        nanosleep(&rest, NULL);
    }
    return 0;
}

static int share(int (*what)(void *), int flags)
{
    int pid = clone(what, (char *)map_private(STACK) + STACK, CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD | flags, NULL);
    if (pid < 0)
        fail("clone");
    return pid;
}

static int makes_an_orphan(void *unused)
{
    (void)unused;
    share(works, 0);
    return 0;
}

static void *vforks(void *unused)
{
    int pid = vfork();
    if (pid == 0) {
        child_pid = (int)syscall(SYS_getpid);
        while (!is_over())
            syscall(SYS_poll, NULL, 0, 100);
        _exit(0);
    }
    return unused;
}

static void begin(const char *who)
{
    if (!strcmp(who, "child"))
        share(works, 0);
    else if (!strcmp(who, "sibling"))
        share(works, CLONE_PARENT);
    else
        waitpid(share(makes_an_orphan, 0), NULL, 0);
}

int main(int argc, char **argv)
{
    char line[64];
    const char *who = argc > 1 ? argv[1] : "child";
    pthread_t thread, other;
    int taken = first = getpid();
    memory = map_private(PAGES * PAGE);
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, seed_of(page));
    if (!strcmp(who, "parent")) {
        taken = share(waits, 0);
        pthread_create(&thread, NULL, works_as_thread, NULL);
    } else if (!strcmp(who, "vfork")) {
        pthread_create(&thread, NULL, works_as_thread, NULL);
        pthread_create(&other, NULL, vforks, NULL);
        while (!child_pid)
            usleep(1000);
        taken = child_pid;
    } else if (argc < 3) {
        begin(who);
    }

    say("ready %d", taken);
    while (next_command(line, sizeof line)) {
        if (!strcmp(line, "share")) {
            begin(who);
            say("ok");
        } else {
            say("done %lu bad %lu", done, bad);
        }
    }

    stop = 1;
    pause_ms(300);
    _exit(0);
}
