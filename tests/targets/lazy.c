/* Memory that the program has said it does not need (MADV_FREE): the kernel may drop a page of it at any time until it is written, and then it reads as zeros.
 *
 *   lazy [MIB=32] [reclaim]      `reclaim`: a child has everything else of this program paged out, over and over, as a manager of memory may do that has the right to
 *
 * Three of four pages are the same in all programs of this kind. A thread gives the memory up every three seconds, and looks at it some time later: a page is whole, or all zero; what is zero
 * is written anew. Ends at the end of its input, or on a line, and says `rounds N dropped N bad N slowest N ms`.
 */
#include "target.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define CHUNK 64UL

static atomic_int stop;
static unsigned char *memory;
static uint64_t pages, dropped, bad, rounds;
static double slowest;

static uint64_t seed_of(uint64_t page)
{
    return page % 4 == 3 ? mix(page) ^ (uint64_t)getpid() << 32 : 1 + page;
}

static void look(uint64_t page)
{
    unsigned char *at = memory + page * PAGE;
    double began = seconds_now();
    uint64_t wrong = page_bad(at, seed_of(page));
    if (wrong && page_bad(at, 0) == 0) {
        dropped++;
        page_fill(at, seed_of(page));
    } else if (wrong) {
        bad++;
    }
    if (seconds_now() - began > slowest)
        slowest = seconds_now() - began;
}

/* What has been written is quiet for a while and given up then, in no order: the kernel drops what was given up first. */
static void *goes_round(void *unused)
{
    unsigned chance = (unsigned)getpid();
    for (; !stop; rounds++) {
        for (int i = 0; i < 20 && !stop; i++)
            pause_ms(50);
        for (uint64_t i = 0, chunks = pages / CHUNK, first = (uint64_t)rand_r(&chance), step = 2 * ((uint64_t)rand_r(&chance) % 16) + 1; i < chunks; i++)
            if (madvise(memory + (first + i * step) % chunks * CHUNK * PAGE, CHUNK * PAGE, MADV_FREE) && errno != EINVAL)
                fail("MADV_FREE");
        for (int i = 0; i < 40 && !stop; i++)
            pause_ms(50);
        for (uint64_t page = 0; page < pages; page++)
            look(page);
    }
    return unused;
}

/* Pages out what of the parent's memory can be written and has no file, but for what it looks at itself. */
static void reclaims(pid_t parent)
{
    char path[32], line[256];
    int pidfd = (int)syscall(SYS_pidfd_open, parent, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(path, sizeof path, "/proc/%d/maps", parent);
    while (getppid() == parent) {
        struct iovec areas[64];
        int count = 0;
        FILE *maps = fopen(path, "r");
        while (maps && fgets(line, sizeof line, maps) && count < 64) {
            unsigned long start, end, inode;
            char rights[8];
            if (sscanf(line, "%lx-%lx %7s %*s %*s %lu", &start, &end, rights, &inode) == 4 && inode == 0 && !strcmp(rights, "rw-p") &&
                (end <= (uintptr_t)memory || start >= (uintptr_t)memory + pages * PAGE) && !strchr(line, '['))
                areas[count++] = (struct iovec){(void *)start, end - start};
        }
        if (maps)
            fclose(maps);
        for (int i = 0; i < 1000; i++)
            for (int k = 0; k < count; k++)
                syscall(SYS_process_madvise, pidfd, &areas[k], 1UL, MADV_PAGEOUT, 0U);
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    char line[64];
    pthread_t thread;
    pages = (argc > 1 ? strtoull(argv[1], NULL, 10) : 32) << 8; /* chunks: a power of two, so that each comes once */
    memory = map_private(pages * PAGE);
    pid_t self = getpid();
    if (argc > 2 && !strcmp(argv[2], "reclaim") && fork() == 0)
        reclaims(self);
    for (uint64_t page = 0; page < pages; page++)
        page_fill(memory + page * PAGE, seed_of(page));
    if (pthread_create(&thread, NULL, goes_round, NULL))
        fail("pthread_create");
    say("ready");
    while (next_command(line, sizeof line) && strcmp(line, "report"))
        ;
    stop = 1;
    pthread_join(thread, NULL);
    say("rounds %lu dropped %lu bad %lu slowest %.0f ms", rounds, dropped, bad, slowest * 1e3);
    return 0;
}
