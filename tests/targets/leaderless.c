/* A program whose first thread ends before the others do, or whose threads end one by one: nobody calls exit_group(2).
 *
 *   leaderless first               the first thread ends when the input says `end`; the second goes on
 *   leaderless alone CODE          there is but one thread; it ends by exit(2) with CODE
 *   leaderless last CODE           the first thread ends at `end` with 3, the second by exit(2) with CODE at the end of the input
 *   leaderless killed SIGNAL       the same, and the second is ended by a signal
 *
 * Commands: `verify`, `write`, `discard` (its first 512 pages), `end` (the first thread ends), `quit`.
 */
#include "target.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#define PAGES 4096UL

static unsigned char *memory;
static uint64_t generation, discarded;
static const char *mode;
static int code;
static pthread_barrier_t ended;

static uint64_t seed_of(uint64_t page)
{
    return page < discarded ? 0 : generation ? mix(page) ^ ((uint64_t)getpid() << 40) : 1 + page;
}

static void answer(void)
{
    uint64_t bad = 0;
    for (uint64_t page = 0; page < PAGES; page++)
        bad += page_bad(memory + page * PAGE, seed_of(page)) != 0;
    if (bad)
        say("bad %lu", bad);
    else
        say("ok");
}

static void *serve(void *argument)
{
    char line[64];
    (void)argument;
    while (next_command(line, sizeof line)) {
        if (!strcmp(line, "write")) {
            generation++;
            discarded = 0;
            for (uint64_t page = 0; page < PAGES; page++)
                page_fill(memory + page * PAGE, seed_of(page));
        } else if (!strcmp(line, "discard")) {
            if (madvise(memory, 512 * PAGE, MADV_DONTNEED))
                fail("madvise");
            discarded = 512;
        } else if (!strcmp(line, "end")) {
            pthread_barrier_wait(&ended);
            say("ok");
            continue;
        }
        answer();
    }
    if (!strcmp(mode, "killed"))
        raise(code);
    if (strcmp(mode, "first"))
        syscall(SYS_exit, code);
    _exit(0);
}

int main(int argc, char **argv)
{
    pthread_t second;
    mode = argc > 1 ? argv[1] : "first";
    code = argc > 2 ? atoi(argv[2]) : 0;
    memory = map_private(PAGES * PAGE);
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, seed_of(page));
    pthread_barrier_init(&ended, NULL, 2);
    say("ready");
    if (!strcmp(mode, "alone"))
        serve(NULL);
    if (pthread_create(&second, NULL, serve, NULL))
        fail("pthread_create");
    pthread_barrier_wait(&ended);
    syscall(SYS_exit, 3);
}
