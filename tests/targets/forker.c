/* A program and its child, forked from memory that may be merged.
 *
 * 4096 pages of common content. Commands, for the program or after `child ` for its child:
 *   `fork`     makes the child, answers with its pid
 *   `verify`   every byte
 *   `write`    new content into every page, read back
 *   `discard`  MADV_DONTNEED on all: every byte must read as zero then
 *   `exec`     child only: becomes /bin/true
 *   `many N`   makes N children that do nothing, and end with the program
 *   `kin N M`  makes N children that do nothing; each behind the first 260 makes M that do nothing, too. All end with the program
 *   `vfork`    sleeps four seconds in vfork, where no signal and no tracer can stop it; then verifies
 * A child whose parent is gone verifies, discards and writes by itself, and says `orphan ok` or `orphan bad`.
 */
#include "target.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define PAGES 4096UL

static unsigned char *memory;
static uint64_t generation;
static int discarded;

static uint64_t seed_of(uint64_t page)
{
    if (discarded)
        return 0;
    return generation ? mix(page + 1) ^ ((uint64_t)getpid() << 32) ^ generation : 1 + page;
}

static void idle(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == parent)
        pause();
    _exit(0);
}

static pid_t fork_one(void)
{
    pid_t one = fork();
    if (one < 0)
        fail("fork");
    return one;
}

static void kin(int children, int each)
{
    pid_t parent = getpid();
    int go[2];
    char none;
    if (pipe(go))
        fail("pipe");
    for (int i = 0; i < children; i++) {
        if (fork_one())
            continue;
        pid_t self = getpid();
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(go[1]);
        (void)!read(go[0], &none, 1); // until all children are there
        for (int left = i < 260 ? 0 : each; left > 0; left--) {
            if (fork_one() == 0)
                idle(self);
        }
        idle(parent);
    }
    close(go[0]);
    close(go[1]);
}

static const char *obey(const char *command)
{
    uint64_t bad = 0;
    if (!strcmp(command, "write")) {
        generation++;
        discarded = 0;
        for (uint64_t page = 0; page < PAGES; page++)
            page_fill(memory + page * PAGE, seed_of(page));
    } else if (!strcmp(command, "discard")) {
        if (madvise(memory, PAGES * PAGE, MADV_DONTNEED))
            fail("madvise");
        discarded = 1;
    } else if (!strcmp(command, "exec")) {
        execl("/bin/true", "true", (char *)NULL);
    } else if (!strcmp(command, "vfork")) {
        if (vfork() == 0) {
            struct timespec rest = {4, 0};
            nanosleep(&rest, NULL);
            _exit(0);
        }
    } else if (strcmp(command, "verify")) {
        return "unknown";
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t here = page_bad(memory + page * PAGE, seed_of(page));
        if (here && !bad)
            fprintf(stderr, "%d: page %lu at %p: %lu words differ\n", getpid(), page, (void *)(memory + page * PAGE), here);
        bad += here;
    }
    return bad ? "bad" : "ok";
}

int main(void)
{
    int commands[2], answers[2];
    FILE *to_child = NULL, *from_child = NULL;
    char line[64], answer[64];
    pid_t child = 0;
    memory = map_private(PAGES * PAGE);
    for (uint64_t page = 0; page < PAGES; page++)
        page_fill(memory + page * PAGE, 1 + page);
    say("ready");
    while (next_command(line, sizeof line)) {
        if (!strcmp(line, "fork")) {
            if (child || pipe(commands) || pipe(answers))
                fail("pipe");
            fflush(NULL);
            child = fork();
            if (child == 0) {
                close(commands[1]);
                close(answers[0]);
                to_child = fdopen(commands[0], "r");
                while (to_child && fgets(line, sizeof line, to_child)) {
                    line[strcspn(line, "\n")] = 0;
                    dprintf(answers[1], "%s\n", obey(line));
                }
                int whole = !strcmp(obey("verify"), "ok") && !strcmp(obey("discard"), "ok") && !strcmp(obey("write"), "ok");
                say(whole ? "orphan ok" : "orphan bad");
                _exit(0);
            }
            close(commands[0]);
            close(answers[1]);
            to_child = fdopen(commands[1], "w");
            from_child = fdopen(answers[0], "r");
            say("%d", child);
        } else if (!strncmp(line, "many ", 5)) {
            pid_t parent = getpid();
            for (int left = atoi(line + 5); left > 0; left--) {
                if (fork_one() == 0)
                    idle(parent);
            }
            say("ok");
        } else if (!strncmp(line, "kin ", 4)) {
            char *rest;
            int children = (int)strtol(line + 4, &rest, 10);
            kin(children, atoi(rest));
            say("ok");
        } else if (!strncmp(line, "child ", 6) && to_child && from_child) {
            fprintf(to_child, "%s\n", line + 6);
            fflush(to_child);
            if (fgets(answer, sizeof answer, from_child)) {
                answer[strcspn(answer, "\n")] = 0;
                say("%s", answer);
            } else {
                int status = 0;
                waitpid(child, &status, 0);
                say("ended %d", status);
            }
        } else {
            say("%s", obey(line));
        }
    }
    return 0;
}
