/* SPDX-License-Identifier: Apache-2.0 */
/* POST /api/batches: decoded on a thread, written in one transaction of some statements, then the
 * scheduler is told. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/io/httpd.h"
#include "common/io/loop.h"
#include "common/proto/output_log.h"
#include "gateway/batch_decode.h"
#include "gateway/batches.h"
#include "gateway/executions.h"
#include "gateway/gw.h"
#include "gateway/once.h"
#include "gateway/result.h"
#include "gateway/store.h"
#include "gateway/templates.h"
#include "gateway/upstream.h"
#include "gateway/webhooks.h"

#define AT_A_TIME 3 /* bodies of up to 64 MiB, and what becomes of them */
#define WRITE_MS 30000
#define MAX_LITERAL (4u << 20)

struct create {
    struct gw_req *rq; /* owns this */
    struct gw *gw;
    uint8_t *body; /* owned: the request may go while the thread reads */
    size_t len;
    struct gw_batch_rules rules;
    struct gw_batch b;
    struct dbx_err err; /* of decoding */
    char *key;          /* Idempotency-Key, owned, or NULL */
    uint8_t hash[DBX_SHA256_LEN];
    struct dbx_id id;
    int64_t offsets[DBX_LOG_PARTITIONS]; /* where each partition of the log ends */
};

static void free_create(void *op)
{
    struct create *c = op;
    c->gw->batch_bodies--;
    gw_batch_done(&c->b);
    free(c->body);
    free(c->key);
    free(c);
}

static void answer(struct gw_req *rq, const struct dbx_id *id)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    gw_put_id(w, "id", id);
    dbx_jw_kstr(w, "status", "running");
    dbx_jw_object_end(w);
    gw_answer_json(rq, 202, &buf, &w);
}

/* --- what was written --- */

static void on_idempotent(const char *response, bool same, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct dbx_id id;
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err) {
        gw_req_fail_db(rq, err);
    } else if (!response) { /* no such key: it was the quota */
        gw_req_fail_status(rq, 429, DBX_LIMIT, "quota", "too many of your executions run or wait",
                           NULL);
    } else if (!same || dbx_json_parse(response, strlen(response), NULL, &doc, NULL) < 0 ||
               dbx_id_parse(dbx_json_get_str(dbx_json_root(doc), "batch_id"), &id) < 0) {
        gw_req_key_reused(rq);
    } else {
        answer(rq, &id);
    }
    gw_req_unref(rq);
}

static void on_written(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw_req *rq = user;
    struct create *c = rq->op;
    if (err) {
        gw_req_fail_db(rq, err);
    } else if (dbx_pg_rows(res) == 0 && c->key) {
        gw_store_idempotent(rq->gw->store, &rq->user.id, c->key, c->hash, on_idempotent, rq);
        return;
    } else if (dbx_pg_rows(res) == 0) {
        gw_req_fail_status(rq, 429, DBX_LIMIT, "quota", "too many of your executions run or wait",
                           NULL);
    } else {
        char text[DBX_ID_TEXT];
        dbx_id_format(&c->id, text);
        dbx_log(DBX_LOG_INFO, &rq->log, "accepted batch=%s template=%s executions=%zu trace=%s",
                text, c->b.template, c->b.nitems, rq->trace);
        gw_upstream_batch(rq->gw->up, &c->id);
        answer(rq, &c->id);
    }
    gw_req_unref(rq);
}

/* --- writing --- */

/* The columns of a chunk, as array literals. */
enum { PROCESS, SANDBOX, EXECUTION, OFFSET, AT, NREQ, NFILES, NSTDIN, EXPECT, COLUMNS };

static void put_id(struct dbx_buf *col, const struct dbx_id *id, char comma)
{
    char text[DBX_ID_TEXT];
    dbx_id_format(id, text);
    (void)dbx_buf_printf(col, "%c%s", comma, text);
}

static void put_item(struct dbx_buf col[static COLUMNS], const struct create *c,
                     const struct gw_batch_item *item)
{
    struct dbx_id process = dbx_id_new(), sandbox = dbx_id_new(), execution = dbx_id_new();
    char hex[2 * DBX_SHA256_LEN + 1] = "NULL", comma = col[PROCESS].len > 0 ? ',' : '{';
    if (item->has_expected)
        dbx_hex_encode(item->expected, DBX_SHA256_LEN, hex);
    put_id(&col[PROCESS], &process, comma);
    put_id(&col[SANDBOX], &sandbox, comma);
    put_id(&col[EXECUTION], &execution, comma);
    (void)dbx_buf_printf(&col[OFFSET], "%c%" PRId64, comma,
                         c->offsets[dbx_olog_partition(&sandbox)]);
    (void)dbx_buf_printf(&col[AT], "%c%u", comma, item->at);
    (void)dbx_buf_printf(&col[NREQ], "%c%u", comma, item->request_len);
    (void)dbx_buf_printf(&col[NFILES], "%c%u", comma, item->files_len);
    (void)dbx_buf_printf(&col[NSTDIN], "%c%u", comma, item->stdin_len);
    (void)dbx_buf_printf(&col[EXPECT], "%c%s", comma, hex);
}

/* What the calls' parameters point to until they were copied. */
struct texts {
    char id[DBX_ID_TEXT], owner[DBX_ID_TEXT], priority[24], parallel[24], deadline[24], total[24];
    char response[64];
    char (*first)[24];
    struct dbx_buf (*cols)[COLUMNS];
};

static void fill_create(struct dbx_pg_call *call, const struct create *c, struct texts *t)
{
    const struct gw_batch *b = &c->b;
    dbx_id_format(&c->id, t->id);
    dbx_id_format(&c->rq->user.id, t->owner);
    snprintf(t->priority, sizeof(t->priority), "%" PRId64, b->priority);
    snprintf(t->parallel, sizeof(t->parallel), "%" PRId64, b->max_parallel);
    snprintf(t->deadline, sizeof(t->deadline), "%" PRId64, b->deadline_ms);
    snprintf(t->total, sizeof(t->total), "%zu", b->nitems);
    snprintf(t->response, sizeof(t->response), "{\"batch_id\":\"%s\"}", t->id);
    const struct dbx_pg_param params[] = {
        DBX_PG_TEXT(t->owner),
        DBX_PG_TEXT(c->key),
        c->key ? DBX_PG_BYTES(c->hash, DBX_SHA256_LEN) : DBX_PG_TEXT(NULL),
        DBX_PG_TEXT(c->key ? t->response : NULL),
        DBX_PG_TEXT(t->id),
        DBX_PG_TEXT(b->template),
        DBX_PG_TEXT(b->per_batch ? "batch" : "execution"),
        DBX_PG_TEXT(b->retry_safe ? "safe" : "never"),
        DBX_PG_TEXT(t->priority),
        DBX_PG_TEXT(b->max_parallel > 0 ? t->parallel : NULL),
        DBX_PG_TEXT(b->deadline_ms > 0 ? t->deadline : NULL),
        DBX_PG_BYTES(b->files.data, b->files.len),
        DBX_PG_TEXT(t->total),
        DBX_PG_TEXT(b->webhook_url),
        DBX_PG_TEXT(b->webhook_secret),
    };
    *call = (struct dbx_pg_call){.stmt = "batch_create", .n = DBX_ARRAY_LEN(params)};
    memcpy(call->params, params, sizeof(params));
}

static void fill_chunk(struct dbx_pg_call *call, const struct create *c, struct texts *t, size_t k)
{
    const struct gw_batch_chunk *chunk = &c->b.chunks[k];
    struct dbx_buf *col = t->cols[k];
    for (size_t i = 0; i < COLUMNS; i++)
        dbx_buf_init(&col[i], MAX_LITERAL);
    for (size_t i = 0; i < chunk->count; i++)
        put_item(col, c, &c->b.items[chunk->first + i]);
    for (size_t i = 0; i < COLUMNS; i++)
        (void)dbx_buf_str(&col[i], "}");
    snprintf(t->first[k], sizeof(t->first[k]), "%zu", chunk->first);
    const struct dbx_pg_param params[] = {
        DBX_PG_TEXT(t->id),
        DBX_PG_TEXT(dbx_buf_cstr(&col[PROCESS])),
        DBX_PG_TEXT(dbx_buf_cstr(&col[SANDBOX])),
        DBX_PG_TEXT(dbx_buf_cstr(&col[EXECUTION])),
        DBX_PG_TEXT(t->first[k]),
        DBX_PG_TEXT(dbx_buf_cstr(&col[OFFSET])),
        DBX_PG_TEXT(dbx_buf_cstr(&col[AT])),
        DBX_PG_TEXT(dbx_buf_cstr(&col[NREQ])),
        DBX_PG_TEXT(dbx_buf_cstr(&col[NFILES])),
        DBX_PG_TEXT(dbx_buf_cstr(&col[NSTDIN])),
        DBX_PG_BYTES(chunk->blob.data, chunk->blob.len),
        DBX_PG_TEXT(dbx_buf_cstr(&col[EXPECT])),
        DBX_PG_TEXT(c->rq->trace),
    };
    *call = (struct dbx_pg_call){.stmt = "batch_items", .n = DBX_ARRAY_LEN(params)};
    memcpy(call->params, params, sizeof(params));
}

static void write_batch(struct create *c)
{
    size_t n = c->b.nchunks;
    struct texts t = {.first = dbx_calloc(n, sizeof(*t.first)),
                      .cols = dbx_calloc(n, sizeof(*t.cols))};
    struct dbx_pg_call *calls = dbx_calloc(n + 2, sizeof(*calls));
    c->id = dbx_id_new();
    fill_create(&calls[0], c, &t);
    for (size_t k = 0; k < n; k++)
        fill_chunk(&calls[k + 1], c, &t, k);
    calls[n + 1] =
        (struct dbx_pg_call){.stmt = "batch_taken", .params = {DBX_PG_TEXT(t.id)}, .n = 1};
    gw_req_ref(c->rq);
    dbx_pg_batch_within(gw_store_pg(c->gw->store), calls, n + 2, WRITE_MS, on_written, c->rq);
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < COLUMNS; i++)
            dbx_buf_done(&t.cols[k][i]);
    free(calls);
    free(t.first);
    free(t.cols);
}

/* --- decoding --- */

static bool any_template(const char *name, void *user)
{
    (void)name;
    (void)user;
    return true; /* looked at on the loop's thread */
}

/* On a thread of the pool. */
static void decode(void *user)
{
    struct create *c = user;
    dbx_sha256(c->body, c->len, c->hash);
    if (gw_batch_decode(c->body, c->len, &c->rules, &c->b, &c->err) < 0 && c->err.code == 0)
        c->err.code = -EINVAL;
}

static int check_rest(struct create *c, struct dbx_err *err)
{
    int64_t oldest;
    int r = 0;
    if (!gw_templates_has(c->gw->templates, c->b.template))
        return dbx_err_field(err, "template", "there is no template '%.64s'", c->b.template);
    if (!c->gw->olog)
        return dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "the output log is not there yet, try again");
    for (uint32_t i = 0; r == 0 && i < DBX_LOG_PARTITIONS; i++)
        r = dbx_olog_bounds(c->gw->olog, i, &oldest, &c->offsets[i], err);
    return r;
}

static void on_decoded(void *user)
{
    struct create *c = user;
    struct gw_req *rq = c->rq;
    free(DBX_TAKE(c->body));
    if (gw_req_gone(rq)) {
        /* nobody knows that it was accepted: then it is not */
    } else if (c->err.code < 0 || check_rest(c, &c->err) < 0) {
        gw_req_fail(rq, &c->err, NULL);
    } else {
        write_batch(c);
    }
    gw_req_unref(rq);
}

void gw_batches_create(struct gw_req *rq)
{
    struct dbx_err err = {0};
    struct gw *gw = rq->gw;
    char *key = NULL;
    if (gw_idempotency_key(dbx_http_header(rq->http, "idempotency-key"), &key, &err) < 0) {
        gw_req_fail(rq, &err, NULL);
        return;
    }
    if (gw->batch_bodies >= AT_A_TIME) {
        free(key);
        gw_req_fail_status(rq, 503, DBX_UNAVAIL, "busy", "too many batches at a time, try again",
                           NULL);
        return;
    }
    struct create *c = DBX_NEW(struct create);
    gw->batch_bodies++;
    c->rq = rq;
    c->gw = gw;
    c->key = key;
    c->rules.execution = (struct gw_execution_rules){
        .max = gw->limits_max, .compile_max = gw->compile_limits_max, .has_template = any_template};
    c->rules.check_url = gw_webhook_check_url;
    c->rules.user = gw;
    const uint8_t *body = dbx_http_body(rq->http, &c->len);
    c->body = memcpy(dbx_malloc(c->len ? c->len : 1), body ? body : (const uint8_t *)"", c->len);
    rq->op = c;
    rq->op_free = free_create;
    gw_req_ref(rq);
    dbx_loop_work(gw->loop, decode, on_decoded, c);
}
