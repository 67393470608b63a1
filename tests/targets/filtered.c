/* A program under a seccomp filter, whose memory others of its kind have in common with it.
 *
 *   filtered MIB [filter…]
 *
 * Filters, set for this thread before it is ready, or, by a command of the same name, for all threads (TSYNC) later:
 *   `allow`      looks at the call, and allows everything
 *   `deny`       ERRNO for a list of calls that containers may not make
 *   `clone`      KILL_PROCESS for clone
 *   `exec`       ERRNO for memory that becomes executable, and for such that is to be written, too
 *   `ioctl`      ERRNO for ioctl
 *   `doorbell`   KILL_PROCESS for a read of eight bytes
 *   `once`       KILL_PROCESS for a read of sixteen bytes
 *   `supervise`  asks a supervisor, which is a process of its own, about getppid, and about recvfrom of descriptor 700
 *   `FILE`       what stands in a file, as the kernel takes it
 *   `exactly:FILE` that for a thread that only reads, and two that allow everything for this one
 * `mdwe` is PR_SET_MDWE. `sigreturn` makes a thread with a filter of its own, ERRNO for rt_sigreturn; `strict` one in strict mode; `reader` one that waits in a read of sixteen bytes; `sleeper` one that sleeps five seconds by poll and says when it has.
 * Commands: `verify` (every byte), `spin` (a thread that computes), `begin` (a thread makes supervised calls, one after the other), `brief` (a thread for each), `wake` (the reader has its bytes, and says so), `end` (it stops; answers its calls and the supervisor's), `quit`.
 */
#include "target.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define SUPERVISED 700
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif

static struct { volatile uint64_t asked; } *shared;
static unsigned char *memory;
static uint64_t pages, calls, own;
static volatile int stop, has_ended;
static struct sock_filter of_file[BPF_MAXINSNS];
static unsigned file_count;
static int supervisor_socket, pipe_ends[2], message_ends[2];

#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ARGUMENT(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[n]))
#define FOR(number, action) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, action)
#define REFUSED (SECCOMP_RET_ERRNO | EPERM)

static long set(unsigned flags, struct sock_filter *code, unsigned count)
{
    struct sock_fprog program = {(unsigned short)count, code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

#define SET(flags, ...) set(flags, (struct sock_filter[]){__VA_ARGS__}, sizeof((struct sock_filter[]){__VA_ARGS__}) / sizeof(struct sock_filter))

/* The supervisor: counts what it is asked, takes its time, and has the call made or answers it. */
static void supervise(int socket)
{
    char data[CMSG_SPACE(sizeof(int))];
    struct iovec byte = {&(char){0}, 1};
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = data, .msg_controllen = sizeof data};
    int listener;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (recvmsg(socket, &message, 0) != 1)
        _exit(0);
    memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof listener);
    for (;;) {
        struct seccomp_notif asked = {0};
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked)) {
            if (errno == ENOENT || errno == EINTR)
                continue;
            _exit(0);
        }
        shared->asked++;
        pause_ms(2);
        struct seccomp_notif_resp answer = {.id = asked.id};
        if (asked.data.nr == SYS_recvfrom)
            answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
        if (asked.data.nr == SYS_recvfrom) {
            pause_ms(5);
            if (write(message_ends[1], "x", 1) != 1)
                _exit(1);
        }
    }
}

static void hand_over(int listener)
{
    char data[CMSG_SPACE(sizeof(int))];
    struct iovec byte = {&(char){0}, 1};
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = data, .msg_controllen = sizeof data};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof listener);
    memcpy(CMSG_DATA(head), &listener, sizeof listener);
    if (sendmsg(supervisor_socket, &message, 0) != 1)
        fail("sendmsg");
    close(listener);
}

static void read_filter(const char *path)
{
    FILE *file = fopen(path, "r");
    file_count = file ? (unsigned)fread(of_file, sizeof *of_file, BPF_MAXINSNS, file) : 0;
    if (!file_count)
        fail(path);
    fclose(file);
}

static void *in_thread(void *kind)
{
    if (!strcmp(kind, "sigreturn") && SET(0, NUMBER, FOR(SYS_rt_sigreturn, REFUSED), ALLOW))
        fail("seccomp");
    if (!strncmp(kind, "exactly:", 8) && set(0, of_file, file_count))
        fail("seccomp");
    if (!strcmp(kind, "strict") && prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
        fail("strict");
    has_ended = 1;
    for (uint64_t word;;)
        if (syscall(SYS_read, pipe_ends[0], &word, sizeof word) <= 0)
            syscall(SYS_exit, 0);
}

static void *reader(void *unused)
{
    char bytes[16];
    has_ended = 1;
    long got = syscall(SYS_read, message_ends[0], bytes, sizeof bytes);
    say("read %ld", got);
    syscall(SYS_exit, 0);
    return unused;
}

static void *sleeper(void *unused)
{
    has_ended = 1;
    double since = seconds_now();
    int interrupted = poll(NULL, 0, 5000);
    say("slept %d %.1f", interrupted, seconds_now() - since);
    return unused;
}

static void *spinner(void *unused)
{
    for (volatile uint64_t turns = 0;; turns++)
        ;
    return unused;
}

static void *supervised(void *unused)
{
    for (char byte; !stop; calls++) {
        if (calls % 4 == 3 ? recv(SUPERVISED, &byte, 1, 0) != 1 : syscall(SYS_getppid) != 0)
            fail("a supervised call");
        pause_ms(calls % 32 < 24 ? 2 : 60);
    }
    has_ended = 1;
    return unused;
}

/* A thread that makes one supervised call, and ends. */
static void *supervised_once(void *unused)
{
    char byte;
    if (recv(SUPERVISED, &byte, 1, 0) != 1)
        fail("a supervised call");
    calls++;
    return unused;
}

static void *one_after_the_other(void *unused)
{
    pthread_t thread;
    while (!stop)
        if (pthread_create(&thread, NULL, supervised_once, NULL) || pthread_join(thread, NULL))
            fail("pthread_create");
    has_ended = 1;
    return unused;
}

static void start(void *(*body)(void *), void *argument, int waits)
{
    pthread_t thread;
    has_ended = 0;
    if (pthread_create(&thread, NULL, body, argument) || pthread_detach(thread))
        fail("pthread_create");
    while (waits && !has_ended)
        pause_ms(1);
}

/* 0 where there is no such filter. */
static int filter(char *kind, unsigned flags)
{
    long answer;
    if (!strcmp(kind, "allow"))
        answer = SET(flags, NUMBER, FOR(SYS_reboot, SECCOMP_RET_ALLOW), ALLOW);
    else if (!strcmp(kind, "deny"))
        answer = SET(flags, NUMBER, FOR(SYS_userfaultfd, REFUSED), FOR(SYS_bpf, REFUSED), FOR(SYS_ptrace, REFUSED), FOR(SYS_mount, REFUSED), FOR(SYS_get_mempolicy, REFUSED), FOR(SYS_mbind, REFUSED),
            FOR(SYS_io_uring_setup, REFUSED), FOR(SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS), ALLOW);
    else if (!strcmp(kind, "clone"))
        answer = SET(flags, NUMBER, FOR(SYS_clone, SECCOMP_RET_KILL_PROCESS), ALLOW);
    else if (!strcmp(kind, "exec"))
        answer = SET(flags, NUMBER, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 3), ARGUMENT(2), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 5, 6), ALLOW, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 4), ARGUMENT(2),
            BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_WRITE | PROT_EXEC, 0, 1), BPF_STMT(BPF_RET | BPF_K, REFUSED), ALLOW);
    else if (!strcmp(kind, "ioctl"))
        answer = SET(flags, NUMBER, FOR(SYS_ioctl, REFUSED), ALLOW);
    else if (!strcmp(kind, "doorbell") || !strcmp(kind, "once"))
        answer = SET(flags, NUMBER, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 0, 3), ARGUMENT(2), FOR(*kind == 'd' ? 8 : 16, SECCOMP_RET_KILL_PROCESS), ALLOW);
    else if (!strcmp(kind, "supervise")) {
        answer = SET(SECCOMP_FILTER_FLAG_NEW_LISTENER, NUMBER, FOR(SYS_getppid, SECCOMP_RET_USER_NOTIF), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_recvfrom, 0, 3), ARGUMENT(0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SUPERVISED, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF), ALLOW);
        if (answer > 0) {
            hand_over((int)answer);
            answer = 0;
        }
    } else if (!strcmp(kind, "mdwe"))
        answer = prctl(PR_SET_MDWE, 1, 0, 0, 0);
    else if (!strcmp(kind, "sigreturn") || !strcmp(kind, "strict")) {
        start(in_thread, kind, 1);
        pause_ms(20);
        answer = 0;
    } else if (!strcmp(kind, "sleeper") || !strcmp(kind, "reader")) {
        start(*kind == 's' ? sleeper : reader, NULL, 1);
        pause_ms(20);
        answer = 0;
    } else if (!strncmp(kind, "exactly:", 8)) {
        read_filter(kind + 8);
        start(in_thread, kind, 1);
        answer = SET(0, NUMBER, ALLOW) || SET(0, NUMBER, ALLOW);
    } else if (strchr(kind, '/')) {
        read_filter(kind);
        answer = set(flags, of_file, file_count);
    } else
        return 0;
    if (answer)
        fail(kind);
    return 1;
}

static uint64_t verify(void)
{
    uint64_t bad = 0;
    for (uint64_t page = 0; page < pages; page++)
        bad += page_bad(memory + page * PAGE, page % 16 == 15 ? mix(page) ^ (own << 40) : 1 + page);
    return bad;
}

int main(int argc, char **argv)
{
    static char in[4096], out[4096];
    int ends[2];
    if (argc < 2)
        return 2;
    // Otherwise the C library asks what kind of file it is, which not every filter allows.
    setvbuf(stdin, in, _IOFBF, sizeof in);
    setvbuf(stdout, out, _IOLBF, sizeof out);
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) || pipe(pipe_ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, message_ends) || dup2(message_ends[0], SUPERVISED) < 0)
        fail("descriptors");
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "supervise") == 0 && fork() == 0)
            supervise(ends[1]);
    }
    supervisor_socket = ends[0];
    own = (uint64_t)getpid();
    pages = strtoul(argv[1], NULL, 10) * 256;
    memory = map_private(pages * PAGE);
    for (uint64_t page = 0; page < pages; page++)
        page_fill(memory + page * PAGE, page % 16 == 15 ? mix(page) ^ (own << 40) : 1 + page);
    for (int i = 2; i < argc; i++)
        if (!filter(argv[i], 0))
            return 2;
    say("ready");
    char line[256];
    while (next_command(line, sizeof line)) {
        if (!strcmp(line, "verify")) {
            uint64_t bad = verify();
            if (bad)
                say("bad %lu", bad);
            else
                say("ok");
        } else if (!strcmp(line, "spin")) {
            start(spinner, NULL, 0);
            say("ok");
        } else if (!strcmp(line, "begin") || !strcmp(line, "brief")) {
            stop = 0;
            start(line[1] == 'e' ? supervised : one_after_the_other, NULL, 0);
            say("ok");
        } else if (!strcmp(line, "wake")) {
            if (write(message_ends[1], "0123456789abcdef", 16) != 16)
                fail("write");
        } else if (!strcmp(line, "end")) {
            stop = 1;
            while (!has_ended)
                pause_ms(1);
            pause_ms(20);
            say("%lu %lu", calls, shared->asked);
        } else if (filter(line, SECCOMP_FILTER_FLAG_TSYNC)) {
            say("ok");
        } else {
            say("unknown");
        }
    }
    return 0;
}
