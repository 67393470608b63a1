/* Threads that do at random everything a program may do to its memory, and know what each byte must be.
 *
 *   storm OP SECONDS [THREADS=4] [SEED=1]      OP: write dontneed mprotect remap fixed fork siege
 *
 * `siege` is all of these at once, and besides: discards by MADV_FREE, advice (MADV_MERGEABLE, MADV_UNMERGEABLE), huge pages that are
 * asked for, made and split, memory that grows and stays grown, writes of another process (process_vm_writev), pages lent to a pipe
 * (vmsplice), grandchildren, and direct I/O where STORM_FILE names a file for it.
 *
 * Each thread owns GROUPS groups of GROUP pages. It works on one group in bursts for some hundred milliseconds, then
 * goes on to another, so that at any moment most groups are quiet and may be merged, and the next burst meets merged
 * pages. Content comes out of few patterns, the same in every group, so that nearly every quiet page is a duplicate.
 *
 * Pages on which all threads count (atomic additions, each thread its own word) show lost updates; a region that
 * nobody writes shows damage from elsewhere.
 *
 * Runs for SECONDS (0: until `quit` or the end of input). `report` prints the counts so far.
 *   bad      bytes that differed, faults that should not or should have happened, children that found either
 *   refused  mremap over several areas answered EFAULT, which a split area explains
 *   intruded somebody mapped memory into a hole of ours between munmap and mmap
 *   stall    microseconds: the longest time for which a thread that only looks at the clock was not let run
 *   madvise, fork, write   what one such call, or a first write to a quiet page, took: median, 99th of a hundred, longest; microseconds
 */
#include "target.h"
#include <pthread.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define GROUPS 32
#define GROUP 32
#define PATTERNS 6
#define THREADS_MAX 16
#define COUNTED 64
#define QUIET 4096
#define BIG 512 /* pages of a huge page */
#define KINDS 12
#define BUCKETS 160

enum {
    WRITE = 1, DONTNEED = 2, MPROTECT = 4, REMAP = 8, FIXED = 16, FORK = 32, FREE = 64, ADVISE = 128, HUGE = 256, REMOTE = 512, LEND = 1024,
    DIRECT = 2048
};

/* Times by size: a bucket is a fifth of an octave of microseconds. */
struct times {
    atomic_ulong bucket[BUCKETS], longest;
};

static struct times took_madvise, took_fork, took_write, stalled;

struct page_model {
    uint64_t seed;
    uint64_t poke_value; /* 0: not poked */
    uint16_t poke_word;
};

struct worker {
    pthread_t thread;
    unsigned index;
    uint64_t random;
    unsigned char *arena, *away;
    struct page_model model[GROUPS * GROUP];
    unsigned char *big;
    uint64_t big_seed[BIG];
    unsigned char *grown; /* twice GROUP pages, the upper half never written */
    int lent[2];          /* a pipe */
    int file;             /* for direct I/O; -1 where there is none */
    uint64_t counted;
    atomic_ulong ops, bad, refused, intruded;
};

static struct worker *workers;
static unsigned char *quiet, *counted;
static unsigned thread_count = 4, ops_allowed;
static atomic_int stopping;
/* Held while this program has a hole where it will map again: its own threads must not map into it. */
static pthread_mutex_t holes = PTHREAD_MUTEX_INITIALIZER;

static __thread sigjmp_buf on_fault;
static __thread volatile sig_atomic_t fault_expected;

static void faulted(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (fault_expected) {
        fault_expected = 0;
        siglongjmp(on_fault, 1);
    }
    char text[120];
    int length = snprintf(text, sizeof text, "signal %d at %p, code %d\n", signal, info->si_addr, info->si_code);
    if (write(2, text, (size_t)length) < 0)
        _exit(98);
    _exit(99);
}

static uint64_t draw(struct worker *me, uint64_t below)
{
    me->random ^= me->random << 13;
    me->random ^= me->random >> 7;
    me->random ^= me->random << 17;
    return (me->random >> 11) % below;
}

static void note(struct times *times, double seconds)
{
    unsigned long microseconds = seconds <= 0 ? 0 : (unsigned long)(seconds * 1e6), bucket = 0;
    for (double size = 1; size < (double)microseconds && bucket < BUCKETS - 1; size *= 1.1486984)
        bucket++;
    atomic_fetch_add(&times->bucket[bucket], 1);
    unsigned long longest = atomic_load(&times->longest);
    while (microseconds > longest && !atomic_compare_exchange_weak(&times->longest, &longest, microseconds))
        ;
}

/* The size below which so many of a thousand are. */
static unsigned long quantile(struct times *times, unsigned thousandths)
{
    unsigned long all = 0, sum = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        all += atomic_load(&times->bucket[i]);
    double size = 1;
    for (unsigned i = 0; i < BUCKETS; i++, size *= 1.1486984) {
        sum += atomic_load(&times->bucket[i]);
        if (sum * 1000 >= all * thousandths)
            break;
    }
    return (unsigned long)size < atomic_load(&times->longest) ? (unsigned long)size : atomic_load(&times->longest);
}

static void complain(struct worker *me, const char *after, uint64_t page, const void *where, uint64_t words)
{
    if (atomic_fetch_add(&me->bad, 1) < 5)
        fprintf(stderr, "storm %d thread %u after %s: page %lu at %p: %lu words differ\n", getpid(), me->index, after, page, where, words);
}

static uint64_t expected_word(const struct page_model *model, uint64_t w)
{
    return model->poke_value && w == model->poke_word ? model->poke_value : word_of(model->seed, w);
}

static void check_at(struct worker *me, const char *after, uint64_t page, const unsigned char *where)
{
    const volatile uint64_t *words = (const volatile uint64_t *)where;
    uint64_t bad = 0;
    for (uint64_t w = 0; w < WORDS; w++)
        bad += words[w] != expected_word(&me->model[page], w);
    if (bad) {
        complain(me, after, page, where, bad);
        for (uint64_t w = 0; w < WORDS; w++)
            if (words[w] != expected_word(&me->model[page], w)) {
                fprintf(stderr, "  word %lu is %lx, must be %lx (content %lx)\n", w, words[w], expected_word(&me->model[page], w), me->model[page].seed);
                break;
            }
    }
}

static unsigned char *at(struct worker *me, uint64_t page)
{
    return me->arena + page * PAGE;
}

static void check(struct worker *me, const char *after, uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++)
        check_at(me, after, page, at(me, page));
}

static void set(struct worker *me, uint64_t first, uint64_t count, uint64_t pattern)
{
    for (uint64_t page = first; page < first + count; page++)
        me->model[page] = (struct page_model){pattern ? pattern * 1000 + page % GROUP : 0, 0, 0};
}

static void fill(struct worker *me, uint64_t first, uint64_t count)
{
    set(me, first, count, 1 + draw(me, PATTERNS));
    for (uint64_t page = first; page < first + count; page++)
        page_fill(at(me, page), me->model[page].seed);
}

/* One word of the page; the rest must stay. */
static void poke(struct worker *me, uint64_t page)
{
    struct page_model *model = &me->model[page];
    if (model->poke_value && model->poke_word < WORDS)
        *(volatile uint64_t *)(at(me, page) + model->poke_word * 8UL) = word_of(model->seed, model->poke_word);
    model->poke_word = (uint16_t)draw(me, WORDS);
    model->poke_value = draw(me, UINT64_MAX) | 1;
    *(volatile uint64_t *)(at(me, page) + model->poke_word * 8UL) = model->poke_value;
}

/* Every counting page gets the same additions, so that the pages are duplicates again when the burst is over. */
static void count_up(struct worker *me)
{
    uint64_t start = draw(me, COUNTED);
    me->counted++;
    for (uint64_t i = 0; i < COUNTED; i++) {
        atomic_ulong *word = (atomic_ulong *)(counted + (start + i) % COUNTED * PAGE) + me->index;
        if (atomic_fetch_add(word, 1) + 1 != me->counted)
            complain(me, "count", (start + i) % COUNTED, (void *)word, 1);
    }
}

static int faults(unsigned char *address, int writing)
{
    if (sigsetjmp(on_fault, 1))
        return 1;
    fault_expected = 1;
    if (writing)
        *(volatile unsigned char *)address = 0xee;
    else
        (void)*(volatile unsigned char *)address;
    fault_expected = 0;
    return 0;
}

static void protect(struct worker *me, uint64_t first, uint64_t count)
{
    size_t bytes = count * PAGE;
    int none = draw(me, 3) == 0;
    if (mprotect(at(me, first), bytes, none ? PROT_NONE : PROT_READ))
        fail("mprotect");
    if (!none)
        check(me, "mprotect", first, count);
    if (draw(me, 2))
        pause_ms((long)draw(me, 30));
    for (uint64_t page = first; page < first + count; page++)
        if (!faults(at(me, page) + draw(me, PAGE), !none))
            complain(me, none ? "a read of PROT_NONE that did not fault" : "a write to PROT_READ that did not fault", page, at(me, page), 0);
    if (!none)
        check(me, "a refused write", first, count);
    if (mprotect(at(me, first), bytes, PROT_READ | PROT_WRITE))
        fail("mprotect back");
    check(me, "mprotect back", first, count);
}

static void map_over(struct worker *me, uint64_t first, uint64_t count, int flags)
{
    if (mmap(at(me, first), count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0) == MAP_FAILED)
        fail("mmap over");
    madvise(at(me, first), count * PAGE, MADV_NOHUGEPAGE);
}

static void unmap_and_map(struct worker *me, uint64_t first, uint64_t count)
{
    pthread_mutex_lock(&holes);
    if (munmap(at(me, first), count * PAGE))
        fail("munmap");
    if (mmap(at(me, first), count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED) {
        if (errno != EEXIST)
            fail("mmap again");
        atomic_fetch_add(&me->intruded, 1);
        map_over(me, first, count, MAP_FIXED);
    }
    madvise(at(me, first), count * PAGE, MADV_NOHUGEPAGE);
    pthread_mutex_unlock(&holes);
    set(me, first, count, 0);
    check(me, "munmap and mmap", first, count);
}

/* Moves pages; where the range is several areas by now and the kernel refuses, page by page. */
static void move(struct worker *me, unsigned char *from, unsigned char *to, uint64_t count)
{
    if (mremap(from, count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED)
        return;
    if (errno != EFAULT || count == 1)
        fail("mremap");
    atomic_fetch_add(&me->refused, 1);
    for (uint64_t i = 0; i < count; i++) /* EFAULT here: this page went before the call was refused */
        if (mremap(from + i * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + i * PAGE) == MAP_FAILED && errno != EFAULT)
            fail("mremap of one page");
}

static void away_and_back(struct worker *me, uint64_t first, uint64_t count)
{
    pthread_mutex_lock(&holes);
    move(me, at(me, first), me->away, count);
    for (uint64_t i = 0; i < count; i++)
        check_at(me, "mremap away", first + i, me->away + i * PAGE);
    uint64_t touched = draw(me, count);
    me->model[first + touched] = (struct page_model){1000 + (first + touched) % GROUP, 0, 0};
    page_fill(me->away + touched * PAGE, me->model[first + touched].seed);
    move(me, me->away, at(me, first), count);
    if (mmap(me->away, GROUP * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        fail("mmap of the place away");
    pthread_mutex_unlock(&holes);
    check(me, "mremap back", first, count);
}

static void grow(struct worker *me, uint64_t first, uint64_t count)
{
    pthread_mutex_lock(&holes);
    unsigned char *grown = mremap(at(me, first), count * PAGE, 2 * count * PAGE, MREMAP_MAYMOVE);
    if (grown == MAP_FAILED) {
        if (errno != EFAULT)
            fail("mremap to grow");
        atomic_fetch_add(&me->refused, 1);
    } else {
        for (uint64_t i = 0; i < count; i++)
            check_at(me, "mremap to grow", first + i, grown + i * PAGE);
        for (uint64_t i = count; i < 2 * count; i++)
            if (page_bad(grown + i * PAGE, 0))
                complain(me, "mremap to grow: new page", i, grown + i * PAGE, 0);
        if (munmap(grown + count * PAGE, count * PAGE))
            fail("munmap of the tail");
        if (grown != at(me, first))
            move(me, grown, at(me, first), count);
    }
    pthread_mutex_unlock(&holes);
    check(me, "growing", first, count);
}

static void discard(struct worker *me, uint64_t first, uint64_t count)
{
    double before = seconds_now();
    if (madvise(at(me, first), count * PAGE, MADV_DONTNEED))
        fail("madvise");
    note(&took_madvise, seconds_now() - before);
    set(me, first, count, 0);
    if (draw(me, 2))
        check(me, "MADV_DONTNEED", first, count);
    if (draw(me, 2))
        poke(me, first + draw(me, count));
    check(me, "MADV_DONTNEED and a write", first, count);
}

static void child(struct worker *me, int lingers)
{
    atomic_store(&me->bad, 0);
    check(me, "fork, in the child", 0, GROUPS * GROUP);
    for (int i = 0; i < 8; i++) {
        uint64_t first = draw(me, GROUPS) * GROUP;
        fill(me, first, 4);
        discard(me, first + 8, 4);
        poke(me, first + 16);
    }
    if (lingers)
        pause_ms(400);
    if (ops_allowed & HUGE) { /* a grandchild, which may outlive us; what it finds it says by a byte */
        int found[2];
        if (pipe(found))
            _exit(1);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            check(me, "fork, in the grandchild", 0, GROUPS * GROUP);
            discard(me, draw(me, GROUPS) * GROUP, 4);
            check(me, "fork, in the grandchild after a discard", 0, GROUPS * GROUP);
            char bad = atomic_load(&me->bad) != 0;
            _exit(write(found[1], &bad, 1) != 1);
        }
        char bad = 1;
        if (grandchild == -1 || read(found[0], &bad, 1) != 1 || bad)
            atomic_fetch_add(&me->bad, 1);
    }
    check(me, "fork, in the child after its writes", 0, GROUPS * GROUP);
    _exit(atomic_load(&me->bad) ? 1 : 0);
}

static void fork_and_check(struct worker *me, uint64_t first, uint64_t count)
{
    if (draw(me, 4) == 0) {
        pid_t spawned = vfork();
        if (spawned == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(127);
        }
        int status = 0;
        while (waitpid(spawned, &status, 0) == -1 && errno == EINTR)
            ;
        if (status)
            complain(me, "vfork and exec: status", 0, NULL, (uint64_t)status);
        return;
    }
    pthread_mutex_lock(&holes); /* the child needs no lock, but its memory must have no hole */
    double before = seconds_now();
    pid_t forked = fork();
    if (forked > 0)
        note(&took_fork, seconds_now() - before);
    if (forked == 0)
        child(me, draw(me, 4) == 0);
    pthread_mutex_unlock(&holes);
    if (forked == -1)
        fail("fork");
    fill(me, first, count);
    poke(me, first);
    check(me, "fork, in the parent", 0, GROUPS * GROUP);
    int status = 0;
    while (waitpid(forked, &status, 0) == -1 && errno == EINTR)
        ;
    if (status)
        complain(me, "a child that found damage or died: status", 0, NULL, (uint64_t)status);
}

/* MADV_FREE gives pages up that were not written since, at any time or never: each reads as it was, or as zeros, until it is written. */
static void give_up(struct worker *me, uint64_t first, uint64_t count)
{
    if (madvise(at(me, first), count * PAGE, MADV_FREE) && errno != EINVAL)
        fail("MADV_FREE");
    for (uint64_t page = first; page < first + count; page++) {
        uint64_t word = WORDS - 1;
        if (me->model[page].poke_value && me->model[page].poke_word == word)
            word--;
        if (*(volatile uint64_t *)(at(me, page) + word * 8) != word_of(me->model[page].seed, word) && page_bad(at(me, page), 0))
            complain(me, "MADV_FREE", page, at(me, page), 0);
    }
    fill(me, first, count);
}

static void advise(struct worker *me, uint64_t first, uint64_t count)
{
    double before = seconds_now();
    if (madvise(at(me, first), count * PAGE, draw(me, 2) ? MADV_MERGEABLE : MADV_UNMERGEABLE) && errno != EINVAL)
        fail("MADV_MERGEABLE");
    note(&took_madvise, seconds_now() - before);
    check(me, "advice", first, count);
}

static void check_big(struct worker *me, const char *after)
{
    for (uint64_t page = 0; page < BIG; page++)
        if (page_bad(me->big + page * PAGE, me->big_seed[page]))
            complain(me, after, page, me->big + page * PAGE, 0);
}

static void huge(struct worker *me)
{
    switch (draw(me, 5)) {
    case 0: /* from nothing: most likely a huge page */
        if (madvise(me->big, BIG * PAGE, MADV_DONTNEED) || madvise(me->big, BIG * PAGE, MADV_HUGEPAGE))
            fail("MADV_HUGEPAGE");
        for (uint64_t page = 0; page < BIG; page++)
            page_fill(me->big + page * PAGE, me->big_seed[page] = 5000 + page % 64);
        break;
    case 1: /* of what is there: ours, or a mapping of somebody's */
        if (madvise(me->big, BIG * PAGE, MADV_HUGEPAGE))
            fail("MADV_HUGEPAGE");
        madvise(me->big, BIG * PAGE, 25 /* MADV_COLLAPSE: refused for many a reason */);
        break;
    case 2:
        if (madvise(me->big, BIG * PAGE, MADV_NOHUGEPAGE))
            fail("MADV_NOHUGEPAGE");
        break;
    case 3: { /* splits it */
        uint64_t page = draw(me, BIG);
        me->big_seed[page] = 0;
        if (madvise(me->big + page * PAGE, PAGE, MADV_DONTNEED))
            fail("MADV_DONTNEED in a huge page");
        break;
    }
    default: {
        uint64_t page = draw(me, BIG);
        page_fill(me->big + page * PAGE, me->big_seed[page] = 5000 + draw(me, 64));
        break;
    }
    }
    check_big(me, "huge pages");
}

/* Memory that has grown: what came with it is zero, for as long as nobody writes it. */
static void grow_and_stay(struct worker *me)
{
    for (uint64_t page = 0; me->grown && page < 2 * GROUP; page++)
        if (page_bad(me->grown + page * PAGE, page < GROUP ? 6000 + page : 0))
            complain(me, "memory that has grown", page, me->grown + page * PAGE, 0);
    if (draw(me, 8))
        return;
    pthread_mutex_lock(&holes);
    if (me->grown && munmap(me->grown, 2 * GROUP * PAGE))
        fail("munmap of what has grown");
    me->grown = NULL;
    unsigned char *memory = mmap(NULL, GROUP * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    for (uint64_t page = 0; page < GROUP; page++)
        page_fill(memory + page * PAGE, 6000 + page);
    pthread_mutex_unlock(&holes);
    pause_ms((long)draw(me, 800)); /* it may be merged meanwhile */
    pthread_mutex_lock(&holes);
    me->grown = mremap(memory, GROUP * PAGE, 2 * GROUP * PAGE, MREMAP_MAYMOVE);
    if (me->grown == MAP_FAILED) {
        if (errno != EFAULT)
            fail("mremap to grow");
        atomic_fetch_add(&me->refused, 1);
        me->grown = NULL;
        munmap(memory, GROUP * PAGE);
    }
    pthread_mutex_unlock(&holes);
}

/* Another process, which writes into our memory when told to. */
struct errand {
    unsigned char *to;
    uint64_t seed;
};

static int errands[2], errands_done[2];
static pthread_mutex_t errand_lock = PTHREAD_MUTEX_INITIALIZER;

static void run_errands(pid_t whose)
{
    struct errand errand;
    unsigned char page[PAGE];
    close(errands[1]); /* or its end would never be seen here */
    close(errands_done[0]);
    while (read(errands[0], &errand, sizeof errand) == sizeof errand) {
        page_fill(page, errand.seed);
        struct iovec from = {page, PAGE}, to = {errand.to, PAGE};
        char done = process_vm_writev(whose, &from, 1, &to, 1, 0) == (ssize_t)PAGE;
        if (write(errands_done[1], &done, 1) != 1)
            break;
    }
    _exit(0);
}

static void remote(struct worker *me, uint64_t first, uint64_t count)
{
    uint64_t pattern = 1 + draw(me, PATTERNS);
    for (uint64_t page = first; page < first + count; page++) {
        struct errand errand = {at(me, page), pattern * 1000 + page % GROUP};
        char done = 0;
        pthread_mutex_lock(&errand_lock);
        if (write(errands[1], &errand, sizeof errand) != sizeof errand || read(errands_done[0], &done, 1) != 1)
            fail("the errand runner");
        pthread_mutex_unlock(&errand_lock);
        if (!done)
            complain(me, "process_vm_writev that was refused", page, at(me, page), 0);
        me->model[page] = (struct page_model){errand.seed, 0, 0};
    }
    check(me, "process_vm_writev", first, count);
}

/* Pages lent to a pipe stay as they are until the pipe has been read: vmsplice(2). */
static void lend(struct worker *me, uint64_t first, uint64_t count)
{
    unsigned char page[PAGE];
    if (count > 8)
        count = 8;
    struct iovec pages = {at(me, first), count * PAGE};
    if (vmsplice(me->lent[1], &pages, 1, 0) != (ssize_t)(count * PAGE))
        fail("vmsplice");
    pause_ms((long)draw(me, 60));
    for (uint64_t i = 0; i < count; i++) {
        if (read(me->lent[0], page, PAGE) != (ssize_t)PAGE)
            fail("read of what was lent");
        check_at(me, "vmsplice", first + i, page);
    }
    check(me, "vmsplice, what was lent", first, count);
}

/* Page p of the file has content 900000 + p. */
static void direct(struct worker *me, uint64_t first, uint64_t count)
{
    uint64_t from = draw(me, BIG - GROUP);
    if (me->file < 0)
        return;
    if (pread(me->file, at(me, first), count * PAGE, (off_t)(from * PAGE)) != (ssize_t)(count * PAGE))
        fail("pread with O_DIRECT");
    for (uint64_t i = 0; i < count; i++)
        me->model[first + i] = (struct page_model){900000 + from + i, 0, 0};
    check(me, "direct I/O", first, count);
}

static void make_file(const char *path)
{
    unsigned char page[PAGE];
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (uint64_t i = 0; i < BIG; i++) {
        page_fill(page, 900000 + i);
        if (write(fd, page, PAGE) != (ssize_t)PAGE)
            fail("write of the file");
    }
    fsync(fd);
    close(fd);
}

static void step(struct worker *me, uint64_t group)
{
    uint64_t first = group * GROUP + draw(me, GROUP), count = 1 + draw(me, GROUP * (group + 1) - first);
    unsigned kind = 1U << draw(me, KINDS);
    /* Forks come in bouts, a second on and a second off: memory just forked is shared with the child, and cannot be merged. */
    if (!(kind & ops_allowed) || (kind == FORK && ((long)seconds_now() % 2 || draw(me, 4))))
        kind = WRITE;
    switch (kind) {
    case DONTNEED: discard(me, first, count); break;
    case MPROTECT: protect(me, first, count); break;
    case REMAP:
        switch (draw(me, 3)) {
        case 0: unmap_and_map(me, first, count); break;
        case 1: away_and_back(me, first, count); break;
        default: grow(me, first, count); break;
        }
        break;
    case FIXED:
        map_over(me, first, count, MAP_FIXED);
        set(me, first, count, 0);
        check(me, "mmap over", first, count);
        break;
    case FORK: fork_and_check(me, first, count); break;
    case FREE: give_up(me, first, count); break;
    case ADVISE: advise(me, first, count); break;
    case HUGE: draw(me, 2) ? huge(me) : grow_and_stay(me); break;
    case REMOTE: remote(me, first, count); break;
    case LEND: lend(me, first, count); break;
    case DIRECT: direct(me, first, count); break;
    default:
        switch (draw(me, 4)) {
        case 0: poke(me, first); break;
        case 1: count_up(me); break;
        default: fill(me, first, count); break;
        }
        check(me, "a write", first, count);
        break;
    }
    atomic_fetch_add(&me->ops, 1);
}

static void *work(void *argument)
{
    struct worker *me = argument;
    while (!atomic_load(&stopping)) {
        uint64_t group = draw(me, GROUPS);
        check(me, "a quiet time", group * GROUP, GROUP);
        double before = seconds_now();
        poke(me, group * GROUP + draw(me, GROUP));
        note(&took_write, seconds_now() - before);
        double until = seconds_now() + 0.02 + (double)draw(me, 60) / 1000;
        while (seconds_now() < until && !atomic_load(&stopping)) {
            for (int i = 0; i < 4; i++)
                step(me, group);
            pause_ms((long)draw(me, 3));
        }
        if (draw(me, 2)) /* leave it whole, so that runs of duplicates come about */
            fill(me, group * GROUP, GROUP);
        uint64_t other = draw(me, GROUPS);
        check(me, "a quiet time elsewhere", other * GROUP, GROUP);
        uint64_t still = draw(me, QUIET);
        if (page_bad(quiet + still * PAGE, 1 + still % 64))
            complain(me, "nothing: the quiet region", still, quiet + still * PAGE, 0);
        pause_ms((long)draw(me, 20));
    }
    check(me, "all", 0, GROUPS * GROUP);
    check_big(me, "all: huge pages");
    return NULL;
}

/* Looks at the clock all the time, and sees for how long it did not. It sleeps now and then: a thread that never does is put last. */
static void *look_at_the_clock(void *unused)
{
    (void)unused;
    double last = seconds_now();
    for (unsigned long i = 0; !atomic_load(&stopping); i++) {
        double now = seconds_now();
        if (now - last > 0.0005)
            note(&stalled, now - last);
        last = now;
        if (i % 64 == 0) {
            struct timespec rest = {0, 300000};
            nanosleep(&rest, NULL);
        }
    }
    return NULL;
}

static void report(const char *head)
{
    unsigned long sums[4] = {0};
    for (unsigned i = 0; i < thread_count; i++) {
        sums[0] += atomic_load(&workers[i].ops);
        sums[1] += atomic_load(&workers[i].bad);
        sums[2] += atomic_load(&workers[i].refused);
        sums[3] += atomic_load(&workers[i].intruded);
    }
    struct times *times[] = {&took_madvise, &took_fork, &took_write};
    unsigned long figures[3][3];
    for (int i = 0; i < 3; i++) {
        figures[i][0] = quantile(times[i], 500);
        figures[i][1] = quantile(times[i], 990);
        figures[i][2] = atomic_load(&times[i]->longest);
    }
    say("%s ops %lu bad %lu refused %lu intruded %lu stall %lu madvise %lu %lu %lu fork %lu %lu %lu write %lu %lu %lu", head, sums[0], sums[1], sums[2],
        sums[3], atomic_load(&stalled.longest), figures[0][0], figures[0][1], figures[0][2], figures[1][0], figures[1][1], figures[1][2],
        figures[2][0], figures[2][1], figures[2][2]);
}

static double deadline;

static void *listen_for_commands(void *unused)
{
    char line[64];
    (void)unused;
    while (next_command(line, sizeof line))
        report("so far");
    atomic_store(&stopping, 1);
    return NULL;
}

static unsigned ops_named(const char *name)
{
    static const struct { const char *name; unsigned ops; } mixes[] = {
        {"write", WRITE}, {"dontneed", WRITE | DONTNEED}, {"mprotect", WRITE | MPROTECT}, {"remap", WRITE | REMAP},
        {"fixed", WRITE | FIXED}, {"fork", WRITE | FORK}, {"all", WRITE | DONTNEED | MPROTECT | REMAP | FIXED | FORK},
        {"siege", (1U << KINDS) - 1},
    };
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++)
        if (!strcmp(mixes[i].name, name))
            return mixes[i].ops;
    fprintf(stderr, "storm: no such operation: %s\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    ops_allowed = ops_named(argv[1]);
    double seconds = strtod(argv[2], NULL);
    thread_count = argc > 3 ? (unsigned)atoi(argv[3]) : 4;
    uint64_t seed = argc > 4 ? strtoul(argv[4], NULL, 10) : 1;
    if (thread_count < 1 || thread_count > THREADS_MAX)
        return 2;

    struct sigaction action = {.sa_sigaction = faulted, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);

    pid_t whole = getpid();
    if (pipe(errands) || pipe(errands_done))
        fail("pipe");
    if (ops_allowed & REMOTE && fork() == 0)
        run_errands(whole);
    const char *path = getenv("STORM_FILE");
    if (ops_allowed & DIRECT && path)
        make_file(path);
    workers = map_private((sizeof *workers * thread_count + PAGE - 1) / PAGE * PAGE);
    counted = map_private(COUNTED * PAGE);
    quiet = map_private(QUIET * PAGE);
    memset(counted, 0, COUNTED * PAGE);
    for (uint64_t page = 0; page < QUIET; page++)
        page_fill(quiet + page * PAGE, 1 + page % 64);
    for (unsigned i = 0; i < thread_count; i++) {
        struct worker *worker = &workers[i];
        worker->index = i;
        worker->random = mix(seed * 100 + i + 1) | 1;
        worker->arena = map_private(GROUPS * GROUP * PAGE);
        worker->away = mmap(NULL, GROUP * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        for (uint64_t group = 0; group < GROUPS; group++)
            fill(worker, group * GROUP, GROUP);
        worker->file = path ? open(path, O_RDONLY | O_DIRECT) : -1;
        if (pipe(worker->lent))
            fail("pipe");
        unsigned char *room = mmap(NULL, 2 * BIG * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        worker->big = (unsigned char *)(((uintptr_t)room + BIG * PAGE - 1) / (BIG * PAGE) * (BIG * PAGE));
        for (uint64_t page = 0; page < BIG; page++)
            page_fill(worker->big + page * PAGE, worker->big_seed[page] = 5000 + page % 64);
    }
    for (unsigned i = 0; i < thread_count; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            fail("pthread_create");
    pthread_t listener, clock;
    if (pthread_create(&listener, NULL, listen_for_commands, NULL) || pthread_create(&clock, NULL, look_at_the_clock, NULL))
        fail("pthread_create");
    deadline = seconds > 0 ? seconds_now() + seconds : 1e18;
    say("ready");

    while (!atomic_load(&stopping) && seconds_now() < deadline)
        pause_ms(20);
    atomic_store(&stopping, 1);
    for (unsigned i = 0; i < thread_count; i++)
        pthread_join(workers[i].thread, NULL);
    for (uint64_t page = 0; page < QUIET; page++)
        if (page_bad(quiet + page * PAGE, 1 + page % 64))
            complain(&workers[0], "all: the quiet region", page, quiet + page * PAGE, 0);
    for (uint64_t page = 0; page < COUNTED; page++)
        for (uint64_t w = 0; w < WORDS; w++)
            if (((uint64_t *)(counted + page * PAGE))[w] != (w < thread_count ? workers[w].counted : 0))
                complain(&workers[0], "all: a counter", page, counted + page * PAGE, w);
    report("done");
    return 0;
}
