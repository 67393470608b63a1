/* A program that uses userfaultfd itself. `late` opens it only when told to.
 *
 * Commands: `open` (when late), `verify`, `quit`.
 */
#include "target.h"
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

static void *watched;

static void open_userfaultfd(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        fail("userfaultfd");
    struct uffdio_api api = {.api = UFFD_API};
    if (ioctl(fd, UFFDIO_API, &api))
        fail("UFFDIO_API");
    struct uffdio_register registration = {.range = {(uint64_t)watched, 16 * PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    /* Somebody who watches our memory has to notice us first, and to leave. */
    for (double until = seconds_now() + 15; ioctl(fd, UFFDIO_REGISTER, &registration); pause_ms(10))
        if (errno != EBUSY || seconds_now() > until)
            fail("UFFDIO_REGISTER");
}

int main(int argc, char **argv)
{
    int late = argc > 1 && !strcmp(argv[1], "late");
    unsigned char *memory = map_private(1024 * PAGE);
    for (uint64_t page = 0; page < 1024; page++)
        page_fill(memory + page * PAGE, 1 + page);
    watched = map_private(16 * PAGE);
    if (!late)
        open_userfaultfd();
    say("ready");
    char line[64];
    while (next_command(line, sizeof line)) {
        uint64_t bad = 0;
        if (!strcmp(line, "open"))
            open_userfaultfd();
        for (uint64_t page = 0; page < 1024; page++)
            bad += page_bad(memory + page * PAGE, 1 + page);
        say(bad ? "bad" : "ok");
    }
    return 0;
}
