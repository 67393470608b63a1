/* Huge pages of which somebody besides the program holds a part: as long as he does, no kernel can take them to pieces.
 *
 *   hugepin MIB HOLDER [advise] [split]     HOLDER: none uring vmsplice direct=FILE
 *
 * MIB MiB (at most 32) of content that all programs of this kind have in common, in huge pages. `advise` advises it to be mergeable. `split` protects a page in each
 * huge page, which the program then sees by single pages, though the kernel keeps it in one piece. A page of each huge page is held:
 *   uring     as a buffer that is registered with io_uring
 *   vmsplice  by a pipe, to which it is lent
 *   direct    by direct reads from FILE, a slow device, which are under way most of the time; two seconds before each the page is as everybody else's
 * Prints `ready KIB`, with how much was in huge pages before any was split. Commands:
 *   `verify`   every byte
 *   `through`  what the holder sees is what the program wrote, and what he brings is what the program sees
 *   `protect`  changes the protection of a page, and changes it back
 *   `fork`     a child verifies
 *   `unpin`    nobody holds anything any more
 */
#include "target.h"
#include "ring.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#define HUGE (2UL << 20)
#define HELD_AT 100UL      /* pages from the beginning of each huge page */
#define SPLIT_AT 50UL
#define HUGE_PAGES_MAX 16U /* what a pipe of default size holds */
#define FILE_SEED 900000UL

enum holder { NONE, URING, VMSPLICE, DIRECT };

static unsigned char *memory;
static uint64_t pages;
static unsigned held;
static enum holder holder;
static struct ring ring;
static int lent[2], fed[2], drained[2], file;
static atomic_int stopping;
static atomic_ulong reads, direct_bad;
static pthread_t reader;

static unsigned char *held_page(unsigned i) { return memory + i * HUGE + HELD_AT * PAGE; }

static uint64_t held_seed(unsigned i) { return 1 + i * (HUGE / PAGE) + HELD_AT; }

/* What direct reads bring is looked at by whoever reads. */
static uint64_t verify(void)
{
    uint64_t bad = 0;
    for (uint64_t page = 0; page < pages; page++) {
        if (holder == DIRECT && page % (HUGE / PAGE) == HELD_AT)
            continue;
        uint64_t here = page_bad(memory + page * PAGE, 1 + page);
        if (here && !bad)
            fprintf(stderr, "page %lu at %p: %lu words differ\n", page, (void *)(memory + page * PAGE), here);
        bad += here;
    }
    return bad + atomic_load(&direct_bad);
}

static void answer(uint64_t bad)
{
    if (bad)
        say("bad %lu", bad);
    else
        say("ok");
}

static void lend(void)
{
    struct iovec parts[HUGE_PAGES_MAX];
    for (unsigned i = 0; i < held; i++)
        parts[i] = (struct iovec){held_page(i), PAGE};
    if (vmsplice(lent[1], parts, held, 0) != (ssize_t)(held * PAGE))
        fail("vmsplice");
}

static uint64_t lent_bad(void)
{
    unsigned char page[PAGE];
    uint64_t bad = 0;
    for (unsigned i = 0; i < held; i++) {
        if (read(lent[0], page, PAGE) != (ssize_t)PAGE)
            fail("read of what was lent");
        bad += page_bad(page, held_seed(i));
    }
    return bad;
}

static void transfer(uint8_t operation, int fd, unsigned i)
{
    uint64_t whose;
    ring_submit(&ring, (struct io_uring_sqe){.opcode = operation, .fd = fd, .off = (uint64_t)-1, .addr = (uint64_t)held_page(i), .len = PAGE, .buf_index = (uint16_t)i});
    int result = ring_wait(&ring, &whose);
    if (result != (int)PAGE) {
        errno = result < 0 ? -result : EIO;
        fail("a transfer with a registered buffer");
    }
}

/* New content of the program's goes out, new content comes in, and all is as before in the end. */
static uint64_t registered_bad(void)
{
    unsigned char page[PAGE];
    uint64_t bad = 0;
    for (unsigned i = 0; i < held; i++) {
        page_fill(held_page(i), 700000 + i);
        transfer(IORING_OP_WRITE_FIXED, drained[1], i);
        if (read(drained[0], page, PAGE) != (ssize_t)PAGE)
            fail("read of what was written");
        bad += page_bad(page, 700000 + i);
        page_fill(page, 800000 + i);
        if (write(fed[1], page, PAGE) != (ssize_t)PAGE)
            fail("write of what is to be read");
        transfer(IORING_OP_READ_FIXED, fed[0], i);
        bad += page_bad(held_page(i), 800000 + i);
        page_fill(held_page(i), held_seed(i));
    }
    return bad;
}

enum { OURS = 1, OTHERS };

/* Asynchronous, so that no thread waits in the kernel meanwhile: one that does cannot be held, and nothing of its program is merged. */
static void begin_to_read(const struct iovec *parts, uint64_t whose)
{
    ring_submit(&ring, (struct io_uring_sqe){.opcode = IORING_OP_READV, .fd = file, .off = 0, .addr = (uint64_t)parts, .len = held, .user_data = whose});
}

/* Reads of others keep the device busy, so that ours take their time. */
static void *read_again_and_again(void *unused)
{
    unsigned char *others = map_private(held * PAGE);
    struct iovec parts[HUGE_PAGES_MAX], other_parts[HUGE_PAGES_MAX];
    (void)unused;
    for (unsigned i = 0; i < held; i++) {
        parts[i] = (struct iovec){held_page(i), PAGE};
        other_parts[i] = (struct iovec){others + i * PAGE, PAGE};
    }
    int under_way = 0, theirs = 0;
    double begin = seconds_now() + 2;
    while (!atomic_load(&stopping) || under_way || theirs) {
        if (!theirs && !atomic_load(&stopping)) {
            begin_to_read(other_parts, OTHERS);
            theirs = 1;
        }
        if (!under_way && !atomic_load(&stopping) && seconds_now() >= begin) {
            begin_to_read(parts, OURS);
            under_way = 1;
        }
        pause_ms(5);
        while (!ring_is_empty(&ring)) {
            uint64_t whose;
            int result = ring_take(&ring, &whose);
            if (result != (int)(held * PAGE)) {
                errno = result < 0 ? -result : EIO;
                fail("a direct read");
            }
            if (whose == OTHERS) {
                theirs = 0;
                continue;
            }
            for (unsigned i = 0; i < held; i++) {
                atomic_fetch_add(&direct_bad, page_bad(held_page(i), FILE_SEED + i));
                page_fill(held_page(i), held_seed(i));
            }
            under_way = 0;
            begin = seconds_now() + 2;
            atomic_fetch_add(&reads, 1);
        }
    }
    munmap(others, held * PAGE);
    return NULL;
}

static void hold_by_direct_reads(const char *path)
{
    unsigned char *page;
    file = open(path, O_RDWR | O_DIRECT);
    if (file < 0 || posix_memalign((void **)&page, PAGE, PAGE))
        fail(path);
    for (unsigned i = 0; i < held; i++) {
        page_fill(page, FILE_SEED + i);
        if (pwrite(file, page, PAGE, (off_t)(i * PAGE)) != (ssize_t)PAGE)
            fail("a direct write");
    }
    free(page);
    ring_open(&ring);
    if (pthread_create(&reader, NULL, read_again_and_again, NULL))
        fail("pthread_create");
}

static void hold(const char *path)
{
    struct iovec buffers[HUGE_PAGES_MAX];
    switch (holder) {
    case URING:
        if (pipe(fed) || pipe(drained))
            fail("pipe");
        for (unsigned i = 0; i < held; i++)
            buffers[i] = (struct iovec){held_page(i), PAGE};
        ring_open(&ring);
        ring_register(&ring, buffers, held);
        break;
    case VMSPLICE:
        if (pipe(lent))
            fail("pipe");
        lend();
        break;
    case DIRECT: hold_by_direct_reads(path); break;
    case NONE: break;
    }
}

static uint64_t through(void)
{
    uint64_t bad = 0;
    switch (holder) {
    case URING: return registered_bad();
    case VMSPLICE:
        bad = lent_bad();
        lend();
        return bad;
    case DIRECT:
        for (unsigned long enough = atomic_load(&reads) + 2; atomic_load(&reads) < enough;)
            pause_ms(5);
        return atomic_load(&direct_bad);
    default: return 0;
    }
}

static uint64_t unpin(void)
{
    uint64_t bad = 0;
    switch (holder) {
    case URING:
        ring_unregister(&ring);
        ring_close(&ring);
        break;
    case VMSPLICE: bad = lent_bad(); break;
    case DIRECT:
        atomic_store(&stopping, 1);
        pthread_join(reader, NULL);
        ring_close(&ring);
        close(file);
        break;
    case NONE: break;
    }
    holder = NONE;
    return bad + verify();
}

static uint64_t protect(void)
{
    for (unsigned i = 0; i < held; i++) {
        unsigned char *page = memory + i * HUGE + 2 * PAGE;
        if (mprotect(page, PAGE, PROT_READ) || mprotect(page, PAGE, PROT_READ | PROT_WRITE))
            fail("mprotect");
    }
    return verify();
}

static uint64_t fork_and_verify(void)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(verify() != 0);
    if (child < 0 || waitpid(child, &status, 0) != child)
        fail("fork");
    return status != 0;
}

static unsigned long kib_in_huge_pages(void)
{
    char line[128];
    unsigned long kib = 0;
    FILE *rollup = fopen("/proc/self/smaps_rollup", "r");
    while (rollup && fgets(line, sizeof line, rollup))
        sscanf(line, "AnonHugePages: %lu", &kib);
    if (rollup)
        fclose(rollup);
    return kib;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"none", "uring", "vmsplice", "direct="};
    int advise = 0, split = 0;
    if (argc < 3)
        return 2;
    held = (unsigned)strtoul(argv[1], NULL, 10) / 2;
    while (holder <= DIRECT && strncmp(argv[2], names[holder], strlen(names[holder])))
        holder++;
    if (held < 1 || held > HUGE_PAGES_MAX || holder > DIRECT)
        return 2;
    for (int i = 3; i < argc; i++) {
        advise |= !strcmp(argv[i], "advise");
        split |= !strcmp(argv[i], "split");
    }
    pages = held * (HUGE / PAGE);
    unsigned char *room = mmap(NULL, (held + 1) * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        fail("mmap");
    memory = (unsigned char *)(((uintptr_t)room + HUGE - 1) / HUGE * HUGE);
    if (madvise(memory, held * HUGE, MADV_HUGEPAGE) || (advise && madvise(memory, held * HUGE, MADV_MERGEABLE)))
        fail("madvise");
    for (uint64_t page = 0; page < pages; page++)
        page_fill(memory + page * PAGE, 1 + page);
    unsigned long kib = kib_in_huge_pages();
    hold(argv[2] + strlen(names[DIRECT]));
    for (unsigned i = 0; split && i < held; i++)
        if (mprotect(memory + i * HUGE + SPLIT_AT * PAGE, PAGE, PROT_READ))
            fail("mprotect");
    say("ready %lu", kib);

    static const struct {
        const char *name;
        uint64_t (*act)(void);
    } commands[] = {{"verify", verify}, {"through", through}, {"protect", protect}, {"fork", fork_and_verify}, {"unpin", unpin}};
    char line[64];
    while (next_command(line, sizeof line)) {
        size_t i = 0;
        while (i < sizeof commands / sizeof *commands && strcmp(line, commands[i].name))
            i++;
        if (i < sizeof commands / sizeof *commands)
            answer(commands[i].act());
        else
            say("unknown");
    }
    return 0;
}
