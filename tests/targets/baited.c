/* Memory in which whoever reads it from outside is caught: it lies there openly, and is gone at the moment of the reading, with a userfaultfd that nobody answers.
 *
 *   baited
 *
 * Says `ready`, and `caught` once somebody waits. He waits until this program ends.
 */
#include "target.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <linux/userfaultfd.h>

#define PAGES 128UL
#define OPEN_NS 200000 /* as long as it lies there openly */

static unsigned char *memory, *copy;
static int descriptor;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static int caught(void)
{
    struct pollfd poll_one = {.fd = descriptor, .events = POLLIN};
    return poll(&poll_one, 1, 0) > 0;
}

int main(void)
{
    memory = map_private(PAGES * PAGE);
    copy = map_private(PAGES * PAGE);
    for (uint64_t page = 0; page < PAGES; page++) {
        page_fill(memory + page * PAGE, 1 + page);
        page_fill(copy + page * PAGE, 1 + page);
    }
    descriptor = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    struct uffdio_api api = {.api = UFFD_API};
    if (descriptor < 0 || ioctl(descriptor, UFFDIO_API, &api))
        fail("userfaultfd");
    struct uffdio_range range = {(unsigned long)memory, PAGES * PAGE};
    struct uffdio_register watched = {.range = range, .mode = UFFDIO_REGISTER_MODE_MISSING};
    say("ready");
    for (;;) {
        for (uint64_t since = now_ns(); now_ns() - since < OPEN_NS;)
            ; /* seen from outside it is memory like any other */
        if (ioctl(descriptor, UFFDIO_REGISTER, &watched))
            fail("register");
        if (madvise(memory, PAGES * PAGE, MADV_DONTNEED))
            fail("madvise");
        if (caught())
            break;
        struct uffdio_copy filled = {.dst = (unsigned long)memory, .src = (unsigned long)copy, .len = PAGES * PAGE, .mode = UFFDIO_COPY_MODE_DONTWAKE};
        if (ioctl(descriptor, UFFDIO_COPY, &filled))
            fail("copy");
        if (caught())
            break;
        if (ioctl(descriptor, UFFDIO_UNREGISTER, &range))
            fail("unregister");
    }
    say("caught");
    char line[64];
    while (next_command(line, sizeof line))
        say("unknown");
    return 0;
}
