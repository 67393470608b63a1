/* Memory that is given up (MADV_DONTNEED) by a worker of io_uring's, while every thread of the program's own is held.
 *
 *   ringed [MIB=32]
 *
 * Every second page is the same in all programs of this kind. The kernel polls the ring's queue for the program, and a child has that queue, too. It waits until it sees its parent traced, and then has
 * all of the memory discarded; from then on that must be zero. Once the worker has gone it is filled anew. Ends at the end of its input, or on a line, and says `rounds N bad N`.
 */
#include "target.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ENTRIES 8U
#define WORKERS_REST_MS 5500 /* a worker without work ends after five seconds */

static atomic_int stop;
static unsigned char *memory, *rings;
static struct io_uring_sqe *entries;
static struct io_uring_params parameters = {.flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 100};
static uint64_t pages, rounds, bad;
static int ring;
static atomic_int *wanted; /* of the child: that it discards the memory; shared with it */

static void push(struct io_uring_sqe entry)
{
    unsigned mask = *(unsigned *)(rings + parameters.sq_off.ring_mask);
    atomic_uint *tail = (atomic_uint *)(rings + parameters.sq_off.tail);
    unsigned slot = atomic_load(tail) & mask;
    entries[slot] = entry;
    ((unsigned *)(rings + parameters.sq_off.array))[slot] = slot;
    atomic_fetch_add(tail, 1);
}

/* The kernel's thread sleeps when nothing has come for a while. */
static void wake(void)
{
    if (syscall(SYS_io_uring_enter, ring, 1, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0) < 0)
        fail("io_uring_enter");
}

/* Waits for so many completions, without a call that waits in the ring. */
static void await(unsigned count)
{
    atomic_uint *head = (atomic_uint *)(rings + parameters.cq_off.head), *tail = (atomic_uint *)(rings + parameters.cq_off.tail);
    while (atomic_load(tail) - atomic_load(head) < count)
        pause_ms(5);
    atomic_fetch_add(head, count);
}

static int is_traced(pid_t pid)
{
    char path[32], text[512];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    int file = open(path, O_RDONLY);
    long got = file < 0 ? -1 : read(file, text, sizeof text - 1);
    close(file);
    if (got < 0)
        return 0;
    text[got] = 0;
    char *tracer = strstr(text, "TracerPid:\t");
    return tracer && tracer[11] != '0';
}

static void discards(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == parent) {
        while (!*wanted)
            pause_ms(1);
        for (double since = seconds_now(); !is_traced(parent) && seconds_now() - since < 5;)
            ;
        push((struct io_uring_sqe){.opcode = IORING_OP_MADVISE, .addr = (uint64_t)(uintptr_t)memory, .len = (unsigned)(pages * PAGE), .fadvise_advice = MADV_DONTNEED, .fd = -1});
        wake();
        *wanted = 0;
    }
    _exit(0);
}

static void *goes_round(void *unused)
{
    for (; !stop; rounds++) {
        for (uint64_t page = 0; page < pages; page++)
            page_fill(memory + page * PAGE, page % 2 ? mix(page) ^ (uint64_t)getpid() << 32 : 1 + page);
        *wanted = 1;
        await(1);
        uint64_t wrong = 0;
        for (uint64_t page = 0; page < pages; page++)
            wrong += page_bad(memory + page * PAGE, 0) != 0;
        if (wrong)
            fprintf(stderr, "round %lu: %lu pages that were given up hold what they held\n", rounds, wrong);
        bad += wrong;
        for (int i = 0; i < WORKERS_REST_MS / 50 && !stop; i++)
            pause_ms(50);
    }
    return unused;
}

int main(int argc, char **argv)
{
    char line[64];
    pthread_t thread;
    pages = (argc > 1 ? strtoull(argv[1], NULL, 10) : 32) << 8;
    memory = map_private(pages * PAGE);
    ring = (int)syscall(SYS_io_uring_setup, ENTRIES, &parameters);
    if (ring < 0) {
        say("lacking io_uring: %s", strerror(errno));
        return 0;
    }
    size_t submissions = parameters.sq_off.array + ENTRIES * sizeof(unsigned), completions = parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe);
    rings = mmap(NULL, submissions > completions ? submissions : completions, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
    entries = mmap(NULL, ENTRIES * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
    wanted = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t self = getpid();
    if (rings == MAP_FAILED || entries == MAP_FAILED || wanted == MAP_FAILED)
        fail("mmap");
    if (fork() == 0)
        discards(self);
    if (pthread_create(&thread, NULL, goes_round, NULL))
        fail("pthread_create");
    say("ready");
    while (next_command(line, sizeof line) && strcmp(line, "report"))
        ;
    stop = 1;
    pthread_join(thread, NULL);
    say("rounds %lu bad %lu", rounds, bad);
    return 0;
}
