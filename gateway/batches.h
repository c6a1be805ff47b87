/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of /api/batches, and what their files share. */
#pragma once

#include "gateway/process.h"
#include "gateway/request.h"

struct dbx_jw;
struct dbx_pg_result;

void gw_batches_create(struct gw_req *rq); /* batch_create.c */
void gw_batches_list(struct gw_req *rq);   /* batches.c */
void gw_batches_get(struct gw_req *rq);
void gw_batches_cancel(struct gw_req *rq);
void gw_batches_results(struct gw_req *rq);  /* batch_results.c */
void gw_batches_hook_get(struct gw_req *rq); /* webhooks.c */
void gw_batches_hook_again(struct gw_req *rq);

/* Something of it has ended. */
void gw_batches_wake(struct gw *gw, const struct dbx_id *batch);

/* A batch as the database has it. */
struct gw_batch_row {
    struct dbx_id id;
    char status[16], template[65], isolation[16], retry[8], cancel_reason[16], hook[16];
    int64_t priority, max_parallel, total, done, completed, failed, cancelled, running;
    int64_t deadline_us, created_us, ended_us; /* 0: none, not yet */
    bool over, has_hook;
};
int gw_batch_row_read(const struct dbx_pg_result *res, size_t i,
                      struct gw_batch_row *ret) DBX_MUST_USE;
void gw_batch_row_write(struct dbx_jw *w, const struct gw_batch_row *b); /* keys of the object */

/* Looks up the batch that the route names, in the caller's eyes, and calls fn; or answers. */
typedef void gw_batch_fn(struct gw_req *rq, const struct gw_batch_row *b);
void gw_with_batch(struct gw_req *rq, gw_batch_fn *fn);
/* The object with a page of results. */
void gw_batch_answer_page(struct gw_req *rq, const struct gw_batch_row *b);

/* ---- batch_collect.c: results of processes that ended, one after the other as objects ---- */

struct gw_collect;
struct gw_collect_handlers {
    /* An object, complete, in the order of the rows. Return false to be held back until
     * gw_collect_resume. */
    bool (*on_object)(const struct gw_process *p, const struct dbx_buf *json, void *user);
    void (*on_done)(void *user);
    void (*on_error)(const struct dbx_err *err, void *user); /* the log cannot be read */
};
/* Never calls back before it returned; may be freed in its callbacks. */
struct gw_collect *gw_collect_new(struct gw *gw, const struct gw_process *rows, size_t n,
                                  const struct gw_collect_handlers *h, void *user);
struct gw_collect *gw_collect_free(struct gw_collect *c);
void gw_collect_resume(struct gw_collect *c);
