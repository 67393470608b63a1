/* A program that keeps whoever looks into it: from the command `trap` on, the lock of its address space is held for reading by a thread that waits for a page of a file system of its own (FUSE), which
 * nobody brings, and another thread waits for the lock to write. Whoever wants to read its mappings, its page tables or its memory then waits behind them.
 *
 *   keeper PAGES
 *
 * All programs with the same number of pages have the same pages. Commands: `trap`, `release` (all goes on), `verify`, `quit`.
 * It needs CAP_SYS_ADMIN for the mount, which lies in a mount namespace of its own.
 */
#include "target.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

enum { FILE_NODE = 2 };

static unsigned char *memory;
static uint64_t pages;
static int device;

/* What the program and the one that serves its files have in common. */
static struct shared {
    volatile int trapped, released, reads;
} *shared;

static void reply(uint64_t unique, int error, const void *body, size_t bytes)
{
    struct {
        struct fuse_out_header header;
        char body[512];
    } out = {.header = {.len = (uint32_t)(sizeof out.header + bytes), .error = -error, .unique = unique}};
    memcpy(out.body, body, bytes);
    if (write(device, &out, out.header.len) < 0 && errno != ENOENT)
        fail("fuse reply");
}

static struct fuse_attr attributes(uint64_t node)
{
    struct fuse_attr attr = {.ino = node, .mode = node == FILE_NODE ? S_IFREG | 0444 : S_IFDIR | 0555, .nlink = 1, .size = node == FILE_NODE ? PAGE : 0, .blksize = PAGE};
    return attr;
}

static void serve_read(const struct fuse_in_header *in)
{
    static const char page[64] = "released";
    /* The first is refused, so that the fault is tried again with the lock held; that one is kept. */
    if (++shared->reads == 1) {
        reply(in->unique, EIO, "", 0);
        return;
    }

    /* Not for ever: whoever lists all processes waits too. */
    for (int left = 45000; left > 0 && !shared->released; left--)
        pause_ms(1);
    reply(in->unique, 0, page, sizeof page);
}

/* A process of its own, so that the program can be killed while it waits. */
__attribute__((noreturn)) static void serve(void)
{
    static char buffer[1 << 17];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        ssize_t got = read(device, buffer, sizeof buffer);
        if (got < 0 && (errno == EINTR || errno == ENOENT))
            continue;
        if (got < (ssize_t)sizeof(struct fuse_in_header))
            _exit(0);
        const struct fuse_in_header *in = (void *)buffer;
        if (in->opcode == FUSE_INIT) {
            const struct fuse_init_in *asked = (void *)(in + 1);
            struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = asked->minor, .max_readahead = 0, .max_write = PAGE};
            reply(in->unique, 0, &init, sizeof init);
        } else if (in->opcode == FUSE_LOOKUP) {
            struct fuse_entry_out entry = {.nodeid = FILE_NODE, .entry_valid = 3600, .attr_valid = 3600, .attr = attributes(FILE_NODE)};
            reply(in->unique, 0, &entry, sizeof entry);
        } else if (in->opcode == FUSE_GETATTR) {
            struct fuse_attr_out attr = {.attr_valid = 3600, .attr = attributes(in->nodeid)};
            reply(in->unique, 0, &attr, sizeof attr);
        } else if (in->opcode == FUSE_OPEN || in->opcode == FUSE_OPENDIR) {
            struct fuse_open_out opened = {.fh = 1, .open_flags = FOPEN_KEEP_CACHE};
            reply(in->unique, 0, &opened, sizeof opened);
        } else if (in->opcode == FUSE_READ) {
            serve_read(in);
        } else if (in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET && in->opcode != FUSE_INTERRUPT) {
            reply(in->unique, in->opcode == FUSE_FLUSH || in->opcode == FUSE_RELEASE || in->opcode == FUSE_RELEASEDIR ? 0 : ENOSYS, "", 0);
        }
    }
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
    char line[64], options[64];
    pthread_t toucher, writer;
    if (argc < 2)
        return 2;
    pages = strtoul(argv[1], NULL, 10);
    memory = map_private(pages * PAGE);
    for (uint64_t page = 0; page < pages; page++)
        page_fill(memory + page * PAGE, 1 + page);
    /* All that needs the lock is done before. */
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || (device = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0)
        fail("a mount namespace and /dev/fuse");
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    if (mount("keeper", "/mnt", "fuse", MS_NOSUID | MS_NODEV, options))
        fail("mount");
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    madvise(memory, pages * PAGE, MADV_DONTFORK);
    pid_t server = fork();
    if (server == 0)
        serve();
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
