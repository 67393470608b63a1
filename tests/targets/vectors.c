/* Threads that keep known values in every general and vector register, with known flags, and look at them all the time.
 *
 *   vectors [THREADS=3]
 *
 * 16 MiB of pairs of equal pages are written anew, a part at a time, so that there is always something to merge.
 * Commands: `report` answers `checks N bad N`; `quit`.
 */
#include "target.h"
#include <immintrin.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

enum { REGISTERS = 16, MIB = 16, PARTS = 32 };

static atomic_ulong checks, bad;

/* Loads 15 of the 16 vector registers and five general ones, waits for some microseconds in registers alone, and stores them. */
__attribute__((target("avx"))) static int look(const uint64_t (*in)[4], uint64_t (*out)[4], uint64_t general)
{
    uint64_t b = general, r12 = general + 1, r13 = general + 2, r14 = general + 3, r15 = general + 4, flags;
    register uint64_t v12 asm("r12") = r12, v13 asm("r13") = r13, v14 asm("r14") = r14, v15 asm("r15") = r15;
    asm volatile(
        ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14\n vmovdqu \\i*32(%[in]), %%ymm\\i\n .endr\n"
        "mov $20000, %%ecx\n"
        "stc\n"
        "1: lea -1(%%ecx), %%ecx\n jrcxz 2f\n jmp 1b\n"
        "2: pushfq\n popq %[flags]\n"
        ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14\n vmovdqu %%ymm\\i, \\i*32(%[out])\n .endr\n"
        "vzeroupper\n"
        : "+b"(b), "+r"(v12), "+r"(v13), "+r"(v14), "+r"(v15), [flags] "=&r"(flags)
        : [in] "r"(in), [out] "r"(out)
        : "rcx", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
          "xmm13", "xmm14");
    return (flags & 1) && b == general && v12 == r12 && v13 == r13 && v14 == r14 && v15 == r15 && !memcmp(in, out, 15 * 32);
}

static void *keep(void *number)
{
    uint64_t in[REGISTERS][4], out[REGISTERS][4];
    for (uint64_t round = (uint64_t)number << 32;; round++) {
        for (int i = 0; i < REGISTERS * 4; i++)
            in[i / 4][i % 4] = mix(round * 64 + (uint64_t)i);
        if (!look((const uint64_t(*)[4])in, out, mix(round)))
            atomic_fetch_add(&bad, 1);
        atomic_fetch_add(&checks, 1);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    long threads = argc > 1 ? atol(argv[1]) : 3;
    unsigned char *memory = map_private((size_t)MIB << 20);
    for (long i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, keep, (void *)(i + 1)))
            fail("pthread_create");
    }
    say("ready");
    for (uint64_t round = 1;; round++) {
        uint64_t part = MIB * 256 / PARTS, first = round % PARTS * part;
        for (uint64_t page = first; page < first + part; page++)
            page_fill(memory + page * PAGE, (round << 20) + page / 2);
        struct pollfd input = {.fd = 0, .events = POLLIN};
        if (poll(&input, 1, round < PARTS ? 0 : 100) <= 0)
            continue;
        char line[64];
        if (!fgets(line, sizeof line, stdin) || !strcmp(line, "quit\n"))
            return 0;
        if (!strcmp(line, "report\n"))
            say("checks %lu bad %lu", atomic_load(&checks), atomic_load(&bad));
    }
}
