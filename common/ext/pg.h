/* SPDX-License-Identifier: Apache-2.0 */
/* PostgreSQL: a pool of non-blocking libpq connections in pipeline mode, prepared statements only.
 * Each query (or batch) is a transaction of its own; only reads that are known as such may share
 * one with other reads. A connection that breaks is made again with back-off and prepares anew;
 * what was in flight on it fails with DBX_UNAVAIL (for a write: it may or may not have been done).
 */
#pragma once

#include "common/base/err.h"

struct dbx_loop;
struct dbx_pg;
struct dbx_pg_result;

struct dbx_pg_stmt {
    const char *name, *sql;
};

struct dbx_pg_opts {
    struct dbx_loop *loop;
    const char *conninfo;
    uint32_t pool;                   /* default 4 */
    const struct dbx_pg_stmt *stmts; /* borrowed for ever */
    size_t nstmts;
    /* Names of statements, up to a NULL; or NULL. Such change nothing, lock no row, and an index
     * bounds their work. They have connections of their own (of a pool of two or more), where
     * nothing slow stands before them, and are sent several at a time. Borrowed for ever. */
    const char *const *reads;
    /* Default 10000: DBX_TIMEOUT, and the connection is replaced. Who waits for a lock is told
     * DBX_UNAVAIL after four fifths of it: nothing was done. */
    uint32_t query_timeout_ms;
    uint32_t max_waiting; /* of reads, and of others, for a connection; default 10000: DBX_LIMIT */
};

struct dbx_pg *dbx_pg_new(const struct dbx_pg_opts *opts);
struct dbx_pg *dbx_pg_free(struct dbx_pg *pg); /* calls back what waits with -ECANCELED */
bool dbx_pg_ready(const struct dbx_pg *pg);    /* at least one connection stands */

/* A parameter: text (NUL-terminated, or NULL for SQL NULL), or binary bytea with len. */
struct dbx_pg_param {
    const char *text;
    const void *bytes;
    size_t len; /* of bytes */
};
#define DBX_PG_TEXT(s) ((struct dbx_pg_param){.text = (s)})
#define DBX_PG_BYTES(p, n) ((struct dbx_pg_param){.bytes = (p), .len = (n)})

/* res NULL when err is not; err NULL when res is not. Both only during the call. A query refused by
 * the server has the kind: unique violation CONFLICT, foreign key NOT_FOUND, check INVALID,
 * serialization/deadlock UNAVAIL, shutting down or not accepting UNAVAIL, else INTERNAL. Called
 * exactly once, never before dbx_pg_query has returned. */
typedef void dbx_pg_fn(const struct dbx_pg_result *res, const struct dbx_err *err, void *user);
void dbx_pg_query(struct dbx_pg *pg, const char *stmt, const struct dbx_pg_param *params, size_t n,
                  dbx_pg_fn *fn, void *user);

/* Several statements in one transaction; the callback gets the last one's result. */
struct dbx_pg_call {
    const char *stmt;
    struct dbx_pg_param params[16];
    size_t n;
};
void dbx_pg_batch(struct dbx_pg *pg, const struct dbx_pg_call *calls, size_t ncalls, dbx_pg_fn *fn,
                  void *user);

/* The same with a time-out of its own: for what is large. */
void dbx_pg_batch_within(struct dbx_pg *pg, const struct dbx_pg_call *calls, size_t ncalls,
                         uint32_t timeout_ms, dbx_pg_fn *fn, void *user);

size_t dbx_pg_rows(const struct dbx_pg_result *res);
uint64_t dbx_pg_affected(const struct dbx_pg_result *res);
const char *dbx_pg_text(const struct dbx_pg_result *res, size_t row, const char *column,
                        size_t *ret_len); /* NULL for SQL NULL */
int64_t dbx_pg_i64(const struct dbx_pg_result *res, size_t row, const char *column,
                   int64_t otherwise);
/* bytea as the text protocol gives it (\x..): decoded into a fresh block the caller frees; NULL for
 * SQL NULL. */
uint8_t *dbx_pg_bytes(const struct dbx_pg_result *res, size_t row, const char *column,
                      size_t *ret_len);

/* A session of its own: for advisory locks (they live as long as it) and LISTEN. on_up is called
 * each time the session stands (anew), on_down when it broke; notifications in between. */
struct dbx_pg_session;
struct dbx_pg_session_handlers {
    void (*on_up)(struct dbx_pg_session *s, void *user);
    void (*on_down)(struct dbx_pg_session *s, const struct dbx_err *err, void *user);
    void (*on_notify)(struct dbx_pg_session *s, const char *channel, const char *payload,
                      void *user);
};
struct dbx_pg_session *dbx_pg_session_new(struct dbx_loop *loop, const char *conninfo,
                                          const struct dbx_pg_session_handlers *handlers,
                                          void *user);
/* Plain SQL without parameters, one at a time, in order. */
void dbx_pg_session_exec(struct dbx_pg_session *s, const char *sql, dbx_pg_fn *fn, void *user);
struct dbx_pg_session *dbx_pg_session_free(struct dbx_pg_session *s);

/* Blocking, for start-up only: brings the schema to the newest version. migrations[i] is version i
 * + 1; each runs in a transaction under an advisory lock, recorded in schema_migrations. Waits up
 * to wait_ms for the server. */
int dbx_pg_migrate(const char *conninfo, const char *const *migrations, size_t n, uint32_t wait_ms,
                   struct dbx_err *err) DBX_MUST_USE;
