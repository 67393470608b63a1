/* A program that does what few programs do, and may be made to do it on purpose.
 *
 *   attacker [OFFSET=0]      OFFSET: pages between a 2 MiB boundary and the beginning of its memory
 *
 * 4096 pages of common content, with no advice on them. Commands:
 *   `collapse`   asks for huge pages in place of all of it (MADV_COLLAPSE), which may be refused
 *   `pageout`    asks for it to be written out (MADV_PAGEOUT)
 *   `grow`       makes it twice as long (mremap), or its last mapping longer by as much where it lies in several; what came is zero, and never written
 *   `extra`      2000 more pages of common content
 *   `nofile`     RLIMIT_NOFILE becomes 0
 *   `forks N`    N children at a time, each of which discards, checks, and lives for a second
 *   `filter`     a seccomp filter for all threads (TSYNC), which kills for any call but read, write, exit and a sleep
 *   `twin`       makes a process that shares this memory (clone with CLONE_VM), and that writes, unmaps and maps in it
 *   `setuid N`   becomes another user in all threads
 *   `reach PATH` tries to open a path for writing; answers with the errno's name or `opened`
 *   `lock`       locks what will be mapped (mlockall MCL_FUTURE)
 *   `discard`    gives all pages up (MADV_DONTNEED); they are zero then
 *   `pattern N`  page content N and on
 *   `dump`       ends by SIGABRT
 *   `verify`, `address`, `quit`
 */
#include "target.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGES 4096UL
#define EXTRA 2000UL
#define TWIN_AT 1024UL /* pages of the twin's, half written, half mapped anew */
#define TWIN 64UL
#define CHILDREN_MAX 2000

static unsigned char *memory, *extra;
static uint64_t first_seed = 1, grown;
static int discarded, twin_runs;
static volatile uint64_t twin_bad, twin_rounds;
static volatile int twin_stops;

static uint64_t seed_of(uint64_t page)
{
    return discarded || page >= PAGES ? 0 : first_seed + page;
}

static uint64_t verify(void)
{
    uint64_t bad = twin_bad;
    for (uint64_t page = 0; page < PAGES + grown; page++)
        if (!twin_runs || page < TWIN_AT || page >= TWIN_AT + 2 * TWIN)
            bad += page_bad(memory + page * PAGE, seed_of(page)) != 0;
    for (uint64_t page = 0; extra && page < EXTRA; page++)
        bad += page_bad(extra + page * PAGE, 100000 + page) != 0;
    return bad;
}

static void fill(void)
{
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, seed_of(page));
}

/* Behind it there is room for as much again, which is not used before. */
static int grow_last(void)
{
    unsigned long start, end, last = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start < (uintptr_t)(memory + PAGES * PAGE))
            last = start;
    if (!maps || fclose(maps))
        return -1;
    unsigned char *from = last > (uintptr_t)memory ? (unsigned char *)last : memory, *to = memory + PAGES * PAGE;
    return munmap(to, PAGES * PAGE) || mremap(from, to - from, to - from + PAGES * PAGE, 0) != from ? -1 : 0;
}

static int child(void)
{
    uint64_t bad = 0;
    pause_ms(300);
    if (madvise(memory, 64 * PAGE, MADV_DONTNEED))
        return 1;
    for (uint64_t page = 0; page < PAGES; page++)
        bad += page_bad(memory + page * PAGE, page < 64 ? 0 : seed_of(page)) != 0;
    pause_ms(700);
    return bad != 0;
}

static void forks(int count)
{
    static pid_t children[CHILDREN_MAX];
    double longest = 0;
    int bad = 0;
    for (int i = 0; i < count && i < CHILDREN_MAX; i++) {
        double before = seconds_now();
        children[i] = fork();
        if (children[i] == 0)
            _exit(child());
        if (children[i] < 0)
            fail("fork");
        if (seconds_now() - before > longest)
            longest = seconds_now() - before;
    }
    for (int i = 0; i < count && i < CHILDREN_MAX; i++) {
        int status = 1;
        waitpid(children[i], &status, 0);
        bad += status != 0;
    }
    say("bad %d longest %lu", bad, (unsigned long)(longest * 1e6));
}

static long filter(void)
{
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_nanosleep, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

static int twin(void *unused)
{
    (void)unused;
    unsigned char *mine = memory + TWIN_AT * PAGE, *anew = mine + TWIN * PAGE;
    for (uint64_t round = 1; !twin_stops; round++) {
        for (uint64_t page = 0; page < TWIN; page++)
            page_fill(mine + page * PAGE, round % 3 * 1000 + 1 + page);
        if (munmap(anew, TWIN * PAGE) || mmap(anew, TWIN * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != anew)
            twin_bad++;
        for (uint64_t page = 0; page < TWIN; page++) {
            twin_bad += page_bad(mine + page * PAGE, round % 3 * 1000 + 1 + page) != 0;
            twin_bad += page_bad(anew + page * PAGE, 0) != 0;
            page_fill(anew + page * PAGE, 1 + page);
        }
        twin_rounds++;
        pause_ms(60);
    }
    return 0;
}

static int obey(const char *line)
{
    int result = 0;
    if (!strcmp(line, "collapse")) {
        madvise(memory, PAGES * PAGE, MADV_HUGEPAGE);
        madvise(memory, PAGES * PAGE, 25 /* MADV_COLLAPSE */);
    } else if (!strcmp(line, "pageout")) {
        result = madvise(memory, PAGES * PAGE, MADV_PAGEOUT);
    } else if (!strcmp(line, "grow")) {
        void *longer = mremap(memory, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
        if (longer != MAP_FAILED)
            memory = longer;
        else if (errno != EFAULT || grow_last())
            return -1;
        grown = PAGES;
    } else if (!strcmp(line, "extra")) {
        extra = map_private(EXTRA * PAGE);
        for (uint64_t page = 0; page < EXTRA; page++)
            page_fill(extra + page * PAGE, 100000 + page);
    } else if (!strcmp(line, "nofile")) {
        struct rlimit none = {0, 0};
        result = setrlimit(RLIMIT_NOFILE, &none);
    } else if (!strcmp(line, "filter")) {
        result = (int)filter();
    } else if (!strcmp(line, "twin")) {
        unsigned char *stack = map_private(256 * PAGE);
        result = clone(twin, stack + 256 * PAGE, CLONE_VM | SIGCHLD, NULL) > 0 ? 0 : -1;
        twin_runs = 1;
    } else if (!strncmp(line, "setuid ", 7)) {
        result = setuid((uid_t)atoi(line + 7));
    } else if (!strcmp(line, "lock")) {
        result = mlockall(MCL_FUTURE);
    } else if (!strcmp(line, "discard")) {
        result = madvise(memory, PAGES * PAGE, MADV_DONTNEED);
        discarded = 1;
    } else if (!strncmp(line, "pattern ", 8)) {
        first_seed = strtoul(line + 8, NULL, 10);
        discarded = 0;
        fill();
    } else if (!strcmp(line, "dump")) {
        abort();
    } else if (strcmp(line, "verify")) {
        errno = EINVAL;
        result = -1;
    }
    return result;
}

int main(int argc, char **argv)
{
    unsigned long offset = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    unsigned char *room = mmap(NULL, (2 * PAGES + 1024) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        fail("mmap");
    memory = (unsigned char *)(((uintptr_t)room + 0x1fffff) & ~0x1fffffUL) + offset * PAGE;
    fill();
    say("ready");
    char line[256];
    while (next_command(line, sizeof line)) {
        if (!strncmp(line, "forks ", 6)) {
            forks(atoi(line + 6));
        } else if (!strncmp(line, "reach ", 6)) {
            say("%s", open(line + 6, O_RDWR) >= 0 ? "opened" : strerrorname_np(errno));
        } else if (!strcmp(line, "address")) {
            say("%lx %lx", (unsigned long)memory, (unsigned long)(memory + PAGES * PAGE));
        } else if (obey(line)) {
            say("%s: %s", line, strerror(errno));
        } else {
            uint64_t bad = verify();
            if (bad)
                say("bad %lu", bad);
            else
                say("ok");
        }
    }
    twin_stops = 1;
    if (twin_runs)
        wait(NULL);
    return twin_bad != 0;
}
