/* Fifty threads that work on data they have in common with each other and with other processes.
 *
 * Each owns 256 pages, reads them all the time, and now and then writes one page's next content and checks it.
 * Commands: `report` answers `rounds N bad N`; `quit`.
 */
#include "target.h"
#include <pthread.h>
#include <stdatomic.h>

#define THREADS 50
#define OWNED 256

static unsigned char *memory;
static atomic_ulong rounds, bad;
static atomic_int stopping;

static void *work(void *argument)
{
    uint64_t index = (uint64_t)argument, generation[OWNED] = {0}, random = mix(index + 1);
    unsigned char *mine = memory + index * OWNED * PAGE;
    while (!atomic_load(&stopping)) {
        for (uint64_t page = 0; page < OWNED; page++)
            atomic_fetch_add(&bad, page_bad(mine + page * PAGE, 1 + page + generation[page] * 100000));
        random = mix(random + 1);
        uint64_t page = random % OWNED;
        generation[page] = (generation[page] + 1) % 3;
        page_fill(mine + page * PAGE, 1 + page + generation[page] * 100000);
        atomic_fetch_add(&rounds, 1);
        pause_ms(20 + (long)(random >> 32) % 60);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    memory = map_private(THREADS * OWNED * PAGE);
    for (uint64_t page = 0; page < THREADS * OWNED; page++)
        page_fill(memory + page * PAGE, 1 + page % OWNED);
    for (uint64_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i))
            fail("pthread_create");
    say("ready");
    char line[64];
    while (next_command(line, sizeof line))
        say("rounds %lu bad %lu", atomic_load(&rounds), atomic_load(&bad));
    atomic_store(&stopping, 1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
