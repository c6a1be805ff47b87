/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to a process from outside: input, signals, the end. The node or the scheduler does
 * it, so an Idempotency-Key is taken by itself (once.h), after the caller was seen to be allowed.
 */
#include <stdlib.h>

#include "gateway/execution_decode.h"
#include "gateway/executions.h"
#include "gateway/gw.h"
#include "gateway/once.h"
#include "gateway/process.h"
#include "gateway/upstream.h"
#include "gateway/workspace_decode.h"
#include "gateway/workspaces.h"

struct control {
    struct gw_body body;
    struct gw_once once;
    struct dbx_id process;
    struct dbx_err err; /* why it was not done */
    bool execution;     /* the route names one */
    bool ended;         /* when it was looked up */
};

static void free_control(void *op)
{
    struct control *ct = op;
    gw_body_done(&ct->body);
    gw_once_done(&ct->once);
    free(ct);
}

/* Or answers. */
static struct control *begin(struct gw_req *rq, const enum gw_body_kind *body)
{
    struct control *ct = DBX_NEW(struct control);
    struct dbx_err err = {0};
    size_t len;
    const uint8_t *text = dbx_http_body(rq->http, &len);
    rq->op = ct;
    rq->op_free = free_control;
    int r = gw_once_init(&ct->once, rq, &err);
    if (r == 0 && body)
        r = gw_body_decode(*body, text, len, NULL, &ct->body, &err);
    if (r == 0)
        return ct;
    gw_req_fail(rq, &err, NULL);
    return NULL;
}

static void note(struct control *ct, const struct gw_process *p)
{
    ct->process = p->id;
    ct->ended = p->end.terminal;
}

/* --- input and signals --- */

static void answer_failure(struct gw_req *rq, bool repeated)
{
    const struct control *ct = rq->op;
    (void)repeated;
    if (gw_req_gone(rq))
        return;
    if (ct->ended)
        gw_req_fail_status(rq, 409, DBX_CONFLICT, "not_running", "the process has ended", NULL);
    else
        gw_req_fail(rq, &ct->err,
                    ct->err.kind == DBX_NOT_FOUND || ct->err.kind == DBX_CONFLICT ? "not_running"
                                                                                  : NULL);
}

static void on_given(const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct control *ct = rq->op;
    if (err) {
        ct->err = *err;
        gw_once_release(&ct->once, rq, answer_failure);
    } else if (!gw_req_gone(rq)) {
        gw_req_reply(rq, 204, NULL, NULL, NULL, 0);
    }
    gw_req_unref(rq);
}

/* The key is ours: true when there is something to do. */
static bool goes_on(struct gw_req *rq, bool repeated)
{
    struct control *ct = rq->op;
    if (repeated)
        gw_req_reply(rq, 204, NULL, NULL, NULL, 0);
    else if (ct->ended || gw_req_gone(rq))
        gw_once_release(&ct->once, rq, answer_failure);
    else
        return true;
    return false;
}

static void give_input(struct gw_req *rq, bool repeated)
{
    const struct control *ct = rq->op;
    const struct gw_body *b = &ct->body;
    if (!goes_on(rq, repeated))
        return;
    if (b->content_len == 0 && !b->eof) {
        gw_req_reply(rq, 204, NULL, NULL, NULL, 0);
        return;
    }
    gw_req_ref(rq);
    gw_upstream_input(rq->gw->up, &ct->process, b->content, b->content_len, b->eof, on_given, rq);
}

static void give_signal(struct gw_req *rq, bool repeated)
{
    const struct control *ct = rq->op;
    if (!goes_on(rq, repeated))
        return;
    gw_req_ref(rq);
    gw_upstream_signal(rq->gw->up, &ct->process, ct->body.signo, on_given, rq);
}

static void found_for_input(struct gw_req *rq, const struct gw_process *p)
{
    struct control *ct = rq->op;
    note(ct, p);
    gw_once_take(&ct->once, rq, give_input);
}

static void found_for_signal(struct gw_req *rq, const struct gw_process *p)
{
    struct control *ct = rq->op;
    note(ct, p);
    gw_once_take(&ct->once, rq, give_signal);
}

void gw_processes_input(struct gw_req *rq)
{
    static const enum gw_body_kind body = GW_BODY_INPUT;
    if (begin(rq, &body))
        gw_with_process(rq, DBX_ROLE_EDITOR, found_for_input);
}

void gw_processes_signal(struct gw_req *rq)
{
    static const enum gw_body_kind body = GW_BODY_SIGNAL;
    if (begin(rq, &body))
        gw_with_process(rq, DBX_ROLE_EDITOR, found_for_signal);
}

/* --- cancel: doing it again is the same, so its key only has to be nobody else's --- */

static void with_row(struct gw_req *rq, gw_visible_fn *fn)
{
    const struct control *ct = rq->op;
    if (ct->execution)
        gw_with_execution(rq, DBX_ROLE_EDITOR, fn);
    else
        gw_with_process(rq, DBX_ROLE_EDITOR, fn);
}

static void answer_row(struct gw_req *rq, const struct gw_process *p)
{
    const struct control *ct = rq->op;
    bool execution = ct->execution;
    int status = ct->ended ? 200 : 202; /* as it was asked, however quickly it ended then */
    free_control(rq->op);               /* a result that has to be read takes its place */
    rq->op = NULL;
    if (execution)
        gw_answer_execution(rq, p, status);
    else
        gw_answer_process(rq, p, status);
}

static void answer_no_scheduler(struct gw_req *rq, bool repeated)
{
    (void)repeated;
    if (!gw_req_gone(rq))
        gw_req_fail_status(rq, 503, DBX_UNAVAIL, "scheduler_unavailable",
                           "the scheduler cannot be reached, try again", NULL);
}

static void on_cancelled(const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct control *ct = rq->op;
    if (err && err->kind != DBX_NOT_FOUND && err->kind != DBX_CONFLICT)
        gw_once_release(&ct->once, rq, answer_no_scheduler);
    else if (!gw_req_gone(rq))
        with_row(rq, answer_row); /* it says how it stands */
    gw_req_unref(rq);
}

static void cancel(struct gw_req *rq, bool repeated)
{
    struct control *ct = rq->op;
    (void)repeated;
    if (gw_req_gone(rq)) {
        gw_once_release(&ct->once, rq, answer_no_scheduler);
    } else if (ct->ended) {
        with_row(rq, answer_row);
    } else {
        gw_req_ref(rq);
        gw_upstream_cancel(rq->gw->up, &ct->process, on_cancelled, rq);
    }
}

static void found_to_cancel(struct gw_req *rq, const struct gw_process *p)
{
    struct control *ct = rq->op;
    note(ct, p);
    if (!ct->once.key && ct->ended)
        answer_row(rq, p);
    else
        gw_once_take(&ct->once, rq, cancel);
}

static void begin_cancel(struct gw_req *rq, bool execution)
{
    struct control *ct = begin(rq, NULL);
    if (!ct)
        return;
    ct->execution = execution;
    with_row(rq, found_to_cancel);
}

void gw_executions_cancel(struct gw_req *rq)
{
    begin_cancel(rq, true);
}

void gw_processes_cancel(struct gw_req *rq)
{
    begin_cancel(rq, false);
}
