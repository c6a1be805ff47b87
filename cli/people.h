/* SPDX-License-Identifier: Apache-2.0 */
/* devbox login | keys | workspaces | share: tables on a terminal, the gateway's JSON otherwise. */
#pragma once

#include "common/base/def.h"

struct cli_people_opts {
    const char *urls, *key, *ca_file; /* as of cli_run */
};

bool cli_people_command(const char *name);
/* argv[0] is the command; the exit code. */
int cli_people(const struct cli_people_opts *opts, int argc, char **argv);
/* The key that login kept for the first of urls, or NULL. Caller frees. */
char *cli_kept_key(const char *urls);
