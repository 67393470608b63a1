/* Memory of a kind of its own beside plain memory, both with content that every other such program has.
 *
 *   special KIND [late]      KIND: secret pkey seal dontdump dontfork wipe lock onfault name deny plain
 *
 * `secret` is memfd_secret(2), `pkey` has a protection key, `seal` is sealed by mseal(2), `onfault` is locked by MLOCK_ONFAULT, `name` has a name
 * (PR_SET_VMA_ANON_NAME), `deny` lets the whole program make no memory executable (PR_SET_MDWE). With `late` the memory is plain until `now`.
 * Prints `lacking` in place of `ready` where the kernel or the processor has no such thing.
 *
 * Commands: `now`, `verify` (every byte), `child` (a child that checks what it must see), `write` (other content, and back), `fill` (maps single pages
 * until the kernel refuses; prints how many, and keeps them), `room` (gives those back), `address` (of the memory of its kind), `quit`.
 */
#include "target.h"
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PLAIN 512UL
#define AREA 256UL
#define FILLED_MAX 100000

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65 /* Linux 6.3 */
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static unsigned char *plain, *area;
static const char *kind;
static void *filled[FILLED_MAX];
static size_t filled_count;

static void lacking(void)
{
    say("lacking %s: %s", kind, strerror(errno));
    exit(0);
}

static int is(const char *name)
{
    return !strcmp(kind, name);
}

/* Makes the memory what it is to be. */
static void mark(void)
{
    size_t bytes = AREA * PAGE;
    long result = 0;
    if (is("pkey")) {
        int key = pkey_alloc(0, 0);
        result = key < 0 ? -1 : pkey_mprotect(area, bytes, PROT_READ | PROT_WRITE, key);
    } else if (is("seal")) {
        result = syscall(462 /* mseal, Linux 6.10 */, area, bytes, 0);
    } else if (is("dontdump")) {
        result = madvise(area, bytes, MADV_DONTDUMP);
    } else if (is("dontfork")) {
        result = madvise(area, bytes, MADV_DONTFORK);
    } else if (is("wipe")) {
        result = madvise(area, bytes, MADV_WIPEONFORK);
    } else if (is("lock")) {
        result = mlock(area, bytes);
    } else if (is("onfault")) {
        result = mlock2(area, bytes, MLOCK_ONFAULT);
    } else if (is("name")) {
        result = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, area, bytes, "mine");
    } else if (is("deny")) {
        result = prctl(PR_SET_MDWE, 1, 0, 0, 0);
    }
    if (result)
        lacking();
}

static uint64_t bad_of(const unsigned char *memory, uint64_t pages, uint64_t first)
{
    uint64_t bad = 0;
    for (uint64_t page = 0; page < pages; page++)
        bad += page_bad(memory + page * PAGE, first ? first + page : 0) != 0;
    return bad;
}

static uint64_t verify(void)
{
    return bad_of(plain, PLAIN, 1) + bad_of(area, AREA, 5001);
}

static void fill(uint64_t first, uint64_t changed)
{
    for (uint64_t page = 0; page < PLAIN; page++)
        page_fill(plain + page * PAGE, first + page);
    for (uint64_t page = 0; page < AREA; page++)
        page_fill(area + page * PAGE, first + 5000 + page + changed);
}

/* What a child must see: the same, but zeros in what fork wipes, and nothing of what fork leaves out. */
static uint64_t child(int marked)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (marked && is("dontfork"))
            _exit(bad_of(plain, PLAIN, 1) || msync(area, PAGE, MS_ASYNC) == 0 || errno != ENOMEM);
        _exit(bad_of(plain, PLAIN, 1) || bad_of(area, AREA, marked && is("wipe") ? 0 : 5001));
    }
    int status = 1;
    waitpid(pid, &status, 0);
    return status != 0;
}

/* Single pages of memory that nothing can join, until there is room for no more mappings. */
static void map_many(void)
{
    while (filled_count < FILLED_MAX) {
        void *one = mmap(NULL, PAGE, filled_count % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (one == MAP_FAILED)
            break;
        filled[filled_count++] = one;
    }
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    kind = argv[1];
    int late = argc > 2 && !strcmp(argv[2], "late");
    plain = map_private(PLAIN * PAGE);
    if (is("secret")) {
        int secret = (int)syscall(SYS_memfd_secret, 0);
        area = secret < 0 || ftruncate(secret, AREA * PAGE) ? MAP_FAILED : mmap(NULL, AREA * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, secret, 0);
        if (area == MAP_FAILED)
            lacking();
    } else {
        area = map_private((AREA + 2) * PAGE) + PAGE; /* pages around it that are never touched */
        mprotect(area - PAGE, PAGE, PROT_NONE);
        mprotect(area + AREA * PAGE, PAGE, PROT_NONE);
    }
    fill(1, 0);
    if (!late)
        mark();
    say("ready");
    int marked = !late;
    char line[64];
    while (next_command(line, sizeof line)) {
        uint64_t bad = 0;
        if (!strcmp(line, "address")) {
            say("%lx %lx", (unsigned long)area, (unsigned long)(area + AREA * PAGE));
            continue;
        }
        if (!strcmp(line, "fill")) {
            map_many();
            say("%zu %s", filled_count, strerrorname_np(errno));
            continue;
        }
        if (!strcmp(line, "now")) {
            mark();
            marked = 1;
        } else if (!strcmp(line, "child")) {
            bad = child(marked);
        } else if (!strcmp(line, "write")) {
            fill(1, 777);
            fill(1, 0);
        } else if (!strcmp(line, "room")) {
            while (filled_count)
                munmap(filled[--filled_count], PAGE);
        }
        bad += verify();
        if (bad)
            say("bad %lu", bad);
        else
            say("ok");
    }
    return 0;
}
