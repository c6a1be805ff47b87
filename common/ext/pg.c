/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool: requests, and which connection they go to. There are two lanes of connections.
 *
 * Writes, and whatever may take long or wait for a lock: each has a sync of its own, and so is a
 * transaction of its own. It goes to the connection with the fewest before it, but not behind one
 * that the server has worked on for STUCK_MS.
 *
 * Reads (struct dbx_pg_opts): what was asked for in one turn of the loop, and what came while
 * READ_UNITS were on their way, goes out together with one sync, in one packet, and is answered in
 * one. An error takes with it what stands behind it in its unit; that is asked again, alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/ext/pg_pool_int.h"

#define WRITE_UNITS 64
#define READ_UNITS 2
#define READS_A_UNIT 16
#define STUCK_MS 100
#define TICK_MS 50

/* --- requests --- */

static size_t room(size_t n) /* keeps what follows aligned */
{
    return (n + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *);
}

static size_t size_of(const struct dbx_pg_param *p)
{
    return (p->text ? strlen(p->text) + 1 : 0) + (p->bytes ? p->len : 0);
}

static const void *keep(char **at, const void *from, size_t len)
{
    char *to = *at;
    if (len)
        memcpy(to, from, len);
    *at += len;
    return to;
}

/* One block: the request, its calls, what their parameters point to. */
struct request *dbx_pg__request_new(const struct dbx_pg_call *calls, size_t ncalls, dbx_pg_fn *fn,
                                    void *user)
{
    size_t head = room(sizeof(struct request)), size = head + room(ncalls * sizeof(*calls));
    for (size_t i = 0; i < ncalls; i++)
        for (size_t k = 0; k < calls[i].n; k++)
            size += size_of(&calls[i].params[k]);
    char *block = dbx_malloc(size), *at = block + head + room(ncalls * sizeof(*calls));
    struct request *rq = (struct request *)block;
    struct dbx_pg_call *own = (struct dbx_pg_call *)(block + head);
    *rq = (struct request){.calls = own, .ncalls = ncalls, .fn = fn, .user = user};
    dbx_list_init(&rq->node);
    for (size_t i = 0; i < ncalls; i++) {
        own[i].stmt = calls[i].stmt;
        own[i].n = calls[i].n;
        for (size_t k = 0; k < calls[i].n; k++) {
            const struct dbx_pg_param *p = &calls[i].params[k];
            own[i].params[k] = (struct dbx_pg_param){.len = p->len};
            if (p->text)
                own[i].params[k].text = keep(&at, p->text, strlen(p->text) + 1);
            if (p->bytes)
                own[i].params[k].bytes = keep(&at, p->bytes, p->len);
        }
    }
    return rq;
}

void dbx_pg__request_free(struct request *rq)
{
    PQclear(rq->last);
    free(rq);
}

static void call_back(struct request *rq)
{
    struct dbx_pg_result res = {rq->last};
    if (rq->fn)
        rq->fn(rq->failed ? NULL : &res, rq->failed ? &rq->err : NULL, rq->user);
    dbx_pg__request_free(rq);
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

void dbx_pg__finish(struct dbx_pg *pg, struct request *rq)
{
    dbx_list_push(&pg->done, &rq->node);
    if (!pg->done_queued)
        dbx_loop_defer(pg->loop, call_back_done, pg);
    pg->done_queued = true;
}

void dbx_pg__fail(struct dbx_pg *pg, struct request *rq, const struct dbx_err *err)
{
    rq->failed = true;
    rq->err = *err;
    dbx_pg__finish(pg, rq);
}

/* --- lanes --- */

static bool is_read(const struct dbx_pg *pg, const struct dbx_pg_call *calls, size_t ncalls)
{
    return ncalls == 1 && DBX_MAP_GET_STR(pg->reads, calls[0].stmt);
}

static struct lane *lane_of(struct dbx_pg *pg, const struct request *rq)
{
    return &pg->lanes[rq->shared && pg->lanes[LANE_READS].nconns ? LANE_READS : LANE_WRITES];
}

static struct conn *least_busy(struct lane *lane)
{
    struct conn *best = NULL;
    uint64_t now = dbx_now_ms();
    for (size_t i = 0; i < lane->nconns; i++) {
        struct conn *c = &lane->conns[i];
        bool stuck = c->nunits && now >= c->since_ms + STUCK_MS;
        if (c->state == CONN_READY && c->nunits < lane->max_units && !stuck &&
            (!best || c->nunits < best->nunits))
            best = c;
    }
    return best;
}

/* One request, or reads that may be together. */
static void take_unit(struct lane *lane, struct dbx_list *unit)
{
    struct request *rq = dbx_list_first(&lane->waiting, struct request, node);
    size_t n = 0;
    do {
        dbx_list_remove(&rq->node);
        dbx_list_push(unit, &rq->node);
        lane->nwaiting--;
        n++;
        bool more = rq->shared && !rq->aborted && n < READS_A_UNIT;
        rq->aborted = false;
        rq = more ? dbx_list_first(&lane->waiting, struct request, node) : NULL;
    } while (rq && rq->shared && !rq->aborted);
}

void dbx_pg__send_waiting(struct dbx_pg *pg, struct lane *lane)
{
    struct conn *c;
    while (!pg->closing && !dbx_list_empty(&lane->waiting) && (c = least_busy(lane))) {
        struct dbx_list unit;
        dbx_list_init(&unit);
        take_unit(lane, &unit);
        dbx_pg__conn_send(c, &unit);
    }
}

static void send_reads(void *user)
{
    struct dbx_pg *pg = user;
    pg->reads_queued = false;
    dbx_pg__send_waiting(pg, &pg->lanes[LANE_READS]);
}

void dbx_pg__ask_again(struct dbx_pg *pg, struct request *rq)
{
    struct lane *lane = lane_of(pg, rq);
    dbx_list_push_front(&lane->waiting, &rq->node);
    lane->nwaiting++;
}

/* A turn of the loop gathers reads; nothing else waits for it. */
static void enqueue(struct dbx_pg *pg, struct request *rq)
{
    struct lane *lane = lane_of(pg, rq);
    dbx_list_push(&lane->waiting, &rq->node);
    lane->nwaiting++;
    if (!pg->ticking)
        dbx_timer_start(pg->tick, TICK_MS, 0);
    pg->ticking = true;
    if (lane == &pg->lanes[LANE_WRITES]) {
        dbx_pg__send_waiting(pg, lane);
    } else if (!pg->reads_queued) {
        pg->reads_queued = true;
        dbx_loop_defer(pg->loop, send_reads, pg);
    }
}

static void expire_waiting(struct dbx_pg *pg, struct lane *lane, uint64_t now)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &lane->waiting)
    {
        struct request *rq = dbx_list_entry(it, struct request, node);
        struct dbx_err err = {0};
        if (rq->deadline_ms > now)
            break; /* in order of arrival */
        dbx_list_remove(&rq->node);
        lane->nwaiting--;
        if (dbx_pg_ready(pg))
            dbx_err_set(&err, -EBUSY, DBX_UNAVAIL, "the database is busy with other requests");
        else
            dbx_err_set(&err, -ENOTCONN, DBX_UNAVAIL, "the database is not reachable: %s",
                        pg->last_error.msg);
        dbx_pg__fail(pg, rq, &err);
    }
}

static void on_tick(void *user)
{
    struct dbx_pg *pg = user;
    uint64_t now = dbx_now_ms();
    bool busy = false;
    for (size_t i = 0; i < LANES; i++)
        expire_waiting(pg, &pg->lanes[i], now);
    for (size_t i = 0; i < pg->nconns; i++) {
        struct conn *c = &pg->conns[i];
        struct request *rq = dbx_list_first(&c->sent, struct request, node);
        struct dbx_err err = {0};
        if (rq && rq->deadline_ms <= now) {
            dbx_err_set(&err, -ECONNRESET, DBX_UNAVAIL,
                        "the database connection hung and was given up");
            dbx_pg__conn_drop(c, &err, rq);
        }
        busy = busy || c->nunits > 0;
    }
    for (size_t i = 0; i < LANES; i++)
        busy = busy || !dbx_list_empty(&pg->lanes[i].waiting);
    pg->ticking = busy;
    if (pg->ticking)
        dbx_timer_start(pg->tick, TICK_MS, 0);
}

/* --- the pool --- */

/* Where there are reads they have a third of the connections. */
static void make_lanes(struct dbx_pg *pg, const char *const *names)
{
    size_t reads = 0;
    for (; names && *names; names++) {
        (void)dbx_map_put(pg->reads, *names, strlen(*names), pg);
        reads = pg->nconns / 3 ? pg->nconns / 3 : pg->nconns / 2;
    }
    pg->lanes[LANE_READS] =
        (struct lane){.conns = pg->conns, .nconns = reads, .max_units = READ_UNITS};
    pg->lanes[LANE_WRITES] = (struct lane){
        .conns = pg->conns + reads, .nconns = pg->nconns - reads, .max_units = WRITE_UNITS};
    for (size_t i = 0; i < LANES; i++)
        dbx_list_init(&pg->lanes[i].waiting);
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
    pg->reads = dbx_map_new();
    pg->tick = dbx_timer_new(o->loop, on_tick, pg);
    dbx_list_init(&pg->done);
    dbx_err_set(&pg->last_error, -ENOTCONN, DBX_UNAVAIL, "not connected yet");
    make_lanes(pg, o->reads);
    for (size_t i = 0; i < pg->nconns; i++)
        dbx_pg__conn_init(&pg->conns[i], pg,
                          &pg->lanes[i < pg->lanes[LANE_READS].nconns ? LANE_READS : LANE_WRITES]);
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
        dbx_pg__conn_drop(&pg->conns[i], &err, NULL);
        dbx_timer_free(pg->conns[i].timer);
    }
    for (size_t i = 0; i < LANES; i++)
        while (!dbx_list_empty(&pg->lanes[i].waiting)) {
            struct request *rq = dbx_list_first(&pg->lanes[i].waiting, struct request, node);
            dbx_list_remove(&rq->node);
            dbx_pg__fail(pg, rq, &err);
        }
    while (!dbx_list_empty(&pg->done)) /* what the callbacks ask for fails likewise */
        call_back_done(pg);
    dbx_loop_undefer(pg->loop, call_back_done, pg);
    dbx_loop_undefer(pg->loop, send_reads, pg);
    dbx_timer_free(pg->tick);
    dbx_map_free(pg->reads);
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
    struct request *rq = dbx_pg__request_new(calls, ncalls, fn, user);
    rq->shared = is_read(pg, calls, ncalls);
    rq->timeout_ms = timeout_ms;
    rq->deadline_ms = dbx_now_ms() + timeout_ms;
    if (pg->closing || lane_of(pg, rq)->nwaiting >= pg->max_waiting) {
        struct dbx_err err = {0};
        dbx_err_set(&err, pg->closing ? -ECANCELED : -ENOBUFS,
                    pg->closing ? DBX_UNAVAIL : DBX_LIMIT,
                    pg->closing ? "the database client was closed"
                                : "too many database requests are waiting");
        dbx_pg__fail(pg, rq, &err);
        return;
    }
    enqueue(pg, rq);
}

void dbx_pg_query(struct dbx_pg *pg, const char *stmt, const struct dbx_pg_param *params, size_t n,
                  dbx_pg_fn *fn, void *user)
{
    struct dbx_pg_call call;
    call.stmt = stmt;
    call.n = n;
    dbx_assert(n <= DBX_ARRAY_LEN(call.params));
    if (n)
        memcpy(call.params, params, n * sizeof(*params));
    dbx_pg_batch(pg, &call, 1, fn, user);
}
