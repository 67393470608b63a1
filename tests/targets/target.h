/* What every target shares: page content that can be computed anew at any time, and a line protocol.
 *
 * A target prints `ready …` when its memory is filled. Then it reads a command per line and answers each with one line.
 * End of input means quit. Expected content is always computed, never kept in memory: a second copy would itself be
 * merged with the pages that it is meant to check.
 */
#ifndef SAMEPAGE_TARGET_H
#define SAMEPAGE_TARGET_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define WORDS (PAGE / sizeof(uint64_t))

static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    x ^= x >> 33;
    return x;
}

/* Word w of the page whose content is `seed`; content 0 is all zero. */
static inline uint64_t word_of(uint64_t seed, uint64_t w)
{
    return seed == 0 ? 0 : mix(seed) + w * 0x9e3779b97f4a7c15ULL;
}

static inline void page_fill(void *page, uint64_t seed)
{
    uint64_t *words = page;
    for (uint64_t w = 0; w < WORDS; w++)
        words[w] = word_of(seed, w);
}

/* Number of words of the page that are not what they must be. */
static inline uint64_t page_bad(const void *page, uint64_t seed)
{
    const volatile uint64_t *words = page;
    uint64_t bad = 0;
    for (uint64_t w = 0; w < WORDS; w++)
        bad += words[w] != word_of(seed, w);
    return bad;
}

static inline void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

__attribute__((noreturn)) static inline void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(97);
}

/* Next command without its line end; 0 at the end of input. */
static inline int next_command(char *line, int size)
{
    if (!fgets(line, size, stdin))
        return 0;
    line[strcspn(line, "\r\n")] = 0;
    return strcmp(line, "quit") != 0;
}

static inline void *map_private(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    return memory;
}

static inline double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline void pause_ms(long milliseconds)
{
    struct timespec rest = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&rest, &rest) == -1 && errno == EINTR)
        ;
}

#endif
