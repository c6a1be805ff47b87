/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of DevBox for the files on the command line. Pure. */
#pragma once

#include "cli/collect.h"
#include "common/base/buf.h"

struct dbx_json;

struct cli_plan {
    char template[65];
    char extension[17]; /* of a single file that is sent as main.EXTENSION; "" of a folder */
    bool plain;         /* the file has the name that the template begins with */
};

/* The template of a folder, by the file it begins with; NULL when there is none of them. */
const char *cli_guess(const struct cli_files *files);
/* For one file: template by the extension of path, or the one called wanted (NULL: none wanted).
 * templates: the answer of GET /api/templates. */
int cli_plan_file(const struct dbx_json *templates, const char *path, const char *wanted,
                  struct cli_plan *ret, struct dbx_err *err) DBX_MUST_USE;
int cli_plan_folder(const struct cli_files *files, const char *path, const char *wanted,
                    struct cli_plan *ret, struct dbx_err *err) DBX_MUST_USE;
/* The body of POST /api/executions; appends to out. args: NULL-terminated, those behind "--". */
int cli_plan_body(const struct cli_plan *plan, const struct cli_files *files, char *const *args,
                  struct dbx_buf *out, struct dbx_err *err) DBX_MUST_USE;
