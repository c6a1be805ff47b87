/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/messages.h"

#include "common/base/clock.h"
#include "common/base/str.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TRACE 512

int sched_id_field(const struct dbx_json *header, const char *key, struct dbx_id *ret,
                   struct dbx_err *err)
{
    if (dbx_id_parse(dbx_json_get_str(header, key), ret) < 0)
        return dbx_err_field(err, key, "is not an id");
    return 0;
}

static bool is_name(const char *s)
{
    size_t len = s ? strlen(s) : 0;

    for (size_t i = 0; i < len; i++) {
        bool letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z');
        if (!letter && !(s[i] >= '0' && s[i] <= '9') && !strchr("._-", s[i]))
            return false;
    }
    return len > 0 && len <= SCHED_NAME_MAX;
}

static bool is_printable(const char *s)
{
    while (*s >= 0x20 && *s <= 0x7e)
        s++;
    return *s == '\0';
}

/* Printable ASCII, not empty. */
static int text_field(const struct dbx_json *header, const char *key, char *ret, size_t size,
                      struct dbx_err *err)
{
    const char *s = dbx_json_get_str(header, key);

    if (!s || !s[0] || !is_printable(s) || !dbx_strcpy(ret, size, s))
        return dbx_err_field(err, key, "is missing, too long, or not text");
    return 0;
}

static int read_template(const struct dbx_json *templates, size_t i, struct sched_template *ret,
                         struct dbx_err *err)
{
    const struct dbx_json *value;
    const char *name = dbx_json_key(templates, i, &value);
    int64_t warm = dbx_json_get_i64(value, "warm", 0);

    if (!is_name(name) || dbx_json_type(value) != DBX_JSON_OBJECT || warm < 0 || warm > 100000)
        return dbx_err_field(err, "templates", "holds something that is no template");
    (void)dbx_strcpy(ret->name, sizeof(ret->name), name);
    ret->warm = (uint32_t)warm;
    return 0;
}

/* A node that does not say has the first one; sizes that we do not know are none. */
static uint32_t read_sizes(const struct dbx_json *sizes)
{
    uint32_t set = 0;

    if (dbx_json_type(sizes) != DBX_JSON_ARRAY)
        return dbx_size_bit(&dbx_sizes[0]);
    for (size_t i = 0; i < dbx_json_count(sizes); i++) {
        const struct dbx_size *sz = dbx_size_find(dbx_json_str(dbx_json_at(sizes, i), NULL));
        set |= sz ? dbx_size_bit(sz) : 0;
    }
    return set;
}

/* What is above the maximum is not needed: it is a preference. A node that has none may not say. */
static int read_lanes(const struct dbx_json *lanes, struct sched_capacity *ret, struct dbx_err *err)
{
    size_t n = dbx_json_count(lanes);

    if (lanes && dbx_json_type(lanes) != DBX_JSON_ARRAY)
        return dbx_err_field(err, "lanes", "is not an array");
    ret->nlanes = n < SCHED_MAX_LANES ? n : SCHED_MAX_LANES;
    for (size_t i = 0; i < ret->nlanes; i++)
        if (dbx_id_parse(dbx_json_str(dbx_json_at(lanes, i), NULL), &ret->lanes[i]) < 0)
            return dbx_err_field(err, "lanes", "holds what is not an id");
    return 0;
}

int sched_capacity_decode(const struct dbx_json *header, struct sched_capacity *ret,
                          struct dbx_err *err)
{
    const struct dbx_json *templates = dbx_json_get(header, "templates");
    int64_t sandboxes = dbx_json_get_i64(dbx_json_get(header, "capacity"), "sandboxes", -1);

    if (sandboxes < 0 || sandboxes > 100000)
        return dbx_err_field(err, "capacity.sandboxes", "is out of range");
    if (dbx_json_type(templates) != DBX_JSON_OBJECT ||
        dbx_json_count(templates) > SCHED_MAX_TEMPLATES)
        return dbx_err_field(err, "templates", "is not an object of at most %d",
                             SCHED_MAX_TEMPLATES);
    ret->sandboxes = (uint32_t)sandboxes;
    int64_t cpus = dbx_json_get_i64(dbx_json_get(header, "capacity"), "cpus", 0);
    ret->cpus = cpus > 0 && cpus <= 100000 ? (uint32_t)cpus : 0;
    ret->sizes = read_sizes(dbx_json_get(dbx_json_get(header, "capacity"), "sizes"));
    ret->ntemplates = dbx_json_count(templates);
    for (size_t i = 0; i < ret->ntemplates; i++) {
        int r = read_template(templates, i, &ret->templates[i], err);
        if (r < 0)
            return r;
    }
    return read_lanes(dbx_json_get(header, "lanes"), ret, err);
}

static int read_attempt(const struct dbx_json *object, uint32_t *ret, struct dbx_err *err)
{
    int64_t attempt = dbx_json_get_i64(object, "attempt", -1);

    if (attempt < 0 || attempt > UINT32_MAX)
        return dbx_err_field(err, "attempt", "is out of range");
    *ret = (uint32_t)attempt;
    return 0;
}

static int read_inventory(const struct dbx_json *processes, struct sched_hello *h,
                          struct dbx_err *err)
{
    size_t n = dbx_json_count(processes);

    if (dbx_json_type(processes) != DBX_JSON_ARRAY || n > SCHED_MAX_INVENTORY)
        return dbx_err_field(err, "processes", "is not an array of at most %d",
                             SCHED_MAX_INVENTORY);
    h->inventory = dbx_calloc(n ? n : 1, sizeof(*h->inventory));
    h->ninventory = n;
    for (size_t i = 0; i < n; i++) {
        const struct dbx_json *p = dbx_json_at(processes, i);
        const char *state = dbx_json_get_str(p, "state");
        int r = sched_id_field(p, "process_id", &h->inventory[i].process, err);
        if (r == 0)
            r = read_attempt(p, &h->inventory[i].attempt, err);
        if (r < 0)
            return r;
        h->inventory[i].running = dbx_streq(state, "running");
        h->inventory[i].ended = dbx_streq(state, "ended");
    }
    return 0;
}

/* A node that knows of none does not say "sandboxes". */
static int read_boxes(const struct dbx_json *boxes, struct sched_hello *h, struct dbx_err *err)
{
    size_t n = dbx_json_count(boxes);

    if (!boxes)
        return 0;
    if (dbx_json_type(boxes) != DBX_JSON_ARRAY || n > SCHED_MAX_INVENTORY)
        return dbx_err_field(err, "sandboxes", "is not an array of at most %d",
                             SCHED_MAX_INVENTORY);
    h->boxes = dbx_calloc(n ? n : 1, sizeof(*h->boxes));
    h->nboxes = n;
    for (size_t i = 0; i < n; i++)
        if (dbx_id_parse(dbx_json_str(dbx_json_at(boxes, i), NULL), &h->boxes[i]) < 0)
            return dbx_err_field(err, "sandboxes", "holds what is not an id");
    return 0;
}

int sched_hello_decode(const struct dbx_json *header, struct sched_hello *ret, struct dbx_err *err)
{
    int r;

    *ret = (struct sched_hello){0};
    if (!is_name(dbx_json_get_str(header, "node_id")))
        return dbx_err_field(err, "node_id", "is not a name");
    (void)dbx_strcpy(ret->node_id, sizeof(ret->node_id), dbx_json_get_str(header, "node_id"));
    if ((r = text_field(header, "url", ret->url, sizeof(ret->url), err)) < 0 ||
        (r = text_field(header, "version", ret->version, sizeof(ret->version), err)) < 0 ||
        (r = sched_capacity_decode(header, &ret->cap, err)) < 0 ||
        (r = read_inventory(dbx_json_get(header, "processes"), ret, err)) < 0 ||
        (r = read_boxes(dbx_json_get(header, "sandboxes"), ret, err)) < 0)
        sched_hello_done(ret);
    return r;
}

void sched_hello_done(struct sched_hello *h)
{
    free(h->boxes);
    h->boxes = NULL;
    h->nboxes = 0;
    free(h->inventory);
    h->inventory = NULL;
    h->ninventory = 0;
}

/* The text of a node; caller frees. NULL when it is larger than max. */
static char *node_text(const struct dbx_json *node, size_t max)
{
    struct dbx_buf buf;

    dbx_buf_init(&buf, max);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_node(w, node);
    if (dbx_jw_end(&w) < 0 || buf.len == 0) {
        dbx_buf_done(&buf);
        return NULL;
    }
    return (char *)dbx_buf_take(&buf);
}

static int use_request(struct sched_proc *sp, const struct dbx_json *request, struct dbx_err *err)
{
    const char *template = dbx_json_get_str(request, "template");

    if (!is_name(template))
        return dbx_err_field(err, "request.template", "is not a name");
    (void)dbx_strcpy(sp->template, sizeof(sp->template), template);
    const struct dbx_json *ws = dbx_json_get(request, "workspace");
    sp->workspace = dbx_json_type(ws) == DBX_JSON_OBJECT;
    sp->size = sp->workspace ? dbx_size_find(dbx_json_get_str(ws, "size")) : NULL;
    if (sp->workspace && !sp->size)
        return dbx_err_field(err, "request.workspace.size", "is none");
    sp->retry_safe = dbx_streq(dbx_json_get_str(request, "retry"), "safe");
    return 0;
}

int sched_request_take(struct sched_proc *sp, const char *json, size_t len, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    int r = dbx_json_parse(json, len, NULL, &doc, err);

    if (r == 0)
        r = use_request(sp, dbx_json_root(doc), err);
    if (r == 0)
        sp->request = dbx_strndup(json, len);
    return r;
}

static int read_place(const struct dbx_json *header, size_t blob_len, struct sched_proc *sp,
                      struct dbx_err *err)
{
    const char *trace = dbx_json_get_str(header, "trace");
    int64_t files_len = dbx_json_get_i64(header, "files_len", -1);
    int r;

    if ((r = sched_id_field(header, "process_id", &sp->id, err)) < 0 ||
        (r = sched_id_field(header, "sandbox_id", &sp->sandbox, err)) < 0 ||
        (r = sched_id_field(header, "owner", &sp->owner, err)) < 0 ||
        (r = use_request(sp, dbx_json_get(header, "request"), err)) < 0)
        return r;
    if (files_len < 0 || (uint64_t)files_len > blob_len)
        return dbx_err_field(err, "files_len", "is not within the blob");
    sp->files_len = (size_t)files_len;
    sp->accepted_us = dbx_json_get_i64(header, "accepted_us", 0);
    sp->trace = dbx_strdup(trace && strlen(trace) <= MAX_TRACE ? trace : "");
    sp->request = node_text(dbx_json_get(header, "request"), SCHED_MAX_REQUEST);
    if (!sp->request)
        return dbx_err_field(err, "request", "is too large");
    return 0;
}

int sched_place_decode(const struct dbx_json *header, const uint8_t *blob, size_t blob_len,
                       bool keep_blob, struct sched_proc **ret, struct dbx_err *err)
{
    struct sched_proc *sp = DBX_NEW(struct sched_proc);
    int r = read_place(header, blob_len, sp, err);

    if (r < 0) {
        sched_proc_free(sp);
        return r;
    }
    if (keep_blob) { /* its size is within DBX_MAX_LINK_MSG, and the caller bounds the sum */
        sp->blob = dbx_malloc(blob_len ? blob_len : 1);
        if (blob_len)
            memcpy(sp->blob, blob, blob_len);
        sp->blob_len = blob_len;
    } else {
        sp->files_len = 0;
    }
    *ret = sp;
    return 0;
}

int sched_report_decode(const struct dbx_json *header, bool ended, struct sched_report *ret,
                        struct dbx_err *err)
{
    struct sched_report rp = {0};
    int r = sched_id_field(header, "process_id", &rp.process, err);

    if (r == 0)
        r = read_attempt(header, &rp.attempt, err);
    if (r < 0)
        return r;
    if (ended) {
        const struct dbx_json *outcome = dbx_json_get(header, "outcome");
        rp.verdict = dbx_verdict_parse(dbx_json_get_str(header, "verdict"));
        if (rp.verdict == DBX_V_NONE)
            rp.verdict = DBX_V_INTERNAL;
        if (dbx_json_type(outcome) == DBX_JSON_OBJECT) {
            rp.outcome = node_text(outcome, SCHED_MAX_OUTCOME);
            rp.verdict = rp.outcome ? rp.verdict : DBX_V_INTERNAL;
        }
    }
    rp.started_us = dbx_json_get_i64(header, ended ? "started_us" : "at_us", 0);
    if (rp.started_us < 0 || rp.started_us > dbx_wall_us())
        rp.started_us = 0;
    *ret = rp;
    return 0;
}

void sched_report_done(struct sched_report *r)
{
    free(r->outcome);
    r->outcome = NULL;
}
