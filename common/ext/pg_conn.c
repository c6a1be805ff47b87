/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection of the pool, in pipeline mode: units are sent behind each other, answers come in
 * order, a sync ends a unit. One that breaks fails what was in flight on it and is made again with
 * back-off; preparing all statements is the first thing sent on it.
 *
 * A lock that is not given ends the statement that waits for it (lock_timeout), before the
 * connection would have to be given up: the server goes on waiting when nobody listens any more,
 * and what is sent behind it would be done later.
 */
#include <errno.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/ext/pg_pool_int.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
#define CONNECT_MS 5000

static void conn_start(struct conn *c);

void dbx_pg__conn_drop(struct conn *c, const struct dbx_err *why, const struct request *timed_out)
{
    struct dbx_pg *pg = c->pg;
    pg->last_error = *why;
    c->watch = dbx_watch_free(c->watch);
    if (c->pq)
        PQfinish(c->pq);
    c->pq = NULL;
    c->state = CONN_DOWN;
    while (!dbx_list_empty(&c->sent)) {
        struct request *rq = dbx_list_first(&c->sent, struct request, node);
        struct dbx_err err = *why;
        dbx_list_remove(&rq->node);
        if (rq == timed_out)
            dbx_err_set(&err, -ETIMEDOUT, DBX_TIMEOUT, "the database did not answer in %u ms",
                        rq->timeout_ms);
        if (rq->prepares)
            dbx_pg__request_free(rq);
        else
            dbx_pg__fail(pg, rq, &err);
    }
    c->nunits = 0;
    dbx_timer_start(c->timer, c->backoff_ms, 0);
    c->backoff_ms = c->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : c->backoff_ms * 2;
}

static void conn_lost(struct conn *c)
{
    struct dbx_err err = {0};
    dbx_pg__err_conn(&err, c->pq, "database");
    dbx_pg__conn_drop(c, &err, NULL);
}

/* Reading goes on while something is left to write, or both sides could wait for each other. */
static void conn_flush(struct conn *c)
{
    int r = PQflush(c->pq);
    if (r < 0)
        conn_lost(c);
    else
        dbx_watch_set(c->watch, r ? DBX_READ | DBX_WRITE : DBX_READ);
}

/* --- sending --- */

static bool send_call(struct conn *c, const struct dbx_pg_call *call)
{
    const char *values[DBX_ARRAY_LEN(call->params)];
    int lengths[DBX_ARRAY_LEN(call->params)], formats[DBX_ARRAY_LEN(call->params)];
    for (size_t i = 0; i < call->n; i++) {
        const struct dbx_pg_param *p = &call->params[i];
        values[i] = p->bytes ? p->bytes : p->text;
        lengths[i] = p->bytes ? (int)p->len : 0;
        formats[i] = p->bytes ? 1 : 0;
    }
    return PQsendQueryPrepared(c->pq, call->stmt, (int)call->n, values, lengths, formats, 0) == 1;
}

/* For the session, or for the transaction alone. */
static bool send_lock_timeout(struct conn *c, uint32_t timeout_ms, bool local)
{
    char sql[96];
    snprintf(sql, sizeof(sql), "select set_config('lock_timeout', '%llu', %s)",
             timeout_ms * 4ull / 5, local ? "true" : "false");
    return PQsendQueryParams(c->pq, sql, 0, NULL, NULL, NULL, NULL, 0) == 1;
}

static bool send_prepares(struct conn *c)
{
    bool ok = send_lock_timeout(c, c->pg->query_timeout_ms, false);
    for (size_t i = 0; i < c->pg->nstmts && ok; i++)
        ok = PQsendPrepare(c->pq, c->pg->stmts[i].name, c->pg->stmts[i].sql, 0, NULL) == 1;
    return ok;
}

static bool send_request(struct conn *c, const struct request *rq)
{
    bool ok = true;
    if (rq->prepares)
        return send_prepares(c);
    if (rq->timeout_ms > c->pg->query_timeout_ms)
        ok = send_lock_timeout(c, rq->timeout_ms, true);
    for (size_t i = 0; i < rq->ncalls && ok; i++)
        ok = send_call(c, &rq->calls[i]);
    return ok;
}

void dbx_pg__conn_send(struct conn *c, struct dbx_list *unit)
{
    struct dbx_list *it, *tmp;
    bool ok = true;
    dbx_list_each(it, tmp, unit)
    {
        struct request *rq = dbx_list_entry(it, struct request, node);
        rq->inside = tmp != unit;
        ok = ok && send_request(c, rq);
    }
    if (c->nunits++ == 0)
        c->since_ms = dbx_now_ms();
    dbx_list_take_all(unit, &c->sent);
    if (ok && PQpipelineSync(c->pq) == 1)
        conn_flush(c);
    else
        conn_lost(c);
}

/* --- answers --- */

static void on_prepared(struct conn *c, struct request *rq)
{
    bool failed = rq->failed;
    struct dbx_err err = rq->err;
    dbx_pg__request_free(rq);
    if (failed) { /* a schema that is not there yet, say */
        dbx_err_wrap(&err, err.code, "prepare");
        dbx_pg__conn_drop(c, &err, NULL);
        return;
    }
    dbx_timer_stop(c->timer);
    c->state = CONN_READY;
    c->backoff_ms = BACKOFF_MIN_MS;
}

static void on_result(struct request *rq, PGresult *res)
{
    switch (PQresultStatus(res)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_SINGLE_TUPLE:
        PQclear(rq->last);
        rq->last = res;
        return;
    case PGRES_PIPELINE_ABORTED: /* a statement before it failed */
        rq->aborted = rq->shared && !rq->failed;
        break;
    default:
        if (!rq->failed)
            dbx_pg__err_result(&rq->err, res);
        rq->failed = true;
        break;
    }
    PQclear(res);
}

/* The first one is answered. */
static void end_request(struct conn *c)
{
    struct request *rq = dbx_list_first(&c->sent, struct request, node);
    dbx_list_remove(&rq->node);
    if (rq->prepares)
        on_prepared(c, rq);
    else if (rq->aborted)
        dbx_pg__ask_again(c->pg, rq);
    else
        dbx_pg__finish(c->pg, rq);
}

static void end_unit(struct conn *c)
{
    c->nunits--;
    c->since_ms = dbx_now_ms();
    end_request(c);
}

/* Takes what has come. In pipeline mode a NULL ends one statement's results; a sync ends the
 * unit. */
static void conn_take(struct conn *c)
{
    for (int nulls = 0; c->pq && !dbx_list_empty(&c->sent) && nulls < 2 && !PQisBusy(c->pq);) {
        struct request *rq = dbx_list_first(&c->sent, struct request, node);
        PGresult *res = PQgetResult(c->pq);
        nulls = res ? 0 : nulls + 1;
        if (!res && rq->inside && (rq->last || rq->failed || rq->aborted)) {
            end_request(c);
        } else if (res && PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
            PQclear(res);
            end_unit(c);
        } else if (res) {
            on_result(rq, res);
        }
    }
    if (c->state == CONN_READY)
        dbx_pg__send_waiting(c->pg, c->lane);
}

static void on_ready_io(struct conn *c, int events)
{
    if ((events & DBX_READ) && PQconsumeInput(c->pq) == 0) {
        conn_take(c); /* the server's last words may be there */
        if (c->pq)
            conn_lost(c);
        return;
    }
    conn_take(c);
    if (c->pq && PQstatus(c->pq) == CONNECTION_BAD)
        conn_lost(c);
    else if (c->pq)
        conn_flush(c);
}

/* --- connecting --- */

static void on_io(void *user, int events, int error);

static void on_connected(struct conn *c)
{
    if (PQsetnonblocking(c->pq, 1) < 0 || PQenterPipelineMode(c->pq) == 0) {
        conn_lost(c);
        return;
    }
    c->watch = dbx_watch_free(c->watch);
    c->watch = dbx_watch_new(c->pg->loop, PQsocket(c->pq), DBX_READ, on_io, c);
    c->state = CONN_PREPARING;
    struct dbx_list unit;
    struct request *rq = dbx_pg__request_new(NULL, 0, NULL, NULL);
    rq->prepares = true;
    rq->deadline_ms = UINT64_MAX;
    dbx_list_init(&unit);
    dbx_list_push(&unit, &rq->node);
    dbx_pg__conn_send(c, &unit);
}

/* libpq may use another socket after each step. */
static void conn_poll(struct conn *c)
{
    PostgresPollingStatusType st = PQconnectPoll(c->pq);
    c->watch = dbx_watch_free(c->watch);
    if (st == PGRES_POLLING_OK)
        on_connected(c);
    else if (st == PGRES_POLLING_FAILED)
        conn_lost(c);
    else
        c->watch = dbx_watch_new(c->pg->loop, PQsocket(c->pq),
                                 st == PGRES_POLLING_READING ? DBX_READ : DBX_WRITE, on_io, c);
}

static void on_io(void *user, int events, int error)
{
    struct conn *c = user;
    if (error)
        events |= DBX_READ;
    if (c->state == CONN_CONNECTING)
        conn_poll(c);
    else
        on_ready_io(c, events);
}

static void on_conn_timer(void *user)
{
    struct conn *c = user;
    struct dbx_err err = {0};
    if (c->state == CONN_DOWN) {
        conn_start(c);
        return;
    }
    dbx_err_set(&err, -ETIMEDOUT, DBX_UNAVAIL, "connecting to the database took too long");
    dbx_pg__conn_drop(c, &err, NULL);
}

static void conn_start(struct conn *c)
{
    c->pq = dbx_pg__connect_start(c->pg->conninfo);
    dbx_assert(c->pq);
    c->state = CONN_CONNECTING;
    if (PQstatus(c->pq) == CONNECTION_BAD || PQsocket(c->pq) < 0) {
        conn_lost(c);
        return;
    }
    c->watch = dbx_watch_new(c->pg->loop, PQsocket(c->pq), DBX_WRITE, on_io, c);
    dbx_timer_start(c->timer, CONNECT_MS, 0);
}

void dbx_pg__conn_init(struct conn *c, struct dbx_pg *pg, struct lane *lane)
{
    c->pg = pg;
    c->lane = lane;
    c->backoff_ms = BACKOFF_MIN_MS;
    c->timer = dbx_timer_new(pg->loop, on_conn_timer, c);
    dbx_list_init(&c->sent);
    conn_start(c);
}
