/* A program written against the kernel's merging: it advises memory, watches the control files, and takes the advice back.
 *
 *   advised KSM [PAGES=512] [CONTENTS=1]
 *
 * KSM is the directory of the control files. The memory holds CONTENTS contents by turns, so that with one content each page, once merged, is a mapping of its own.
 *
 * Commands: `advise`, `merge` (prctl), `unadvise [FIRST COUNT]` (in pages; all by default), each answered when the call is done, with what was read right behind it:
 * `sharing N private N`, pages by the control files, and pages of the memory that are anonymous; `scans N` (polls full_scans without a pause until N more are counted, and answers the same); `look` (reads, and answers the same),
 * `until N` (waits until N pages are sharing, and says how many milliseconds that took), `verify`, `write` (every page, with its own content), `quit`.
 */
#include "target.h"
#include <fcntl.h>
#include <sys/prctl.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

static const char *folder;
static unsigned char *memory;
static uint64_t pages = 512, contents = 1;

static long number(const char *file)
{
    char path[512], text[64];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length < 0)
        fail(path);
    close(fd);
    text[length] = 0;
    return atol(text);
}

/* Pages of the memory that are present and are no file's, by pagemap. */
static uint64_t anonymous(void)
{
    uint64_t words[512], count = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);
    for (uint64_t page = 0; page < pages; page += 512) {
        uint64_t wanted = pages - page < 512 ? pages - page : 512;
        if (pread(fd, words, wanted * 8, (off_t)(((uintptr_t)memory / PAGE + page) * 8)) != (ssize_t)(wanted * 8))
            fail("pagemap");
        for (uint64_t i = 0; i < wanted; i++)
            count += words[i] >> 61 == 4;
    }
    close(fd);
    return count;
}

static void answer(void)
{
    long sharing = number("pages_sharing");
    say("sharing %ld private %lu", sharing, anonymous());
}

int main(int argc, char **argv)
{
    char line[128];
    long count;
    uint64_t first, some;
    if (argc < 2)
        return 2;
    folder = argv[1];
    if (argc > 2)
        pages = strtoull(argv[2], NULL, 10);
    if (argc > 3)
        contents = strtoull(argv[3], NULL, 10);
    memory = map_private(pages * PAGE);
    for (uint64_t page = 0; page < pages; page++)
        page_fill(memory + page * PAGE, 1 + page % contents);
    say("ready %d", getpid());
    while (next_command(line, sizeof line)) {
        if (!strcmp(line, "advise")) {
            if (madvise(memory, pages * PAGE, MADV_MERGEABLE))
                fail("MADV_MERGEABLE");
            answer();
        } else if (!strcmp(line, "merge")) {
            if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
                fail("PR_SET_MEMORY_MERGE");
            answer();
        } else if (!strncmp(line, "unadvise", 8)) {
            if (sscanf(line + 8, "%lu %lu", &first, &some) != 2) {
                first = 0;
                some = pages;
            }
            if (madvise(memory + first * PAGE, some * PAGE, MADV_UNMERGEABLE))
                fail("MADV_UNMERGEABLE");
            answer();
        } else if (sscanf(line, "scans %ld", &count) == 1) {
            long since = number("full_scans");
            while (number("full_scans") < since + count)
                ;
            answer();
        } else if (sscanf(line, "until %ld", &count) == 1) {
            double since = seconds_now();
            long sharing;
            do
                sharing = number("pages_sharing");
            while (count ? sharing < count : sharing > 0);
            say("%.0f", (seconds_now() - since) * 1000);
        } else if (!strcmp(line, "look")) {
            answer();
        } else if (!strcmp(line, "write")) {
            for (uint64_t page = 0; page < pages; page++)
                *(volatile unsigned char *)(memory + page * PAGE) = memory[page * PAGE];
            say("ok");
        } else if (!strcmp(line, "verify")) {
            uint64_t bad = 0;
            for (uint64_t page = 0; page < pages; page++)
                bad += page_bad(memory + page * PAGE, 1 + page % contents) != 0;
            say(bad ? "bad %lu" : "ok", bad);
        } else {
            say("what?");
        }
    }
    return 0;
}
