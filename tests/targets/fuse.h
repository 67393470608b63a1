/* A file system of one file (FUSE), without a library, in a mount namespace of the program's own. */
#ifndef SAMEPAGE_FUSE_H
#define SAMEPAGE_FUSE_H

#include "target.h"
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

enum { FUSE_FILE = 2, FUSE_READ_MOST = 1 << 17 };

struct fuse_file {
    mode_t mode;
    uint64_t bytes;
    int (*may_open)(const struct fuse_in_header *in); /* NULL: always */
    void (*serve_read)(int device, const struct fuse_in_header *in);
};

static inline void fuse_reply(int device, uint64_t unique, int error, const void *body, size_t length)
{
    static struct {
        struct fuse_out_header header;
        char body[FUSE_READ_MOST];
    } out;
    out.header = (struct fuse_out_header){.len = (uint32_t)(sizeof out.header + length), .error = -error, .unique = unique};
    memcpy(out.body, body, length);
    if (write(device, &out, out.header.len) < 0 && errno != ENOENT)
        fail("fuse reply");
}

/* Mounts it on /mnt, where nobody else sees it. Returns the device. */
static inline int fuse_mount(const char *name)
{
    char options[64];
    int device;
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || (device = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0)
        fail("a mount namespace and /dev/fuse");
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    if (mount(name, "/mnt", "fuse", MS_NOSUID | MS_NODEV, options))
        fail("mount");
    return device;
}

static inline struct fuse_attr fuse_attributes(const struct fuse_file *file, uint64_t node)
{
    struct fuse_attr attr = {.ino = node, .mode = node == FUSE_FILE ? S_IFREG | file->mode : S_IFDIR | 0555, .nlink = 1, .size = node == FUSE_FILE ? file->bytes : 0, .blksize = PAGE};
    return attr;
}

/* For a process of its own, which ends with the program. Whatever name is looked up is the file. */
__attribute__((noreturn)) static inline void fuse_serve(int device, const struct fuse_file *file)
{
    static char buffer[FUSE_READ_MOST + PAGE];
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
            fuse_reply(device, in->unique, 0, &init, sizeof init);
        } else if (in->opcode == FUSE_LOOKUP) {
            struct fuse_entry_out entry = {.nodeid = FUSE_FILE, .entry_valid = 3600, .attr_valid = 3600, .attr = fuse_attributes(file, FUSE_FILE)};
            fuse_reply(device, in->unique, 0, &entry, sizeof entry);
        } else if (in->opcode == FUSE_GETATTR) {
            struct fuse_attr_out attr = {.attr_valid = 3600, .attr = fuse_attributes(file, in->nodeid)};
            fuse_reply(device, in->unique, 0, &attr, sizeof attr);
        } else if (in->opcode == FUSE_OPEN && file->may_open && !file->may_open(in)) {
            fuse_reply(device, in->unique, EIO, "", 0);
        } else if (in->opcode == FUSE_OPEN || in->opcode == FUSE_OPENDIR) {
            struct fuse_open_out opened = {.fh = 1, .open_flags = FOPEN_KEEP_CACHE};
            fuse_reply(device, in->unique, 0, &opened, sizeof opened);
        } else if (in->opcode == FUSE_READ) {
            file->serve_read(device, in);
        } else if (in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET && in->opcode != FUSE_INTERRUPT) {
            fuse_reply(device, in->unique, in->opcode == FUSE_FLUSH || in->opcode == FUSE_RELEASE || in->opcode == FUSE_RELEASEDIR ? 0 : ENOSYS, "", 0);
        }
    }
}

#endif
