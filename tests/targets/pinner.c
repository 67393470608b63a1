/* Registers buffers of io_uring over and over, on pages that look like everybody else's, and reads into them a while later: each must have its data then.
 *
 *   pinner
 *
 * 4096 pages, of which every fourth is nobody else's. Eight buffers of two pages are pinned at a time, for 20 ms; before they are read into, nobody may have put other pages in their place. Behind that they are made
 * common again. Commands: `report` (prints `pinned N bad M`), `quit`.
 */
#include "ring.h"
#include <fcntl.h>
#include <pthread.h>

#define PAGES 4096UL
#define BUFFERS 8UL
#define BUFFER 2UL /* pages */

static unsigned char *memory;
static atomic_ulong pinned, bad;
static pthread_mutex_t working = PTHREAD_MUTEX_INITIALIZER;

static uint64_t seed_of(uint64_t page)
{
    return page % 4 == 3 ? mix(page) ^ (uint64_t)getpid() << 32 : 1 + page;
}

static void *pin(void *unused)
{
    static struct ring ring;
    uint64_t random = mix((uint64_t)getpid()) | 1;
    int ends[2];
    ring_open(&ring);
    /* A pipe that has the data is read at once; what a worker of io_uring does keeps the daemon from holding the program. */
    if (pipe(ends) || fcntl(ends[1], F_SETPIPE_SZ, (int)(BUFFERS * BUFFER * PAGE)) < 0)
        fail("pipe");
    (void)unused;
    for (uint64_t round = 1;; round++) {
        struct iovec buffers[BUFFERS];
        uint64_t first[BUFFERS];
        unsigned char page[PAGE];
        pthread_mutex_lock(&working);
        for (uint64_t i = 0; i < BUFFERS; i++) { /* each in an eighth of its own */
            random = mix(random + i + 1);
            first[i] = i * (PAGES / BUFFERS) + random % (PAGES / BUFFERS) / 4 * 4;
            buffers[i] = (struct iovec){memory + first[i] * PAGE, BUFFER * PAGE};
        }
        ring_register(&ring, buffers, BUFFERS);
        for (uint64_t i = 0; i < BUFFERS * BUFFER; i++) {
            page_fill(page, mix(round) ^ i);
            if (write(ends[1], page, PAGE) != (ssize_t)PAGE)
                fail("write");
        }
        pause_ms(20);
        for (uint64_t i = 0; i < BUFFERS; i++)
            ring_submit(&ring, (struct io_uring_sqe){.opcode = IORING_OP_READ_FIXED, .fd = ends[0], .off = (uint64_t)-1, .addr = (uint64_t)buffers[i].iov_base,
                                   .len = (unsigned)(BUFFER * PAGE), .buf_index = (uint16_t)i});
        for (uint64_t i = 0, whose; i < BUFFERS; i++)
            if (ring_wait(&ring, &whose) != (int)(BUFFER * PAGE))
                fail("READ_FIXED");
        for (uint64_t i = 0; i < BUFFERS * BUFFER; i++) {
            unsigned char *here = memory + (first[i / BUFFER] + i % BUFFER) * PAGE;
            atomic_fetch_add(&bad, page_bad(here, mix(round) ^ i));
            page_fill(here, seed_of(first[i / BUFFER] + i % BUFFER));
        }
        ring_unregister(&ring);
        atomic_fetch_add(&pinned, BUFFERS);
        pthread_mutex_unlock(&working);
        pause_ms(1);
    }
    return NULL;
}

int main(void)
{
    pthread_t thread;
    memory = map_private(PAGES * PAGE);
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, seed_of(page));
    if (pthread_create(&thread, NULL, pin, NULL))
        fail("pthread_create");
    say("ready");
    char line[64];
    while (next_command(line, sizeof line)) {
        uint64_t here = 0;
        pthread_mutex_lock(&working);
        for (uint64_t page = 0; page < PAGES; page++)
            here += page_bad(memory + page * PAGE, seed_of(page));
        say("pinned %lu bad %lu", atomic_load(&pinned), atomic_load(&bad) + here);
        pthread_mutex_unlock(&working);
    }
    return 0;
}
