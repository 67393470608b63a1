/* Fills common pages, then becomes another program: `execer PROGRAM ARGUMENTS…`.
 *
 * Commands: `exec` replaces the program by PROGRAM; `verify`; `quit`.
 */
#include "target.h"

#define PAGES 4096UL

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    unsigned char *memory = map_private(PAGES * PAGE);
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, 1 + page);
    setvbuf(stdin, NULL, _IONBF, 0); /* what we have not asked for is for the next program */
    say("ready");
    char line[64];
    while (next_command(line, sizeof line)) {
        uint64_t bad = 0;
        for (uint64_t page = 0; page < PAGES; page++)
            bad += page_bad(memory + page * PAGE, 1 + page);
        if (bad)
            say("bad %lu", bad);
        else if (!strcmp(line, "exec"))
            execv(argv[1], argv + 1);
        else
            say("ok");
    }
    return 0;
}
