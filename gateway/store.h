/* SPDX-License-Identifier: Apache-2.0 */
/* Everything the gateway asks of PostgreSQL. Callbacks come once, never before the call returns. */
#pragma once

#include "common/base/buf.h"
#include "gateway/process.h"
#include "gateway/request.h"

struct dbx_loop;
struct dbx_pg;
struct gw_store;

struct gw_store *gw_store_new(struct dbx_loop *loop, const char *conninfo, uint32_t pool);
struct gw_store *gw_store_free(struct gw_store *st);
bool gw_store_ready(const struct gw_store *st);

/* For the statements of workspace_sql.c. */
struct dbx_pg *gw_store_pg(struct gw_store *st);

/* user NULL and err NULL: no such key. */
typedef void gw_user_fn(const struct gw_user *user, const struct dbx_err *err, void *arg);
void gw_store_user_of_key(struct gw_store *st, const uint8_t hash[static 32], gw_user_fn *fn,
                          void *arg);
/* The same for a session. */
void gw_store_user_of_session(struct gw_store *st, const uint8_t hash[static 32], gw_user_fn *fn,
                              void *arg);
typedef void gw_done_fn(const struct dbx_err *err, void *arg);
void gw_store_put_admin_key(struct gw_store *st, const uint8_t hash[static 32], gw_done_fn *fn,
                            void *arg);

struct gw_accept {
    struct dbx_id owner, sandbox, process, execution;
    const char *template, *request, *trace; /* request: JSON */
    bool retry_safe;
    int64_t log_offset;
    const struct dbx_buf *files;
    const void *stdin_data;
    size_t stdin_len;
    const char *key; /* Idempotency-Key or NULL */
    const uint8_t *hash;
    const char *response; /* JSON that is kept under the key */
};
/* One statement, one transaction. taken false: the key was used before, nothing was written. */
typedef void gw_accept_fn(bool taken, const struct dbx_err *err, void *arg);
void gw_store_accept(struct gw_store *st, const struct gw_accept *a, gw_accept_fn *fn, void *arg);

/* response NULL: no such key. */
typedef void gw_idempotent_fn(const char *response, bool same_request, const struct dbx_err *err,
                              void *arg);
void gw_store_idempotent(struct gw_store *st, const struct dbx_id *owner, const char *key,
                         const uint8_t hash[static 32], gw_idempotent_fn *fn, void *arg);
/* The key alone, without an answer: taken is false where it stands already; and its removal. */
void gw_store_key_take(struct gw_store *st, const struct dbx_id *owner, const char *key,
                       const uint8_t hash[static 32], gw_accept_fn *fn, void *arg);
void gw_store_key_release(struct gw_store *st, const struct dbx_id *owner, const char *key,
                          const uint8_t hash[static 32], gw_accept_fn *fn, void *arg);

/* n rows; all only during the call. */
typedef void gw_processes_fn(const struct gw_process *rows, size_t n, const struct dbx_err *err,
                             void *arg);
/* What the caller is to it stands in the row's role (NONE: he may not see it). execution: id is an
 * execution's, else a process's. */
void gw_store_seen(struct gw_store *st, bool execution, const struct dbx_id *id,
                   const struct gw_user *user, gw_processes_fn *fn, void *arg);
void gw_store_process(struct gw_store *st, const struct dbx_id *process, gw_processes_fn *fn,
                      void *arg);
void gw_store_processes(struct gw_store *st, const struct dbx_id *ids, size_t n,
                        gw_processes_fn *fn, void *arg);
/* Those that did not end more than five minutes ago, and those named in ids. */
void gw_store_processes_of_sandbox(struct gw_store *st, const struct dbx_id *sandbox,
                                   const struct dbx_id *ids, size_t n, gw_processes_fn *fn,
                                   void *arg);
/* What ended of a batch, in the order of ending, behind the one numbered `after`. */
void gw_store_batch_results(struct gw_store *st, const struct dbx_id *batch, int64_t after,
                            uint32_t limit, gw_processes_fn *fn, void *arg);
/* What an owner has started, newest first, older than (before_us, before); before_us 0: from the
 * newest. */
struct gw_store_range {
    const struct dbx_id *owner;
    int64_t before_us;
    struct dbx_id before;
    uint32_t limit;
    bool executions;              /* only those; else processes in workspaces too, and then: */
    const struct dbx_id *sandbox; /* of this one; NULL: of all */
    bool open;                    /* only what has not ended */
};
void gw_store_list(struct gw_store *st, const struct gw_store_range *range, gw_processes_fn *fn,
                   void *arg);
