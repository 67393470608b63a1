/* Threads that do at random everything a program may do to its memory, and know what each byte must be.
 *
 *   storm OP SECONDS [THREADS=4] [SEED=1]      OP: write dontneed mprotect remap fixed fork all
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
 */
#include "target.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define GROUPS 32
#define GROUP 32
#define PATTERNS 6
#define THREADS_MAX 16
#define COUNTED 64
#define QUIET 4096

enum { WRITE = 1, DONTNEED = 2, MPROTECT = 4, REMAP = 8, FIXED = 16, FORK = 32 };

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
    if (madvise(at(me, first), count * PAGE, MADV_DONTNEED))
        fail("madvise");
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
    pid_t forked = fork();
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

static void step(struct worker *me, uint64_t group)
{
    uint64_t first = group * GROUP + draw(me, GROUP), count = 1 + draw(me, GROUP * (group + 1) - first);
    unsigned kind = 1U << draw(me, 6);
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
    say("%s ops %lu bad %lu refused %lu intruded %lu", head, sums[0], sums[1], sums[2], sums[3]);
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
    }
    for (unsigned i = 0; i < thread_count; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            fail("pthread_create");
    pthread_t listener;
    if (pthread_create(&listener, NULL, listen_for_commands, NULL))
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
