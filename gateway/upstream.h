/* SPDX-License-Identifier: Apache-2.0 */
/* The links: one to the scheduler, kept open; one to a node's shim while it is needed. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/proto/id.h"

struct gw;
struct gw_upstream;
struct gw_execution;
struct gw_run;

struct gw_upstream *gw_upstream_new(struct gw *gw);
struct gw_upstream *gw_upstream_free(struct gw_upstream *up);
bool gw_upstream_ready(const struct gw_upstream *up); /* the scheduler's link stands */
bool gw_upstream_seen(const struct gw_upstream *up);  /* it has stood */

struct gw_place {
    const struct dbx_id *process, *sandbox, *owner;
    const char *trace;
    const struct gw_execution *ex; /* one of ex and run */
    const struct gw_run *run;      /* in a workspace */
    const struct dbx_buf *files;
    const void *stdin_data;
    size_t stdin_len;
    bool stdin_open; /* of ex */
};
/* Says once that there is something to place. When that fails nothing is lost: the scheduler finds
 * the row. */
void gw_upstream_place(struct gw_upstream *up, const struct gw_place *p);

/* fn exactly once, later. err NULL: done. */
typedef void gw_upstream_fn(const struct dbx_err *err, void *arg);
void gw_upstream_cancel(struct gw_upstream *up, const struct dbx_id *process, gw_upstream_fn *fn,
                        void *arg);
/* A batch was accepted, or is to be cancelled: said once, the scheduler looks by itself, too. */
void gw_upstream_batch(struct gw_upstream *up, const struct dbx_id *batch);
/* Nobody needs this sandbox any more: its processes end, and it. fn may be NULL; when that is not
 * heard, it ends by being idle, or with its node's next hello. */
void gw_upstream_end_sandbox(struct gw_upstream *up, const struct dbx_id *sandbox,
                             gw_upstream_fn *fn, void *arg);
/* A sandbox is wanted before any process: said once, the scheduler looks by itself, too. */
void gw_upstream_standby(struct gw_upstream *up);
#define GW_MAX_KEEP 1000
/* Somebody watches these sandboxes; said once. */
void gw_upstream_keep(struct gw_upstream *up, const struct dbx_id *sandboxes, size_t n);
/* Bytes for stdin (copied), then its end when eof. Calls for one process that overlap are not kept
 * in order. */
void gw_upstream_input(struct gw_upstream *up, const struct dbx_id *process, const void *data,
                       size_t len, bool eof, gw_upstream_fn *fn, void *arg);
/* The size of its terminal. CONFLICT: it has none. */
void gw_upstream_resize(struct gw_upstream *up, const struct dbx_id *process, int64_t cols,
                        int64_t rows, gw_upstream_fn *fn, void *arg);
/* To the process's group. CONFLICT: it does not run (yet). */
void gw_upstream_signal(struct gw_upstream *up, const struct dbx_id *process, int signo,
                        gw_upstream_fn *fn, void *arg);
