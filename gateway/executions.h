/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of /api/executions and /api/processes. */
#pragma once

#include "gateway/request.h"

struct dbx_jw;
struct gw_process;

#define GW_TOKEN_SECONDS (15 * 60)

void gw_executions_create(struct gw_req *rq); /* execution_create.c */
void gw_executions_list(struct gw_req *rq);
void gw_executions_get(struct gw_req *rq);
void gw_executions_cancel(struct gw_req *rq); /* process_control.c */
void gw_processes_list(struct gw_req *rq);
void gw_processes_get(struct gw_req *rq);
void gw_executions_output(struct gw_req *rq); /* output.c */
void gw_processes_output(struct gw_req *rq);

/* Looks up what the route's parameter names, in the caller's eyes: what he may not see is not
 * there, and what he may see but is less than `need` to is 403. Sets rq->role and calls fn, or
 * answers. */
typedef void gw_visible_fn(struct gw_req *rq, const struct gw_process *p);
void gw_with_execution(struct gw_req *rq, enum dbx_role need, gw_visible_fn *fn);
void gw_with_process(struct gw_req *rq, enum dbx_role need, gw_visible_fn *fn);

/* Answers with the object of an execution: of an ended one the whole result, once it is read. */
void gw_answer_execution(struct gw_req *rq, const struct gw_process *p, int status);
/* The object of a process. */
void gw_answer_process(struct gw_req *rq, const struct gw_process *p, int status);

/* `limit` and `cursor` of a list that has the newest first. */
struct gw_list_range {
    size_t limit;
    int64_t before_us; /* 0: from the newest */
    struct dbx_id before;
};
int gw_list_range(struct gw_req *rq, struct gw_list_range *ret, struct dbx_err *err);
/* "stream_token": the caller's own, with rq->role. issued: unix seconds. */
void gw_put_token(struct dbx_jw *w, struct gw_req *rq, const struct dbx_id *sandbox,
                  int64_t issued);
/* Ends the writer and answers with what it wrote. */
void gw_answer_json(struct gw_req *rq, int status, struct dbx_buf *buf, struct dbx_jw **w);
