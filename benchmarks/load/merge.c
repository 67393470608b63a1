/* Runs a program whose memory the kernel's own merging may merge, all of it: merge COMMAND… */
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67 /* Linux 6.4 */
#endif

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
        perror("prctl(PR_SET_MEMORY_MERGE)");
    else
        execvp(argv[1], argv + 1);
    return 127;
}
