/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/batches/{id}/results: a page of JSON, all results as lines of JSON while they come, or
 * what has ended as JUnit XML. The latter two are streams: page after page is read, and held back
 * while the client does not take what it has. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/io/httpd.h"
#include "common/io/loop.h"
#include "gateway/batch_junit.h"
#include "gateway/batches.h"
#include "gateway/gw.h"
#include "gateway/store.h"

#define PAGE 64
#define MAX_PENDING (1u << 20) /* bytes that wait for the client */
#define LOOK_MS 1000           /* also without being told */

struct reader {
    struct dbx_list node; /* in gw->batch_readers */
    struct gw_req *rq;    /* borrowed: the request owns this */
    struct gw_batch_row b;
    bool junit, asking, again, begun;
    int64_t after, until; /* (junit) until: where to end */
    struct gw_collect *collect;
    struct dbx_timer *timer;
};

static void look(struct reader *rd);

static void free_reader(void *op)
{
    struct reader *rd = op;
    dbx_list_remove(&rd->node);
    rd->collect = gw_collect_free(rd->collect);
    rd->timer = dbx_timer_free(rd->timer);
    free(rd);
}

static void end(struct reader *rd)
{
    if (rd->junit)
        dbx_http_chunk(rd->rq->http, GW_JUNIT_TAIL, strlen(GW_JUNIT_TAIL));
    gw_req_end(rd->rq);
}

/* --- what was read --- */

static void on_drain(struct dbx_http_req *http, void *user)
{
    struct reader *rd = user;
    if (rd->collect && dbx_http_pending(http) < MAX_PENDING)
        gw_collect_resume(rd->collect);
}

/* Nobody looks until it was woken: what a page that was not full left out has ended since. */
static void go_on(struct reader *rd)
{
    if (rd->after >= (rd->junit ? rd->until : (int64_t)rd->b.total))
        end(rd);
    else if (rd->again || rd->junit)
        look(rd);
    else
        dbx_timer_start(rd->timer, LOOK_MS, 0);
}

static bool on_object(const struct gw_process *p, const struct dbx_buf *json, void *user)
{
    struct reader *rd = user;
    struct dbx_http_req *http = rd->rq->http;
    rd->after = p->batch_seq;
    if (rd->junit) {
        struct dbx_buf xml;
        dbx_buf_init(&xml, GW_JUNIT_MAX_CASE);
        gw_junit_case(&xml, p, json);
        dbx_http_chunk(http, xml.data, xml.len);
        dbx_buf_done(&xml);
    } else {
        dbx_http_chunk(http, json->data, json->len);
        dbx_http_chunk(http, "\n", 1);
    }
    return dbx_http_pending(http) < MAX_PENDING;
}

static void on_done(void *user)
{
    struct reader *rd = user;
    rd->collect = gw_collect_free(rd->collect);
    go_on(rd);
}

static void on_error(const struct dbx_err *err, void *user)
{
    struct reader *rd = user;
    dbx_log(DBX_LOG_WARN, &rd->rq->log, "results of a batch: %s", err->msg);
    gw_req_cut(rd->rq); /* the client goes on behind the last cursor */
}

static const struct gw_collect_handlers collect_handlers = {
    .on_object = on_object, .on_done = on_done, .on_error = on_error};

/* --- what is there --- */

static void on_rows(const struct gw_process *rows, size_t n, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct reader *rd = rq->op;
    rd->asking = false;
    if (gw_req_gone(rq)) {
        /* nobody reads */
    } else if (err) {
        dbx_timer_start(rd->timer, LOOK_MS, 0);
    } else if (n > 0) {
        rd->again |= n == PAGE;
        rd->collect = gw_collect_new(rq->gw, rows, n, &collect_handlers, rd);
    } else if (rd->junit) {
        end(rd);
    } else {
        go_on(rd);
    }
    gw_req_unref(rq);
}

static void look(struct reader *rd)
{
    struct gw_req *rq = rd->rq;
    if (rd->asking || rd->collect) {
        rd->again = true;
        return;
    }
    rd->asking = true;
    rd->again = false;
    gw_req_ref(rq);
    gw_store_batch_results(rq->gw->store, &rd->b.id, rd->after, PAGE, on_rows, rq);
}

static void on_timer(void *user)
{
    look(user);
}

void gw_batches_wake(struct gw *gw, const struct dbx_id *batch)
{
    struct dbx_list *it, *next;
    dbx_list_each(it, next, &gw->batch_readers)
    {
        struct reader *rd = dbx_list_entry(it, struct reader, node);
        if (dbx_id_equal(&rd->b.id, batch) && rd->begun)
            look(rd);
    }
}

/* --- the answer begins --- */

/* This gateway ends: the client goes on at another one. A whole answer would look like the end. */
static void hurry(struct gw_req *rq)
{
    gw_req_cut(rq);
}

static void begin(struct reader *rd, const char *type)
{
    struct gw_req *rq = rd->rq;
    rd->begun = true;
    gw_req_begin(rq, 200, type);
    dbx_http_on_drain(rq->http, on_drain, rd);
    rq->hurry = hurry;
}

static void on_failures(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw_req *rq = user;
    struct reader *rd = rq->op;
    if (gw_req_gone(rq)) {
        /* nobody reads */
    } else if (err) {
        gw_req_fail_db(rq, err);
    } else {
        struct dbx_buf head;
        rd->until = dbx_pg_i64(res, 0, "last", 0);
        dbx_buf_init(&head, DBX_MAX_HEADER);
        gw_junit_head(&head, &rd->b, dbx_pg_i64(res, 0, "tests", 0),
                      dbx_pg_i64(res, 0, "failures", 0), dbx_pg_i64(res, 0, "errors", 0));
        begin(rd, "application/xml");
        dbx_http_chunk(rq->http, head.data, head.len);
        dbx_buf_done(&head);
        if (rd->until > 0)
            look(rd);
        else
            end(rd);
    }
    gw_req_unref(rq);
}

static void begin_junit(struct reader *rd)
{
    char id[DBX_ID_TEXT];
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(id)};
    dbx_id_format(&rd->b.id, id);
    rd->junit = true;
    gw_req_ref(rd->rq);
    dbx_pg_query(gw_store_pg(rd->rq->gw->store), "batch_failures", params, 1, on_failures, rd->rq);
}

static void start_stream(struct gw_req *rq, const struct gw_batch_row *b, bool junit)
{
    const char *cursor = dbx_http_query(rq->http, "cursor", 0);
    uint64_t after = 0;
    if (cursor && dbx_parse_u64(cursor, strlen(cursor), 0, INT32_MAX, &after) < 0) {
        gw_req_fail_field(rq, 400, DBX_INVALID, NULL, "was not given by this server", "cursor");
        return;
    }
    if (!rq->gw->olog) {
        gw_req_fail_output(rq, NULL);
        return;
    }
    struct reader *rd = DBX_NEW(struct reader);
    rd->rq = rq;
    rd->b = *b;
    rd->after = junit ? 0 : (int64_t)after;
    rd->timer = dbx_timer_new(rq->gw->loop, on_timer, rd);
    dbx_list_push(&rq->gw->batch_readers, &rd->node);
    rq->op = rd;
    rq->op_free = free_reader;
    if (junit) {
        begin_junit(rd);
    } else {
        begin(rd, "application/x-ndjson");
        look(rd);
    }
}

static void found(struct gw_req *rq, const struct gw_batch_row *b)
{
    const char *accept = dbx_http_header(rq->http, "accept");
    if (accept && strstr(accept, "application/x-ndjson"))
        start_stream(rq, b, /* junit= */ false);
    else if (accept && strstr(accept, "application/xml"))
        start_stream(rq, b, /* junit= */ true);
    else
        gw_batch_answer_page(rq, b);
}

void gw_batches_results(struct gw_req *rq)
{
    gw_with_batch(rq, found);
}
