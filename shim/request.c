/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/request.h"

#include "common/ext/json.h"
#include "common/proto/files.h"
#include "common/proto/path.h"
#include "common/proto/sizes.h"
#include "shim/init/protocol.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What the API takes is bounded there (operators may raise it); this is what a node believes. */
static const struct dbx_limits believable = {
    .cpu_ms = 7 * 86400000ll,
    .wall_ms = 7 * 86400000ll,
    .memory_mb = 16ll << 20,
    .output_bytes = 1ll << 40,
    .processes = 1 << 15,
    .open_files = 1 << 20,
    .disk_mb = 16ll << 20,
};

struct raw {
    const char *template;
    const struct dbx_json *command, *env, *limits, *compile_limits, *workspace, *pty;
    bool stdin_open;
    const char *retry;
};

/* Of a process in a workspace: what the sandbox has, and what the call gives. */
static const struct dbx_limits workspace_limits = {
    .output_bytes = 1ll << 40,
};

static char **words_free(char **words)
{
    for (size_t i = 0; words && words[i]; i++)
        free(words[i]);
    free(words);
    return NULL;
}

static int decode_id(const struct dbx_json *header, const char *key, struct dbx_id *ret,
                     struct dbx_err *err)
{
    const char *text = dbx_json_get_str(header, key);
    if (!text || dbx_id_parse(text, ret) < 0 || dbx_id_is_zero(ret))
        return dbx_err_field(err, key, "not an id");
    return 0;
}

int shim_request_target(const struct dbx_json *header, struct dbx_id *ret_process,
                        int64_t *ret_attempt, struct dbx_err *err)
{
    struct dbx_id process;
    int r = decode_id(header, "process_id", &process, err);
    if (r < 0)
        return r;
    int64_t attempt = dbx_json_get_i64(header, "attempt", -1);
    if (attempt < 0)
        return dbx_err_field(err, "attempt", "not a number");
    *ret_process = process;
    *ret_attempt = attempt;
    return 0;
}

static bool text_ok(const struct dbx_json *node, const char **ret, size_t *ret_len)
{
    *ret = dbx_json_str(node, ret_len);
    return *ret && !memchr(*ret, 0, *ret_len);
}

static int decode_command(const struct dbx_json *command, struct shim_request *rq,
                          struct dbx_err *err)
{
    const char *s;
    size_t len, total = 0, n = dbx_json_count(command);
    if (dbx_json_type(command) == DBX_JSON_NULL)
        return 0;
    if (dbx_json_type(command) == DBX_JSON_STRING) {
        if (!text_ok(command, &s, &len) || len == 0 || len > SHIM_MAX_WORDS)
            return dbx_err_field(err, "request.command", "empty, too long, or with a NUL");
        rq->command_shell = dbx_strndup(s, len);
        return 0;
    }
    if (dbx_json_type(command) != DBX_JSON_ARRAY || n == 0 || n > SHIM_MAX_ARGS)
        return dbx_err_field(err, "request.command", "neither a line nor a list of arguments");
    rq->command_argv = dbx_calloc(n + 1, sizeof(char *));
    for (size_t i = 0; i < n; i++) {
        if (!text_ok(dbx_json_at(command, i), &s, &len) || (i == 0 && len == 0))
            return dbx_err_field(err, "request.command", "argument %zu is no text", i);
        total += len + 1;
        if (total > SHIM_MAX_WORDS)
            return dbx_err_field(err, "request.command", "more than %u bytes", SHIM_MAX_WORDS);
        rq->command_argv[i] = dbx_strndup(s, len);
    }
    return 0;
}

static bool env_name_ok(const char *s)
{
    if (!*s || (*s >= '0' && *s <= '9'))
        return false;
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
              *s == '_'))
            return false;
    return true;
}

static int decode_env(const struct dbx_json *env, struct shim_request *rq, struct dbx_err *err)
{
    size_t n = dbx_json_count(env), total = 0;
    if (n > SHIM_MAX_ENV)
        return dbx_err_field(err, "request.env", "more than %d names", SHIM_MAX_ENV);
    rq->env = dbx_calloc(n + 1, sizeof(char *));
    for (size_t i = 0; i < n; i++) {
        const struct dbx_json *node;
        const char *s, *name = dbx_json_key(env, i, &node);
        size_t len;
        if (!env_name_ok(name))
            return dbx_err_field(err, "request.env", "name %zu is not [A-Za-z_][A-Za-z0-9_]*", i);
        if (!text_ok(node, &s, &len))
            return dbx_err_field(err, "request.env", "the value of %s is no text", name);
        total += strlen(name) + len + 2;
        if (total > SHIM_MAX_WORDS)
            return dbx_err_field(err, "request.env", "more than %u bytes", SHIM_MAX_WORDS);
        rq->env[i] = dbx_asprintf("%s=%s", name, s);
    }
    return 0;
}

struct raw_pty {
    int64_t cols, rows;
};

struct raw_workspace {
    const char *size, *cwd;
    int64_t revision, idle_ms, max_ms;
};

static int decode_workspace(const struct dbx_json *object, struct shim_request *rq,
                            struct dbx_err *err)
{
    static const struct dbx_json_field fields[] = {
        {.name = "size",
         .type = DBX_JSON_STRING,
         .offset = offsetof(struct raw_workspace, size),
         .flags = DBX_JSON_REQUIRED},
        {.name = "cwd", .type = DBX_JSON_STRING, .offset = offsetof(struct raw_workspace, cwd)},
        {.name = "revision",
         .type = DBX_JSON_INT,
         .offset = offsetof(struct raw_workspace, revision),
         .flags = DBX_JSON_REQUIRED,
         .max = INT64_MAX},
        {.name = "idle_ms",
         .type = DBX_JSON_INT,
         .offset = offsetof(struct raw_workspace, idle_ms),
         .flags = DBX_JSON_REQUIRED,
         .min = 1,
         .max = SHIM_MAX_BOX_MS},
        {.name = "max_ms",
         .type = DBX_JSON_INT,
         .offset = offsetof(struct raw_workspace, max_ms),
         .flags = DBX_JSON_REQUIRED,
         .min = 1,
         .max = SHIM_MAX_BOX_MS},
    };
    struct raw_workspace raw = {0};
    int r = dbx_json_decode(object, fields, DBX_ARRAY_LEN(fields), &raw, "request.workspace.", err);
    if (r < 0)
        return r;
    const struct dbx_size *size = dbx_size_find(raw.size);
    if (!size || size->special)
        return dbx_err_field(err, "request.workspace.size", "no size of this node");
    rq->size = size;
    if (!rq->limits.memory_mb)
        rq->limits.memory_mb = size->memory_mb;
    if (!rq->limits.processes)
        rq->limits.processes = size->processes;
    if (!rq->limits.open_files)
        rq->limits.open_files = size->open_files;
    if (!rq->limits.disk_mb)
        rq->limits.disk_mb = size->disk_mb;
    if (raw.cwd && dbx_path_check(raw.cwd, strlen(raw.cwd), "request.workspace.cwd", err) < 0)
        return -EINVAL;
    if (!rq->command_shell && !rq->command_argv)
        return dbx_err_field(err, "request.command", "missing");
    rq->workspace = true;
    rq->cwd = raw.cwd ? dbx_strdup(raw.cwd) : NULL;
    rq->revision = raw.revision;
    rq->idle_ms = raw.idle_ms;
    rq->max_ms = raw.max_ms;
    return 0;
}

/* What programs are to know of the terminal, unless the call says otherwise. */
static void add_term(struct shim_request *rq)
{
    size_t n = 0;
    while (rq->env[n])
        if (strncmp(rq->env[n++], "TERM=", 5) == 0)
            return;
    rq->env = dbx_realloc(rq->env, (n + 2) * sizeof(char *));
    rq->env[n] = dbx_strdup("TERM=xterm-256color");
    rq->env[n + 1] = NULL;
}

static int decode_pty(const struct dbx_json *object, struct shim_request *rq, struct dbx_err *err)
{
    static const struct dbx_json_field fields[] = {
        {.name = "cols",
         .type = DBX_JSON_INT,
         .offset = offsetof(struct raw_pty, cols),
         .flags = DBX_JSON_REQUIRED,
         .min = 1,
         .max = INIT_MAX_WINSIZE},
        {.name = "rows",
         .type = DBX_JSON_INT,
         .offset = offsetof(struct raw_pty, rows),
         .flags = DBX_JSON_REQUIRED,
         .min = 1,
         .max = INIT_MAX_WINSIZE},
    };
    struct raw_pty raw = {0};
    int r = dbx_json_decode(object, fields, DBX_ARRAY_LEN(fields), &raw, "request.pty.", err);
    if (r < 0)
        return r;
    rq->cols = (uint16_t)raw.cols;
    rq->rows = (uint16_t)raw.rows;
    rq->stdin_open = true;
    add_term(rq);
    return 0;
}

static int decode_inner(const struct dbx_json *object, struct shim_request *rq, struct dbx_err *err)
{
    static const struct dbx_json_field fields[] = {
        {.name = "template",
         .type = DBX_JSON_STRING,
         .offset = offsetof(struct raw, template),
         .flags = DBX_JSON_REQUIRED,
         .min = 1,
         .max = SHIM_MAX_TEMPLATE},
        {.name = "command", .type = DBX_JSON_NULL, .offset = offsetof(struct raw, command)},
        {.name = "env",
         .type = DBX_JSON_OBJECT,
         .offset = offsetof(struct raw, env),
         .flags = DBX_JSON_NULLABLE},
        {.name = "stdin_open", .type = DBX_JSON_BOOL, .offset = offsetof(struct raw, stdin_open)},
        {.name = "limits",
         .type = DBX_JSON_OBJECT,
         .offset = offsetof(struct raw, limits),
         .flags = DBX_JSON_NULLABLE},
        {.name = "compile_limits",
         .type = DBX_JSON_OBJECT,
         .offset = offsetof(struct raw, compile_limits),
         .flags = DBX_JSON_NULLABLE},
        {.name = "workspace",
         .type = DBX_JSON_OBJECT,
         .offset = offsetof(struct raw, workspace),
         .flags = DBX_JSON_NULLABLE},
        {.name = "pty",
         .type = DBX_JSON_OBJECT,
         .offset = offsetof(struct raw, pty),
         .flags = DBX_JSON_NULLABLE},
        {.name = "retry", .type = DBX_JSON_STRING, .offset = offsetof(struct raw, retry)},
    };
    struct raw raw = {0};
    int r = dbx_json_decode(object, fields, DBX_ARRAY_LEN(fields), &raw, "request.", err);
    if (r < 0)
        return r;
    memcpy(rq->template, raw.template, strlen(raw.template) + 1);
    rq->stdin_open = raw.stdin_open;
    r = dbx_limits_decode(raw.limits, raw.workspace ? &workspace_limits : &dbx_limits_default,
                          &believable, "request.limits.", &rq->limits, err);
    if (r == 0)
        r = dbx_limits_decode(raw.compile_limits, &dbx_limits_compile_default, &believable,
                              "request.compile_limits.", &rq->compile_limits, err);
    if (r == 0)
        r = decode_command(raw.command, rq, err);
    if (r == 0)
        r = decode_env(raw.env, rq, err);
    if (r == 0 && raw.pty)
        r = decode_pty(raw.pty, rq, err);
    if (r == 0 && raw.workspace)
        r = decode_workspace(raw.workspace, rq, err);
    return r;
}

static int decode_blob(const struct dbx_json *header, const uint8_t *blob, size_t blob_len,
                       struct shim_request *rq, struct dbx_err *err)
{
    int64_t files_len = dbx_json_get_i64(header, "files_len", -1);
    if (files_len < 0 || (uint64_t)files_len > blob_len)
        return dbx_err_field(err, "files_len", "not within the message");
    dbx_buf_init(&rq->files, DBX_MAX_LINK_MSG);
    dbx_buf_init(&rq->input, DBX_MAX_LINK_MSG);
    int r = files_len > 0 ? dbx_files_check(blob, (size_t)files_len, err) : 0;
    if (r < 0)
        return r;
    if (files_len > 0)
        r = dbx_buf_append(&rq->files, blob, (size_t)files_len);
    if (r == 0 && blob_len > (size_t)files_len)
        r = dbx_buf_append(&rq->input, blob + files_len, blob_len - (size_t)files_len);
    return r < 0 ? dbx_err_set(err, r, DBX_LIMIT, "no memory for the files") : 0;
}

static int decode_batch(const struct dbx_json *batch, struct shim_request *rq, struct dbx_err *err)
{
    if (!batch)
        return 0;
    if (dbx_json_type(batch) != DBX_JSON_OBJECT || decode_id(batch, "id", &rq->batch, err) < 0)
        return dbx_err_field(err, "batch.id", "not an id");
    rq->in_batch = true;
    rq->shares = dbx_json_get_bool(batch, "shares", false);
    return 0;
}

int shim_request_decode(const struct dbx_json *header, const uint8_t *blob, size_t blob_len,
                        struct shim_request **ret, struct dbx_err *err)
{
    DBX_CLEANUP(shim_request_freep) struct shim_request *rq = DBX_NEW(struct shim_request);
    int r = shim_request_target(header, &rq->process, &rq->attempt, err);
    if (r == 0)
        r = decode_id(header, "sandbox_id", &rq->sandbox, err);
    if (r == 0 && dbx_json_get(header, "owner"))
        r = decode_id(header, "owner", &rq->owner, err);
    if (r < 0)
        return r;
    dbx_id_format(&rq->process, rq->process_text);
    dbx_id_format(&rq->sandbox, rq->sandbox_text);
    rq->epoch = dbx_json_get_i64(header, "epoch", -1);
    if (rq->epoch < 0)
        return dbx_err_field(err, "epoch", "not a number");
    rq->accepted_us = dbx_json_get_i64(header, "accepted_us", 0);
    r = decode_batch(dbx_json_get(header, "batch"), rq, err);
    if (r < 0)
        return r;
    const char *trace = dbx_json_get_str(header, "trace");
    if (trace)
        (void)strncat(rq->trace, trace, sizeof(rq->trace) - 1);
    r = decode_inner(dbx_json_get(header, "request"), rq, err);
    if (r == 0)
        r = decode_blob(header, blob, blob_len, rq, err);
    if (r == 0)
        *ret = DBX_TAKE(rq);
    return r;
}

struct shim_request *shim_request_free(struct shim_request *rq)
{
    if (!rq)
        return NULL;
    free(rq->command_shell);
    free(rq->cwd);
    words_free(rq->command_argv);
    words_free(rq->env);
    dbx_buf_done(&rq->files);
    dbx_buf_done(&rq->input);
    free(rq);
    return NULL;
}

void shim_request_freep(struct shim_request **rq)
{
    *rq = shim_request_free(*rq);
}
