/* Two threads on one processor; each adds to a counter inside a restartable sequence, rseq(2), that is long. No increment may be lost.
 * No thread of it ever sleeps, so that one in a sequence is what is borrowed and held.
 *
 * Ends at the end of its input, or on a line, and says `committed N lost N aborts N bad N`.
 */
#include "target.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>

#define PAGES 2048

static volatile long counter, done[2], aborts[2];
static volatile int stop;

static struct rseq *own_area(void)
{
    return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static __attribute__((noinline)) int increment(volatile long *place, struct rseq *area)
{
    __asm__ volatile goto(
        ".pushsection __rseq_cs, \"aw\"\n"
        ".balign 32\n"
        "77: .long 0, 0\n"
        ".quad 1f, (2f - 1f), 4f\n"
        ".popsection\n"
        "leaq 77b(%%rip), %%rax\n"
        "movq %%rax, 8(%[area])\n"
        "1: movq (%[place]), %%rdx\n"
        "movl $3000, %%ecx\n"
        "3: pause\n"
        "decl %%ecx\n"
        "jnz 3b\n"
        "addq $1, %%rdx\n"
        "movq %%rdx, (%[place])\n"
        "2:\n"
        ".pushsection .text.rseqabort, \"ax\"\n"
        ".byte 0x0f, 0xb9, 0x3d\n"
        ".long 0x53053053\n"
        "4: jmp %l[aborted]\n"
        ".popsection\n"
        :
        : [area] "r"(area), [place] "r"(place)
        : "rax", "rcx", "rdx", "memory", "cc"
        : aborted);
    return 1;
aborted:
    return 0;
}

static void one_processor(void)
{
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    if (sched_setaffinity(0, sizeof first, &first))
        fail("sched_setaffinity");
}

static void add(long me)
{
    if (increment(&counter, own_area()))
        done[me]++;
    else
        aborts[me]++;
}

static void *work(void *argument)
{
    one_processor();
    while (!stop)
        add((long)argument);
    return NULL;
}

int main(void)
{
    pthread_t other;
    struct pollfd input = {.fd = 0, .events = POLLIN};
    unsigned char *memory = map_private(PAGES * PAGE);
    uint64_t bad = 0;
    if (!__rseq_size) {
        say("ready without rseq");
        return 2;
    }
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, 1 + page);
    if (pthread_create(&other, NULL, work, (void *)1))
        fail("pthread_create");
    one_processor();
    say("ready");
    while (poll(&input, 1, 0) == 0)
        for (int i = 0; i < 50; i++)
            add(0);
    stop = 1;
    pthread_join(other, NULL);
    for (uint64_t page = 0; page < PAGES; page++)
        bad += page_bad(memory + page * PAGE, 1 + page) != 0;
    long committed = done[0] + done[1];
    say("committed %ld lost %ld aborts %ld bad %lu", committed, committed - counter, aborts[0] + aborts[1], bad);
    return 0;
}
