/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-shim-exec: between the shim and runsc. Joins the cgroups it is told, closes what it
 * inherited, takes a clean environment and a session of its own, and becomes the program. No
 * allocation, no library of ours; what goes wrong is told by the exit status (enum
 * shim_exec_status). Descriptors 0, 1 and 2 are as the shim made them. */
#include "shim/reap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int join(const char *cgroup)
{
    int dir = open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = dir < 0 ? -1 : openat(dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, "0", 1) != 1 ? -1 : 0; /* close_range follows */
}

static void raise_limit(int resource)
{
    struct rlimit rl;
    if (getrlimit(resource, &rl) == 0) {
        rl.rlim_cur = rl.rlim_max;
        (void)setrlimit(resource, &rl); /* best effort: the soft limit stands */
    }
}

static int prepare(const char *dir)
{
    const struct rlimit no_core = {0, 0};
    raise_limit(RLIMIT_NOFILE);
    umask(0077);
    (void)setsid(); /* fails for who leads one already */
    if (setrlimit(RLIMIT_CORE, &no_core) < 0 || chdir(dir) < 0 || close_range(3, ~0U, 0) < 0)
        return -1;
    return 0;
}

int main(int argc, char **argv)
{
    static char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                NULL};
    const char *dir = "/";
    int i = 1;
    for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
        if (strcmp(argv[i], "--cgroup") == 0) {
            if (join(argv[i + 1]) < 0)
                return SHIM_EXEC_CGROUP;
        } else if (strcmp(argv[i], "--dir") == 0) {
            dir = argv[i + 1];
        } else {
            return SHIM_EXEC_USAGE;
        }
    }
    if (i + 1 >= argc || strcmp(argv[i], "--") != 0)
        return SHIM_EXEC_USAGE;
    if (prepare(dir) < 0)
        return SHIM_EXEC_SETUP;
    execve(argv[i + 1], argv + i + 1, env);
    return errno == ENOENT ? SHIM_EXEC_MISSING : SHIM_EXEC_FAILED;
}
