/* Memory that another process writes, and knows each word of: three of every four pages are the same in all programs of this kind.
 *
 *   remote [vm|mem]    by process_vm_writev(2), or through /proc/PID/mem, as debuggers do; what is refused there (EIO) is tried again
 *   remote sweep       as vm, and another reads a word of each page, one after the other, by process_vm_readv(2), so that it comes upon whatever page is missing for a moment, and waits there
 *
 * 8192 pages. The writer writes a word of a page, common or not, reads words that it wrote before, and puts common pages back to what they were, so that they
 * can be merged again. The program itself writes other words of the pages that are its own. Commands: `report` (prints `writes N bad M`, with `mem` behind that `refused K`), `quit`.
 */
#include "target.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define PAGES 8192UL
#define HERE 100 /* the word that the writer writes */
#define OURS 200 /* the word that the program writes */
#define SWEPT 300 /* a word that nobody writes */

struct shared {
    volatile uint64_t writes, bad, go, refused;
    unsigned char *memory;
};

static int by_file = -1; /* /proc/PID/mem */

static uint64_t seed_of(uint64_t page, uint64_t own)
{
    return page % 4 == 3 ? mix(page) ^ own : 1 + page;
}

static long at(struct shared *shared, pid_t pid, uint64_t page, uint64_t word, uint64_t *value, int writes)
{
    unsigned char *memory = shared->memory;
    unsigned char *there = memory + page * PAGE + word * 8;
    off_t place = (off_t)(uintptr_t)there;
    if (by_file >= 0) {
        long done;
        while ((done = writes ? pwrite(by_file, value, 8, place) : pread(by_file, value, 8, place)) < 0 && errno == EIO)
            shared->refused++;
        return done;
    }
    struct iovec mine = {value, 8}, theirs = {there, 8};
    return writes ? process_vm_writev(pid, &mine, 1, &theirs, 1, 0) : process_vm_readv(pid, &mine, 1, &theirs, 1, 0);
}

static void writer(struct shared *shared, pid_t pid)
{
    static uint64_t known[PAGES];
    uint64_t random = 88172645463325252ULL ^ (uint64_t)pid;
    char path[32];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    if (by_file == 0 && (by_file = open(path, O_RDWR)) < 0)
        fail(path);
    while (!shared->go)
        pause_ms(1);
    for (uint64_t page = 0; page < PAGES; page++)
        known[page] = word_of(seed_of(page, (uint64_t)pid << 32), HERE);
    for (uint64_t i = 1; getppid() == pid; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        /* A window that wanders, so that most of the memory is quiet at any time. */
        uint64_t page = (i / 4096 * 256 + (random >> 20) % 256) % PAGES, value = 0, original = word_of(seed_of(page, (uint64_t)pid << 32), HERE);
        if (at(shared, pid, page, HERE, &value, 0) != 8 || value != known[page])
            shared->bad++;
        known[page] = i % 2 ? i : original;
        if (at(shared, pid, page, HERE, &known[page], 1) != 8)
            shared->bad++;
        if (known[page] != original && page % 4 != 3) { /* common pages go back at once */
            known[page] = original;
            if (at(shared, pid, page, HERE, &known[page], 1) != 8)
                shared->bad++;
        }
        shared->writes++;
        if (i % 64 == 0)
            pause_ms(1);
    }
    _exit(0);
}

static void sweeper(struct shared *shared, pid_t pid)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (!shared->go)
        pause_ms(1);
    for (uint64_t page = 0, value = 0; getppid() == pid; page = (page + 1) % PAGES) {
        if (at(shared, pid, page, SWEPT, &value, 0) != 8 || value != word_of(seed_of(page, (uint64_t)pid << 32), SWEPT))
            shared->bad++;
        if (page % 64 == 0)
            pause_ms(1);
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    int sweeps = argc > 1 && !strcmp(argv[1], "sweep");
    by_file = argc > 1 && !strcmp(argv[1], "mem") ? 0 : -1;
    struct shared *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        fail("mmap");
    pid_t self = getpid();
    prctl(PR_SET_PTRACER, -1L); /* where Yama asks for it */
    if (fork() == 0)
        writer(shared, self);
    if (sweeps && fork() == 0)
        sweeper(shared, self);
    unsigned char *memory = map_private(PAGES * PAGE);
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, seed_of(page, (uint64_t)self << 32));
    shared->memory = memory;
    shared->go = 1;
    say("ready");
    char line[64];
    uint64_t round = 0;
    while (next_command(line, sizeof line)) {
        uint64_t bad = 0;
        for (uint64_t page = 0; page < PAGES; page++) {
            volatile uint64_t *words = (void *)(memory + page * PAGE);
            uint64_t seed = seed_of(page, (uint64_t)self << 32);
            for (uint64_t w = 0; w < WORDS; w++)
                bad += w != HERE && words[w] != (w == OURS && page % 4 == 3 && round ? page + round : word_of(seed, w));
        }
        round++;
        for (uint64_t page = 3; page < PAGES; page += 4)
            ((volatile uint64_t *)(memory + page * PAGE))[OURS] = page + round;
        if (by_file < 0)
            say("writes %lu bad %lu", shared->writes, shared->bad + bad);
        else
            say("writes %lu bad %lu refused %lu", shared->writes, shared->bad + bad, shared->refused);
    }
    return 0;
}
