/* A program with pages that every other one of its kind has too, whoever's it is, and that becomes somebody else.
 *
 *   wall PAGES [OFFSET]      OFFSET: the content of its first page; 1 by default
 *
 * Commands:
 *   `fork`       makes a child that gives half of the pages content that all such children have; prints `child PID`
 *   `become N`   becomes user N for good, in all ids
 *   `exec`       becomes the same program anew
 *   `namespace`  goes into a user namespace of its own
 *   `secret`     is not dumpable any more: other programs of its user may not look into it
 *   `reach PID`  tries all ways to write what process PID has mapped or open and its user may not write; prints what it got
 *   `verify`, `address`, `quit`
 */
#include "target.h"
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

static unsigned char *memory;
static uint64_t pages, first = 1;
static pid_t child;

static uint64_t verify(uint64_t changed)
{
    uint64_t bad = 0;
    for (uint64_t page = 0; page < pages; page++)
        bad += page_bad(memory + page * PAGE, page < changed ? 1000000000 + page : first + page) != 0;
    return bad;
}

/* Lives until its parent ends it; says nothing. */
static void live_as_child(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (uint64_t page = 0; page < pages / 2; page++)
        page_fill(memory + page * PAGE, 1000000000 + page);
    for (;;) {
        pause_ms(200);
        if (verify(pages / 2))
            _exit(1);
    }
}

/* Whether a descriptor on somebody's frames lets us change them. */
static int writes(int fd)
{
    char byte = 1;
    if (pwrite(fd, &byte, 1, 0) >= 0 || fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) == 0 || ftruncate(fd, 0) == 0 || fchmod(fd, 0666) == 0)
        return 1;
    void *mapped = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    return mapped != MAP_FAILED && (mprotect(mapped, PAGE, PROT_READ | PROT_WRITE) == 0 || madvise(mapped, PAGE, MADV_REMOVE) == 0);
}

/* What of all threads' descriptors and of all mappings can be opened, or taken, by us. */
static void reach(pid_t pid)
{
    char path[300];
    int opened = 0, written = 0, taken = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        int thread = task->d_name[0] == '.' ? -1 : (int)syscall(SYS_pidfd_open, atoi(task->d_name), O_EXCL /* PIDFD_THREAD */);
        for (int number = 0; thread >= 0 && number < 64; number++) {
            int fd = (int)syscall(SYS_pidfd_getfd, thread, number, 0);
            snprintf(path, sizeof path, "/proc/%d/task/%s/fd/%d", pid, task->d_name, number);
            if (fd >= 0) {
                char name[200] = "", link[64];
                snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
                if (readlink(link, name, sizeof name - 1) > 0 && name[0] == '/' && strstr(name, "frames")) {
                    taken++;
                    written += writes(fd);
                    int again = open(link, O_RDWR);
                    written += again >= 0;
                }
                close(fd);
            }
            int file = open(path, O_RDONLY);
            if (file >= 0) {
                opened++;
                close(file);
            }
        }
        if (thread >= 0)
            close(thread);
    }
    if (tasks)
        closedir(tasks);
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int mem = open(path, O_RDWR);
    char byte;
    struct iovec mine = {&byte, 1}, theirs = {memory, 1};
    long read = process_vm_readv(pid, &mine, 1, &theirs, 1, 0);
    say("opened %d taken %d written %d memory %s", opened, taken, written, mem >= 0 || read > 0 ? "yes" : "no");
    if (mem >= 0)
        close(mem);
}

static int obey(const char *line, char **argv)
{
    if (!strncmp(line, "become ", 7)) {
        uid_t user = (uid_t)atoi(line + 7);
        /* As servers do that want to be looked into all the same. */
        return setresgid(user, user, user) || setresuid(user, user, user) || prctl(PR_SET_DUMPABLE, 1);
    }
    if (!strcmp(line, "exec"))
        return execv("/proc/self/exe", argv);
    if (!strcmp(line, "namespace"))
        return unshare(CLONE_NEWUSER);
    if (!strcmp(line, "secret"))
        return prctl(PR_SET_DUMPABLE, 0);
    if (strcmp(line, "verify")) {
        errno = EINVAL;
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    pages = strtoul(argv[1], NULL, 10);
    if (argc > 2)
        first = strtoul(argv[2], NULL, 10);
    memory = map_private(pages * PAGE);
    for (uint64_t page = 0; page < pages; page++)
        page_fill(memory + page * PAGE, first + page);
    setvbuf(stdin, NULL, _IONBF, 0); /* what we have not asked for is for the next program */
    say("ready");
    char line[64];
    while (next_command(line, sizeof line)) {
        uint64_t bad = verify(0);
        if (!strcmp(line, "fork")) {
            child = fork();
            if (child == 0)
                live_as_child();
            say("child %d", child);
        } else if (!strncmp(line, "reach ", 6)) {
            reach(atoi(line + 6));
        } else if (!strcmp(line, "address")) {
            say("%lx %lx", (unsigned long)memory, (unsigned long)(memory + pages * PAGE));
        } else if (bad) {
            say("bad %lu", bad);
        } else if (obey(line, argv)) {
            say("%s: %s", line, strerror(errno));
        } else {
            say("ok");
        }
    }
    int status = 0;
    if (child > 0 && waitpid(child, &status, WNOHANG) == child)
        return 3; /* it found something wrong */
    return 0;
}
