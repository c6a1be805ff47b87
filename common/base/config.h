/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration as a table with its documentation in it. One table a daemon; from it come the flags
 * (--name-with-dashes VALUE or =VALUE), the environment (DEVBOX_<DAEMON>_NAME), the file (--config
 * FILE, lines "name = value", # comments), bounds, --help, --print-config and --check-config.
 * Precedence: flag, environment, file, default. Unknown flag, argument or name in the file: error.
 * The environment is different: Kubernetes itself puts DEVBOX_<SERVICE>_... there. */
#pragma once

#include "common/base/err.h"

enum dbx_config_type {
    DBX_CONFIG_STRING, /* char *, owned by the struct */
    DBX_CONFIG_U64,    /* uint64_t with min and max */
    DBX_CONFIG_BOOL,   /* bool: true/false; a flag without a value is true */
    DBX_CONFIG_PATH,   /* char *; secrets only ever come as the path of a file */
};

struct dbx_config_field {
    const char *name; /* with underscores: "max_body" */
    enum dbx_config_type type;
    size_t offset; /* into the daemon's config struct */
    const char *def;
    uint64_t min, max; /* of a number; max 0: as large as it can be */
    const char *unit;  /* "ms", "bytes", "" */
    const char *doc;   /* one sentence */
};

/* Fills cfg (zeroed before) from defaults, file, environment and argv. daemon: "gateway". *ret_run
 * false: --help,
 * --version, --print-config or --check-config was asked for and answered on stdout, and main
 * returns 0. */
int dbx_config_load(void *cfg, const struct dbx_config_field *fields, size_t n, const char *daemon,
                    const char *summary, int argc, char **argv, bool *ret_run,
                    struct dbx_err *err) DBX_MUST_USE;
void dbx_config_done(void *cfg, const struct dbx_config_field *fields, size_t n);
