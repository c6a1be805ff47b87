/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stdio_fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fd.h"

void cli_stdio_fd_open(struct cli_stdio_fd *s, int original, int flags)
{
    char path[32];
    struct stat st;
    *s = (struct cli_stdio_fd){.fd = -1, .original = original, .restore = -1};
    if (fstat(original, &st) < 0 ||
        !(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || isatty(original)))
        return;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", original);
    s->fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (s->fd >= 0)
        return;
    int now = fcntl(original, F_GETFL);
    s->fd = fcntl(original, F_DUPFD_CLOEXEC, 3);
    if (s->fd < 0 || now < 0 || (now & O_NONBLOCK))
        return;
    if (fcntl(s->fd, F_SETFL, now | O_NONBLOCK) == 0)
        s->restore = now;
}

void cli_stdio_fd_close(struct cli_stdio_fd *s)
{
    if (s->restore >= 0)
        (void)fcntl(s->original, F_SETFL, s->restore);
    dbx_close(s->fd);
    s->fd = -1;
}
