/* SPDX-License-Identifier: Apache-2.0 */
/* One connection with a life of its own: what it holds (advisory locks, LISTEN) ends when it
 * breaks, and on_down says so. */
#include <errno.h>
#include <stdlib.h>

#include "common/base/list.h"
#include "common/ext/pg_int.h"
#include "common/io/loop.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 1000
#define CONNECT_MS 5000
#define QUERY_MS 10000

struct command {
    struct dbx_list node;
    char *sql;
    dbx_pg_fn *fn;
    void *user;
    PGresult *last;
    bool failed;
    struct dbx_err err;
};

struct dbx_pg_session {
    struct dbx_loop *loop;
    char *conninfo;
    PGconn *pq;
    enum { DOWN, CONNECTING, UP } state;
    struct dbx_watch *watch;
    struct dbx_timer *timer; /* back-off, connecting, or the running command's deadline */
    uint32_t backoff_ms;
    struct dbx_list commands; /* the first one is under way when `busy` */
    bool busy, closing, deferred;
    struct dbx_pg_session_handlers h;
    void *user;
};

static void session_start(struct dbx_pg_session *s);
static void on_io(void *user, int events, int error);

static void finish(struct command *cmd)
{
    struct dbx_pg_result res = {cmd->last};
    if (cmd->fn)
        cmd->fn(cmd->failed ? NULL : &res, cmd->failed ? &cmd->err : NULL, cmd->user);
    PQclear(cmd->last);
    free(cmd->sql);
    free(cmd);
}

static void fail_all(struct dbx_pg_session *s, const struct dbx_err *why)
{
    struct dbx_list turn;
    dbx_list_init(&turn);
    dbx_list_take_all(&s->commands, &turn);
    while (!dbx_list_empty(&turn)) {
        struct command *cmd = dbx_list_first(&turn, struct command, node);
        dbx_list_remove(&cmd->node);
        cmd->failed = true;
        cmd->err = *why;
        finish(cmd);
    }
}

static void session_drop(struct dbx_pg_session *s, const struct dbx_err *why)
{
    bool was_up = s->state == UP;
    s->watch = dbx_watch_free(s->watch);
    if (s->pq)
        PQfinish(s->pq);
    s->pq = NULL;
    s->state = DOWN;
    s->busy = false;
    if (!s->closing) {
        dbx_timer_start(s->timer, s->backoff_ms, 0);
        s->backoff_ms = s->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : s->backoff_ms * 2;
    }
    fail_all(s, why);
    if (was_up && !s->closing && s->h.on_down)
        s->h.on_down(s, why, s->user);
}

static void session_lost(struct dbx_pg_session *s)
{
    struct dbx_err err = {0};
    dbx_pg__err_conn(&err, s->pq, "database session");
    session_drop(s, &err);
}

static void start_command(struct dbx_pg_session *s)
{
    if (s->state != UP || s->busy || dbx_list_empty(&s->commands))
        return;
    struct command *cmd = dbx_list_first(&s->commands, struct command, node);
    if (PQsendQuery(s->pq, cmd->sql) != 1 || PQflush(s->pq) < 0) {
        session_lost(s);
        return;
    }
    s->busy = true;
    dbx_timer_start(s->timer, QUERY_MS, 0);
    dbx_watch_set(s->watch, DBX_READ | DBX_WRITE);
}

static void on_deferred(void *user)
{
    struct dbx_pg_session *s = user;
    s->deferred = false;
    if (s->state != UP) { /* a command given while there is no session */
        struct dbx_err err = {0};
        dbx_err_set(&err, -ENOTCONN, DBX_UNAVAIL, "there is no database session");
        fail_all(s, &err);
        return;
    }
    start_command(s);
}

static void take_results(struct dbx_pg_session *s)
{
    while (s->busy && !PQisBusy(s->pq)) {
        struct command *cmd = dbx_list_first(&s->commands, struct command, node);
        PGresult *res = PQgetResult(s->pq);
        if (res) {
            ExecStatusType st = PQresultStatus(res);
            if (st == PGRES_COMMAND_OK || st == PGRES_TUPLES_OK) {
                PQclear(cmd->last);
                cmd->last = res;
                continue;
            }
            dbx_pg__err_result(&cmd->err, res);
            cmd->failed = true;
            PQclear(res);
            continue;
        }
        s->busy = false;
        dbx_timer_stop(s->timer);
        dbx_list_remove(&cmd->node);
        finish(cmd); /* may give the next command */
        start_command(s);
    }
}

static void take_notifications(struct dbx_pg_session *s)
{
    for (PGnotify *n; s->pq && (n = PQnotifies(s->pq)); PQfreemem(n))
        if (s->h.on_notify)
            s->h.on_notify(s, n->relname, n->extra, s->user);
}

static void on_connected(struct dbx_pg_session *s)
{
    dbx_timer_stop(s->timer);
    if (PQsetnonblocking(s->pq, 1) < 0) {
        session_lost(s);
        return;
    }
    s->watch = dbx_watch_new(s->loop, PQsocket(s->pq), DBX_READ, on_io, s);
    s->state = UP;
    s->backoff_ms = BACKOFF_MIN_MS;
    if (s->h.on_up)
        s->h.on_up(s, s->user);
}

static void connect_poll(struct dbx_pg_session *s)
{
    PostgresPollingStatusType st = PQconnectPoll(s->pq);
    s->watch = dbx_watch_free(s->watch);
    if (st == PGRES_POLLING_OK)
        on_connected(s);
    else if (st == PGRES_POLLING_FAILED)
        session_lost(s);
    else
        s->watch = dbx_watch_new(s->loop, PQsocket(s->pq),
                                 st == PGRES_POLLING_READING ? DBX_READ : DBX_WRITE, on_io, s);
}

static void on_io(void *user, int events, int error)
{
    struct dbx_pg_session *s = user;
    (void)error;
    if (s->state == CONNECTING) {
        connect_poll(s);
        return;
    }
    int r = events & DBX_WRITE ? PQflush(s->pq) : 0;
    if (r < 0 || PQconsumeInput(s->pq) == 0) {
        session_lost(s);
        return;
    }
    if (r == 0 && (events & DBX_WRITE))
        dbx_watch_set(s->watch, DBX_READ);
    take_results(s);
    if (s->pq)
        take_notifications(s);
    if (s->pq && PQstatus(s->pq) == CONNECTION_BAD)
        session_lost(s);
}

static void on_timer(void *user)
{
    struct dbx_pg_session *s = user;
    struct dbx_err err = {0};
    if (s->state == DOWN) {
        session_start(s);
        return;
    }
    dbx_err_set(&err, -ETIMEDOUT, DBX_TIMEOUT, "the database session hung and was given up");
    session_drop(s, &err);
}

static void session_start(struct dbx_pg_session *s)
{
    s->pq = dbx_pg__connect_start(s->conninfo);
    dbx_assert(s->pq);
    s->state = CONNECTING;
    if (PQstatus(s->pq) == CONNECTION_BAD || PQsocket(s->pq) < 0) {
        session_lost(s);
        return;
    }
    s->watch = dbx_watch_new(s->loop, PQsocket(s->pq), DBX_WRITE, on_io, s);
    dbx_timer_start(s->timer, CONNECT_MS, 0);
}

struct dbx_pg_session *dbx_pg_session_new(struct dbx_loop *loop, const char *conninfo,
                                          const struct dbx_pg_session_handlers *handlers,
                                          void *user)
{
    struct dbx_pg_session *s = DBX_NEW(struct dbx_pg_session);
    s->loop = loop;
    s->conninfo = dbx_strdup(conninfo);
    s->h = *handlers;
    s->user = user;
    s->backoff_ms = BACKOFF_MIN_MS;
    s->timer = dbx_timer_new(loop, on_timer, s);
    dbx_list_init(&s->commands);
    dbx_timer_start(s->timer, 0,
                    0); /* begins in the next turn: no callback before this has returned */
    return s;
}

void dbx_pg_session_exec(struct dbx_pg_session *s, const char *sql, dbx_pg_fn *fn, void *user)
{
    struct command *cmd = DBX_NEW(struct command);
    cmd->sql = dbx_strdup(sql);
    cmd->fn = fn;
    cmd->user = user;
    dbx_list_push(&s->commands, &cmd->node);
    if (!s->deferred)
        dbx_loop_defer(s->loop, on_deferred, s);
    s->deferred = true;
}

struct dbx_pg_session *dbx_pg_session_free(struct dbx_pg_session *s)
{
    struct dbx_err err = {0};
    if (!s)
        return NULL;
    s->closing = true;
    dbx_err_set(&err, -ECANCELED, DBX_UNAVAIL, "the database session was closed");
    session_drop(s, &err);
    dbx_loop_undefer(s->loop, on_deferred, s);
    dbx_timer_free(s->timer);
    free(s->conninfo);
    free(s);
    return NULL;
}
