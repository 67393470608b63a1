/* A program under a seccomp filter that kills it for any call that could only come from somebody else: userfaultfd. */
#include "target.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

int main(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    unsigned char *memory = map_private(1024 * PAGE);
    for (uint64_t page = 0; page < 1024; page++)
        page_fill(memory + page * PAGE, 1 + page);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        fail("seccomp");
    say("ready");
    char line[64];
    while (next_command(line, sizeof line)) {
        uint64_t bad = 0;
        for (uint64_t page = 0; page < 1024; page++)
            bad += page_bad(memory + page * PAGE, 1 + page);
        say(bad ? "bad" : "ok");
    }
    return 0;
}
