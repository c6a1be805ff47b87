/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the real init where only the bundle is tested: runs its arguments once, as the
 * image's user, in the work folder, and ends as they end. Static, libc only. */
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int become_user(void)
{
    if (setgroups(0, NULL) < 0 || setresgid(1000, 1000, 1000) < 0 ||
        setresuid(1000, 1000, 1000) < 0)
        return -1;
    return chdir("/workspace");
}

/* "--root" before the program: stays what it is. */
int main(int argc, char **argv)
{
    int as_root = argc > 1 && strcmp(argv[1], "--root") == 0, status = 0;
    char **words = argv + 1 + as_root;
    pid_t pid = words[0] ? fork() : -1;
    if (pid == 0) {
        if (as_root || become_user() == 0)
            execvp(words[0], words);
        perror("tiny-init");
        _exit(99);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return 99;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
