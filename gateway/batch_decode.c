/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/batch_decode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "common/ext/json.h"
#include "common/proto/files.h"

#define MAX_NODES 1000000
#define MAX_INPUT DBX_MAX_BODY /* of one execution: its own files and the shared ones */
#define MAX_BLOCK (MAX_INPUT + (2u << 20))
#define MAX_URL 2000
#define MAX_SECRET 200

struct raw {
    const char *template, *isolation, *retry;
    const struct dbx_json *files, *executions, *webhook;
    int64_t max_parallel, priority, deadline_ms;
};

#define AT(f) .offset = offsetof(struct raw, f)
static const struct dbx_json_field body_fields[] = {
    {"template", DBX_JSON_STRING, AT(template), .flags = DBX_JSON_REQUIRED, .min = 1, .max = 64},
    {"files", DBX_JSON_ARRAY, AT(files), .flags = DBX_JSON_NULLABLE, .max = GW_MAX_FILES},
    {"executions", DBX_JSON_ARRAY, AT(executions), .flags = DBX_JSON_REQUIRED, .min = 1,
     .max = GW_BATCH_MAX},
    {"isolation", DBX_JSON_STRING, AT(isolation), .flags = DBX_JSON_NULLABLE},
    {"retry", DBX_JSON_STRING, AT(retry), .flags = DBX_JSON_NULLABLE},
    {"max_parallel", DBX_JSON_INT, AT(max_parallel), .flags = DBX_JSON_NULLABLE, .min = 1,
     .max = GW_BATCH_MAX},
    {"priority", DBX_JSON_INT, AT(priority), .flags = DBX_JSON_NULLABLE,
     .min = -GW_BATCH_MAX_PRIORITY, .max = GW_BATCH_MAX_PRIORITY},
    {"deadline_ms", DBX_JSON_INT, AT(deadline_ms), .flags = DBX_JSON_NULLABLE, .min = 1,
     .max = GW_BATCH_MAX_DEADLINE},
    {"webhook", DBX_JSON_OBJECT, AT(webhook), .flags = DBX_JSON_NULLABLE},
};

struct raw_item {
    const struct dbx_json *files, *command, *stdin_node, *env, *limits, *compile_limits, *expected;
};
#define ITEM(f) .offset = offsetof(struct raw_item, f), .flags = DBX_JSON_NULLABLE
static const struct dbx_json_field item_fields[] = {
    {"files", DBX_JSON_ARRAY, ITEM(files), .max = GW_MAX_FILES},
    {"command", DBX_JSON_NULL, ITEM(command)},
    {"stdin", DBX_JSON_STRING, ITEM(stdin_node), .allow_nul = true},
    {"env", DBX_JSON_OBJECT, ITEM(env)},
    {"limits", DBX_JSON_OBJECT, ITEM(limits)},
    {"compile_limits", DBX_JSON_OBJECT, ITEM(compile_limits)},
    {"expected_stdout", DBX_JSON_STRING, ITEM(expected), .allow_nul = true},
};

struct raw_hook {
    const char *url, *secret;
};
static const struct dbx_json_field hook_fields[] = {
    {"url", DBX_JSON_STRING, offsetof(struct raw_hook, url), .flags = DBX_JSON_REQUIRED, .min = 1,
     .max = MAX_URL},
    {"secret", DBX_JSON_STRING, offsetof(struct raw_hook, secret), .flags = DBX_JSON_NULLABLE,
     .min = 16, .max = MAX_SECRET},
};

/* Shared by all items while they are decoded. */
struct decoding {
    const struct gw_batch_rules *rules;
    struct gw_batch *b;
    struct dbx_map *shared; /* paths */
    size_t nshared;
};

/* "executions[7]." in front of the field that is named. */
static int in_item(struct dbx_err *err, size_t i, int r)
{
    char field[sizeof(err->field)];
    if (r < 0 && err) {
        snprintf(field, sizeof(field), "executions[%zu]%s%.40s", i, err->field[0] ? "." : "",
                 err->field);
        (void)dbx_strcpy(err->field, sizeof(err->field), field);
    }
    return r;
}

static int decode_item_words(const struct raw_item *raw, const struct decoding *d,
                             struct gw_execution *ex, struct dbx_err *err)
{
    const struct gw_execution_rules *rules = &d->rules->execution;
    ex->template = d->b->template;
    ex->retry_safe = d->b->retry_safe;
    return gw_program_decode(raw->command, raw->env, raw->limits, raw->compile_limits, rules, ex,
                             err);
}

static int decode_item_files(const struct dbx_json *files, const struct decoding *d,
                             struct dbx_buf *out, struct dbx_err *err)
{
    struct dbx_map *seen = dbx_map_new();
    dbx_buf_init(out, MAX_BLOCK);
    int r = gw_files_decode(files, d->shared, seen, out, err);
    if (r == 0 && d->nshared + dbx_json_count(files) > GW_MAX_FILES)
        r = dbx_err_field(err, "files", "more than %d with the shared ones", GW_MAX_FILES);
    if (r == 0 && d->b->files.len + out->len > MAX_BLOCK)
        r = dbx_err_field(err, "files", "too large with the shared ones");
    dbx_map_free(seen);
    return r;
}

static struct gw_batch_chunk *chunk_with_room(struct gw_batch *b, size_t i)
{
    struct gw_batch_chunk *c = b->nchunks > 0 ? &b->chunks[b->nchunks - 1] : NULL;
    if (c && c->count < GW_BATCH_CHUNK_ITEMS && c->blob.len < GW_BATCH_CHUNK)
        return c;
    b->chunks = dbx_realloc(b->chunks, (b->nchunks + 1) * sizeof(*b->chunks));
    c = &b->chunks[b->nchunks++];
    *c = (struct gw_batch_chunk){.first = i};
    dbx_buf_init(&c->blob, DBX_MAX_LINK_MSG);
    return c;
}

static int put_item(struct gw_batch *b, size_t i, const struct gw_execution *ex, const char *input,
                    size_t input_len)
{
    struct gw_batch_chunk *c = chunk_with_room(b, i);
    struct gw_batch_item *item = &b->items[i];
    item->at = (uint32_t)c->blob.len;
    struct dbx_jw *w = dbx_jw_new(&c->blob);
    gw_execution_write_request(w, ex, /* stdin_open= */ false);
    int r = dbx_jw_end(&w);
    item->request_len = (uint32_t)c->blob.len - item->at;
    item->files_len = (uint32_t)ex->files.len;
    item->stdin_len = (uint32_t)input_len;
    if (r == 0)
        r = dbx_buf_append(&c->blob, ex->files.data, ex->files.len);
    if (r == 0)
        r = dbx_buf_append(&c->blob, input, input_len);
    c->count++;
    b->nitems = i + 1;
    return r;
}

static int decode_item(const struct dbx_json *node, size_t i, const struct decoding *d,
                       struct dbx_err *err)
{
    struct gw_batch_item *item = &d->b->items[i];
    struct gw_execution ex = {0};
    struct raw_item raw = {0};
    const char *input = "", *expected;
    size_t input_len = 0, expected_len;
    dbx_buf_init(&ex.files, 0);
    if (dbx_json_type(node) != DBX_JSON_OBJECT)
        return dbx_err_field(err, "", "must be an object");
    int r = dbx_json_decode(node, item_fields, DBX_ARRAY_LEN(item_fields), &raw, "", err);
    if (r == 0)
        r = decode_item_words(&raw, d, &ex, err);
    if (r == 0)
        r = decode_item_files(raw.files, d, &ex.files, err);
    if (r == 0 && raw.stdin_node)
        input = dbx_json_str(raw.stdin_node, &input_len);
    if (r == 0 && raw.expected) {
        expected = dbx_json_str(raw.expected, &expected_len);
        item->has_expected = true;
        dbx_sha256(expected, expected_len, item->expected);
    }
    if (r == 0 && (r = put_item(d->b, i, &ex, input, input_len)) < 0)
        r = dbx_err_field(err, "", "too large");
    gw_execution_done(&ex);
    return r;
}

static int decode_hook(const struct dbx_json *node, const struct gw_batch_rules *rules,
                       struct gw_batch *b, struct dbx_err *err)
{
    struct raw_hook raw = {0};
    int r = dbx_json_decode(node, hook_fields, DBX_ARRAY_LEN(hook_fields), &raw, "webhook.", err);
    if (r == 0)
        r = rules->check_url(raw.url, err, rules->user);
    if (r < 0)
        return r;
    b->webhook_url = dbx_strdup(raw.url);
    b->webhook_secret = raw.secret ? dbx_strdup(raw.secret) : NULL;
    return 0;
}

static int decode_words(const struct raw *raw, const struct gw_batch_rules *rules,
                        struct gw_batch *b, struct dbx_err *err)
{
    if (!rules->execution.has_template(raw->template, rules->execution.user))
        return dbx_err_field(err, "template", "there is no template '%.64s'", raw->template);
    if (raw->retry && !dbx_streq(raw->retry, "never") && !dbx_streq(raw->retry, "safe"))
        return dbx_err_field(err, "retry", "must be \"never\" or \"safe\"");
    if (raw->isolation && !dbx_streq(raw->isolation, "execution") &&
        !dbx_streq(raw->isolation, "batch"))
        return dbx_err_field(err, "isolation", "must be \"execution\" or \"batch\"");
    (void)dbx_strcpy(b->template, sizeof(b->template), raw->template);
    b->retry_safe = dbx_streq(raw->retry, "safe");
    b->per_batch = dbx_streq(raw->isolation, "batch");
    b->priority = raw->priority;
    b->max_parallel = raw->max_parallel;
    b->deadline_ms = raw->deadline_ms;
    return raw->webhook ? decode_hook(raw->webhook, rules, b, err) : 0;
}

static int decode_items(const struct raw *raw, const struct decoding *d, struct dbx_err *err)
{
    size_t n = dbx_json_count(raw->executions);
    int r = gw_files_decode(raw->files, NULL, d->shared, &d->b->files, err);
    d->b->items = dbx_calloc(n, sizeof(*d->b->items));
    for (size_t i = 0; r == 0 && i < n; i++)
        r = in_item(err, i, decode_item(dbx_json_at(raw->executions, i), i, d, err));
    return r;
}

int gw_batch_decode(const void *body, size_t len, const struct gw_batch_rules *rules,
                    struct gw_batch *ret, struct dbx_err *err)
{
    const struct dbx_json_limits limits = {.max_depth = 8, .max_nodes = MAX_NODES};
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct raw raw = {0};
    dbx_buf_init(&ret->files, MAX_BLOCK);
    int r = dbx_json_parse(body, len, &limits, &doc, err);
    if (r < 0) {
        if (err)
            err->kind = DBX_INVALID; /* also when it was too deep or too large */
        return r;
    }
    const struct dbx_json *root = dbx_json_root(doc);
    if (dbx_json_type(root) != DBX_JSON_OBJECT)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "the body must be a JSON object");
    r = dbx_json_decode(root, body_fields, DBX_ARRAY_LEN(body_fields), &raw, "", err);
    if (r == 0)
        r = decode_words(&raw, rules, ret, err);
    if (r < 0)
        return r;
    struct decoding d = {
        .rules = rules, .b = ret, .shared = dbx_map_new(), .nshared = dbx_json_count(raw.files)};
    r = decode_items(&raw, &d, err);
    dbx_map_free(d.shared);
    return r;
}

void gw_batch_done(struct gw_batch *b)
{
    for (size_t i = 0; i < b->nchunks; i++)
        dbx_buf_done(&b->chunks[i].blob);
    free(b->chunks);
    free(b->items);
    free(b->webhook_url);
    if (b->webhook_secret)
        explicit_bzero(b->webhook_secret, strlen(b->webhook_secret));
    free(b->webhook_secret);
    dbx_buf_done(&b->files);
    *b = (struct gw_batch){0};
}
