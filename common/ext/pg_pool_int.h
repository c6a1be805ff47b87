/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by pg.c (the pool) and pg_conn.c (one of its connections). */
#pragma once

#include "common/base/list.h"
#include "common/ext/pg_int.h"
#include "common/io/loop.h"

struct dbx_map;

/* A query or a batch. What travels between two syncs is a unit: one request, or several reads. */
struct request {
    struct dbx_list node;
    bool prepares; /* the pool's own: prepares all statements */
    bool shared;   /* a read: it may share a unit */
    bool inside;   /* others of its unit are behind it: it ends with its own result */
    const struct dbx_pg_call *calls; /* with what the parameters point to: behind the request */
    size_t ncalls;
    dbx_pg_fn *fn;
    void *user;
    uint32_t timeout_ms;
    uint64_t deadline_ms;
    PGresult *last; /* of the last statement so far */
    bool failed;
    bool aborted; /* by another of its unit: it is asked again */
    struct dbx_err err;
};

enum lane_name { LANE_WRITES, LANE_READS, LANES };

/* Connections, and what waits for one of them. */
struct lane {
    struct conn *conns; /* of the pool's */
    size_t nconns, nwaiting;
    struct dbx_list waiting;
    uint32_t max_units; /* on a connection, one behind the other */
};

enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_PREPARING, CONN_READY };

struct conn {
    struct dbx_pg *pg;
    struct lane *lane;
    enum conn_state state;
    PGconn *pq;
    struct dbx_watch *watch;
    struct dbx_timer *timer; /* back-off, or the deadline of connecting */
    uint32_t backoff_ms;
    struct dbx_list sent;
    size_t nunits;
    uint64_t since_ms; /* the first of these is what the server has worked on since */
};

struct dbx_pg {
    struct dbx_loop *loop;
    char *conninfo;
    const struct dbx_pg_stmt *stmts;
    size_t nstmts;
    struct dbx_map *reads; /* by name */
    uint32_t query_timeout_ms, max_waiting;
    struct conn *conns;
    size_t nconns;
    struct lane lanes[LANES];
    struct dbx_list done; /* to be called back in the next turn */
    struct dbx_timer *tick;
    bool ticking, done_queued, reads_queued, closing;
    struct dbx_err last_error; /* why there is no connection */
};

/* --- pg.c --- */

struct request *dbx_pg__request_new(const struct dbx_pg_call *calls, size_t ncalls, dbx_pg_fn *fn,
                                    void *user);
void dbx_pg__request_free(struct request *rq);
/* Called back in the next turn: never within the caller's own call, and never while a connection's
 * lists are walked. */
void dbx_pg__finish(struct dbx_pg *pg, struct request *rq);
void dbx_pg__fail(struct dbx_pg *pg, struct request *rq, const struct dbx_err *err);
/* Of a unit in which another failed: asked again, and alone. */
void dbx_pg__ask_again(struct dbx_pg *pg, struct request *rq);
void dbx_pg__send_waiting(struct dbx_pg *pg, struct lane *lane);

/* --- pg_conn.c --- */

void dbx_pg__conn_init(struct conn *c, struct dbx_pg *pg, struct lane *lane);
/* Sends a unit and empties the list. What the connection took with it when it broke has failed. */
void dbx_pg__conn_send(struct conn *c, struct dbx_list *unit);
/* Fails all that was sent, timed_out with words of its own, and connects again later. */
void dbx_pg__conn_drop(struct conn *c, const struct dbx_err *why, const struct request *timed_out);
