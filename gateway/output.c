/* SPDX-License-Identifier: Apache-2.0 */
/* GET .../output: the bytes of one stream from an offset on, as far as they are there now. One
 * answer holds at most MAX_ANSWER bytes and ends before a hole; X-Next-Offset says where to go on.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/io/httpd.h"
#include "gateway/executions.h"
#include "gateway/follow.h"
#include "gateway/gw.h"
#include "gateway/process.h"
#include "gateway/progress.h"

#define MAX_ANSWER (16u << 20)
#define MAX_AT_A_TIME 32

struct output {
    struct gw_req *rq; /* borrowed: the request owns this */
    struct gw *gw;
    struct dbx_id process;
    enum gw_stream stream;
    struct gw_progress progress;
    uint64_t first; /* offset of buf's first byte */
    struct dbx_buf buf;
    struct gw_follow *follow;
};

static void free_output(void *op)
{
    struct output *o = op;
    o->gw->outputs--;
    o->follow = gw_follow_free(o->follow);
    dbx_buf_done(&o->buf);
    free(o);
}

static void answer(struct output *o)
{
    char next[24], first[24];
    snprintf(next, sizeof(next), "%" PRIu64, o->first + o->buf.len);
    snprintf(first, sizeof(first), "%" PRIu64, o->first);
    const struct dbx_header headers[] = {
        {"X-Next-Offset", next}, {"X-First-Offset", first}, {NULL, NULL}};
    gw_req_reply(o->rq, 200, "application/octet-stream", headers, o->buf.data, o->buf.len);
}

/* Returns whether more is wanted. */
static bool take(struct output *o, const struct gw_event *ev)
{
    if (ev->kind == GW_EV_PHASE || ev->kind == GW_EV_END)
        return ev->kind == GW_EV_END; /* after the end another attempt may come: read to the end */
    if (ev->stream != o->stream)
        return true;
    if (ev->kind == GW_EV_GAP) {
        if (o->buf.len > 0)
            return false;
        o->first = ev->to;
        return true;
    }
    return dbx_buf_append(&o->buf, ev->data, ev->len) == 0 && o->buf.len < o->buf.max;
}

static bool on_record(const struct dbx_record *r, const struct dbx_olog_entry *e, void *user)
{
    struct output *o = user;
    struct gw_event ev;
    (void)e;
    if (!dbx_id_equal(&r->process, &o->process))
        return true;
    for (;;) {
        size_t room = o->buf.max - o->buf.len;
        gw_progress_next(&o->progress, r, room, &ev);
        if (ev.kind == GW_EV_NONE)
            return true;
        if (!take(o, &ev)) {
            answer(o);
            return true;
        }
    }
}

static void on_end(void *user)
{
    answer(user);
}

static void on_error(const struct dbx_err *err, void *user)
{
    struct output *o = user;
    gw_req_fail_output(o->rq, err);
}

static bool wants(const struct dbx_id *process, void *user)
{
    const struct output *o = user;
    return dbx_id_equal(process, &o->process);
}

static const struct gw_follow_handlers follow_handlers = {
    .on_record = on_record, .wants = wants, .on_end = on_end, .on_error = on_error};

static int read_query(struct gw_req *rq, struct output *o, struct dbx_err *err)
{
    const char *stream = dbx_http_query(rq->http, "stream", 0);
    const char *from = dbx_http_query(rq->http, "from", 0);
    const char *phase = dbx_http_query(rq->http, "phase", 0);
    if (gw_stream_parse(stream ? stream : "stdout", &o->stream) < 0)
        return dbx_err_field(err, "stream", "must be stdout, stderr or pty");
    if (from && dbx_parse_u64(from, strlen(from), 0, INT64_MAX / 2, &o->first) < 0)
        return dbx_err_field(err, "from", "must be a byte offset");
    if (phase && !dbx_streq(phase, "compile") && !dbx_streq(phase, "run"))
        return dbx_err_field(err, "phase", "must be compile or run");
    o->progress.phase = dbx_streq(phase, "compile") ? GW_PHASE_COMPILE : GW_PHASE_RUN;
    o->progress.pos[o->stream] = o->first;
    return 0;
}

static void found(struct gw_req *rq, const struct gw_process *p)
{
    struct output *o = DBX_NEW(struct output);
    struct dbx_err err = {0};
    o->rq = rq;
    o->gw = rq->gw;
    o->process = p->id;
    dbx_buf_init(&o->buf, MAX_ANSWER);
    rq->op = o;
    rq->op_free = free_output;
    o->gw->outputs++;
    if (read_query(rq, o, &err) < 0) {
        gw_req_fail(rq, &err, NULL);
    } else if (!rq->gw->olog || rq->gw->outputs > MAX_AT_A_TIME) {
        gw_req_fail_output(rq, NULL);
    } else {
        o->follow = gw_follow_new(rq->gw, &p->sandbox, p->log_offset, &follow_handlers, o);
        gw_follow_to_end(o->follow);
    }
}

void gw_executions_output(struct gw_req *rq)
{
    gw_with_execution(rq, DBX_ROLE_VIEWER, found);
}

void gw_processes_output(struct gw_req *rq)
{
    gw_with_process(rq, DBX_ROLE_VIEWER, found);
}
