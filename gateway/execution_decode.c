/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/execution_decode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/proto/files.h"
#include "common/proto/path.h"

/* Contents come in the body; paths and headers come on top. */
#define MAX_FILES_BLOCK (DBX_MAX_BODY + (2u << 20))
#define MAX_NODES 200000
#define MAX_KEY 200

struct raw {
    const char *template, *retry;
    const struct dbx_json *files, *command, *stdin_node, *env, *limits, *compile_limits;
};

#define AT(f) .offset = offsetof(struct raw, f)
static const struct dbx_json_field body_fields[] = {
    {"template", DBX_JSON_STRING, AT(template), .flags = DBX_JSON_REQUIRED, .min = 1, .max = 64},
    {"files", DBX_JSON_ARRAY, AT(files), .flags = DBX_JSON_REQUIRED, .max = GW_MAX_FILES},
    {"command", DBX_JSON_NULL, AT(command), .flags = DBX_JSON_NULLABLE},
    {"stdin", DBX_JSON_STRING, AT(stdin_node), .flags = DBX_JSON_NULLABLE, .allow_nul = true},
    {"env", DBX_JSON_OBJECT, AT(env), .flags = DBX_JSON_NULLABLE},
    {"limits", DBX_JSON_OBJECT, AT(limits), .flags = DBX_JSON_NULLABLE},
    {"compile_limits", DBX_JSON_OBJECT, AT(compile_limits), .flags = DBX_JSON_NULLABLE},
    {"retry", DBX_JSON_STRING, AT(retry), .flags = DBX_JSON_NULLABLE},
};

struct raw_file {
    const char *path;
    const struct dbx_json *content, *content_base64;
};
static const struct dbx_json_field file_fields[] = {
    {"path", DBX_JSON_STRING, offsetof(struct raw_file, path), .flags = DBX_JSON_REQUIRED},
    {"content", DBX_JSON_STRING, offsetof(struct raw_file, content), .allow_nul = true},
    {"content_base64", DBX_JSON_STRING, offsetof(struct raw_file, content_base64),
     .allow_nul = true},
};

/* Values of `seen`: what a path is. */
static char is_file, is_folder;

struct taken {
    const struct dbx_map *base; /* or NULL */
    struct dbx_map *seen;
};

static void *taken_get(const struct taken *t, const char *path, size_t len)
{
    void *was = dbx_map_get(t->seen, path, len);
    return was || !t->base ? was : dbx_map_get(t->base, path, len);
}

static int claim_path(const struct taken *t, const char *path, size_t len, const char *field,
                      struct dbx_err *err)
{
    for (size_t i = 1; i < len; i++) {
        if (path[i] != '/')
            continue;
        void *was = taken_get(t, path, i);
        if (was == &is_file)
            return dbx_err_field(err, field, "'%.*s' is a file already", (int)i, path);
        if (!was)
            (void)dbx_map_put(t->seen, path, i, &is_folder);
    }
    if (taken_get(t, path, len))
        return dbx_err_field(err, field, "this path is there already");
    (void)dbx_map_put(t->seen, path, len, &is_file);
    return 0;
}

static int add_file(struct dbx_buf *out, const char *path, const void *data, size_t len,
                    const char *field, struct dbx_err *err)
{
    bool script = len > 2 && memcmp(data, "#!", 2) == 0;
    struct dbx_file f = {.mode = script ? 0755 : 0644,
                         .path = path,
                         .path_len = (uint16_t)strlen(path),
                         .data = data,
                         .size = len};
    int r = dbx_files_add(out, &f);
    if (r < 0)
        return dbx_err_field(err, field, r == -E2BIG ? "the files are too large" : "bad path");
    return 0;
}

static int decode_file(const struct dbx_json *node, const char *name, const struct taken *taken,
                       struct dbx_buf *out, struct dbx_err *err)
{
    char prefix[48], field[64];
    struct raw_file f = {0};
    size_t len;
    snprintf(prefix, sizeof(prefix), "%s.", name);
    if (dbx_json_type(node) != DBX_JSON_OBJECT)
        return dbx_err_field(err, name, "must be an object");
    int r = dbx_json_decode(node, file_fields, DBX_ARRAY_LEN(file_fields), &f, prefix, err);
    if (r < 0)
        return r;
    snprintf(field, sizeof(field), "%spath", prefix);
    r = dbx_path_check(f.path, strlen(f.path), field, err);
    if (r < 0)
        return r;
    r = claim_path(taken, f.path, strlen(f.path), field, err);
    if (r < 0)
        return r;
    snprintf(field, sizeof(field), "%scontent", prefix);
    if (!f.content == !f.content_base64)
        return dbx_err_field(err, field, "give exactly one of content and content_base64");
    if (f.content) {
        const char *text = dbx_json_str(f.content, &len);
        return add_file(out, f.path, text, len, field, err);
    }
    snprintf(field, sizeof(field), "%scontent_base64", prefix);
    const char *b64 = dbx_json_str(f.content_base64, &len);
    DBX_CLEANUP(dbx_freep) uint8_t *data = dbx_malloc(len / 4 * 3 + 3);
    if (dbx_base64_decode(b64, len, data, &len, false) < 0)
        return dbx_err_field(err, field, "is not base64");
    return add_file(out, f.path, data, len, field, err);
}

int gw_files_decode(const struct dbx_json *files, const struct dbx_map *base, struct dbx_map *seen,
                    struct dbx_buf *out, struct dbx_err *err)
{
    const struct taken taken = {.base = base, .seen = seen};
    int r = dbx_files_begin(out);
    for (size_t i = 0; r == 0 && i < dbx_json_count(files); i++) {
        char name[32];
        snprintf(name, sizeof(name), "files[%zu]", i);
        r = decode_file(dbx_json_at(files, i), name, &taken, out, err);
    }
    return r;
}

static int decode_files(const struct dbx_json *files, struct dbx_buf *out, struct dbx_err *err)
{
    struct dbx_map *seen = dbx_map_new();
    dbx_buf_init(out, MAX_FILES_BLOCK);
    int r = gw_files_decode(files, NULL, seen, out, err);
    dbx_map_free(seen);
    return r;
}

/* A string without NUL; counts its bytes against *left. */
static int check_word(const struct dbx_json *node, const char *field, size_t *left,
                      struct dbx_err *err)
{
    size_t len;
    const char *s = dbx_json_str(node, &len);
    if (!s)
        return dbx_err_field(err, field, "must be a string");
    if (strlen(s) != len)
        return dbx_err_field(err, field, "must not hold NUL");
    if (len + 1 > *left)
        return dbx_err_field(err, field, "too long: more than %u bytes in all", GW_MAX_WORDS);
    *left -= len + 1;
    return 0;
}

int gw_command_check(const struct dbx_json *command, struct dbx_err *err)
{
    size_t left = GW_MAX_WORDS, count = dbx_json_count(command);
    if (dbx_json_type(command) == DBX_JSON_STRING) {
        if (!*dbx_json_str(command, NULL))
            return dbx_err_field(err, "command", "must not be empty");
        return check_word(command, "command", &left, err);
    }
    if (dbx_json_type(command) != DBX_JSON_ARRAY)
        return dbx_err_field(err, "command", "must be a string or an array of strings");
    if (count < 1 || count > GW_MAX_ARGS)
        return dbx_err_field(err, "command", "must have 1 to %d arguments", GW_MAX_ARGS);
    for (size_t i = 0; i < count; i++) {
        char field[32];
        snprintf(field, sizeof(field), "command[%zu]", i);
        int r = check_word(dbx_json_at(command, i), field, &left, err);
        if (r < 0)
            return r;
    }
    if (!*dbx_json_str(dbx_json_at(command, 0), NULL))
        return dbx_err_field(err, "command[0]", "must not be empty");
    return 0;
}

static bool env_name_ok(const char *name)
{
    if (!*name || (*name >= '0' && *name <= '9'))
        return false;
    for (; *name; name++)
        if (!((*name >= 'A' && *name <= 'Z') || (*name >= 'a' && *name <= 'z') ||
              (*name >= '0' && *name <= '9') || *name == '_'))
            return false;
    return true;
}

int gw_env_check(const struct dbx_json *env, struct dbx_err *err)
{
    size_t left = GW_MAX_WORDS, count = dbx_json_count(env);
    if (count > GW_MAX_ENV)
        return dbx_err_field(err, "env", "more than %d variables", GW_MAX_ENV);
    for (size_t i = 0; i < count; i++) {
        const struct dbx_json *value;
        const char *name = dbx_json_key(env, i, &value);
        char field[64];
        snprintf(field, sizeof(field), "env.%.48s", name);
        if (!env_name_ok(name))
            return dbx_err_field(err, field, "a name is letters, digits and _, no digit first");
        if (strlen(name) + 1 > left)
            return dbx_err_field(err, field, "too long: more than %u bytes in all", GW_MAX_WORDS);
        left -= strlen(name) + 1;
        int r = check_word(value, field, &left, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int gw_program_decode(const struct dbx_json *command, const struct dbx_json *env,
                      const struct dbx_json *limits, const struct dbx_json *compile_limits,
                      const struct gw_execution_rules *rules, struct gw_execution *ex,
                      struct dbx_err *err)
{
    int r = 0;
    ex->command = dbx_json_type(command) == DBX_JSON_NULL ? NULL : command;
    ex->env = env;
    if (ex->command)
        r = gw_command_check(ex->command, err);
    if (r == 0 && ex->env)
        r = gw_env_check(ex->env, err);
    if (r == 0)
        r = dbx_limits_decode(limits, &dbx_limits_default, &rules->max, "limits.", &ex->limits,
                              err);
    struct dbx_limits compile_default = dbx_limits_compile_default;
    compile_default.disk_mb = ex->limits.disk_mb; /* the disk is one */
    if (r == 0)
        r = dbx_limits_decode(compile_limits, &compile_default, &rules->compile_max,
                              "compile_limits.", &ex->compile_limits, err);
    return r;
}

static int decode_words(const struct raw *raw, const struct gw_execution_rules *rules,
                        struct gw_execution *ex, struct dbx_err *err)
{
    if (!rules->has_template(raw->template, rules->user))
        return dbx_err_field(err, "template", "there is no template '%.64s'", raw->template);
    if (raw->retry && !dbx_streq(raw->retry, "never") && !dbx_streq(raw->retry, "safe"))
        return dbx_err_field(err, "retry", "must be \"never\" or \"safe\"");
    ex->template = raw->template;
    ex->retry_safe = dbx_streq(raw->retry, "safe");
    ex->has_stdin = raw->stdin_node != NULL;
    ex->stdin_data = raw->stdin_node ? dbx_json_str(raw->stdin_node, &ex->stdin_len) : "";
    return gw_program_decode(raw->command, raw->env, raw->limits, raw->compile_limits, rules, ex,
                             err);
}

int gw_execution_decode(const void *body, size_t len, const struct gw_execution_rules *rules,
                        struct gw_execution *ret, struct dbx_err *err)
{
    const struct dbx_json_limits limits = {.max_depth = 8, .max_nodes = MAX_NODES};
    struct gw_execution ex = {0};
    struct raw raw = {0};
    dbx_buf_init(&ex.files, MAX_FILES_BLOCK);
    int r = dbx_json_parse(body, len, &limits, &ex.doc, err);
    if (r < 0) {
        if (err)
            err->kind =
                DBX_INVALID; /* also when it was too deep or too large: the client's fault */
        return r;
    }
    const struct dbx_json *root = dbx_json_root(ex.doc);
    if (dbx_json_type(root) != DBX_JSON_OBJECT)
        r = dbx_err_set(err, -EINVAL, DBX_INVALID, "the body must be a JSON object");
    if (r == 0)
        r = dbx_json_decode(root, body_fields, DBX_ARRAY_LEN(body_fields), &raw, "", err);
    if (r == 0)
        r = decode_words(&raw, rules, &ex, err);
    if (r == 0)
        r = decode_files(raw.files, &ex.files, err);
    if (r < 0) {
        gw_execution_done(&ex);
        return r;
    }
    *ret = ex;
    return 0;
}

void gw_execution_done(struct gw_execution *ex)
{
    ex->doc = dbx_json_doc_free(ex->doc);
    dbx_buf_done(&ex->files);
}

static void write_node(struct dbx_jw *w, const char *key, const struct dbx_json *node)
{
    dbx_jw_key(w, key);
    if (node)
        dbx_jw_node(w, node);
    else
        dbx_jw_null(w);
}

void gw_execution_write_request(struct dbx_jw *w, const struct gw_execution *ex, bool stdin_open)
{
    dbx_jw_object(w);
    dbx_jw_kstr(w, "template", ex->template);
    write_node(w, "command", ex->command);
    dbx_jw_key(w, "env");
    if (ex->env) {
        dbx_jw_node(w, ex->env);
    } else {
        dbx_jw_object(w);
        dbx_jw_object_end(w);
    }
    dbx_jw_kbool(w, "stdin_open", stdin_open);
    dbx_jw_key(w, "limits");
    dbx_limits_write(w, &ex->limits);
    dbx_jw_key(w, "compile_limits");
    dbx_limits_write(w, &ex->compile_limits);
    dbx_jw_kstr(w, "retry", ex->retry_safe ? "safe" : "never");
    dbx_jw_object_end(w);
}

int gw_idempotency_key(const char *header, char **ret, struct dbx_err *err)
{
    size_t len = header ? strlen(header) : 0;
    *ret = NULL;
    if (!header)
        return 0;
    for (size_t i = 0; i < len; i++)
        if (header[i] < 0x20 || header[i] > 0x7e)
            return dbx_err_field(err, "Idempotency-Key", "must be printable ASCII");
    if (len < 1 || len > MAX_KEY)
        return dbx_err_field(err, "Idempotency-Key", "must have 1 to %d characters", MAX_KEY);
    *ret = dbx_strdup(header);
    return 0;
}
