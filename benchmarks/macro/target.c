/* A program with known memory: its share of the bench's work, and nothing else.
 *
 * target PAGES FIRST HALF RUN
 *
 * It holds PAGES pages, the pages FIRST, FIRST+1, … of a work of 2*HALF pages in all. The second half repeats the
 * first half's even runs of RUN pages; every other page is the only one of its kind. Page content is xorshift from a
 * seed, so `verify` can tell what every byte must be without keeping a copy.
 *
 * It prints `ready`, then answers one line per line of standard input, `ok` or what is wrong:
 *   merge    offer the memory to the kernel's KSM
 *   verify   compare every page with what it must hold; reads only, so nothing is unshared
 * and ends at end of file: it never outlives the bench that holds the other end.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, LINE = 64 };

static uint64_t seed_of(uint64_t page, uint64_t half, uint64_t run)
{
    uint64_t in_half = page % half;
    int duplicate = (in_half / run & 1) == 0;
    return (duplicate ? in_half + 1 : 0x10000000ull + page) * 0x9E3779B97F4A7C15ull;
}

static uint64_t next(uint64_t s)
{
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return s;
}

static void fill(uint64_t *words, uint64_t seed)
{
    for (int i = 0; i < WORDS; i++)
        words[i] = seed = next(seed);
}

static int holds(const uint64_t *words, uint64_t seed)
{
    for (int i = 0; i < WORDS; i++)
        if (words[i] != (seed = next(seed)))
            return 0;
    return 1;
}

/* Straight to write(2): stdio would take its buffers from memory that is being counted. */
static void say(const char *format, ...)
{
    char line[128];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        exit(1);
}

/* One line without its end; 0 at end of file or when a line is no command at all. */
static int hear(char line[LINE])
{
    for (int length = 0; length < LINE; length++) {
        ssize_t got;
        while ((got = read(STDIN_FILENO, line + length, 1)) < 0 && errno == EINTR)
            ;
        if (got != 1)
            return 0;
        if (line[length] == '\n') {
            line[length] = 0;
            return 1;
        }
    }
    return 0;
}

int main(int count, char **arguments)
{
    if (count != 5) {
        fprintf(stderr, "usage: target PAGES FIRST HALF RUN\n");
        return 2;
    }
    uint64_t pages = strtoull(arguments[1], 0, 10), first = strtoull(arguments[2], 0, 10);
    uint64_t half = strtoull(arguments[3], 0, 10), run = strtoull(arguments[4], 0, 10);
    if (pages == 0 || half == 0 || run == 0) {
        fprintf(stderr, "target: PAGES, HALF and RUN must not be 0\n");
        return 2;
    }

    /* Ctrl-C at a terminal reaches the whole group; the bench gives the memory back first, then closes our input. */
    signal(SIGINT, SIG_IGN);

    size_t bytes = pages * PAGE;
    char *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("target: mmap");
        return 1;
    }
    madvise(memory, bytes, MADV_NOHUGEPAGE); /* EINVAL on a kernel that has none: just as good */
    for (uint64_t i = 0; i < pages; i++)
        fill((uint64_t *)(memory + i * PAGE), seed_of(first + i, half, run));
    say("ready\n");

    for (char line[LINE]; hear(line);) {
        if (strcmp(line, "merge") == 0) {
            if (madvise(memory, bytes, MADV_MERGEABLE) == 0)
                say("ok\n");
            else
                say("madvise(MADV_MERGEABLE): %s\n", strerror(errno));
        } else if (strcmp(line, "verify") == 0) {
            uint64_t wrong = 0, where = 0;
            for (uint64_t i = 0; i < pages; i++)
                if (!holds((uint64_t *)(memory + i * PAGE), seed_of(first + i, half, run)) && wrong++ == 0)
                    where = i;
            if (wrong == 0)
                say("ok\n");
            else
                say("%llu of %llu pages wrong, the first at page %llu\n", (unsigned long long)wrong,
                    (unsigned long long)pages, (unsigned long long)where);
        } else
            say("no such command\n");
    }
    return 0;
}
