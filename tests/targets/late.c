/* Who has a copy of a userfaultfd and is late: it takes what is missing for discarded, at any time, and answers with a zero page, as wardens of parents and the daemon may that were frozen
 * behind the reading of a fault.
 *
 *   late PID           takes the userfaultfd by which the agent in PID hears of forks, and asks for a zero page at each page of the largest area of that process, over and over
 *
 * Commands: `report` (prints `asked N filled M`: M pages were missing), `quit`.
 */
#include "target.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

static atomic_ulong asked, filled;
static unsigned long from, to;
static int userfaultfd = -1;

/* The largest stretch of private memory that can be written, whatever mappings it is of. */
static void find_area(const char *pid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%s/maps", pid);
    FILE *maps = fopen(path, "r");
    unsigned long start, end, first = 0, last = 0;
    char mode[5];
    if (!maps)
        fail(path);
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %4s", &start, &end, mode) != 3 || strcmp(mode, "rw-p"))
            continue;
        first = start == last ? first : start;
        last = end;
        if (last - first > to - from) {
            from = first;
            to = last;
        }
    }
    fclose(maps);
}

static int hears_of_forks(int fd)
{
    char path[64], line[256];
    unsigned long api, all;
    unsigned features = 0;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FILE *info = fopen(path, "r");
    while (info && fgets(line, sizeof line, info))
        if (sscanf(line, "API: %lx:%x:%lx", &api, &features, &all) == 3)
            break;
    if (info)
        fclose(info);
    return (features & UFFD_FEATURE_EVENT_FORK) != 0;
}

/* The agent's threads have a table of descriptors of their own. */
static void take(const char *pid)
{
    char path[300], target[64];
    snprintf(path, sizeof path, "/proc/%s/task", pid);
    DIR *threads = opendir(path);
    struct dirent *thread, *entry;
    while (threads && userfaultfd < 0 && (thread = readdir(threads))) {
        int held = (int)syscall(SYS_pidfd_open, atoi(thread->d_name), O_EXCL); /* PIDFD_THREAD */
        snprintf(path, sizeof path, "/proc/%s/task/%.20s/fd", pid, thread->d_name);
        DIR *descriptors = held < 0 ? NULL : opendir(path);
        while (descriptors && userfaultfd < 0 && (entry = readdir(descriptors))) {
            snprintf(path, sizeof path, "/proc/%s/task/%.20s/fd/%.20s", pid, thread->d_name, entry->d_name);
            ssize_t length = readlink(path, target, sizeof target - 1);
            if (length < 0 || strncmp(target, "anon_inode:[userfaultfd]", (size_t)length))
                continue;
            int copy = (int)syscall(SYS_pidfd_getfd, held, atoi(entry->d_name), 0);
            if (copy >= 0 && hears_of_forks(copy))
                userfaultfd = copy;
            else if (copy >= 0)
                close(copy);
        }
        if (descriptors)
            closedir(descriptors);
        if (held >= 0)
            close(held);
    }
    if (threads)
        closedir(threads);
}

static void *answer(void *unused)
{
    for (;;)
        for (unsigned long page = from; page < to; page += PAGE) {
            struct uffdio_zeropage zero = {.range = {page, PAGE}};
            if (ioctl(userfaultfd, UFFDIO_ZEROPAGE, &zero) == 0)
                atomic_fetch_add(&filled, 1);
            atomic_fetch_add(&asked, 1);
        }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (argc != 2)
        return 2;
    find_area(argv[1]);
    take(argv[1]);
    if (userfaultfd < 0) {
        errno = ENOENT;
        fail("a userfaultfd that hears of forks");
    }
    if (pthread_create(&thread, NULL, answer, NULL))
        fail("pthread_create");
    say("ready");
    char line[64];
    while (next_command(line, sizeof line))
        say("asked %lu filled %lu", atomic_load(&asked), atomic_load(&filled));
    return 0;
}
