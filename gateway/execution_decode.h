/* SPDX-License-Identifier: Apache-2.0 */
/* The body of POST /api/executions, decoded strictly: every error names its field. Pure. */
#pragma once

#include "common/base/buf.h"
#include "common/proto/limits.h"

struct dbx_json_doc;

#define GW_MAX_FILES 1000
#define GW_MAX_ARGS 1024
#define GW_MAX_ENV 512
#define GW_MAX_WORDS (128u << 10) /* bytes of all arguments, and of the whole environment */

struct gw_execution_rules {
    struct dbx_limits max, compile_max;
    bool (*has_template)(const char *name, void *user);
    void *user;
};

struct gw_execution {
    struct dbx_json_doc *doc; /* owned: the pointers lead into it */
    const char *template;
    const struct dbx_json *command, *env; /* NULL when absent */
    struct dbx_limits limits, compile_limits;
    bool retry_safe;
    bool has_stdin;
    const char *stdin_data; /* "" when absent */
    size_t stdin_len;
    struct dbx_buf files; /* files.h */
};

int gw_execution_decode(const void *body, size_t len, const struct gw_execution_rules *rules,
                        struct gw_execution *ret, struct dbx_err *err) DBX_MUST_USE;
/* Shared with batches. seen: the paths that are taken (of `files`, and their folders), to be freed
 * by the caller; base: paths that are taken too, or NULL. out as dbx_files_begin left it. */
struct dbx_map;
int gw_files_decode(const struct dbx_json *files, const struct dbx_map *base, struct dbx_map *seen,
                    struct dbx_buf *out, struct dbx_err *err) DBX_MUST_USE;
/* Shared with batches: what runs and within which limits, into ex; nodes of its doc, or NULL. */
int gw_program_decode(const struct dbx_json *command, const struct dbx_json *env,
                      const struct dbx_json *limits, const struct dbx_json *compile_limits,
                      const struct gw_execution_rules *rules, struct gw_execution *ex,
                      struct dbx_err *err) DBX_MUST_USE;
/* Shared with processes of workspaces. */
int gw_command_check(const struct dbx_json *command, struct dbx_err *err) DBX_MUST_USE;
int gw_env_check(const struct dbx_json *env, struct dbx_err *err) DBX_MUST_USE;
/* An Idempotency-Key; *ret (owned) NULL when there is no header. */
int gw_idempotency_key(const char *header, char **ret, struct dbx_err *err) DBX_MUST_USE;
void gw_execution_done(struct gw_execution *ex);
/* "The request of a process" of docs/protocols.md. */
void gw_execution_write_request(struct dbx_jw *w, const struct gw_execution *ex, bool stdin_open);
