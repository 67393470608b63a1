/* A thread in each call that a program may sleep in. None may see EINTR, and none may return before it must.
 *
 *   sleepers [SECONDS=8] [write]     how long the calls with a timeout sleep; `write` adds a thread whose write waits for room
 *
 * Commands: `report` answers `asleep N returned N eintr N`, and names on stderr who returned; `churn` lets go of the
 * shared data and writes as much anew elsewhere (so that there is more to merge); `wake` wakes everybody as each call is meant to be woken, waits for the
 * timeouts, and answers `woken N wrong N`; `quit`.
 */
#include "target.h"
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>

static int seconds = 8;
static int pipes[40][2], pipe_count;
static int event_fd, semaphores, queue, listener, connected[2], timed_socket[2], locked_file, futex_word;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, condition_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int condition_met;
static pid_t forked_child;
static int full_pipe[2];
#define LONG_WRITE 200000
static int child_gate[2];

struct sleeper {
    const char *name;
    long (*sleep)(struct sleeper *); /* what the call returned */
    long right;                      /* what it must return when woken */
    int timed;                       /* returns by itself after `seconds` */
    int fd;
    pthread_t thread;
    atomic_int asleep, returned;
    long result;
    int error;
    double slept;
};

static int new_pipe(void)
{
    if (pipe(pipes[pipe_count]))
        fail("pipe");
    return pipes[pipe_count++][0];
}

static int epoll_on(int fd)
{
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    return epoll;
}

static struct timespec span(void)
{
    return (struct timespec){seconds, 0};
}

static long in_epoll_infinite(struct sleeper *me)
{
    struct epoll_event event;
    return epoll_wait(epoll_on(me->fd), &event, 1, -1);
}
static long in_epoll_timed(struct sleeper *me)
{
    struct epoll_event event;
    return epoll_wait(epoll_on(me->fd), &event, 1, seconds * 1000);
}
static long in_epoll_pwait2(struct sleeper *me)
{
    struct epoll_event event;
    struct timespec time = span();
    return syscall(SYS_epoll_pwait2, epoll_on(me->fd), &event, 1, &time, NULL, 0UL);
}
static long in_poll_infinite(struct sleeper *me)
{
    struct pollfd poll_fd = {me->fd, POLLIN, 0};
    return poll(&poll_fd, 1, -1);
}
static long in_poll_timed(struct sleeper *me)
{
    struct pollfd poll_fd = {me->fd, POLLIN, 0};
    return poll(&poll_fd, 1, seconds * 1000);
}
static long in_ppoll_timed(struct sleeper *me)
{
    struct pollfd poll_fd = {me->fd, POLLIN, 0};
    struct timespec time = span();
    return ppoll(&poll_fd, 1, &time, NULL);
}
static long in_select_infinite(struct sleeper *me)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(me->fd, &set);
    return select(me->fd + 1, &set, NULL, NULL, NULL);
}
static long in_select_timed(struct sleeper *me)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(me->fd, &set);
    struct timeval time = {seconds, 0};
    return select(me->fd + 1, &set, NULL, NULL, &time);
}
static long in_pselect_timed(struct sleeper *me)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(me->fd, &set);
    struct timespec time = span();
    return pselect(me->fd + 1, &set, NULL, NULL, &time, NULL);
}
static long in_nanosleep(struct sleeper *me)
{
    struct timespec time = span();
    (void)me;
    return nanosleep(&time, NULL);
}
static long in_clock_nanosleep_absolute(struct sleeper *me)
{
    struct timespec time;
    (void)me;
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += seconds;
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}
static long in_futex(struct sleeper *me)
{
    (void)me;
    return syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}
static long in_futex_timed(struct sleeper *me)
{
    static int other;
    struct timespec time = span();
    (void)me;
    return syscall(SYS_futex, &other, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0) == -1 && errno == ETIMEDOUT ? 0 : -1;
}
static long in_mutex(struct sleeper *me)
{
    (void)me;
    return pthread_mutex_lock(&mutex) || pthread_mutex_unlock(&mutex);
}
static long in_condition(struct sleeper *me)
{
    long result = 0;
    (void)me;
    pthread_mutex_lock(&condition_mutex);
    if (!condition_met)
        result = pthread_cond_wait(&condition, &condition_mutex);
    if (!condition_met)
        result = -1; /* a spurious wakeup is allowed by POSIX, but never happens by itself with futexes */
    pthread_mutex_unlock(&condition_mutex);
    return result;
}
static long in_read_pipe(struct sleeper *me)
{
    char byte;
    return read(me->fd, &byte, 1);
}
static long in_read_eventfd(struct sleeper *me)
{
    uint64_t value = 0;
    (void)me;
    return read(event_fd, &value, 8) == 8 ? (long)value : -1;
}
static long in_read_timerfd(struct sleeper *me)
{
    uint64_t value = 0;
    struct itimerspec time = {.it_value = {seconds, 0}};
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    (void)me;
    timerfd_settime(timer, 0, &time, NULL);
    return read(timer, &value, 8) == 8 ? (long)value - 1 : -1;
}
static long in_sigwaitinfo(struct sleeper *me)
{
    sigset_t set;
    (void)me;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    return sigwaitinfo(&set, NULL);
}
static long in_sigtimedwait(struct sleeper *me)
{
    sigset_t set;
    struct timespec time = span();
    (void)me;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return sigtimedwait(&set, NULL, &time) == -1 && errno == EAGAIN ? 0 : -1;
}
static long in_semop(struct sleeper *me)
{
    struct sembuf take = {0, -1, 0};
    (void)me;
    return semop(semaphores, &take, 1);
}
static long in_semtimedop(struct sleeper *me)
{
    struct sembuf take = {1, -1, 0};
    struct timespec time = span();
    (void)me;
    return semtimedop(semaphores, &take, 1, &time) == -1 && errno == EAGAIN ? 0 : -1;
}
static long in_msgrcv(struct sleeper *me)
{
    struct { long type; char text[8]; } message;
    (void)me;
    return msgrcv(queue, &message, sizeof message.text, 0, 0);
}
static long in_accept(struct sleeper *me)
{
    (void)me;
    return accept(listener, NULL, NULL) >= 0 ? 0 : -1;
}
static long in_recv(struct sleeper *me)
{
    char byte;
    (void)me;
    return recv(connected[0], &byte, 1, 0);
}
static long in_recv_with_timeout(struct sleeper *me)
{
    char byte;
    struct timeval time = {seconds, 0};
    (void)me;
    setsockopt(timed_socket[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    return recv(timed_socket[0], &byte, 1, 0) == -1 && errno == EAGAIN ? 0 : -1;
}
static long in_waitpid(struct sleeper *me)
{
    (void)me;
    return waitpid(forked_child, NULL, 0) == forked_child ? 0 : -1;
}
static long in_flock(struct sleeper *me)
{
    char path[64];
    (void)me;
    snprintf(path, sizeof path, "/proc/self/fd/%d", me->fd);
    int again = open(path, O_RDONLY);
    return flock(again, LOCK_EX);
}
static long in_io_uring_enter(struct sleeper *me)
{
    struct io_uring_params parameters = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 4, &parameters);
    if (ring < 0)
        return 1; /* forbidden here: nothing to show */
    unsigned char *rings = mmap(NULL, parameters.sq_off.array + 4 * sizeof(unsigned), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entry = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
    memset(entry, 0, sizeof *entry);
    entry->opcode = IORING_OP_POLL_ADD;
    entry->fd = me->fd;
    entry->poll32_events = POLLIN;
    *(unsigned *)(rings + parameters.sq_off.array) = 0;
    atomic_store((atomic_uint *)(rings + parameters.sq_off.tail), 1);
    if (syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0) != 1)
        return -1;
    return syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) + 1;
}
/* Has written a part when it falls asleep: to be interrupted would mean a short count. */
static long in_write(struct sleeper *me)
{
    static char text[LONG_WRITE];
    (void)me;
    return write(full_pipe[1], text, sizeof text);
}

static struct sleeper sleepers[] = {
    {.name = "epoll_wait, infinite", .sleep = in_epoll_infinite, .right = 1},
    {.name = "epoll_wait, timed", .sleep = in_epoll_timed, .timed = 1},
    {.name = "epoll_pwait2, timed", .sleep = in_epoll_pwait2, .timed = 1},
    {.name = "poll, infinite", .sleep = in_poll_infinite, .right = 1},
    {.name = "poll, timed", .sleep = in_poll_timed, .timed = 1},
    {.name = "ppoll, timed", .sleep = in_ppoll_timed, .timed = 1},
    {.name = "select, infinite", .sleep = in_select_infinite, .right = 1},
    {.name = "select, timed", .sleep = in_select_timed, .timed = 1},
    {.name = "pselect, timed", .sleep = in_pselect_timed, .timed = 1},
    {.name = "nanosleep", .sleep = in_nanosleep, .timed = 1},
    {.name = "clock_nanosleep, absolute", .sleep = in_clock_nanosleep_absolute, .timed = 1},
    {.name = "futex, infinite", .sleep = in_futex, .right = 0},
    {.name = "futex, timed", .sleep = in_futex_timed, .timed = 1},
    {.name = "pthread_mutex_lock", .sleep = in_mutex},
    {.name = "pthread_cond_wait", .sleep = in_condition},
    {.name = "read of a pipe", .sleep = in_read_pipe, .right = 1},
    {.name = "read of an eventfd", .sleep = in_read_eventfd, .right = 7},
    {.name = "read of a timerfd", .sleep = in_read_timerfd, .timed = 1},
    {.name = "sigwaitinfo", .sleep = in_sigwaitinfo, .right = SIGUSR1},
    {.name = "sigtimedwait", .sleep = in_sigtimedwait, .timed = 1},
    {.name = "semop", .sleep = in_semop},
    {.name = "semtimedop", .sleep = in_semtimedop, .timed = 1},
    {.name = "msgrcv", .sleep = in_msgrcv, .right = 3},
    {.name = "accept", .sleep = in_accept},
    {.name = "recv", .sleep = in_recv, .right = 1},
    {.name = "recv, SO_RCVTIMEO", .sleep = in_recv_with_timeout, .timed = 1},
    {.name = "waitpid", .sleep = in_waitpid},
    {.name = "flock", .sleep = in_flock},
    {.name = "io_uring_enter", .sleep = in_io_uring_enter, .right = 1},
    {.name = "write to a full pipe", .sleep = in_write, .right = LONG_WRITE},
};
static size_t sleeper_count = sizeof sleepers / sizeof *sleepers;

static void *fall_asleep(void *argument)
{
    struct sleeper *me = argument;
    double start = seconds_now();
    atomic_store(&me->asleep, (int)gettid());
    errno = 0;
    me->result = me->sleep(me);
    me->error = errno;
    me->slept = seconds_now() - start;
    atomic_store(&me->returned, 1);
    return NULL;
}

/* A thread is asleep when the kernel says so: state S in its stat, inside a call. */
static int really_asleep(struct sleeper *sleeper)
{
    char path[64], text[256];
    int thread = atomic_load(&sleeper->asleep);
    if (!thread)
        return 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    char *end = fgets(text, sizeof text, file) ? strrchr(text, ')') : NULL;
    fclose(file);
    return end && end[2] == 'S';
}

static void wake_all(void)
{
    for (int i = 0; i < pipe_count; i++)
        if (write(pipes[i][1], "x", 1) != 1)
            fail("write");
    futex_word = 1;
    syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    pthread_mutex_unlock(&mutex);
    pthread_mutex_lock(&condition_mutex);
    condition_met = 1;
    pthread_cond_signal(&condition);
    pthread_mutex_unlock(&condition_mutex);
    uint64_t seven = 7;
    struct sembuf give = {0, 1, 0};
    struct { long type; char text[8]; } message = {1, "abc"};
    int caller = socket(AF_UNIX, SOCK_STREAM, 0);
    if (write(event_fd, &seven, 8) != 8 || semop(semaphores, &give, 1) || msgsnd(queue, &message, 3, 0)
        || connect(caller, (struct sockaddr *)&address, sizeof address) || send(connected[1], "x", 1, 0) != 1
        || write(child_gate[1], "x", 1) != 1 || kill(getpid(), SIGUSR1) || flock(locked_file, LOCK_UN))
        fail("wake");
    /* Room for all of it at once: a writer that runs and falls asleep again by turns may be held just before it does, and sees a short count then (docs/limits.md). */
    if (fcntl(full_pipe[1], F_SETPIPE_SZ, 1 << 20) < LONG_WRITE)
        fail("F_SETPIPE_SZ");
    char drained[4096];
    for (long left = sleepers[sleeper_count - 1].sleep == in_write ? LONG_WRITE : 0, got; left > 0; left -= got)
        if ((got = read(full_pipe[0], drained, sizeof drained)) <= 0)
            fail("read of the full pipe");
}

int main(int argc, char **argv)
{
    sigset_t set;
    if (argc > 1)
        seconds = atoi(argv[1]);
    if (argc <= 2 || strcmp(argv[2], "write"))
        sleeper_count--;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (pipe(child_gate) || pipe(full_pipe))
        fail("pipe");
    forked_child = fork();
    if (forked_child == 0) {
        char byte;
        close(child_gate[1]);
        _exit(read(child_gate[0], &byte, 1) == 1 ? 0 : 1);
    }
    /* After the fork: memory shared with a child is not merged. */
    uint64_t pages = 8192, generation = 0;
    unsigned char *memory = map_private(pages * PAGE);
    for (uint64_t page = 0; page < pages; page++)
        page_fill(memory + page * PAGE, 1 + page % 1024);
    event_fd = eventfd(0, 0);
    semaphores = semget(IPC_PRIVATE, 2, 0600);
    queue = msgget(IPC_PRIVATE, 0600);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "samepage-sleepers-%d", getpid());
    locked_file = fileno(tmpfile());
    if (event_fd < 0 || semaphores < 0 || queue < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1)
        || socketpair(AF_UNIX, SOCK_STREAM, 0, connected) || socketpair(AF_UNIX, SOCK_STREAM, 0, timed_socket) || flock(locked_file, LOCK_EX))
        fail("setup");
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < sleeper_count; i++) {
        struct sleeper *sleeper = &sleepers[i];
        if (!sleeper->timed)
            sleeper->fd = sleeper->sleep == in_flock ? locked_file : new_pipe();
        else
            sleeper->fd = timed_socket[1];
        if (pthread_create(&sleeper->thread, NULL, fall_asleep, sleeper))
            fail("pthread_create");
    }
    for (size_t i = 0; i < sleeper_count; i++)
        while (!really_asleep(&sleepers[i]) && !atomic_load(&sleepers[i].returned))
            pause_ms(5);
    say("ready %lu", sleeper_count);

    char line[64];
    while (next_command(line, sizeof line)) {
        if (!strcmp(line, "report")) {
            unsigned returned = 0, interrupted = 0;
            for (size_t i = 0; i < sleeper_count; i++)
                if (atomic_load(&sleepers[i].returned) && !(sleepers[i].timed && sleepers[i].result == 0 && sleepers[i].slept >= seconds - 0.1)) {
                    returned++;
                    interrupted += sleepers[i].error == EINTR;
                    fprintf(stderr, "%s returned %ld after %.3f s: %s\n", sleepers[i].name, sleepers[i].result, sleepers[i].slept, strerror(sleepers[i].error));
                }
            say("asleep %lu returned %u eintr %u", sleeper_count - returned, returned, interrupted);
        } else if (!strcmp(line, "churn")) {
            generation++;
            munmap(memory, pages * PAGE);
            memory = map_private(pages * PAGE);
            for (uint64_t page = 0; page < pages; page++)
                page_fill(memory + page * PAGE, 1 + page % 1024 + generation * 100000);
            say("ok");
        } else if (!strcmp(line, "verify")) {
            uint64_t bad = 0;
            for (uint64_t page = 0; page < pages; page++)
                bad += page_bad(memory + page * PAGE, 1 + page % 1024 + generation * 100000);
            say(bad ? "bad %lu" : "ok", bad);
        } else if (!strcmp(line, "wake")) {
            wake_all();
            double until = seconds_now() + 3 * seconds + 5;
            unsigned wrong = 0;
            for (size_t i = 0; i < sleeper_count; i++) {
                struct sleeper *sleeper = &sleepers[i];
                while (!atomic_load(&sleeper->returned) && seconds_now() < until)
                    pause_ms(5);
                int returned = atomic_load(&sleeper->returned);
                if (!returned || sleeper->result != sleeper->right || (sleeper->timed && sleeper->slept < seconds - 0.1)) {
                    wrong++;
                    fprintf(stderr, "%s: returned %d, result %ld, must be %ld, after %.3f s: %s\n", sleeper->name, returned, sleeper->result, sleeper->right, sleeper->slept, strerror(sleeper->error));
                } else if (sleeper->timed && sleeper->slept > seconds + 0.5) {
                    fprintf(stderr, "late: %s slept %.3f s of %d\n", sleeper->name, sleeper->slept, seconds);
                }
            }
            say("woken %lu wrong %u", sleeper_count, wrong);
        } else {
            say("unknown");
        }
    }
    semctl(semaphores, 0, IPC_RMID);
    msgctl(queue, IPC_RMID, NULL);
    kill(forked_child, SIGKILL);
    return 0;
}
