/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool. Each connection is in pipeline mode: a request (one or several statements and a sync,
 * hence one transaction) is sent as soon as a connection stands, up to PIPELINE_MAX behind each
 * other; answers come in order. A connection that breaks fails what was in flight on it and is made
 * again with back-off; preparing all statements is the first thing sent on it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/ext/pg_int.h"
#include "common/io/loop.h"

#define PIPELINE_MAX 64
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
#define CONNECT_MS 5000
#define TICK_MS 50

enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_PREPARING, CONN_READY };

struct request {
    struct dbx_list node;
    bool prepares;             /* the pool's own: prepares all statements */
    struct dbx_pg_call *calls; /* owned, with what the parameters point to */
    size_t ncalls;
    dbx_pg_fn *fn;
    void *user;
    uint64_t deadline_ms;
    PGresult *last; /* of the last statement so far */
    bool failed;
    struct dbx_err err;
};

struct conn {
    struct dbx_pg *pg;
    enum conn_state state;
    PGconn *pq;
    struct dbx_watch *watch;
    struct dbx_timer *timer; /* back-off, or the deadline of connecting */
    uint32_t backoff_ms;
    struct dbx_list sent;
    size_t nsent;
};

struct dbx_pg {
    struct dbx_loop *loop;
    char *conninfo;
    const struct dbx_pg_stmt *stmts;
    size_t nstmts;
    uint32_t query_timeout_ms, max_waiting;
    struct conn *conns;
    size_t nconns;
    struct dbx_list waiting, done; /* done: to be called back in the next turn */
    size_t nwaiting;
    struct dbx_timer *tick;
    bool ticking, done_queued, closing;
    struct dbx_err last_error; /* why there is no connection */
};

static void conn_start(struct conn *c);
static void send_waiting(struct dbx_pg *pg);

/* --- requests --- */

static struct request *request_new(const struct dbx_pg_call *calls, size_t ncalls, dbx_pg_fn *fn,
                                   void *user)
{
    struct request *rq = DBX_NEW(struct request);
    dbx_list_init(&rq->node);
    rq->calls = dbx_calloc(ncalls ? ncalls : 1, sizeof(*rq->calls));
    rq->ncalls = ncalls;
    rq->fn = fn;
    rq->user = user;
    for (size_t i = 0; i < ncalls; i++) {
        rq->calls[i] = calls[i];
        for (size_t k = 0; k < calls[i].n; k++) {
            const struct dbx_pg_param *p = &calls[i].params[k];
            if (p->text)
                rq->calls[i].params[k].text = dbx_strdup(p->text);
            if (p->bytes)
                rq->calls[i].params[k].bytes =
                    memcpy(dbx_malloc(p->len ? p->len : 1), p->bytes, p->len);
        }
    }
    return rq;
}

static void request_free(struct request *rq)
{
    for (size_t i = 0; i < rq->ncalls; i++)
        for (size_t k = 0; k < rq->calls[i].n; k++) {
            free((void *)rq->calls[i].params[k].text);
            free((void *)rq->calls[i].params[k].bytes);
        }
    free(rq->calls);
    PQclear(rq->last);
    free(rq);
}

static void call_back(struct request *rq)
{
    struct dbx_pg_result res = {rq->last};
    if (rq->fn)
        rq->fn(rq->failed ? NULL : &res, rq->failed ? &rq->err : NULL, rq->user);
    request_free(rq);
}

static void call_back_done(void *user)
{
    struct dbx_pg *pg = user;
    struct dbx_list turn;
    pg->done_queued = false;
    dbx_list_init(&turn);
    dbx_list_take_all(&pg->done, &turn);
    while (!dbx_list_empty(&turn)) {
        struct request *rq = dbx_list_first(&turn, struct request, node);
        dbx_list_remove(&rq->node);
        call_back(rq);
    }
}

/* Called back in the next turn: never within the caller's own call, and never while a connection's
 * lists are walked. */
static void finish(struct dbx_pg *pg, struct request *rq)
{
    dbx_list_push(&pg->done, &rq->node);
    if (!pg->done_queued)
        dbx_loop_defer(pg->loop, call_back_done, pg);
    pg->done_queued = true;
}

static void fail(struct dbx_pg *pg, struct request *rq, const struct dbx_err *err)
{
    rq->failed = true;
    rq->err = *err;
    finish(pg, rq);
}

/* --- a connection --- */

static void conn_drop(struct conn *c, const struct dbx_err *why, const struct request *timed_out)
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
                        pg->query_timeout_ms);
        if (rq->prepares)
            request_free(rq);
        else
            fail(pg, rq, &err);
    }
    c->nsent = 0;
    dbx_timer_start(c->timer, c->backoff_ms, 0);
    c->backoff_ms = c->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : c->backoff_ms * 2;
}

static void conn_lost(struct conn *c)
{
    struct dbx_err err = {0};
    dbx_pg__err_conn(&err, c->pq, "database");
    conn_drop(c, &err, NULL);
}

static bool conn_flush(struct conn *c)
{
    int r = PQflush(c->pq);
    if (r < 0) {
        conn_lost(c);
        return false;
    }
    dbx_watch_set(c->watch,
                  r ? DBX_READ | DBX_WRITE
                    : DBX_READ); /* reading goes on, or both sides could wait for each other */
    return true;
}

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

/* A request that libpq refused is given back (the connection is gone then). */
static bool conn_send(struct conn *c, struct request *rq)
{
    bool ok = true;
    for (size_t i = 0; i < rq->ncalls && ok; i++)
        ok = send_call(c, &rq->calls[i]);
    for (size_t i = 0; rq->prepares && i < c->pg->nstmts && ok; i++)
        ok = PQsendPrepare(c->pq, c->pg->stmts[i].name, c->pg->stmts[i].sql, 0, NULL) == 1;
    ok = ok && PQpipelineSync(c->pq) == 1;
    dbx_list_push(&c->sent, &rq->node);
    c->nsent++;
    if (!ok) {
        conn_lost(c);
        return false;
    }
    return true;
}

static void on_prepared(struct conn *c, struct request *rq)
{
    bool failed = rq->failed;
    struct dbx_err err = rq->err;
    request_free(rq);
    if (failed) { /* a schema that is not there yet, say */
        dbx_err_wrap(&err, err.code, "prepare");
        conn_drop(c, &err, NULL);
        return;
    }
    dbx_timer_stop(c->timer);
    c->state = CONN_READY;
    c->backoff_ms = BACKOFF_MIN_MS;
    send_waiting(c->pg);
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
        break;
    default:
        if (!rq->failed)
            dbx_pg__err_result(&rq->err, res);
        rq->failed = true;
        break;
    }
    PQclear(res);
}

/* Takes what has come. In pipeline mode a NULL ends one statement's results; a sync ends the
 * request. */
static void conn_take(struct conn *c)
{
    struct dbx_pg *pg = c->pg;
    for (int nulls = 0; c->pq && !dbx_list_empty(&c->sent) && nulls < 2 && !PQisBusy(c->pq);) {
        struct request *rq = dbx_list_first(&c->sent, struct request, node);
        PGresult *res = PQgetResult(c->pq);
        nulls = res ? 0 : nulls + 1;
        if (!res)
            continue;
        if (PQresultStatus(res) != PGRES_PIPELINE_SYNC) {
            on_result(rq, res);
            continue;
        }
        PQclear(res);
        dbx_list_remove(&rq->node);
        c->nsent--;
        if (rq->prepares)
            on_prepared(c, rq);
        else
            finish(pg, rq);
    }
    if (c->state == CONN_READY && !dbx_list_empty(&pg->waiting))
        send_waiting(pg);
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
        (void)conn_flush(c);
}

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
    struct request *rq = request_new(NULL, 0, NULL, NULL);
    rq->prepares = true;
    rq->deadline_ms = UINT64_MAX;
    if (conn_send(c, rq))
        (void)conn_flush(c);
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
    conn_drop(c, &err, NULL);
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

/* --- the pool --- */

static struct conn *least_busy(struct dbx_pg *pg)
{
    struct conn *best = NULL;
    for (size_t i = 0; i < pg->nconns; i++) {
        struct conn *c = &pg->conns[i];
        if (c->state == CONN_READY && c->nsent < PIPELINE_MAX && (!best || c->nsent < best->nsent))
            best = c;
    }
    return best;
}

static void send_waiting(struct dbx_pg *pg)
{
    struct conn *c;
    while (!dbx_list_empty(&pg->waiting) && (c = least_busy(pg))) {
        struct request *rq = dbx_list_first(&pg->waiting, struct request, node);
        dbx_list_remove(&rq->node);
        pg->nwaiting--;
        if (conn_send(c, rq))
            (void)conn_flush(c);
    }
}

static void expire_waiting(struct dbx_pg *pg, uint64_t now)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &pg->waiting)
    {
        struct request *rq = dbx_list_entry(it, struct request, node);
        struct dbx_err err = {0};
        if (rq->deadline_ms > now)
            break; /* in order of arrival */
        dbx_list_remove(&rq->node);
        pg->nwaiting--;
        dbx_err_set(&err, -ENOTCONN, DBX_UNAVAIL, "the database is not reachable: %s",
                    pg->last_error.msg);
        fail(pg, rq, &err);
    }
}

static void on_tick(void *user)
{
    struct dbx_pg *pg = user;
    uint64_t now = dbx_now_ms();
    bool busy = false;
    expire_waiting(pg, now);
    for (size_t i = 0; i < pg->nconns; i++) {
        struct conn *c = &pg->conns[i];
        struct request *rq = dbx_list_first(&c->sent, struct request, node);
        struct dbx_err err = {0};
        if (rq && rq->deadline_ms <= now) {
            dbx_err_set(&err, -ECONNRESET, DBX_UNAVAIL,
                        "the database connection hung and was given up");
            conn_drop(c, &err, rq);
        }
        busy = busy || c->nsent > 0;
    }
    pg->ticking = busy || !dbx_list_empty(&pg->waiting);
    if (pg->ticking)
        dbx_timer_start(pg->tick, TICK_MS, 0);
}

struct dbx_pg *dbx_pg_new(const struct dbx_pg_opts *o)
{
    struct dbx_pg *pg = DBX_NEW(struct dbx_pg);
    pg->loop = o->loop;
    pg->conninfo = dbx_strdup(o->conninfo);
    pg->stmts = o->stmts;
    pg->nstmts = o->nstmts;
    pg->query_timeout_ms = o->query_timeout_ms ? o->query_timeout_ms : 10000;
    pg->max_waiting = o->max_waiting ? o->max_waiting : 10000;
    pg->nconns = o->pool ? o->pool : 4;
    pg->conns = dbx_calloc(pg->nconns, sizeof(*pg->conns));
    pg->tick = dbx_timer_new(o->loop, on_tick, pg);
    dbx_list_init(&pg->waiting);
    dbx_list_init(&pg->done);
    dbx_err_set(&pg->last_error, -ENOTCONN, DBX_UNAVAIL, "not connected yet");
    for (size_t i = 0; i < pg->nconns; i++) {
        struct conn *c = &pg->conns[i];
        c->pg = pg;
        c->backoff_ms = BACKOFF_MIN_MS;
        c->timer = dbx_timer_new(o->loop, on_conn_timer, c);
        dbx_list_init(&c->sent);
        conn_start(c);
    }
    return pg;
}

struct dbx_pg *dbx_pg_free(struct dbx_pg *pg)
{
    struct dbx_err err = {0};
    if (!pg)
        return NULL;
    pg->closing = true;
    dbx_err_set(&err, -ECANCELED, DBX_UNAVAIL, "the database client was closed");
    for (size_t i = 0; i < pg->nconns; i++) {
        conn_drop(&pg->conns[i], &err, NULL);
        dbx_timer_free(pg->conns[i].timer);
    }
    while (!dbx_list_empty(&pg->waiting)) {
        struct request *rq = dbx_list_first(&pg->waiting, struct request, node);
        dbx_list_remove(&rq->node);
        fail(pg, rq, &err);
    }
    while (!dbx_list_empty(&pg->done)) /* what the callbacks ask for fails likewise */
        call_back_done(pg);
    dbx_loop_undefer(pg->loop, call_back_done, pg);
    dbx_timer_free(pg->tick);
    free(pg->conns);
    free(pg->conninfo);
    free(pg);
    return NULL;
}

bool dbx_pg_ready(const struct dbx_pg *pg)
{
    for (size_t i = 0; i < pg->nconns; i++)
        if (pg->conns[i].state == CONN_READY)
            return true;
    return false;
}

void dbx_pg_batch(struct dbx_pg *pg, const struct dbx_pg_call *calls, size_t ncalls, dbx_pg_fn *fn,
                  void *user)
{
    dbx_pg_batch_within(pg, calls, ncalls, pg->query_timeout_ms, fn, user);
}

void dbx_pg_batch_within(struct dbx_pg *pg, const struct dbx_pg_call *calls, size_t ncalls,
                         uint32_t timeout_ms, dbx_pg_fn *fn, void *user)
{
    struct request *rq = request_new(calls, ncalls, fn, user);
    rq->deadline_ms = dbx_now_ms() + timeout_ms;
    if (pg->closing || pg->nwaiting >= pg->max_waiting) {
        struct dbx_err err = {0};
        dbx_err_set(&err, pg->closing ? -ECANCELED : -ENOBUFS,
                    pg->closing ? DBX_UNAVAIL : DBX_LIMIT,
                    pg->closing ? "the database client was closed"
                                : "too many database requests are waiting");
        fail(pg, rq, &err);
        return;
    }
    dbx_list_push(&pg->waiting, &rq->node);
    pg->nwaiting++;
    if (!pg->ticking)
        dbx_timer_start(pg->tick, TICK_MS, 0);
    pg->ticking = true;
    send_waiting(pg);
}

void dbx_pg_query(struct dbx_pg *pg, const char *stmt, const struct dbx_pg_param *params, size_t n,
                  dbx_pg_fn *fn, void *user)
{
    struct dbx_pg_call call = {.stmt = stmt, .n = n};
    dbx_assert(n <= DBX_ARRAY_LEN(call.params));
    if (n)
        memcpy(call.params, params, n * sizeof(*params));
    dbx_pg_batch(pg, &call, 1, fn, user);
}
