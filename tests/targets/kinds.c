/* Memory of one kind, half of it in runs that every other such program has, the other half its own: what a merge splits into many mappings.
 *
 *   kinds KIND [MIB=4] [RUN=4]
 *
 * KIND: plain noreserve growsdown stack random sequential dontfork dontdump wipe mergeable huge nohuge locked onfault name pkey watched droppable sealed policy
 * readonly noaccess code executable (all of them written before they become so), guarded (one page of it), or `moved` (touched, then moved by mremap), `child` (touched, then inherited by fork), `arena` (malloc in a thread), `personality` (mapped before
 * READ_IMPLIES_EXEC was set). Prints `lacking` in place of `ready` where the kernel or the processor has no such thing.
 *
 *   kinds can KIND...        prints `can`, and those of the kinds that there are here
 *
 * Commands: `verify` (every byte), `write` (all that was common becomes its own, and then common again), `now WHAT` (the memory becomes of another kind as well, or `readonly`,
 * `noaccess`, `executable`, `code`, `emptied` (code, and all of it discarded), `accessible`),
 * `fork` (a child has the memory, all of it right, or none where fork does not copy it), `address`, `quit`; `now writing` begins a thread that waits nearly always in a write that has come half way.
 */
#include "target.h"
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define BLOCKS 640
#define BLOCK_PAGES 15UL

static unsigned char *memory, *blocks[BLOCKS];
static uint64_t parent; /* whose memory it is, in a child */
static uint64_t pages, run = 4, changed, guard = ~0UL; /* the page that nobody may touch */
static int hidden; /* nobody may touch the memory at the moment */
static int asked; /* it is only asked whether there is such memory */

static void lacking(const char *what)
{
    if (asked)
        _exit(1);
    say("lacking %s: %s", what, strerror(errno));
    exit(0);
}

static unsigned char *page_at(uint64_t page)
{
    if (!blocks[0])
        return memory + page * PAGE;
    return (unsigned char *)(((uintptr_t)blocks[page / BLOCK_PAGES] + PAGE - 1) & ~(PAGE - 1)) + page % BLOCK_PAGES * PAGE;
}

static uint64_t seed_of(uint64_t page)
{
    int own = blocks[0] ? page % BLOCK_PAGES % 4 >= 2 : page / run % 2;
    return own || changed ? (page + 1) ^ changed ^ (parent ? parent : (uint64_t)getpid()) << 32 : 1 + page;
}

static void fill(void)
{
    for (uint64_t page = 0; page < pages; page++)
        if (page != guard)
            page_fill(page_at(page), seed_of(page));
}

static uint64_t verify(void)
{
    uint64_t bad = 0;
    if (hidden && mprotect(memory, pages * PAGE, PROT_READ))
        fail("mprotect");
    for (uint64_t page = 0; page < pages; page++)
        bad += page != guard && page_bad(page_at(page), seed_of(page)) != 0;
    if (hidden && mprotect(memory, pages * PAGE, PROT_NONE))
        fail("mprotect");
    return bad;
}

/* Blocks that need more than a page each, so that none is given back to the kernel, and few enough for one heap of the arena. */
static void *allocate(void *unused)
{
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = malloc((BLOCK_PAGES + 1) * PAGE);
    return unused;
}

#define WRITE_BYTES (128 << 10) /* twice what a pipe holds */

static int ends[2];

static void *write_on(void *unused)
{
    static char bytes[WRITE_BYTES];
    /* A short count may come while it is given back (docs/limits.md): it writes the rest, as a program should. */
    for (;;) {
        for (ssize_t left = sizeof bytes, put; left > 0; left -= put)
            if ((put = write(ends[1], bytes, (size_t)left)) <= 0)
                fail("write");
        pause_ms(20);
    }
    return unused;
}

static void *read_on(void *unused)
{
    static char bytes[WRITE_BYTES];
    for (;;) {
        pause_ms(60);
        for (ssize_t left = sizeof bytes, got; left > 0; left -= got)
            if ((got = read(ends[0], bytes, (size_t)left)) <= 0)
                fail("read");
    }
    return unused;
}

/* Threads that can be held only for a moment now and then: one waits in a write. */
static int write_for_ever(void)
{
    pthread_t writer, reader;
    return pipe(ends) || pthread_create(&writer, NULL, write_on, NULL) || pthread_create(&reader, NULL, read_on, NULL) ? -1 : 0;
}

/* Makes the memory of a kind, as far as a call after its mapping does that. */
static int mark(const char *kind)
{
    size_t bytes = pages * PAGE;
    const struct { const char *name; int advice; } advised[] = {{"random", MADV_RANDOM}, {"sequential", MADV_SEQUENTIAL}, {"dontfork", MADV_DONTFORK},
        {"dontdump", MADV_DONTDUMP}, {"wipe", MADV_WIPEONFORK}, {"mergeable", MADV_MERGEABLE}, {"huge", MADV_HUGEPAGE}, {"nohuge", MADV_NOHUGEPAGE}};
    for (size_t i = 0; i < sizeof advised / sizeof *advised; i++)
        if (!strcmp(kind, advised[i].name))
            return madvise(memory, bytes, advised[i].advice);
    if (!strcmp(kind, "locked"))
        return mlock(memory, bytes);
    if (!strcmp(kind, "onfault"))
        return mlock2(memory, bytes, MLOCK_ONFAULT);
    if (!strcmp(kind, "sealed"))
        return (int)syscall(462 /* mseal, Linux 6.10 */, memory, bytes, 0);
    if (!strcmp(kind, "name"))
        return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, bytes, "mine");
    if (!strcmp(kind, "policy")) {
        unsigned long nodes = 1;
        return (int)syscall(SYS_mbind, memory, bytes, 2 /* MPOL_BIND */, &nodes, 8, 0);
    }
    if (!strcmp(kind, "guarded"))
        return madvise(page_at(guard = pages / 2), PAGE, 102 /* MADV_GUARD_INSTALL, Linux 6.13 */);
    if (!strcmp(kind, "unguarded")) {
        guard = ~0UL;
        if (madvise(page_at(pages / 2), PAGE, 103 /* MADV_GUARD_REMOVE */))
            return -1;
        page_fill(page_at(pages / 2), seed_of(pages / 2));
        return 0;
    }
    if (!strcmp(kind, "pkey")) {
        int key = pkey_alloc(0, 0);
        return key < 0 ? -1 : pkey_mprotect(memory, bytes, PROT_READ | PROT_WRITE, key);
    }
    if (!strcmp(kind, "readonly"))
        return mprotect(memory, bytes, PROT_READ);
    if (!strcmp(kind, "noaccess"))
        return hidden = 1, mprotect(memory, bytes, PROT_NONE);
    if (!strcmp(kind, "executable"))
        return mprotect(memory, bytes, PROT_READ | PROT_WRITE | PROT_EXEC);
    if (!strcmp(kind, "code"))
        return mprotect(memory, bytes, PROT_READ | PROT_EXEC);
    if (!strcmp(kind, "emptied"))
        return mprotect(memory, bytes, PROT_READ | PROT_EXEC) || madvise(memory, bytes, MADV_DONTNEED);
    if (!strcmp(kind, "accessible"))
        return hidden = 0, mprotect(memory, bytes, PROT_READ | PROT_WRITE);
    if (!strcmp(kind, "writing"))
        return write_for_ever();
    if (!strcmp(kind, "personality"))
        return personality(READ_IMPLIES_EXEC) < 0 ? -1 : 0;
    if (!strcmp(kind, "watched")) {
        int watch = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
        struct uffdio_api api = {.api = UFFD_API};
        struct uffdio_register range = {.range = {(uintptr_t)memory, bytes}, .mode = UFFDIO_REGISTER_MODE_MISSING};
        return watch < 0 || ioctl(watch, UFFDIO_API, &api) || ioctl(watch, UFFDIO_REGISTER, &range);
    }
    return 0;
}

/* A page on either side that the memory cannot join. */
static unsigned char *between_guards(int flags)
{
    unsigned char *whole = mmap(NULL, (pages + 2) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (whole == MAP_FAILED || mprotect(whole, PAGE, PROT_NONE) || mprotect(whole + (pages + 1) * PAGE, PAGE, PROT_NONE))
        lacking("mmap");
    if (madvise(whole + PAGE, pages * PAGE, MADV_NOHUGEPAGE))
        fail("madvise");
    return whole + PAGE;
}

/* Moves the memory, touched, to where it has not been. */
static void move(void)
{
    unsigned char *before = memory;
    fill();
    memory = mremap(before, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, between_guards(0));
    if (memory == MAP_FAILED)
        fail("mremap");
}

/* Goes on as a child that inherits the memory; the parent waits, and ends as it does. */
static void become_child(void)
{
    fill();
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child > 0) {
        int status;
        while (waitpid(child, &status, 0) != child)
            ;
        exit(WIFEXITED(status) ? WEXITSTATUS(status) : 98);
    }
    prctl(PR_SET_PDEATHSIG, 9);
}

/* Makes memory of a kind, and fills it. */
static void make(const char *kind)
{
    if (!strcmp(kind, "arena")) {
        pthread_t thread;
        pages = BLOCKS * BLOCK_PAGES;
        pthread_create(&thread, NULL, allocate, NULL);
        pthread_join(thread, NULL);
        memory = page_at(0);
    } else {
        memory = between_guards(!strcmp(kind, "noreserve") ? MAP_NORESERVE : !strcmp(kind, "growsdown") ? MAP_GROWSDOWN : !strcmp(kind, "stack") ? MAP_STACK :
            !strcmp(kind, "droppable") ? 0x08 /* MAP_DROPPABLE, Linux 6.11 */ : 0);
    }
    if (!strcmp(kind, "moved"))
        move();
    if (!strcmp(kind, "child"))
        become_child();
    int before = !strcmp(kind, "watched") || !strcmp(kind, "readonly") || !strcmp(kind, "noaccess") || !strcmp(kind, "code") || !strcmp(kind, "executable");
    if (before)
        fill(); /* it could not afterwards */
    if (mark(kind))
        lacking(kind);
    if (!before || !strcmp(kind, "watched"))
        fill();
}

/* What a child has of the memory. */
static const char *look_in_child(int copied)
{
    int status, ends[2];
    if (pipe(ends))
        fail("pipe");
    uint64_t own = (uint64_t)getpid();
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        uint64_t there = 0;
        for (uint64_t page = 0; page < pages && !copied; page++)
            there += write(ends[1], page_at(page), 1) == 1 && read(ends[0], &status, 1) == 1;
        parent = own;
        _exit(copied ? verify() != 0 : there != 0);
    }
    close(ends[0]);
    close(ends[1]);
    while (waitpid(child, &status, 0) != child)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "ok" : "bad";
}

/* Says which of some kinds there are here: each is made by a child of its own. */
static int tell(char **kinds)
{
    char there[1024] = "can";
    for (; *kinds; kinds++) {
        int status;
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0) {
            asked = 1;
            make(*kinds);
            _exit(0);
        }
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) > 1)
            fail(*kinds);
        if (WEXITSTATUS(status) == 0 && strlen(there) + strlen(*kinds) + 2 < sizeof there)
            strcat(strcat(there, " "), *kinds);
    }
    say("%s", there);
    return 0;
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "plain";
    pages = 4 * 256;
    if (!strcmp(kind, "can"))
        return tell(argv + 2);
    if (argc > 2)
        pages = strtoul(argv[2], NULL, 10) * 256;
    if (argc > 3)
        run = strtoul(argv[3], NULL, 10);
    make(kind);
    say("ready %d", getpid());

    char line[64];
    while (next_command(line, sizeof line)) {
        if (!strcmp(line, "verify")) {
            uint64_t bad = verify();
            if (bad)
                say("bad %lu", bad);
            else
                say("ok");
        } else if (!strcmp(line, "write")) {
            changed = 0x5a5a0000;
            fill();
            uint64_t bad = verify();
            changed = 0;
            fill();
            say(bad ? "bad" : "ok");
        } else if (!strncmp(line, "now ", 4)) {
            say(mark(line + 4) ? "lacking %s" : "ok", strerror(errno));
        } else if (!strcmp(line, "fork")) {
            say("%s", look_in_child(strcmp(kind, "dontfork") != 0));
        } else if (!strcmp(line, "address")) {
            say("%lx %lx", (unsigned long)memory, (unsigned long)(memory + pages * PAGE));
        } else {
            say("unknown");
        }
    }
    return 0;
}
