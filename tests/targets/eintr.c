/* Threads in calls that must neither answer EINTR, nor a part, nor before their time; nobody sends a signal to any. Memory changes all the while.
 *
 *   eintr [parts]      `parts`: with threads in calls that come back half done where they are interrupted
 *
 * Ends at the end of its input, or on a line, and says how many calls there were, and what of them was wrong:
 * `calls N eintr N early N short N bad N`; more on its error output.
 */
#include "target.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define PAGES 2048UL

/* Milliseconds: some waits are over before anybody looks, some last over many holds. */
static long wait_of(long turn)
{
    return turn % 16 == 15 ? 700 : 3;
}

static struct timespec span(long milliseconds)
{
    return (struct timespec){milliseconds / 1000, milliseconds % 1000 * 1000000};
}

static atomic_long calls, interrupted, early, parts, bad;
static atomic_int stop;
static int stream[2], tube[2], silent[2];

static void count(const char *what, int wrong, double began, double least)
{
    calls++;
    if (wrong) {
        interrupted++;
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
    } else if (seconds_now() - began < least) {
        early++;
        fprintf(stderr, "%s: %.6f s of %.6f\n", what, seconds_now() - began, least);
    }
}

static void *in_epoll_wait(void *argument)
{
    struct epoll_event event;
    int set = epoll_create1(0);
    (void)argument;
    for (long turn = 0; !stop; turn++) {
        double began = seconds_now();
        int got = epoll_wait(set, &event, 1, (int)wait_of(turn));
        count("epoll_wait", got < 0, began, (double)wait_of(turn) / 1e3);
    }
    return NULL;
}

static void *in_epoll_pwait2(void *argument)
{
    struct epoll_event event;
    int set = epoll_create1(0);
    (void)argument;
    for (long turn = 0; !stop; turn++) {
        struct timespec time = span(wait_of(turn));
        double began = seconds_now();
        long got = syscall(SYS_epoll_pwait2, set, &event, 1, &time, NULL, 8);
        count("epoll_pwait2", got < 0, began, (double)wait_of(turn) / 1e3);
    }
    return NULL;
}

static void *in_sigtimedwait(void *argument)
{
    sigset_t set;
    (void)argument;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    for (long turn = 0; !stop; turn++) {
        struct timespec time = span(wait_of(turn));
        double began = seconds_now();
        int got = sigtimedwait(&set, NULL, &time);
        count("sigtimedwait", got >= 0 || errno != EAGAIN, began, (double)wait_of(turn) / 1e3);
    }
    return NULL;
}

static void *in_semtimedop(void *argument)
{
    struct sembuf take = {0, -1, 0};
    int semaphore = semget(IPC_PRIVATE, 1, 0600);
    (void)argument;
    for (long turn = 0; !stop; turn++) {
        struct timespec time = span(wait_of(turn));
        double began = seconds_now();
        int got = semtimedop(semaphore, &take, 1, &time);
        count("semtimedop", got >= 0 || errno != EAGAIN, began, (double)wait_of(turn) / 1e3);
    }
    semctl(semaphore, 0, IPC_RMID);
    return NULL;
}

static void *in_recv_with_timeout(void *argument)
{
    char byte;
    struct timeval time = {0, 4000}; /* a jiffy or more: it is rounded to them */
    (void)argument;
    if (setsockopt(silent[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time))
        fail("SO_RCVTIMEO");
    while (!stop) {
        double began = seconds_now();
        long got = recv(silent[0], &byte, 1, 0);
        count("recv with a timeout", got >= 0 || errno != EAGAIN, began, 0);
    }
    return NULL;
}

static void *receives(void *argument)
{
    char text[4000];
    long got;
    (void)argument;
    while ((got = recv(stream[0], text, sizeof text, MSG_WAITALL)) > 0) {
        calls++;
        if (got != (long)sizeof text && !stop) {
            parts++;
            fprintf(stderr, "recv: %ld\n", got);
        }
    }
    return NULL;
}

static void *sends(void *argument)
{
    char text[1000] = {0};
    (void)argument;
    while (!stop)
        for (int i = 0; i < 4; i++) {
            if (send(stream[1], text, sizeof text, 0) != sizeof text)
                fail("send");
            usleep(500);
        }
    shutdown(stream[1], SHUT_WR);
    return NULL;
}

static void *reads(void *argument)
{
    char text[4096];
    (void)argument;
    while (read(tube[0], text, sizeof text) > 0)
        usleep(200);
    return NULL;
}

static void *writes(void *argument)
{
    static char text[200000]; /* more than a pipe takes */
    (void)argument;
    while (!stop) {
        long put = write(tube[1], text, sizeof text);
        calls++;
        if (put != (long)sizeof text) {
            parts++;
            fprintf(stderr, "write: %ld\n", put);
        }
        usleep(3000);
    }
    close(tube[1]);
    return NULL;
}

static void *churns(void *argument)
{
    unsigned chance = (unsigned)getpid();
    unsigned char *memory = argument;
    while (!stop) {
        uint64_t first = (uint64_t)rand_r(&chance) % (PAGES - 64);
        for (uint64_t page = first; page < first + 64; page++) {
            bad += page_bad(memory + page * PAGE, 1 + page) != 0;
            page_fill(memory + page * PAGE, 1 + page);
        }
        usleep(20000);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    sigset_t own;
    char line[64];
    unsigned char *memory = map_private(PAGES * PAGE);
    void *(*work[])(void *) = {churns, in_epoll_wait, in_epoll_pwait2, in_sigtimedwait, in_semtimedop, in_recv_with_timeout, receives, sends, reads, writes};
    size_t threads = argc > 1 && !strcmp(argv[1], "parts") ? 10 : 6;
    pthread_t thread[10];
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, 1 + page);
    sigemptyset(&own);
    sigaddset(&own, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &own, NULL);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, stream) || socketpair(AF_UNIX, SOCK_STREAM, 0, silent) || pipe(tube))
        fail("setup");
    for (size_t i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, work[i], memory))
            fail("pthread_create");
    say("ready");
    while (next_command(line, sizeof line) && strcmp(line, "report"))
        ;
    stop = 1;
    for (size_t i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    say("calls %ld eintr %ld early %ld short %ld bad %ld", atomic_load(&calls), atomic_load(&interrupted), atomic_load(&early), atomic_load(&parts), atomic_load(&bad));
    return 0;
}
