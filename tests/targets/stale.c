/* Becomes a program whose file lies on a file system of its own (FUSE), which serves it for the one exec, and nobody who opens it again: as a server of NFS that is gone, but for the waiting.
 *
 *   stale PROGRAM [ARGUMENT…]
 *
 * The program must be linked statically. Whoever opens its file later gets an error, and a line on standard error tells of it. It needs CAP_SYS_ADMIN for the mount, which lies in a mount namespace of its own.
 */
#include "target.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

enum { FILE_NODE = 2, READ_MOST = 1 << 17 };

static int device;
static unsigned char *content;
static uint64_t bytes;

static void reply(uint64_t unique, int error, const void *body, size_t length)
{
    static struct {
        struct fuse_out_header header;
        char body[READ_MOST];
    } out;
    out.header = (struct fuse_out_header){.len = (uint32_t)(sizeof out.header + length), .error = -error, .unique = unique};
    memcpy(out.body, body, length);
    if (write(device, &out, out.header.len) < 0 && errno != ENOENT)
        fail("fuse reply");
}

static struct fuse_attr attributes(uint64_t node)
{
    struct fuse_attr attr = {.ino = node, .mode = node == FILE_NODE ? S_IFREG | 0555 : S_IFDIR | 0555, .nlink = 1, .size = node == FILE_NODE ? bytes : 0, .blksize = PAGE};
    return attr;
}

static void serve_read(const struct fuse_in_header *in)
{
    const struct fuse_read_in *asked = (void *)(in + 1);
    uint64_t from = asked->offset < bytes ? asked->offset : bytes, length = bytes - from;
    length = length < asked->size ? length : asked->size;
    reply(in->unique, 0, content + from, length < READ_MOST ? length : READ_MOST);
}

/* A process of its own, which ends with the program. */
__attribute__((noreturn)) static void serve(void)
{
    static char buffer[READ_MOST + PAGE];
    int opened = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        ssize_t got = read(device, buffer, sizeof buffer);
        if (got < 0 && (errno == EINTR || errno == ENOENT))
            continue;
        if (got < (ssize_t)sizeof(struct fuse_in_header))
            _exit(0);
        const struct fuse_in_header *in = (void *)buffer;
        if (in->opcode == FUSE_INIT) {
            const struct fuse_init_in *asked = (void *)(in + 1);
            struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = asked->minor, .max_readahead = 0, .max_write = PAGE};
            reply(in->unique, 0, &init, sizeof init);
        } else if (in->opcode == FUSE_LOOKUP) {
            struct fuse_entry_out entry = {.nodeid = FILE_NODE, .entry_valid = 3600, .attr_valid = 3600, .attr = attributes(FILE_NODE)};
            reply(in->unique, 0, &entry, sizeof entry);
        } else if (in->opcode == FUSE_GETATTR) {
            struct fuse_attr_out attr = {.attr_valid = 3600, .attr = attributes(in->nodeid)};
            reply(in->unique, 0, &attr, sizeof attr);
        } else if (in->opcode == FUSE_OPEN && opened++ > 0) {
            fprintf(stderr, "opened again by process %u\n", in->pid);
            reply(in->unique, EIO, "", 0);
        } else if (in->opcode == FUSE_OPEN || in->opcode == FUSE_OPENDIR) {
            struct fuse_open_out answer = {.fh = 1, .open_flags = FOPEN_KEEP_CACHE};
            reply(in->unique, 0, &answer, sizeof answer);
        } else if (in->opcode == FUSE_READ) {
            serve_read(in);
        } else if (in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET && in->opcode != FUSE_INTERRUPT) {
            reply(in->unique, in->opcode == FUSE_FLUSH || in->opcode == FUSE_RELEASE || in->opcode == FUSE_RELEASEDIR ? 0 : ENOSYS, "", 0);
        }
    }
}

static void read_program(const char *path)
{
    struct stat facts;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &facts))
        fail(path);
    bytes = (uint64_t)facts.st_size;
    content = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (content == MAP_FAILED)
        fail("mmap");
    close(file);
}

int main(int argc, char **argv)
{
    char options[64], path[512];
    if (argc < 2)
        return 2;
    read_program(argv[1]);
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || (device = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0)
        fail("a mount namespace and /dev/fuse");
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    if (mount("stale", "/mnt", "fuse", MS_NOSUID | MS_NODEV, options))
        fail("mount");
    pid_t server = fork();
    if (server == 0)
        serve();
    if (server < 0)
        fail("fork");
    const char *name = strrchr(argv[1], '/');
    snprintf(path, sizeof path, "/mnt/%s", name ? name + 1 : argv[1]);
    execv(path, argv + 1);
    fail("execv");
}
