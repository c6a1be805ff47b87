/* SPDX-License-Identifier: Apache-2.0 */
/* The words of a command, and its options: "--name VALUE", anywhere among them. */
#pragma once

#include "common/base/def.h"

struct cli_option {
    const char *name;
    const char **value; /* where it goes; the last one counts */
};

/* words: at most max. What is wrong is said; 0 or CLI_EXIT_DEVBOX. The strings are argv's. */
int cli_args_read(char **argv, const struct cli_option *options, size_t n_options,
                  const char **words, size_t max, size_t *ret_n);
