/* SPDX-License-Identifier: Apache-2.0 */
/* What `devbox run` sends: one file, or the files of a folder. */
#pragma once

#include "common/base/err.h"

#define CLI_MAX_FILES 1000
#define CLI_MAX_BYTES (6u << 20) /* contents of all files */

struct cli_file {
    char *path;    /* owned; as contract paths are: relative, '/' between components */
    uint8_t *data; /* owned; NULL when empty */
    size_t size;
};
struct cli_files {
    struct cli_file *v; /* owned; sorted by path */
    size_t n;
    size_t bytes;
};

/* Of something in a folder that is not sent. */
typedef void cli_skipped_fn(const char *path, const char *why, void *user);

/* Reads a regular file, whose path becomes its base name (*ret_folder false), or all files below a
 * folder but those in folders that are hidden or made by tools. Symbolic links below it are not
 * followed. Errors are in words for the user. ret is written on success only. */
int cli_collect(const char *path, cli_skipped_fn *skipped, void *user, struct cli_files *ret,
                bool *ret_folder, struct dbx_err *err) DBX_MUST_USE;
const struct cli_file *cli_files_find(const struct cli_files *files,
                                      const char *path); /* or NULL */
void cli_files_done(struct cli_files *files);
