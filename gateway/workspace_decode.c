/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/workspace_decode.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/proto/path.h"
#include "common/proto/sizes.h"
#include "gateway/execution_decode.h"

struct raw {
    const char *name, *template, *sharing_mode, *path, *type, *cwd, *size, *encoding, *signal;
    const struct dbx_json *content, *content_base64, *command, *env, *limits, *pty, *data;
    bool eof;
};

#define AT(f) .offset = offsetof(struct raw, f)
#define REQUIRED .flags = DBX_JSON_REQUIRED
#define NULLABLE .flags = DBX_JSON_NULLABLE

static const struct dbx_json_field workspace_fields[] = {
    {"name", DBX_JSON_STRING, AT(name), REQUIRED, .min = 1, .max = GW_MAX_NAME},
    {"template", DBX_JSON_STRING, AT(template), REQUIRED, .min = 1, .max = 64},
    {"sharing_mode", DBX_JSON_STRING, AT(sharing_mode), NULLABLE},
};
static const struct dbx_json_field patch_fields[] = {
    {"name", DBX_JSON_STRING, AT(name), .min = 1, .max = GW_MAX_NAME},
    {"template", DBX_JSON_STRING, AT(template), .min = 1, .max = 64},
    {"sharing_mode", DBX_JSON_STRING, AT(sharing_mode)},
};
static const struct dbx_json_field fork_fields[] = {
    {"name", DBX_JSON_STRING, AT(name), NULLABLE, .min = 1, .max = GW_MAX_NAME},
};
static const struct dbx_json_field file_fields[] = {
    {"path", DBX_JSON_STRING, AT(path), REQUIRED},
    {"type", DBX_JSON_STRING, AT(type), NULLABLE},
    {"content", DBX_JSON_STRING, AT(content), .allow_nul = true},
    {"content_base64", DBX_JSON_STRING, AT(content_base64), .allow_nul = true},
};
static const struct dbx_json_field content_fields[] = {
    {"content", DBX_JSON_STRING, AT(content), .allow_nul = true},
    {"content_base64", DBX_JSON_STRING, AT(content_base64), .allow_nul = true},
};
static const struct dbx_json_field move_fields[] = {
    {"path", DBX_JSON_STRING, AT(path), REQUIRED},
};
static const struct dbx_json_field run_fields[] = {
    {"command", DBX_JSON_NULL, AT(command), REQUIRED},
    {"env", DBX_JSON_OBJECT, AT(env), NULLABLE},
    {"cwd", DBX_JSON_STRING, AT(cwd), NULLABLE},
    {"limits", DBX_JSON_OBJECT, AT(limits), NULLABLE},
    {"pty", DBX_JSON_OBJECT, AT(pty), NULLABLE},
};
static const struct dbx_json_field sandbox_fields[] = {
    {"size", DBX_JSON_STRING, AT(size), NULLABLE},
};
static const struct dbx_json_field input_fields[] = {
    {"data", DBX_JSON_STRING, AT(data), REQUIRED, .allow_nul = true},
    {"encoding", DBX_JSON_STRING, AT(encoding), NULLABLE},
    {"eof", DBX_JSON_BOOL, AT(eof), NULLABLE},
};

static const struct dbx_json_field signal_fields[] = {
    {"signal", DBX_JSON_STRING, AT(signal), REQUIRED},
};

#define TABLE(f)                                                                                   \
    {                                                                                              \
        f, DBX_ARRAY_LEN(f)                                                                        \
    }
static const struct {
    const struct dbx_json_field *fields;
    size_t n;
} tables[] = {
    [GW_BODY_WORKSPACE] = TABLE(workspace_fields),
    [GW_BODY_WORKSPACE_PATCH] = TABLE(patch_fields),
    [GW_BODY_FORK] = TABLE(fork_fields),
    [GW_BODY_FILE] = TABLE(file_fields),
    [GW_BODY_CONTENT] = TABLE(content_fields),
    [GW_BODY_MOVE] = TABLE(move_fields),
    [GW_BODY_RUN] = TABLE(run_fields),
    [GW_BODY_SANDBOX] = TABLE(sandbox_fields),
    [GW_BODY_INPUT] = TABLE(input_fields),
    [GW_BODY_SIGNAL] = TABLE(signal_fields),
};

static int check_words(const struct raw *raw, const struct gw_body_rules *rules,
                       struct dbx_err *err)
{
    static const char *const modes[] = {"private", "view", "edit"};
    bool known = !raw->sharing_mode;
    if (raw->template && !rules->has_template(raw->template, rules->user))
        return dbx_err_field(err, "template", "there is no template '%.64s'", raw->template);
    for (size_t i = 0; i < DBX_ARRAY_LEN(modes); i++)
        known |= dbx_streq(raw->sharing_mode, modes[i]);
    if (!known)
        return dbx_err_field(err, "sharing_mode", "must be private, view or edit");
    if (raw->size && !dbx_size_find(raw->size))
        return dbx_err_field(err, "size", "must be cpu-small, cpu-large or gpu");
    return 0;
}

static int take_base64(struct gw_body *b, const struct dbx_json *node, const char *field,
                       struct dbx_err *err)
{
    size_t len;
    const char *text = dbx_json_str(node, &len);
    b->decoded = dbx_malloc(len / 4 * 3 + 3);
    if (dbx_base64_decode(text, len, b->decoded, &b->content_len, false) < 0)
        return dbx_err_field(err, field, "is not base64");
    b->content = b->decoded;
    return 0;
}

static int take_content(struct gw_body *b, const struct raw *raw, struct dbx_err *err)
{
    const char *field = raw->content_base64 ? "content_base64" : "content";
    int r = 0;
    if (!raw->content == !raw->content_base64)
        return dbx_err_field(err, "content", "give exactly one of content and content_base64");
    if (raw->content)
        b->content = (const uint8_t *)dbx_json_str(raw->content, &b->content_len);
    else
        r = take_base64(b, raw->content_base64, field, err);
    if (r == 0 && b->content_len > GW_MAX_CONTENT)
        return dbx_err_field(err, field, "more than %u bytes", GW_MAX_CONTENT);
    return r;
}

static int take_file(struct gw_body *b, const struct raw *raw, struct dbx_err *err)
{
    if (raw->type && !dbx_streq(raw->type, "file") && !dbx_streq(raw->type, "directory"))
        return dbx_err_field(err, "type", "must be file or directory");
    b->directory = dbx_streq(raw->type, "directory");
    if (!b->directory)
        return take_content(b, raw, err);
    if (raw->content || raw->content_base64)
        return dbx_err_field(err, raw->content ? "content" : "content_base64",
                             "a directory has none");
    return 0;
}

static int take_limits(struct gw_body *b, const struct dbx_json *limits, struct dbx_err *err)
{
    static const struct dbx_json_field fields[] = {
        {"cpu_ms", DBX_JSON_INT, offsetof(struct gw_body, cpu_ms), .min = 1,
         .max = GW_MAX_PROCESS_MS},
        {"wall_ms", DBX_JSON_INT, offsetof(struct gw_body, wall_ms), .min = 1,
         .max = GW_MAX_PROCESS_MS},
    };
    return limits ? dbx_json_decode(limits, fields, DBX_ARRAY_LEN(fields), b, "limits.", err) : 0;
}

static int take_pty(struct gw_body *b, const struct dbx_json *pty, struct dbx_err *err)
{
    static const struct dbx_json_field fields[] = {
        {"cols", DBX_JSON_INT, offsetof(struct gw_body, cols), REQUIRED, .min = 1, .max = 1000},
        {"rows", DBX_JSON_INT, offsetof(struct gw_body, rows), REQUIRED, .min = 1, .max = 1000},
    };
    return dbx_json_decode(pty, fields, DBX_ARRAY_LEN(fields), b, "pty.", err);
}

static int take_signal(struct gw_body *b, const char *name, struct dbx_err *err)
{
    static const struct {
        const char *name;
        int signo;
    } signals[] = {{"SIGHUP", SIGHUP},   {"SIGINT", SIGINT},    {"SIGQUIT", SIGQUIT},
                   {"SIGKILL", SIGKILL}, {"SIGUSR1", SIGUSR1},  {"SIGUSR2", SIGUSR2},
                   {"SIGTERM", SIGTERM}, {"SIGCONT", SIGCONT},  {"SIGSTOP", SIGSTOP},
                   {"SIGTSTP", SIGTSTP}, {"SIGWINCH", SIGWINCH}};
    for (size_t i = 0; i < DBX_ARRAY_LEN(signals); i++)
        if (dbx_streq(name, signals[i].name)) {
            b->signo = signals[i].signo;
            return 0;
        }
    return dbx_err_field(err, "signal",
                         "must be SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGUSR2, SIGTERM, "
                         "SIGCONT, SIGSTOP, SIGTSTP or SIGWINCH");
}

static int take_run(struct gw_body *b, const struct raw *raw, struct dbx_err *err)
{
    int r;
    if (raw->cwd && (r = dbx_path_check(raw->cwd, strlen(raw->cwd), "cwd", err)) < 0)
        return r;
    if ((r = gw_command_check(raw->command, err)) < 0 ||
        (raw->env && (r = gw_env_check(raw->env, err)) < 0))
        return r;
    b->command = raw->command;
    b->env = raw->env;
    b->cwd = raw->cwd;
    if (raw->pty && (r = take_pty(b, raw->pty, err)) < 0)
        return r;
    return take_limits(b, raw->limits, err);
}

static int take_input(struct gw_body *b, const struct raw *raw, struct dbx_err *err)
{
    b->eof = raw->eof;
    if (dbx_streq(raw->encoding, "base64"))
        return take_base64(b, raw->data, "data", err);
    if (raw->encoding)
        return dbx_err_field(err, "encoding", "must be base64, or absent");
    b->content = (const uint8_t *)dbx_json_str(raw->data, &b->content_len);
    return 0;
}

static int take(enum gw_body_kind kind, const struct raw *raw, struct gw_body *b,
                struct dbx_err *err)
{
    b->name = raw->name;
    b->template = raw->template;
    b->sharing_mode = raw->sharing_mode;
    b->path = raw->path;
    b->size = raw->size;
    switch (kind) {
    case GW_BODY_FILE:
        return take_file(b, raw, err);
    case GW_BODY_CONTENT:
        return take_content(b, raw, err);
    case GW_BODY_RUN:
        return take_run(b, raw, err);
    case GW_BODY_INPUT:
        return take_input(b, raw, err);
    case GW_BODY_SIGNAL:
        return take_signal(b, raw->signal, err);
    case GW_BODY_WORKSPACE:
    case GW_BODY_WORKSPACE_PATCH:
    case GW_BODY_FORK:
    case GW_BODY_MOVE:
    case GW_BODY_SANDBOX:
        break;
    }
    return 0;
}

int gw_body_decode(enum gw_body_kind kind, const void *body, size_t len,
                   const struct gw_body_rules *rules, struct gw_body *ret, struct dbx_err *err)
{
    const struct dbx_json_limits limits = {.max_depth = 8, .max_nodes = 10000};
    struct gw_body b = {0};
    struct raw raw = {0};
    bool empty = len == 0 &&
                 (kind == GW_BODY_SANDBOX || kind == GW_BODY_FORK); /* nothing of it is required */
    int r = dbx_json_parse(empty ? "{}" : body, empty ? 2 : len, &limits, &b.doc, err);
    if (r < 0) {
        if (err)
            err->kind = DBX_INVALID; /* also when it was too deep or too large */
        return r;
    }
    const struct dbx_json *root = dbx_json_root(b.doc);
    if (dbx_json_type(root) != DBX_JSON_OBJECT)
        r = dbx_err_set(err, -EINVAL, DBX_INVALID, "the body must be a JSON object");
    if (r == 0)
        r = dbx_json_decode(root, tables[kind].fields, tables[kind].n, &raw, "", err);
    if (r == 0 && raw.path)
        r = dbx_path_check(raw.path, strlen(raw.path), "path", err);
    if (r == 0)
        r = check_words(&raw, rules, err);
    if (r == 0)
        r = take(kind, &raw, &b, err);
    if (r < 0)
        gw_body_done(&b);
    else
        *ret = b;
    return r;
}

void gw_body_done(struct gw_body *b)
{
    b->doc = dbx_json_doc_free(b->doc);
    free(b->decoded);
    b->decoded = NULL;
}

/* One entity tag (RFC 9110, 8.8.3) at *p, which goes behind it; NULL when there is none. */
static const char *entity_tag(const char **p, size_t *ret_len, bool *ret_weak)
{
    const char *s = *p;
    *ret_weak = strncmp(s, "W/", 2) == 0;
    s += *ret_weak ? 2 : 0;
    const char *end = *s == '"' ? strchr(s + 1, '"') : NULL;
    if (!end)
        return NULL;
    *ret_len = (size_t)(end - s - 1);
    *p = end + 1;
    return s + 1;
}

static bool is_ours(const char *tag, size_t len)
{
    return len == 64 && strspn(tag, "0123456789abcdef") >= 64;
}

/* Files have one tag: of a list with several of ours none could be told to be the wrong one. */
int gw_if_match(const char *header, char ret[static 65], struct dbx_err *err)
{
    const char *p = header ? header : "", *tag;
    size_t len, ours = 0;
    bool weak;
    ret[0] = '\0';
    if (!header || dbx_streq(header, "*"))
        return 0;
    memcpy(ret, "none", sizeof("none"));
    do {
        p += strspn(p, " \t");
        tag = entity_tag(&p, &len, &weak);
        if (tag && !weak && is_ours(tag, len)) {
            memcpy(ret, tag, len);
            ret[len] = '\0';
            ours++;
        }
        p += strspn(p, " \t");
    } while (tag && *p++ == ',');
    if (!tag || p[-1] != '\0' || ours > 1)
        return dbx_err_field(err, "If-Match", "must be an ETag as this server gives it, or *");
    return 0;
}

static void write_object(struct dbx_jw *w, const char *key, const struct dbx_json *node)
{
    dbx_jw_key(w, key);
    if (node) {
        dbx_jw_node(w, node);
        return;
    }
    dbx_jw_object(w);
    dbx_jw_object_end(w);
}

void gw_run_write_request(struct dbx_jw *w, const struct gw_run *run)
{
    const struct gw_body *b = run->body;
    dbx_jw_object(w);
    dbx_jw_kstr(w, "template", run->template);
    dbx_jw_key(w, "command");
    dbx_jw_node(w, b->command);
    write_object(w, "env", b->env);
    dbx_jw_kbool(w, "stdin_open", true);
    if (b->cols) {
        dbx_jw_key(w, "pty");
        dbx_jw_object(w);
        dbx_jw_ki64(w, "cols", b->cols);
        dbx_jw_ki64(w, "rows", b->rows);
        dbx_jw_object_end(w);
    }
    dbx_jw_key(w, "limits");
    dbx_jw_object(w);
    if (b->cpu_ms)
        dbx_jw_ki64(w, "cpu_ms", b->cpu_ms);
    if (b->wall_ms)
        dbx_jw_ki64(w, "wall_ms", b->wall_ms);
    dbx_jw_object_end(w);
    dbx_jw_kstr(w, "retry", "never");
    dbx_jw_key(w, "workspace");
    dbx_jw_object(w);
    dbx_jw_kstr(w, "size", run->size);
    if (b->cwd)
        dbx_jw_kstr(w, "cwd", b->cwd);
    dbx_jw_ki64(w, "revision", run->revision);
    dbx_jw_ki64(w, "idle_ms", (int64_t)run->idle_ms);
    dbx_jw_ki64(w, "max_ms", (int64_t)run->max_ms);
    dbx_jw_object_end(w);
    dbx_jw_object_end(w);
}
