/* Becomes a program whose file lies on a file system of its own (FUSE), which serves it for the one exec, and nobody who opens it again: as a server of NFS that is gone, but for the waiting.
 *
 *   stale PROGRAM [ARGUMENT…]
 *
 * The program must be linked statically. Whoever opens its file later gets an error, and a line on standard error tells of it. It needs CAP_SYS_ADMIN for the mount, which lies in a mount namespace of its own.
 */
#include "fuse.h"

static unsigned char *content;
static uint64_t bytes;

static void serve_read(int device, const struct fuse_in_header *in)
{
    const struct fuse_read_in *asked = (void *)(in + 1);
    uint64_t from = asked->offset < bytes ? asked->offset : bytes, length = bytes - from;
    length = length < asked->size ? length : asked->size;
    fuse_reply(device, in->unique, 0, content + from, length < FUSE_READ_MOST ? length : FUSE_READ_MOST);
}

static int is_first_open(const struct fuse_in_header *in)
{
    static int opened;
    if (opened++ == 0)
        return 1;
    fprintf(stderr, "opened again by process %u\n", in->pid);
    return 0;
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
    char path[512];
    if (argc < 2)
        return 2;
    read_program(argv[1]);
    int device = fuse_mount("stale");
    pid_t server = fork();
    if (server == 0)
        fuse_serve(device, &(struct fuse_file){.mode = 0555, .bytes = bytes, .may_open = is_first_open, .serve_read = serve_read});
    if (server < 0)
        fail("fork");
    const char *name = strrchr(argv[1], '/');
    snprintf(path, sizeof path, "/mnt/%s", name ? name + 1 : argv[1]);
    execv(path, argv + 1);
    fail("execv");
}
