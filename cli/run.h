/* SPDX-License-Identifier: Apache-2.0 */
/* devbox run: a program of this machine, run in a sandbox as if it ran here. */
#pragma once

#include "common/base/def.h"

struct cli_run_opts {
    const char *urls;          /* DEVBOX_URL */
    const char *key, *ca_file; /* or NULL */
    const char *path;          /* file or folder */
    const char *template;      /* or NULL: by the file's name */
    char *const *args;         /* NULL-terminated */
};

/* The exit code; words for the user went to stderr. Uses descriptors 0, 1 and 2, and SIGINT,
 * SIGTERM, SIGHUP (the first cancels, the second leaves at once). */
int cli_run(const struct cli_run_opts *opts);

/* One line on stderr: "devbox: ...". Control characters are shown as '?': much of it is foreign. */
void cli_say(const char *fmt, ...) DBX_PRINTF(1, 2);
