/* Memory that several processes have in common: of every four runs of pages three are the same in all, one is its own.
 *
 *   common MIB [run=256] [zeros=0] [same=0] [huge] [lock] [guest] [advise] [merge]
 *
 * `run` is the length of a run in pages; `zeros` adds that many pages of zeros, written; `same` that many, before those, which all
 * have one content that no other process has; `huge` asks for huge pages; `lock` locks the memory;
 * `guest` advises as virtual machine monitors do for the memory of their guests: huge, mergeable, not copied by fork, not dumped;
 * `advise` advises its first half to be mergeable, `merge` asks for merging of the whole process.
 * Commands: `verify` (every byte), `write` (new content into every page, read back), `poke` (one word of each page),
 * `again` (back to the first content), `pageout` (into swap), `address`, `unadvise` (the advice is taken back), `quit`;
 * `stall` unmaps all of it, and waits for ever in a write that is half done.
 */
#include "target.h"

#include <sys/prctl.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67 /* Linux 6.4 */
#endif

static unsigned char *memory;
static uint64_t pages, zeros, same, run = 256, generation;
static int poked;

static uint64_t seed_of(uint64_t page)
{
    if (page >= pages - zeros)
        return generation == 0 ? 0 : mix(page) ^ ((uint64_t)getpid() << 40) ^ generation;
    if (generation == 0 && page >= pages - zeros - same)
        return mix((uint64_t)getpid()) ^ 0xa5a5;
    if (generation == 0 && page / run % 4 != 3)
        return 1 + page;
    return mix(page + 1) ^ ((uint64_t)getpid() << 40) ^ (generation << 32) ^ 0x5a5a;
}

static uint64_t verify(void)
{
    uint64_t bad = 0;
    for (uint64_t page = 0; page < pages; page++) {
        const volatile uint64_t *words = (void *)(memory + page * PAGE);
        uint64_t seed = seed_of(page), here = 0;
        for (uint64_t w = 0; w < WORDS; w++)
            here += words[w] != (poked && w == 7 ? page + (uint64_t)getpid() : word_of(seed, w));
        if (here && !bad)
            fprintf(stderr, "page %lu at %p: %lu words differ\n", page, (void *)(memory + page * PAGE), here);
        bad += here;
    }
    return bad;
}

static void fill(void)
{
    poked = 0;
    for (uint64_t page = 0; page < pages; page++)
        page_fill(memory + page * PAGE, seed_of(page));
}

static void stall(void)
{
    static char much[200000]; /* more than a pipe takes */
    int full[2];
    if (munmap(memory, pages * PAGE) || pipe(full))
        fail("stall");
    if (write(full[1], much, sizeof much) >= 0)
        fail("a write that nobody reads");
}

static void answer(uint64_t bad)
{
    if (bad)
        say("bad %lu", bad);
    else
        say("ok");
}

int main(int argc, char **argv)
{
    int huge = 0, lock = 0, guest = 0, advise = 0;
    if (argc < 2)
        return 2;
    for (int i = 2; i < argc; i++) {
        sscanf(argv[i], "run=%lu", &run);
        sscanf(argv[i], "zeros=%lu", &zeros);
        sscanf(argv[i], "same=%lu", &same);
        huge |= !strcmp(argv[i], "huge");
        lock |= !strcmp(argv[i], "lock");
        guest |= !strcmp(argv[i], "guest");
        advise |= !strcmp(argv[i], "advise");
        if (!strcmp(argv[i], "merge") && prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
            fail("prctl");
    }
    pages = strtoul(argv[1], NULL, 10) * 256 + same + zeros;
    size_t bytes = pages * PAGE;
    memory = map_private(bytes);
    if (huge)
        madvise(memory, bytes, MADV_HUGEPAGE);
    const int advice[] = {MADV_HUGEPAGE, MADV_MERGEABLE, MADV_DONTFORK, MADV_DONTDUMP};
    for (size_t i = 0; guest && i < sizeof advice / sizeof *advice; i++)
        if (madvise(memory, bytes, advice[i]))
            fail("madvise");
    if (lock && mlock(memory, bytes))
        fail("mlock");
    if (advise && madvise(memory, bytes / 2, MADV_MERGEABLE))
        fail("madvise");
    fill();
    say("ready %lu", pages);

    char line[64];
    while (next_command(line, sizeof line)) {
        if (!strcmp(line, "verify")) {
            answer(verify());
        } else if (!strcmp(line, "write")) {
            generation++;
            fill();
            answer(verify());
        } else if (!strcmp(line, "again")) {
            generation = 0;
            fill();
            answer(verify());
        } else if (!strcmp(line, "poke")) {
            poked = 1;
            for (uint64_t page = 0; page < pages; page++)
                ((volatile uint64_t *)(memory + page * PAGE))[7] = page + (uint64_t)getpid();
            answer(verify());
        } else if (!strcmp(line, "pageout")) {
            answer((uint64_t)-madvise(memory, bytes, MADV_PAGEOUT));
        } else if (!strcmp(line, "unadvise")) {
            answer(madvise(memory, bytes, MADV_UNMERGEABLE) != 0);
        } else if (!strcmp(line, "stall")) {
            stall();
        } else if (!strcmp(line, "address")) {
            say("%lx %lx", (unsigned long)memory, (unsigned long)(memory + bytes));
        } else {
            say("unknown");
        }
    }
    return 0;
}
