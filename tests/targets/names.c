/* A program with a name that a terminal would obey, a log would take for two lines, and that is no UTF-8.
 *
 *   names
 *
 * 512 pages of common content. Commands: `verify`, `quit`.
 */
#include "target.h"
#include <sys/prctl.h>

#define PAGES 512UL

int main(void)
{
    unsigned char *memory = map_private(PAGES * PAGE);
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, 1 + page);
    /* the window's title, a cleared screen, a line of its own, and a byte that is no letter */
    if (prctl(PR_SET_NAME, "\033]0;pwn\007\033[2J\n\r\377", 0, 0, 0))
        fail("prctl");
    say("ready %lu", PAGES);
    char line[64];
    while (next_command(line, sizeof line)) {
        uint64_t bad = 0;
        for (uint64_t page = 0; page < PAGES; page++)
            bad += page_bad(memory + page * PAGE, 1 + page);
        say(bad ? "bad" : "ok");
    }
    return 0;
}
