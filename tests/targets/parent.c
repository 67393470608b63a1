/* Somebody else's relation to a process:
 *
 *   parent zombie      has a child that is dead and not waited for; prints `ready PID`
 *   parent trace PID   traces PID as a debugger does, without stopping it, until the end of input
 */
#include "target.h"
#include <sys/ptrace.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    char line[64];
    pid_t pid;
    if (argc == 2 && !strcmp(argv[1], "zombie")) {
        pid = fork();
        if (pid == 0)
            _exit(0);
        siginfo_t info;
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT))
            fail("waitid");
    } else if (argc == 3 && !strcmp(argv[1], "trace")) {
        pid = atoi(argv[2]);
        if (ptrace(PTRACE_SEIZE, pid, NULL, NULL))
            fail("PTRACE_SEIZE");
    } else {
        return 2;
    }
    say("ready %d", pid);
    while (next_command(line, sizeof line))
        say("ok");
    return 0;
}
