/* SPDX-License-Identifier: Apache-2.0 */
/* Standard descriptors without waiting. O_NONBLOCK belongs to the open file, which the shell and
 * other programs share: so a pipe or terminal is opened anew, and what cannot be (a socket, another
 * user's terminal) gets its flags back at the end. */
#pragma once

#include "common/base/def.h"

struct cli_stdio_fd {
    int fd;       /* -1: a plain file; use the original */
    int original; /* borrowed */
    int restore;  /* flags to give back to it, or -1 */
};

/* flags: O_RDONLY or O_WRONLY. */
void cli_stdio_fd_open(struct cli_stdio_fd *s, int original, int flags);
void cli_stdio_fd_close(struct cli_stdio_fd *s);
