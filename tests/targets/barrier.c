/* Memory that its own program must not write, or not touch at all, with a thread that tries nearly all the time: each try must end in SIGSEGV.
 *
 *   barrier KIND [MIB=8] [zeros|mdwe]      KIND: readonly noaccess code; with `zeros` every fourth page is all zero; with `mdwe` it has forbidden itself to make more code (PR_SET_MDWE)
 *
 * Of `code` each page is a function that says which page it is; the thread calls these, too. All such programs have the same pages.
 *
 * Commands: `verify` (every byte), `tries` (prints `tries N through M wrong K`: tries, those that were let through, and functions that said something else), `child` (a forked child sees the same, and is
 * kept out likewise), `change` (the memory is made writable, written with other content, protected and looked at; and all of it back), `address`, `quit`.
 */
#include "target.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static unsigned char *memory;
static uint64_t pages, changed;
static int protection, zeros;
static volatile uint64_t tries, through, wrong;
static pthread_mutex_t still = PTHREAD_MUTEX_INITIALIZER;
static __thread sigjmp_buf refused;

static void on_fault(int signal)
{
    siglongjmp(refused, signal);
}

/* mov eax, PAGE; ret */
static uint64_t first_word(uint64_t page)
{
    return 0xb8 | (page & 0xffffffff) << 8 | 0xc3ULL << 40;
}

static uint64_t seed_of(uint64_t page)
{
    return zeros && page % 4 == 0 ? 0 : (page + 1) ^ changed;
}

static void fill(void)
{
    for (uint64_t page = 0; page < pages; page++) {
        page_fill(memory + page * PAGE, seed_of(page));
        if (protection & PROT_EXEC)
            *(uint64_t *)(memory + page * PAGE) = first_word(page);
    }
}

static uint64_t verify(void)
{
    uint64_t bad = 0;
    if (!(protection & PROT_READ) && mprotect(memory, pages * PAGE, PROT_READ))
        fail("mprotect");
    for (uint64_t page = 0; page < pages; page++) {
        const volatile uint64_t *words = (uint64_t *)(memory + page * PAGE);
        for (uint64_t w = 0; w < WORDS; w++)
            bad += words[w] != (w == 0 && protection & PROT_EXEC ? first_word(page) : word_of(seed_of(page), w));
    }
    if (!(protection & PROT_READ) && mprotect(memory, pages * PAGE, protection))
        fail("mprotect");
    return bad;
}

/* Writes what is there already: should that be let through, it harms nothing else. */
static void try_one(uint64_t page, int write)
{
    volatile uint64_t *word = (uint64_t *)(memory + page * PAGE) + 7;
    tries++;
    if (sigsetjmp(refused, 0))
        return;
    if (write)
        *word = word_of(seed_of(page), 7);
    else if (*word != word_of(seed_of(page), 7))
        wrong++;
    through++;
}

static void try_all(uint64_t from, uint64_t count)
{
    for (uint64_t i = from; i < from + count; i++) {
        uint64_t page = mix(i) % pages;
        try_one(page, 1);
        if (!(protection & PROT_READ))
            try_one(page, 0);
        if (protection & PROT_EXEC && ((unsigned (*)(void))(memory + page * PAGE))() != page)
            wrong++;
    }
}

static void *try_on(void *unused)
{
    for (uint64_t i = 0;; i += 64) {
        pthread_mutex_lock(&still);
        try_all(i, 64);
        pthread_mutex_unlock(&still);
        usleep(20);
    }
    return unused;
}

static const char *look_in_child(void)
{
    int status;
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        through = wrong = 0;
        uint64_t bad = verify();
        try_all(0, 2 * pages);
        _exit(bad ? 1 : through ? 2 : wrong ? 3 : 0);
    }
    while (waitpid(child, &status, 0) != child)
        ;
    return !WIFEXITED(status) ? "died" : WEXITSTATUS(status) == 0 ? "ok" : WEXITSTATUS(status) == 1 ? "bad bytes" : WEXITSTATUS(status) == 2 ? "let through" : "wrong functions";
}

static uint64_t change(uint64_t to)
{
    if (mprotect(memory, pages * PAGE, PROT_READ | PROT_WRITE))
        fail("mprotect");
    changed = to;
    fill();
    if (mprotect(memory, pages * PAGE, protection))
        fail("mprotect");
    return verify();
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "readonly";
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    pthread_t trier;
    pages = (argc > 2 ? strtoul(argv[2], NULL, 10) : 8) * 256;
    zeros = argc > 3 && !strcmp(argv[3], "zeros");
    protection = !strcmp(kind, "noaccess") ? PROT_NONE : !strcmp(kind, "code") ? PROT_READ | PROT_EXEC : PROT_READ;
    memory = (unsigned char *)map_private((pages + 2) * PAGE) + PAGE; /* a page on either side that is no part of it */
    fill();
    if (sigaction(SIGSEGV, &action, NULL) || mprotect(memory, pages * PAGE, protection) || pthread_create(&trier, NULL, try_on, NULL))
        fail("protect");
    if (argc > 3 && !strcmp(argv[3], "mdwe") && prctl(65 /* PR_SET_MDWE, Linux 6.3 */, 1, 0, 0, 0))
        fail("prctl");
    say("ready");

    char line[64];
    while (next_command(line, sizeof line)) {
        pthread_mutex_lock(&still);
        if (!strcmp(line, "verify"))
            say(verify() ? "bad" : "ok");
        else if (!strcmp(line, "tries"))
            say("tries %lu through %lu wrong %lu", tries, through, wrong);
        else if (!strcmp(line, "child"))
            say("%s", look_in_child());
        else if (!strcmp(line, "change"))
            say(change(0x77770000) || change(0) ? "bad" : "ok");
        else if (!strcmp(line, "address"))
            say("%lx %lx", (unsigned long)memory, (unsigned long)(memory + pages * PAGE));
        else
            say("unknown");
        pthread_mutex_unlock(&still);
    }
    return 0;
}
