/* SPDX-License-Identifier: Apache-2.0 */
/* /api/batches: the list, one batch with a page of its results, and its cancelling. */
#include "gateway/batches.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/io/httpd.h"
#include "gateway/executions.h"
#include "gateway/gw.h"
#include "gateway/once.h"
#include "gateway/result.h"
#include "gateway/store.h"
#include "gateway/upstream.h"

#define PAGE_DEFAULT 50
#define PAGE_MAX 1000
#define PAGE_BYTES (8u << 20) /* a page ends behind the result that passes it */
#define MAX_PAGE_BODY (PAGE_BYTES + (66u << 20))

/* --- rows --- */

int gw_batch_row_read(const struct dbx_pg_result *res, size_t i, struct gw_batch_row *ret)
{
    struct gw_batch_row b = {0};
    const char *reason = dbx_pg_text(res, i, "cancel_reason", NULL);
    const char *hook = dbx_pg_text(res, i, "hook", NULL);
    if (dbx_id_parse(dbx_pg_text(res, i, "id", NULL), &b.id) < 0)
        return -EBADMSG;
    (void)dbx_strcpy(b.status, sizeof(b.status), dbx_pg_text(res, i, "status", NULL));
    (void)dbx_strcpy(b.template, sizeof(b.template), dbx_pg_text(res, i, "template", NULL));
    (void)dbx_strcpy(b.isolation, sizeof(b.isolation), dbx_pg_text(res, i, "isolation", NULL));
    (void)dbx_strcpy(b.retry, sizeof(b.retry), dbx_pg_text(res, i, "retry", NULL));
    (void)dbx_strcpy(b.cancel_reason, sizeof(b.cancel_reason), reason ? reason : "");
    (void)dbx_strcpy(b.hook, sizeof(b.hook), hook ? hook : "waiting");
    b.has_hook = dbx_streq(dbx_pg_text(res, i, "has_hook", NULL), "t");
    b.priority = dbx_pg_i64(res, i, "priority", 0);
    b.max_parallel = dbx_pg_i64(res, i, "max_parallel", 0);
    b.total = dbx_pg_i64(res, i, "total", 0);
    b.done = dbx_pg_i64(res, i, "done", 0);
    b.completed = dbx_pg_i64(res, i, "n_completed", 0);
    b.failed = dbx_pg_i64(res, i, "n_failed", 0);
    b.cancelled = dbx_pg_i64(res, i, "n_cancelled", 0);
    b.running = dbx_pg_i64(res, i, "running", 0);
    b.deadline_us = dbx_pg_i64(res, i, "deadline_us", 0);
    b.created_us = dbx_pg_i64(res, i, "created_us", 0);
    b.ended_us = dbx_pg_i64(res, i, "ended_us", 0);
    b.over = !dbx_streq(b.status, "running");
    *ret = b;
    return 0;
}

static void put_counts(struct dbx_jw *w, const struct gw_batch_row *b)
{
    dbx_jw_key(w, "counts");
    dbx_jw_object(w);
    dbx_jw_ki64(w, "pending", b->total - b->done - b->running);
    dbx_jw_ki64(w, "running", b->running);
    dbx_jw_ki64(w, "completed", b->completed);
    dbx_jw_ki64(w, "failed", b->failed);
    dbx_jw_ki64(w, "cancelled", b->cancelled);
    dbx_jw_object_end(w);
}

void gw_batch_row_write(struct dbx_jw *w, const struct gw_batch_row *b)
{
    gw_put_id(w, "id", &b->id);
    dbx_jw_kstr(w, "status", b->status);
    dbx_jw_kstr(w, "cancel_reason", b->cancel_reason[0] ? b->cancel_reason : NULL);
    dbx_jw_kstr(w, "template", b->template);
    dbx_jw_kstr(w, "isolation", b->isolation);
    dbx_jw_kstr(w, "retry", b->retry);
    dbx_jw_ki64(w, "priority", b->priority);
    dbx_jw_key(w, "max_parallel");
    if (b->max_parallel > 0)
        dbx_jw_i64(w, b->max_parallel);
    else
        dbx_jw_null(w);
    dbx_jw_ki64(w, "total", b->total);
    put_counts(w, b);
    dbx_jw_kstr(w, "webhook", b->has_hook ? b->hook : NULL);
    gw_put_time(w, "deadline_at", b->deadline_us);
    gw_put_time(w, "created_at", b->created_us);
    gw_put_time(w, "ended_at", b->ended_us);
}

/* --- looking up --- */

struct lookup {
    struct gw_req *rq;
    gw_batch_fn *fn;
};

static void on_batch(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct lookup l = *(struct lookup *)user;
    struct gw_batch_row b;
    free(user);
    if (gw_req_gone(l.rq)) {
        /* nobody to answer */
    } else if (err) {
        gw_req_fail_db(l.rq, err);
    } else if (dbx_pg_rows(res) == 0 || gw_batch_row_read(res, 0, &b) < 0) {
        gw_req_not_found(l.rq);
    } else {
        l.fn(l.rq, &b);
    }
    gw_req_unref(l.rq);
}

/* The statement's three: batch, caller, whether he is an administrator. */
static bool batch_query(struct gw_req *rq, const char *stmt, dbx_pg_fn *fn, void *arg)
{
    struct dbx_id id;
    char user[DBX_ID_TEXT], text[DBX_ID_TEXT];
    if (dbx_id_parse(rq->params.first, &id) < 0) {
        gw_req_not_found(rq);
        return false;
    }
    dbx_id_format(&id, text);
    dbx_id_format(&rq->user.id, user);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(text), DBX_PG_TEXT(user),
                                          DBX_PG_TEXT(rq->user.admin ? "t" : "f")};
    gw_req_ref(rq);
    dbx_pg_query(gw_store_pg(rq->gw->store), stmt, params, 3, fn, arg);
    return true;
}

void gw_with_batch(struct gw_req *rq, gw_batch_fn *fn)
{
    struct lookup *l = DBX_NEW(struct lookup);
    l->rq = rq;
    l->fn = fn;
    if (!batch_query(rq, "batch", on_batch, l))
        free(l);
}

/* --- one, with a page of its results --- */

struct page {
    struct gw_req *rq; /* borrowed: the request owns this */
    struct gw_batch_row b;
    size_t limit;
    int64_t after; /* the last one that was given */
    struct dbx_buf buf;
    size_t given;
    bool more; /* behind this page, as far as is known now */
    struct gw_collect *collect;
};

static void free_page(void *op)
{
    struct page *pg = op;
    pg->collect = gw_collect_free(pg->collect);
    dbx_buf_done(&pg->buf);
    free(pg);
}

/* The results are whole objects already: they are put between the rest by hand. */
static void answer_page(struct page *pg)
{
    struct dbx_buf out, tail;
    char cursor[24];
    dbx_buf_init(&out, MAX_PAGE_BODY + DBX_MAX_HEADER);
    dbx_buf_init(&tail, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&tail);
    dbx_jw_object(w);
    gw_batch_row_write(w, &pg->b);
    /* While it runs more will come, and the cursor is good for it. */
    snprintf(cursor, sizeof(cursor), "%" PRId64, pg->after);
    dbx_jw_kstr(w, "next_cursor", pg->more || !pg->b.over ? cursor : NULL);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0);
    (void)dbx_buf_append(&out, tail.data, tail.len - 1);
    (void)dbx_buf_str(&out, ",\"results\":[");
    (void)dbx_buf_append(&out, dbx_buf_cstr(&pg->buf), pg->buf.len);
    (void)dbx_buf_str(&out, "]}");
    gw_req_json(pg->rq, 200, &out);
    dbx_buf_done(&out);
    dbx_buf_done(&tail);
}

static bool on_object(const struct gw_process *p, const struct dbx_buf *json, void *user)
{
    struct page *pg = user;
    (void)dbx_buf_str(&pg->buf, pg->given > 0 ? "," : "");
    int r = dbx_buf_append(&pg->buf, json->data, json->len);
    dbx_assert(r == 0);
    pg->given++;
    pg->after = p->batch_seq;
    if (pg->buf.len < PAGE_BYTES)
        return true;
    pg->more |= pg->after < pg->b.done;
    answer_page(pg);
    return false; /* it is gone */
}

static void on_done(void *user)
{
    answer_page(user);
}

static void on_error(const struct dbx_err *err, void *user)
{
    struct page *pg = user;
    gw_req_fail_output(pg->rq, err);
}

static const struct gw_collect_handlers collect_handlers = {
    .on_object = on_object, .on_done = on_done, .on_error = on_error};

static void on_rows(const struct gw_process *rows, size_t n, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct page *pg = rq->op;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err) {
        gw_req_fail_db(rq, err);
    } else if (n > 0 && !rq->gw->olog) {
        gw_req_fail_output(rq, NULL);
    } else {
        pg->more = n > pg->limit;
        pg->collect =
            gw_collect_new(rq->gw, rows, n < pg->limit ? n : pg->limit, &collect_handlers, pg);
    }
    gw_req_unref(rq);
}

void gw_batch_answer_page(struct gw_req *rq, const struct gw_batch_row *b)
{
    const char *limit = dbx_http_query(rq->http, "limit", 0);
    const char *cursor = dbx_http_query(rq->http, "cursor", 0);
    uint64_t count = PAGE_DEFAULT, after = 0;
    struct dbx_err err = {0};
    if (limit && dbx_parse_u64(limit, strlen(limit), 0, PAGE_MAX, &count) < 0)
        (void)dbx_err_field(&err, "limit", "must be a number from 0 to %d", PAGE_MAX);
    if (cursor && dbx_parse_u64(cursor, strlen(cursor), 0, INT32_MAX, &after) < 0)
        (void)dbx_err_field(&err, "cursor", "was not given by this server");
    if (err.code < 0) {
        gw_req_fail(rq, &err, NULL);
        return;
    }
    struct page *pg = DBX_NEW(struct page);
    pg->rq = rq;
    pg->b = *b;
    pg->limit = count;
    pg->after = (int64_t)after;
    dbx_buf_init(&pg->buf, MAX_PAGE_BODY);
    rq->op = pg;
    rq->op_free = free_page;
    gw_req_ref(rq);
    gw_store_batch_results(rq->gw->store, &b->id, pg->after, (uint32_t)count + 1, on_rows, rq);
}

void gw_batches_get(struct gw_req *rq)
{
    gw_with_batch(rq, gw_batch_answer_page);
}

/* --- cancel --- */

static void answer_row(struct gw_req *rq, const struct gw_batch_row *b)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    gw_batch_row_write(w, b);
    dbx_jw_object_end(w);
    gw_answer_json(rq, b->over ? 200 : 202, &buf, &w);
}

static void on_cancelled(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw_req *rq = user;
    struct dbx_id id;
    if (err) {
        gw_req_fail_db(rq, err);
    } else {
        if (dbx_pg_rows(res) > 0 && dbx_id_parse(dbx_pg_text(res, 0, "id", NULL), &id) == 0)
            gw_upstream_batch(rq->gw->up, &id);
        if (!gw_req_gone(rq))
            gw_with_batch(rq, answer_row); /* not his, or over already: the row says */
    }
    gw_req_unref(rq);
}

static void cancel_batch(struct gw_req *rq)
{
    (void)batch_query(rq, "batch_cancel", on_cancelled, rq);
}

void gw_batches_cancel(struct gw_req *rq)
{
    gw_once_again(rq, cancel_batch);
}

/* --- the list --- */

struct list {
    struct gw_req *rq;
    size_t limit;
};

static void on_list(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct list l = *(struct list *)user;
    struct gw_batch_row b = {0};
    struct dbx_buf buf;
    free(user);
    if (gw_req_gone(l.rq) || err) {
        if (err)
            gw_req_fail_db(l.rq, err);
        gw_req_unref(l.rq);
        return;
    }
    size_t n = dbx_pg_rows(res);
    dbx_buf_init(&buf, DBX_MAX_BODY);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_key(w, "items");
    dbx_jw_array(w);
    for (size_t i = 0; i < n && i < l.limit; i++) {
        if (gw_batch_row_read(res, i, &b) < 0)
            continue;
        dbx_jw_object(w);
        gw_batch_row_write(w, &b);
        dbx_jw_object_end(w);
    }
    dbx_jw_array_end(w);
    char id[DBX_ID_TEXT], cursor[DBX_ID_TEXT + 24];
    dbx_id_format(&b.id, id);
    snprintf(cursor, sizeof(cursor), "%" PRId64 ".%s", b.created_us, id);
    dbx_jw_kstr(w, "next_cursor", n > l.limit ? cursor : NULL);
    dbx_jw_object_end(w);
    gw_answer_json(l.rq, 200, &buf, &w);
    gw_req_unref(l.rq);
}

void gw_batches_list(struct gw_req *rq)
{
    struct gw_list_range range;
    struct dbx_err err = {0};
    char owner[DBX_ID_TEXT], before[DBX_ID_TEXT], us[24], limit[12];
    if (gw_list_range(rq, &range, &err) < 0) {
        gw_req_fail(rq, &err, NULL);
        return;
    }
    dbx_id_format(&rq->user.id, owner);
    dbx_id_format(&range.before, before);
    snprintf(us, sizeof(us), "%" PRId64, range.before_us);
    snprintf(limit, sizeof(limit), "%zu", range.limit + 1);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(owner), DBX_PG_TEXT(us), DBX_PG_TEXT(before),
                                          DBX_PG_TEXT(limit)};
    struct list *l = DBX_NEW(struct list);
    l->rq = rq;
    l->limit = range.limit;
    gw_req_ref(rq);
    dbx_pg_query(gw_store_pg(rq->gw->store), "batches", params, DBX_ARRAY_LEN(params), on_list, l);
}
