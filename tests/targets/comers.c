/* Threads that come and go: those that say so live for 20 ms, others for up to 3.
 *
 *   comers FILE
 *
 * FILE holds, as 64 native ints, the ids of the threads that live; 0 where one has ended. Runs until the end of input.
 */
#include "target.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#define LIVES 64
#define MAKERS 4

static _Atomic int *living;

static void *lives(void *slot)
{
    living[(long)slot] = (int)syscall(SYS_gettid);
    usleep(20000);
    living[(long)slot] = 0;
    return NULL;
}

static void *lives_again(void *slot)
{
    for (;;) {
        pthread_t thread;
        if (!pthread_create(&thread, NULL, lives, slot))
            pthread_join(thread, NULL);
    }
    return NULL;
}

static void *is_brief(void *microseconds)
{
    usleep((useconds_t)(long)microseconds);
    return NULL;
}

static void *makes(void *seed)
{
    uint64_t random = 1 + (uint64_t)(long)seed;
    for (;;) {
        pthread_t thread;
        random = mix(random + 1);
        if (!pthread_create(&thread, NULL, is_brief, (void *)(long)(random % 3000)))
            pthread_detach(thread);
        usleep(50);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    int file = argc > 1 ? open(argv[1], O_RDWR | O_CREAT, 0600) : -1;
    if (file < 0 || ftruncate(file, 4096))
        fail("file");
    living = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (living == MAP_FAILED)
        fail("mmap");
    for (long i = 0; i < MAKERS + LIVES; i++)
        if (pthread_create(&thread, NULL, i < MAKERS ? makes : lives_again, (void *)(i < MAKERS ? i : i - MAKERS)))
            fail("pthread_create");
    say("ready");
    while (getchar() != EOF)
        ;
    _exit(0);
}
