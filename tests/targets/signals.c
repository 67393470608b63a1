/* Threads in calls that a signal ends with EINTR, and a child that sends each a signal when it has seen it asleep there: none may be lost, whatever comes in between.
 *
 *   signals
 *
 * The signals come from a child, and so also while the program's threads are held. Besides those that have a handler it sends such as are ignored, which must end no call.
 * Memory changes all the while. Ends at the end of its input, or on a line, and says `sent N lost N woken N order N bad N`: signals that ended no call within five seconds, calls that
 * ended with EINTR though no handler ran, queued signals that came in another order than they were sent, pages that were wrong; more on its error output.
 */
#include "target.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGES 4096UL
#define WAITERS 8

struct waiter {
    atomic_int tid, number; /* of the thread, and of the call that it waits in */
    atomic_long turn, handled, woken;
};

struct shared {
    struct waiter waiters[WAITERS];
    atomic_long sent, lost, order, bad;
    atomic_int stop, queue_tid;
};

static struct shared *shared;
static _Thread_local struct waiter *mine;
static int semaphore, silent[2], epoll_set, watch;
static atomic_long expected = 1;

static const char *const names[WAITERS] = {"epoll_wait", "semop", "recv with a time", "epoll_pwait2", "sigtimedwait", "read of inotify", "poll", "pause"};
static const int numbers[WAITERS] = {SYS_epoll_wait, SYS_semop, SYS_recvfrom, SYS_epoll_pwait2, SYS_rt_sigtimedwait, SYS_read, SYS_poll, SYS_pause};

static void handle(int signal)
{
    (void)signal;
    mine->handled++;
}

static void in_order(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    if (info->si_value.sival_int != expected) {
        shared->order++;
        expected = info->si_value.sival_int;
    }
    expected++;
}

static int wait_once(int which)
{
    struct epoll_event event;
    struct sembuf take = {0, -1, 0};
    struct timespec long_time = {3000, 0};
    struct pollfd nothing = {silent[0], POLLIN, 0};
    char bytes[4096];
    sigset_t other;
    switch (which) {
    case 0: return epoll_wait(epoll_set, &event, 1, -1);
    case 1: return semop(semaphore, &take, 1);
    case 2: return (int)recv(silent[0], bytes, 1, 0);
    case 3: return (int)syscall(SYS_epoll_pwait2, epoll_set, &event, 1, &long_time, NULL, 8);
    case 4:
        sigemptyset(&other);
        sigaddset(&other, SIGUSR2);
        return sigtimedwait(&other, NULL, &long_time);
    case 5: return (int)read(watch, bytes, sizeof bytes);
    case 6: return (int)syscall(SYS_poll, &nothing, 1, -1);
    default: return (int)syscall(SYS_pause);
    }
}

static void *waits(void *argument)
{
    int which = (int)(intptr_t)argument;
    mine = &shared->waiters[which];
    mine->number = numbers[which];
    mine->tid = (int)gettid();
    while (!shared->stop) {
        long before = mine->handled;
        int got = wait_once(which), error = errno;
        if (got < 0 && error == EINTR && mine->handled == before)
            mine->woken++;
        if (!shared->stop && (got >= 0 || error != EINTR))
            fprintf(stderr, "%s: %d, %s\n", names[which], got, strerror(error));
        mine->turn++;
    }
    return NULL;
}

/* Waits in rt_sigsuspend, the only place where the queued signals may come. */
static void *is_queued_to(void *argument)
{
    sigset_t none;
    (void)argument;
    sigemptyset(&none);
    shared->queue_tid = (int)gettid();
    while (!shared->stop)
        sigsuspend(&none);
    return NULL;
}

static void *churns(void *argument)
{
    unsigned chance = (unsigned)getpid();
    unsigned char *memory = argument;
    while (!shared->stop) {
        uint64_t first = (uint64_t)rand_r(&chance) % (PAGES - 64);
        for (uint64_t page = first; page < first + 64; page++) {
            shared->bad += page_bad(memory + page * PAGE, 1 + page) != 0;
            page_fill(memory + page * PAGE, 1 + page);
        }
        usleep(10000);
    }
    return NULL;
}

/* What a thread waits in, as far as the kernel says. */
static int call_of(pid_t pid, int tid)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", pid, tid);
    FILE *file = fopen(path, "r");
    int number = -1;
    if (file && fgets(text, sizeof text, file) && text[0] >= '0' && text[0] <= '9')
        number = atoi(text);
    if (file)
        fclose(file);
    return number;
}

static void send_to(pid_t pid, int which)
{
    struct waiter *waiter = &shared->waiters[which];
    long turn = waiter->turn;
    if (call_of(pid, waiter->tid) != waiter->number)
        return;
    if (syscall(SYS_tgkill, pid, waiter->tid, SIGUSR1))
        return;
    shared->sent++;
    for (double since = seconds_now(); waiter->turn == turn && !shared->stop;) {
        if (seconds_now() - since > 5) {
            shared->lost++;
            fprintf(stderr, "%s: a signal was sent, %ld handled, and it waits on\n", names[which], atomic_load(&waiter->handled));
            while (waiter->turn == turn && !shared->stop) {
                syscall(SYS_tgkill, pid, waiter->tid, SIGUSR1);
                pause_ms(10);
            }
            break;
        }
        sched_yield();
    }
}

static void sends(pid_t pid)
{
    unsigned chance = (unsigned)pid;
    int queued = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == pid && !shared->stop) {
        for (int burst = 0; burst < 4; burst++) {
            union sigval value = {.sival_int = queued + 1};
            siginfo_t info = {.si_code = SI_QUEUE, .si_pid = getpid(), .si_value = value};
            info.si_signo = SIGRTMIN;
            if (shared->queue_tid && syscall(SYS_rt_tgsigqueueinfo, pid, shared->queue_tid, SIGRTMIN, &info) == 0)
                queued++;
        }
        send_to(pid, (int)((unsigned)rand_r(&chance) % WAITERS));
        syscall(SYS_tgkill, pid, shared->waiters[(unsigned)rand_r(&chance) % WAITERS].tid, SIGURG); /* ignored */
        usleep(200);
    }
    _exit(0);
}

int main(void)
{
    char line[64];
    pthread_t thread[WAITERS + 2];
    sigset_t blocked;
    struct timeval time = {3000, 0};
    struct sigaction handled = {.sa_handler = handle}, queued = {.sa_sigaction = in_order, .sa_flags = SA_SIGINFO};
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        fail("mmap");
    unsigned char *memory = map_private(PAGES * PAGE);
    semaphore = semget(IPC_PRIVATE, 1, 0600);
    epoll_set = epoll_create1(0);
    watch = inotify_init();
    if (semaphore < 0 || epoll_set < 0 || watch < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, silent) || setsockopt(silent[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time))
        fail("setup");
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigaddset(&blocked, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    sigaction(SIGUSR1, &handled, NULL);
    sigaction(SIGRTMIN, &queued, NULL);
    pid_t self = getpid(), sender = fork();
    if (sender == 0)
        sends(self);
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, 1 + page);
    for (int i = 0; i < WAITERS; i++)
        if (pthread_create(&thread[i], NULL, waits, (void *)(intptr_t)i))
            fail("pthread_create");
    if (pthread_create(&thread[WAITERS], NULL, is_queued_to, NULL) || pthread_create(&thread[WAITERS + 1], NULL, churns, memory))
        fail("pthread_create");
    say("ready");
    while (next_command(line, sizeof line) && strcmp(line, "report"))
        ;
    shared->stop = 1;
    waitpid(sender, NULL, 0);
    semctl(semaphore, 0, IPC_RMID);
    long woken = 0;
    for (int i = 0; i < WAITERS; i++) {
        woken += shared->waiters[i].woken;
        if (shared->waiters[i].woken)
            fprintf(stderr, "%s: woken %ld\n", names[i], atomic_load(&shared->waiters[i].woken));
    }
    say("sent %ld lost %ld woken %ld order %ld bad %ld", atomic_load(&shared->sent), atomic_load(&shared->lost), woken, atomic_load(&shared->order), atomic_load(&shared->bad));
    _exit(0);
}
