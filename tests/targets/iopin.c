/* Input that is under way into pages which look like everybody else's: it must arrive in the memory that asked for it.
 *
 *   iopin [FILE]       FILE: a file of 256 pages on a file system with direct I/O, made by this program
 *
 * Memory: 1024 pages of common content. Commands:
 *   `fixed`    registers 16 pages with io_uring and starts a READ_FIXED from a pipe into them: pinned until it completes
 *   `plain`    starts an io_uring READ from a pipe into 16 other pages: not pinned, written when it completes
 *   `unpin`    gives the registered buffer up, and closes the ring
 *   `complete` feeds both pipes, waits for the completions, checks buffers and neighbours
 *   `direct`   O_DIRECT reads and writes by four threads into quiet common pages, for three seconds
 *   `splice`   vmsplice of 4 pages into a pipe: `spliced` writes them and reads what the pipe shows
 *   `verify`, `quit`
 */
#include "ring.h"
#include <fcntl.h>
#include <pthread.h>

#define PAGES 1024UL
#define BUFFER 16UL
#define FIXED_AT 128UL
#define PLAIN_AT 256UL
#define SPLICE_AT 320UL
#define DIRECT_AT 512UL
#define FED 4UL /* pages that a pipe of default size holds and a read returns at once */

static unsigned char *memory;
static uint64_t seeds[PAGES];
static const char *file_path;

static struct ring ring;
static int fixed_pipe[2], plain_pipe[2], fixed_pending, plain_pending;

static void begin_read(int operation, int fd, void *buffer, uint64_t whose)
{
    ring_submit(&ring, (struct io_uring_sqe){.opcode = (uint8_t)operation, .fd = fd, .off = (uint64_t)-1, .addr = (uint64_t)buffer, .len = (unsigned)(FED * PAGE), .user_data = whose});
}

static uint64_t verify(void)
{
    uint64_t bad = 0;
    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t here = page_bad(memory + page * PAGE, seeds[page]);
        if (here && !bad)
            fprintf(stderr, "page %lu: %lu words differ\n", page, here);
        bad += here;
    }
    return bad;
}

static void answer(uint64_t bad)
{
    if (bad)
        say("bad %lu", bad);
    else
        say("ok");
}

static void feed(int pipe_end, uint64_t first, uint64_t salt)
{
    unsigned char page[PAGE];
    for (uint64_t i = 0; i < FED; i++) {
        seeds[first + i] = salt + i;
        page_fill(page, salt + i);
        if (write(pipe_end, page, PAGE) != (ssize_t)PAGE)
            fail("write to the pipe");
    }
}

static void complete(void)
{
    uint64_t salt = mix((uint64_t)getpid()) | 1;
    unsigned expected = (unsigned)(fixed_pending + plain_pending);
    if (!ring_is_empty(&ring)) {
        say("bad: completed before its time");
        return;
    }
    if (fixed_pending)
        feed(fixed_pipe[1], FIXED_AT, salt);
    if (plain_pending)
        feed(plain_pipe[1], PLAIN_AT, salt + 100);
    for (unsigned i = 0; i < expected; i++) {
        uint64_t whose;
        int result = ring_wait(&ring, &whose), *fd = whose == 1 ? fixed_pipe : plain_pipe;
        uint64_t first = whose == 1 ? FIXED_AT : PLAIN_AT;
        if (result < (int)PAGE || result % (int)PAGE) {
            say("bad: completion %lu with %d", whose, result);
            return;
        }
        for (uint64_t i = (uint64_t)result / PAGE; i < FED; i++) /* what the read left in the pipe, by the same way */
            if (read(fd[0], memory + (first + i) * PAGE, PAGE) != (ssize_t)PAGE)
                fail("read of the rest");
    }
    fixed_pending = plain_pending = 0;
    answer(verify());
}

static atomic_ulong direct_bad, direct_done;

/* Page p of the file has content 900000 + p. Each thread owns 64 of the pages. */
static void *direct(void *argument)
{
    uint64_t index = (uint64_t)argument, random = mix(index + 77) | 1;
    int fd = open(file_path, O_RDWR | O_DIRECT);
    if (fd < 0)
        fail("open with O_DIRECT");
    double until = seconds_now() + 3;
    while (seconds_now() < until) {
        random = mix(random);
        uint64_t page = DIRECT_AT + index * 64 + random % 48, count = 1 + (random >> 20) % 16, from = (random >> 30) % (256 - count);
        if (pread(fd, memory + page * PAGE, count * PAGE, (off_t)(from * PAGE)) != (ssize_t)(count * PAGE))
            fail("pread");
        for (uint64_t i = 0; i < count; i++) {
            seeds[page + i] = 900000 + from + i;
            atomic_fetch_add(&direct_bad, page_bad(memory + (page + i) * PAGE, seeds[page + i]));
        }
        if ((random >> 40) % 4 == 0) { /* back to what others have, so that it is merged again */
            for (uint64_t i = 0; i < 64; i++) {
                seeds[DIRECT_AT + index * 64 + i] = 1 + i;
                page_fill(memory + (DIRECT_AT + index * 64 + i) * PAGE, 1 + i);
            }
            pause_ms(250);
        }
        atomic_fetch_add(&direct_done, 1);
    }
    close(fd);
    return NULL;
}

static int make_file(void)
{
    unsigned char page[PAGE];
    int fd = open(file_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return 0;
    for (uint64_t i = 0; i < 256; i++) {
        page_fill(page, 900000 + i);
        if (write(fd, page, PAGE) != (ssize_t)PAGE)
            fail("write of the file");
    }
    fsync(fd);
    close(fd);
    fd = open(file_path, O_RDWR | O_DIRECT);
    if (fd < 0)
        return 0;
    close(fd);
    return 1;
}

int main(int argc, char **argv)
{
    int splice_pipe[2];
    memory = map_private(PAGES * PAGE);
    for (uint64_t page = 0; page < PAGES; page++) {
        seeds[page] = page >= DIRECT_AT ? 1 + page % 64 : 5000 + page;
        page_fill(memory + page * PAGE, seeds[page]);
    }
    if (pipe(fixed_pipe) || pipe(plain_pipe) || pipe(splice_pipe))
        fail("pipe");
    file_path = argc > 1 ? argv[1] : NULL;
    say("ready");

    char line[64];
    while (next_command(line, sizeof line)) {
        if (!strcmp(line, "fixed")) {
            ring_open(&ring);
            struct iovec buffer = {memory + FIXED_AT * PAGE, BUFFER * PAGE};
            ring_register(&ring, &buffer, 1);
            begin_read(IORING_OP_READ_FIXED, fixed_pipe[0], buffer.iov_base, 1);
            fixed_pending = 1;
            say("ok");
        } else if (!strcmp(line, "plain")) {
            ring_open(&ring);
            begin_read(IORING_OP_READ, plain_pipe[0], memory + PLAIN_AT * PAGE, 2);
            plain_pending = 1;
            say("ok");
        } else if (!strcmp(line, "unpin")) {
            ring_unregister(&ring);
            close(ring.fd);
            say("ok");
        } else if (!strcmp(line, "complete")) {
            complete();
        } else if (!strcmp(line, "direct")) {
            pthread_t threads[4];
            if (!file_path || !make_file()) {
                say("no direct I/O here");
                continue;
            }
            for (uint64_t i = 0; i < 4; i++)
                if (pthread_create(&threads[i], NULL, direct, (void *)i))
                    fail("pthread_create");
            for (int i = 0; i < 4; i++)
                pthread_join(threads[i], NULL);
            fprintf(stderr, "direct reads: %lu\n", atomic_load(&direct_done));
            answer(atomic_load(&direct_bad) + verify());
        } else if (!strcmp(line, "splice")) {
            struct iovec pages = {memory + SPLICE_AT * PAGE, 4 * PAGE};
            if (vmsplice(splice_pipe[1], &pages, 1, 0) != (ssize_t)(4 * PAGE))
                fail("vmsplice");
            say("ok");
        } else if (!strcmp(line, "spliced")) {
            unsigned char page[PAGE];
            uint64_t bad = 0;
            for (uint64_t i = 0; i < 4; i++) {
                seeds[SPLICE_AT + i] = 7000 + i;
                page_fill(memory + (SPLICE_AT + i) * PAGE, 7000 + i);
            }
            for (uint64_t i = 0; i < 4; i++) {
                if (read(splice_pipe[0], page, PAGE) != (ssize_t)PAGE)
                    fail("read of the spliced pages");
                bad += page_bad(page, 7000 + i);
            }
            answer(bad + verify());
        } else if (!strcmp(line, "verify")) {
            answer(verify());
        } else {
            say("unknown");
        }
    }
    return 0;
}
