/* A program with pages that others have too, that is who it is told to be, and tries to write frames, and to read those of others.
 *
 *   thief PAGES FIRST [uid=N] [gid=N] [saved=N] [groups=N] [caps=HEX]
 *
 * `saved` is the saved group id.
 * Page i of its first half, and of its second, has content FIRST + i: it shares with itself, if with nobody else.
 * `caps` are the capabilities that it keeps, in all sets and for good; the kernel lets others of its kind look into it all the same.
 *
 * Commands:
 *   `write`         tries every way from its agent's descriptor of the frames to a write; prints `tried N possible N: NAMES`
 *   `guard`         tries every way to read what guards the frames, and to be let to; prints the same
 *   `find FIRST N`  looks for N pages of somebody else in all frames that it can read; prints `frames N found N`
 *   `drop HEX`      keeps these capabilities only, from now on
 *   `group N`       changes its group, in all ids
 *   `secret`        is not dumpable any more
 *   `ahead N`       has huge pages made of the first N times 2 MiB of the pool, where no frame is yet; prints `made N`
 *   `junk N`        makes room in the pipe that guards frames, and writes N pages into it
 *   `sandbox`       confines itself by Landlock: it may not look into programs outside of that any more
 *   `look PID`      looks into a program by process_vm_readv(2); prints `looks`, or the errno's name
 *   `child N`       forks a child that becomes user N, grows what it has of frames, and looks for pages in it; prints as `find`, with the content of the `find` before
 *   `code`          makes its memory executable, and back
 *   `verify`, `address`, `quit`
 */
#include "target.h"
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>

static unsigned char *memory;
static uint64_t half, first, wanted, wanted_count;
static int tried, possible;
static char names[1024];

static void attempt(const char *name, long result)
{
    tried++;
    if (result < 0)
        return;
    possible++;
    if (strlen(names) + strlen(name) + 2 < sizeof names)
        strcat(strcat(names, " "), name);
}

#define TRY(name, call) attempt(name, (errno = 0, (long)(call)))

static void keep(uint64_t mask)
{
    for (int i = 0; i < 64; i++)
        if (!(mask >> i & 1))
            prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{(uint32_t)mask, (uint32_t)mask, 0}, {(uint32_t)(mask >> 32), (uint32_t)(mask >> 32), 0}};
    if (syscall(SYS_capset, &header, data))
        fail("capset");
    prctl(PR_SET_DUMPABLE, 1);
}

/* Calls back with a descriptor of another thread's table whose link has a text in it: taken, and by its path. */
static int with_descriptors(const char *text, void (*use)(int fd, const char *path))
{
    char path[600], link[600];
    int found = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        int tid = atoi(task->d_name);
        if (tid == 0 || tid == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%d/fd", tid);
        DIR *folder = opendir(path);
        for (struct dirent *entry; !found && folder && (entry = readdir(folder));) {
            snprintf(path, sizeof path, "/proc/self/task/%d/fd/%s", tid, entry->d_name);
            ssize_t length = readlink(path, link, sizeof link - 1);
            if (length < 0)
                continue;
            link[length] = 0;
            if (!strstr(link, text))
                continue;
            int thread = (int)syscall(SYS_pidfd_open, tid, O_EXCL /* PIDFD_THREAD */);
            int fd = thread < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, thread, atoi(entry->d_name), 0);
            if (thread >= 0)
                close(thread);
            if (fd < 0)
                continue;
            found = 1;
            use(fd, path);
            close(fd);
        }
        if (folder)
            closedir(folder);
        if (found)
            break;
    }
    if (tasks)
        closedir(tasks);
    return found;
}

static void reopen(const char *path)
{
    static const struct { const char *name; int flags; } ways[] = {
        {"open-rdwr", O_RDWR}, {"open-wronly", O_WRONLY}, {"open-trunc", O_RDWR | O_TRUNC}, {"open-read-trunc", O_RDONLY | O_TRUNC}, {"open-append", O_WRONLY | O_APPEND},
        {"open-direct", O_RDWR | O_DIRECT}, {"open-creat", O_RDWR | O_CREAT},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        TRY(ways[i].name, open(path, ways[i].flags, 0600));
    /* A path of its own: what is opened read-only can be taken for a new start. */
    int path_only = open(path, O_PATH);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", path_only);
    TRY("open-path-rdwr", path_only < 0 ? -1 : open(link, O_RDWR));
}

static void mounts(int fd, const char *path)
{
    struct mount_attr writable = {.attr_clr = MOUNT_ATTR_RDONLY};
    TRY("mount_setattr", syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &writable, sizeof writable));
    int tree = (int)syscall(SYS_open_tree, fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE);
    if (tree >= 0) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", tree);
        TRY("clone-mount_setattr", syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &writable, sizeof writable));
        TRY("clone-open-rdwr", open(link, O_RDWR));
    }
    TRY("fspick", syscall(SYS_fspick, fd, "", FSPICK_EMPTY_PATH));
    TRY("move_mount", syscall(SYS_move_mount, fd, "", AT_FDCWD, "/tmp", MOVE_MOUNT_F_EMPTY_PATH));
    char place[] = "/tmp/thief-XXXXXX";
    int file = mkstemp(place);
    if (file >= 0) {
        TRY("bind-mount", syscall(SYS_mount, path, place, NULL, 4096 /* MS_BIND */, NULL));
        close(file);
        unlink(place);
    }
    TRY("swapon", syscall(SYS_swapon, path, 0));
    struct { struct file_handle head; char room[128]; } handle = {.head = {.handle_bytes = 128}};
    int mount_id;
    if (name_to_handle_at(fd, "", &handle.head, &mount_id, AT_EMPTY_PATH) == 0)
        TRY("open_by_handle_at", open_by_handle_at(fd, &handle.head, O_RDWR));
}

static void write_frames(int fd, const char *path)
{
    static char junk[PAGE] = "overwritten";
    char link[64];
    int pipes[2], flags = 0x10 /* FS_IMMUTABLE_FL */;
    struct iovec vector = {junk, PAGE};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    TRY("write", write(fd, junk, PAGE));
    TRY("pwrite", pwrite(fd, junk, PAGE, 0));
    TRY("pwritev2", pwritev2(fd, &vector, 1, 0, RWF_APPEND));
    TRY("setfl", (fcntl(fd, F_SETFL, O_RDWR), pwrite(fd, junk, PAGE, 0)));
    TRY("fchmod", fchmod(fd, 0666));
    TRY("chmod", chmod(path, 0666));
    TRY("chmod-own-link", chmod(link, 0666));
    TRY("fchown", fchown(fd, getuid(), getgid()));
    TRY("futimens", futimens(fd, NULL));
    TRY("fsetxattr", fsetxattr(fd, "user.x", "y", 1, 0));
    TRY("linkat", linkat(fd, "", fd, "z", AT_EMPTY_PATH));
    TRY("setflags", ioctl(fd, FS_IOC_SETFLAGS, &flags));
    TRY("seals", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    TRY("lease", fcntl(fd, F_SETLEASE, F_WRLCK));
    reopen(path);
    reopen(link);
    TRY("ftruncate", ftruncate(fd, 0));
    TRY("truncate", truncate(path, 0));
    TRY("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
    TRY("zero-range", fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, PAGE));
    TRY("allocate", fallocate(fd, 0, 0, PAGE));
    off_t in = 0, out = PAGE;
    TRY("copy_file_range", copy_file_range(fd, &in, fd, &out, PAGE, 0));
    TRY("sendfile", sendfile(fd, fd, &in, PAGE));
    if (pipe(pipes) == 0 && write(pipes[1], junk, 100) == 100)
        TRY("splice", splice(pipes[0], NULL, fd, &out, 100, 0));
    void *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TRY("mmap-shared", shared == MAP_FAILED ? -1 : 0);
    shared = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    if (shared != MAP_FAILED) {
        TRY("mprotect", mprotect(shared, PAGE, PROT_READ | PROT_WRITE));
        TRY("remove", madvise(shared, PAGE, MADV_REMOVE));
        TRY("populate-write", madvise(shared, PAGE, 23 /* MADV_POPULATE_WRITE */));
        snprintf(link, sizeof link, "/proc/self/map_files/%lx-%lx", (unsigned long)shared, (unsigned long)shared + PAGE);
        TRY("map_files", open(link, O_RDWR));
        int mem = open("/proc/self/mem", O_RDWR);
        TRY("mem", mem < 0 ? -1 : pwrite(mem, junk, PAGE, (off_t)(unsigned long)shared));
        struct iovec theirs = {shared, PAGE};
        TRY("process_vm_writev", process_vm_writev(getpid(), &vector, 1, &theirs, 1, 0));
        TRY("read-into", read(pipes[0], shared, 1));
    }
    mounts(fd, path);
    /* Neither of these may take a page from anybody; whoever has it verifies. */
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (shared != MAP_FAILED) {
        madvise(shared, PAGE, MADV_PAGEOUT);
        madvise(shared, PAGE, MADV_DONTNEED);
    }
}

static void read_guard(int fd, const char *path)
{
    static char junk[PAGE];
    char link[64];
    int pipes[2];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    TRY("read", read(fd, junk, PAGE));
    if (pipe(pipes) == 0) {
        TRY("tee", tee(fd, pipes[1], PAGE, SPLICE_F_NONBLOCK));
        TRY("splice", splice(fd, NULL, pipes[1], NULL, PAGE, SPLICE_F_NONBLOCK));
    }
    TRY("shrink", fcntl(fd, F_SETPIPE_SZ, PAGE) == (int)PAGE ? 0 : -1);
    TRY("fchmod", fchmod(fd, 0666));
    TRY("fchown", fchown(fd, getuid(), getgid()));
    TRY("open", open(path, O_RDONLY | O_NONBLOCK));
    TRY("open-rdwr", open(path, O_RDWR | O_NONBLOCK));
    TRY("open-own-link", open(link, O_RDONLY | O_NONBLOCK));
}

static int made, wanted_made;

/* A page of the pool that nobody wrote can be touched, and then be made a huge one, with all that comes to lie beside it. */
static void make_ahead(int fd, const char *path)
{
    const size_t huge = 512 * PAGE;
    (void)path;
    unsigned char *room = mmap(NULL, 2 * huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *place = (unsigned char *)(((unsigned long)room + huge - 1) & ~(huge - 1));
    for (int i = 0; i < wanted_made; i++) {
        if (mmap(place, huge, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)i * (off_t)huge) == MAP_FAILED)
            fail("mmap");
        (void)*(volatile unsigned char *)place;
        made += madvise(place, huge, 25 /* MADV_COLLAPSE */) == 0;
    }
    munmap(room, 2 * huge);
}

static void write_junk(int fd, const char *path)
{
    static char junk[PAGE];
    (void)path;
    fcntl(fd, F_SETPIPE_SZ, 256 * PAGE);
    for (int i = 0; i < wanted_made; i++)
        made += write(fd, junk, PAGE) == (ssize_t)PAGE;
}

static uint64_t seen, found;

static void look(const unsigned char *page)
{
    /* The first word says which content it would be; the whole page is compared. */
    seen++;
    for (uint64_t i = 0; i < wanted_count; i++)
        if (*(const uint64_t *)(const void *)page == word_of(wanted + i, 0) && !page_bad(page, wanted + i)) {
            found++;
            return;
        }
}

static void look_through(int fd, const char *path)
{
    static unsigned char page[PAGE];
    (void)path;
    for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0; at += PAGE)
        if (pread(fd, page, PAGE, at) == (ssize_t)PAGE)
            look(page);
}

/* What a child that is somebody else can reach beyond what it had by fork: its mappings of frames, made larger. */
static void live_as_child(uid_t user)
{
    char line[600];
    if (setresgid(user, user, user) || setresuid(user, user, user))
        _exit(1);
    prctl(PR_SET_DUMPABLE, 1);
    seen = found = 0;
    with_descriptors("samepage-frames", look_through);
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long begins[64], ends[64];
    int count = 0;
    while (maps && fgets(line, sizeof line, maps) && count < 64)
        if (strstr(line, "samepage-frames") && sscanf(line, "%lx-%lx", &begins[count], &ends[count]) == 2)
            count++;
    for (int i = 0; i < count; i++) {
        size_t old = ends[i] - begins[i], larger = old + 4096 * PAGE;
        unsigned char *grown = mremap((void *)begins[i], old, larger, MREMAP_MAYMOVE);
        if (grown == MAP_FAILED)
            continue;
        int out[2];
        for (size_t at = old; at < larger && pipe(out) == 0; at += PAGE) {
            /* A page behind the file's end would kill us: the kernel is asked to read it. */
            static unsigned char copy[PAGE];
            if (write(out[1], grown + at, PAGE) == (ssize_t)PAGE && read(out[0], copy, PAGE) == (ssize_t)PAGE)
                look(copy);
            close(out[0]);
            close(out[1]);
        }
    }
    say("frames %lu found %lu", seen, found);
    _exit(0);
}

static uint64_t verify(void)
{
    uint64_t bad = 0;
    for (uint64_t page = 0; page < 2 * half; page++)
        bad += page_bad(memory + page * PAGE, first + page % half) != 0;
    return bad;
}

/* Any ruleset will do. */
static int sandbox(void)
{
    struct landlock_ruleset_attr attributes = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_BLOCK};
    int rules = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);
    if (rules < 0)
        return -1;
    int result = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_landlock_restrict_self, rules, 0);
    close(rules);
    return result;
}

static void look_into(pid_t pid)
{
    static char page[PAGE];
    struct iovec local = {page, 1}, remote = {memory, 1}; /* of another of our kind it may lie elsewhere: then EFAULT */
    say("%s", process_vm_readv(pid, &local, 1, &remote, 1, 0) >= 0 || errno == EFAULT ? "looks" : strerrorname_np(errno));
}

static void report(int reached)
{
    if (reached)
        say("tried %d possible %d:%s", tried, possible, names);
    else
        say("no descriptor of an agent");
}

static int obey(const char *line)
{
    if (!strncmp(line, "drop ", 5)) {
        keep(strtoul(line + 5, NULL, 16));
        return 0;
    }
    if (!strncmp(line, "group ", 6)) {
        gid_t group = (gid_t)atoi(line + 6);
        return setresgid(group, group, group) || prctl(PR_SET_DUMPABLE, 1);
    }
    if (!strcmp(line, "sandbox"))
        return sandbox();
    if (!strcmp(line, "secret"))
        return prctl(PR_SET_DUMPABLE, 0);
    if (!strcmp(line, "code"))
        return mprotect(memory, 2 * half * PAGE, PROT_READ | PROT_EXEC) || mprotect(memory, 2 * half * PAGE, PROT_READ | PROT_WRITE);
    if (!strcmp(line, "verify"))
        return 0;
    errno = EINVAL;
    return -1;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    long uid = -1, gid = -1, saved = -1, groups = -1;
    uint64_t mask = 0;
    int limited = 0;
    half = strtoul(argv[1], NULL, 10);
    first = strtoul(argv[2], NULL, 10);
    for (int i = 3; i < argc; i++) {
        sscanf(argv[i], "uid=%ld", &uid);
        sscanf(argv[i], "gid=%ld", &gid);
        sscanf(argv[i], "saved=%ld", &saved);
        sscanf(argv[i], "groups=%ld", &groups);
        limited |= sscanf(argv[i], "caps=%lx", &mask) == 1;
    }
    gid_t extra = (gid_t)groups;
    if ((groups >= 0 && setgroups(1, &extra)) || (gid >= 0 && setresgid(gid, gid, gid)) || (saved >= 0 && setresgid(-1, -1, saved)) || (uid >= 0 && setresuid(uid, uid, uid)))
        fail("credentials");
    if (limited)
        keep(mask);
    prctl(PR_SET_DUMPABLE, 1);
    memory = map_private(2 * half * PAGE);
    for (uint64_t page = 0; page < 2 * half; page++)
        page_fill(memory + page * PAGE, first + page % half);
    say("ready %d", getpid());
    char line[64];
    while (next_command(line, sizeof line)) {
        tried = possible = 0;
        names[0] = 0;
        uint64_t bad;
        if (!strcmp(line, "write")) {
            report(with_descriptors("samepage-frames", write_frames));
        } else if (!strcmp(line, "guard")) {
            report(with_descriptors("pipe:[", read_guard));
        } else if (sscanf(line, "find %lu %lu", &wanted, &wanted_count) == 2) {
            seen = found = 0;
            with_descriptors("samepage-frames", look_through);
            say("frames %lu found %lu", seen, found);
        } else if (!strncmp(line, "look ", 5)) {
            look_into((pid_t)atoi(line + 5));
        } else if (sscanf(line, "ahead %d", &wanted_made) == 1) {
            made = 0;
            with_descriptors("samepage-frames", make_ahead);
            say("made %d", made);
        } else if (sscanf(line, "junk %d", &wanted_made) == 1) {
            made = 0;
            with_descriptors("pipe:[", write_junk);
            say("made %d", made);
        } else if (!strncmp(line, "child ", 6)) {
            pid_t child = fork();
            if (child == 0)
                live_as_child((uid_t)atoi(line + 6));
            waitpid(child, NULL, 0);
        } else if (!strcmp(line, "address")) {
            say("%lx %lx", (unsigned long)memory, (unsigned long)(memory + 2 * half * PAGE));
        } else if ((bad = verify())) {
            say("bad %lu", bad);
        } else if (obey(line)) {
            say("%s: %s", line, strerror(errno));
        } else {
            say("ok");
        }
    }
    return 0;
}
