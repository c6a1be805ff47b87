/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-shim-exec: between the shim and runsc. Joins the cgroups it is told, closes what it
 * inherited, takes a clean environment and a session of its own, and becomes the program, which it
 * may have to wait for (see struct shim_spawn). No allocation, no library of ours; what goes wrong
 * is told by the exit status (enum shim_exec_status). Descriptors 0, 1 and 2 are as the shim made
 * them. */
#include "shim/reap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LATER 64

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
    return setrlimit(RLIMIT_CORE, &no_core) < 0 || chdir(dir) < 0 ? -1 : 0;
}

static int parse_fd(const char *text)
{
    int fd = 0;
    for (; *text >= '0' && *text <= '9' && fd < 1 << 20; text++)
        fd = 10 * fd + (*text - '0');
    return *text ? -1 : fd;
}

/* To the end of what fd gives; how many, -1: too many, or one without an end. */
static int read_words(int fd, char **argv)
{
    static char text[SHIM_EXEC_MAX_WORDS];
    size_t len = 0;
    int n = 0;
    for (ssize_t r; (r = read(fd, text + len, sizeof(text) - len)) != 0;) {
        if (r < 0 && errno != EINTR)
            return -1;
        len += r > 0 ? (size_t)r : 0;
    }
    if (len && text[len - 1])
        return -1;
    for (size_t at = 0; at < len; at += strlen(text + at) + 1) {
        if (n == MAX_LATER)
            return -1;
        argv[n++] = text + at;
    }
    argv[n] = NULL;
    return n;
}

static int become(char **argv)
{
    static char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                NULL};
    if (close_range(3, ~0U, 0) < 0)
        return SHIM_EXEC_SETUP;
    execve(argv[0], argv, env);
    return errno == ENOENT ? SHIM_EXEC_MISSING : SHIM_EXEC_FAILED;
}

int main(int argc, char **argv)
{
    static char *later[MAX_LATER + 1];
    const char *dir = "/";
    int i = 1;
    for (; i + 1 < argc && strcmp(argv[i], "--") && strcmp(argv[i], "--later"); i += 2) {
        if (strcmp(argv[i], "--cgroup") == 0) {
            if (join(argv[i + 1]) < 0)
                return SHIM_EXEC_CGROUP;
        } else if (strcmp(argv[i], "--dir") == 0) {
            dir = argv[i + 1];
        } else {
            return SHIM_EXEC_USAGE;
        }
    }
    if (i + 1 >= argc)
        return SHIM_EXEC_USAGE;
    if (prepare(dir) < 0)
        return SHIM_EXEC_SETUP;
    if (strcmp(argv[i], "--") == 0)
        return become(argv + i + 1);
    int n = read_words(parse_fd(argv[i + 1]), later);
    return n < 0 ? SHIM_EXEC_USAGE : n == 0 ? 0 : become(later);
}
