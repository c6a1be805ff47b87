/* SPDX-License-Identifier: Apache-2.0 */
/* devbox batch run FILE | watch ID: progress on a terminal, a line of JSON for each result
 * otherwise. */
#pragma once

#include "cli/people.h"

/* argv[0] is "batch"; the exit code: 0 when all passed, 1 when not. */
int cli_batch(const struct cli_people_opts *opts, char **argv);
