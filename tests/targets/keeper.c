/* A program that keeps whoever looks into it: from the command `trap` on, the lock of its address space is held for reading by a thread that waits for a page of a file system of its own (FUSE), which
 * nobody brings, and another thread waits for the lock to write. Whoever wants to read its mappings, its page tables or its memory then waits behind them.
 *
 *   keeper PAGES
 *
 * All programs with the same number of pages have the same pages. Commands: `trap`, `release` (all goes on), `verify`, `quit`.
 * It needs CAP_SYS_ADMIN for the mount, which lies in a mount namespace of its own.
 */
#include "fuse.h"
#include <pthread.h>

static unsigned char *memory;
static uint64_t pages;

/* What the program and the one that serves its files have in common. */
static struct shared {
    volatile int trapped, released, reads;
} *shared;

static void serve_read(int device, const struct fuse_in_header *in)
{
    static const char page[64] = "released";
    /* The first is refused, so that the fault is tried again with the lock held; that one is kept. */
    if (++shared->reads == 1) {
        fuse_reply(device, in->unique, EIO, "", 0);
        return;
    }

    /* Not for ever: whoever lists all processes waits too. */
    for (int left = 45000; left > 0 && !shared->released; left--)
        pause_ms(1);
    fuse_reply(device, in->unique, 0, page, sizeof page);
}

static void *touch(void *file)
{
    volatile char *page = file;
    while (!shared->trapped)
        pause_ms(1);
    (void)*page;
    return NULL;
}

static void *want_to_write(void *unused)
{
    (void)unused;
    while (shared->reads < 2)
        pause_ms(1);
    void *other = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (other != MAP_FAILED)
        munmap(other, PAGE);
    return NULL;
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    if (pthread_create(thread, NULL, run, argument))
        fail("pthread_create");
}

int main(int argc, char **argv)
{
    char line[64];
    pthread_t toucher, writer;
    if (argc < 2)
        return 2;
    pages = strtoul(argv[1], NULL, 10);
    memory = map_private(pages * PAGE);
    for (uint64_t page = 0; page < pages; page++)
        page_fill(memory + page * PAGE, 1 + page);
    /* All that needs the lock is done before. */
    int device = fuse_mount("keeper");
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    madvise(memory, pages * PAGE, MADV_DONTFORK);
    /* So that the program can be killed while it waits. */
    pid_t server = fork();
    if (server == 0)
        fuse_serve(device, &(struct fuse_file){.mode = 0444, .bytes = PAGE, .serve_read = serve_read});
    madvise(memory, pages * PAGE, MADV_DOFORK);
    close(device);
    int file = open("/mnt/page", O_RDONLY);
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
    if (mapped == MAP_FAILED)
        fail("the file");
    start(&toucher, touch, mapped);
    start(&writer, want_to_write, NULL);
    say("ready %lu", pages);
    while (next_command(line, sizeof line)) {
        if (!strcmp(line, "trap")) {
            shared->trapped = 1;
            while (shared->reads < 2)
                pause_ms(1);
            pause_ms(20);
            say("ok");
        } else if (!strcmp(line, "release")) {
            shared->released = 1;
            pthread_join(toucher, NULL);
            pthread_join(writer, NULL);
            say("ok");
        } else if (!strcmp(line, "verify")) {
            uint64_t bad = 0;
            for (uint64_t page = 0; page < pages; page++)
                bad += page_bad(memory + page * PAGE, 1 + page) != 0;
            if (bad)
                say("bad %lu", bad);
            else
                say("ok");
        } else {
            say("unknown");
        }
    }
    exit(0);
}
