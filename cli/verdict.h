/* SPDX-License-Identifier: Apache-2.0 */
/* How an end is told to the shell. Pure. */
#pragma once

#include "common/base/def.h"

enum {
    CLI_EXIT_COMPILE = 1,
    CLI_EXIT_FAILED = 1, /* of a batch, not all passed */
    CLI_EXIT_LIMIT = 124,
    CLI_EXIT_DEVBOX = 125, /* DevBox failed, or what it was given was wrong */
    CLI_EXIT_SIGNAL = 128, /* plus its number */
};

struct cli_end {
    const char *verdict; /* NULL or unknown: DevBox failed */
    const char *signal;  /* "SIGSEGV" or NULL */
    int64_t exit_code;   /* -1: none */
    int signalled;       /* the signal that made us cancel, or 0 */
};

/* The exit code. words: one line for stderr, "" when the program's own output says all. */
int cli_exit_code(const struct cli_end *end, char *words, size_t size);
