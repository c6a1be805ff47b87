/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/executions.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/httpd.h"
#include "common/proto/token.h"
#include "gateway/access.h"
#include "gateway/auth.h"
#include "gateway/gw.h"
#include "gateway/recent.h"
#include "gateway/result.h"
#include "gateway/store.h"

#define MAX_OBJECT (64u << 20) /* four streams of 1 MiB, escaped at worst */
#define LIST_DEFAULT 50
#define LIST_MAX 200

static void sign_token(struct gw_req *rq, const struct dbx_id *sandbox, int64_t issued,
                       char text[static DBX_TOKEN_MAX])
{
    struct dbx_token t = {.kind = DBX_TOKEN_STREAM,
                          .role = gw_auth_live_role(&rq->user, rq->role),
                          .expires = issued + GW_TOKEN_SECONDS,
                          .subject = *sandbox,
                          .user = rq->user.id};
    gw_credential_label(&rq->user, t.label);
    int r = dbx_token_sign(rq->gw->keys, &t, text);
    dbx_assert(r == 0);
}

void gw_put_token(struct dbx_jw *w, struct gw_req *rq, const struct dbx_id *sandbox, int64_t issued)
{
    char text[DBX_TOKEN_MAX];
    sign_token(rq, sandbox, issued, text);
    dbx_jw_kstr(w, "stream_token", text);
}

void gw_answer_json(struct gw_req *rq, int status, struct dbx_buf *buf, struct dbx_jw **w)
{
    int r = dbx_jw_end(w);
    if (r < 0)
        gw_req_fail_status(rq, 500, DBX_INTERNAL, NULL, "the answer is too large", NULL);
    else
        gw_req_json(rq, status, buf);
    dbx_buf_done(buf);
}

/* --- looking up --- */

struct lookup {
    struct gw_req *rq;
    enum dbx_role need;
    gw_visible_fn *fn;
};

static void on_found(const struct gw_process *rows, size_t n, const struct dbx_err *err, void *arg)
{
    struct lookup l = *(struct lookup *)arg;
    struct gw_req *rq = l.rq;
    free(arg);
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err) {
        gw_req_fail_db(rq, err);
    } else if (n == 0 || rows[0].role == DBX_ROLE_NONE) {
        gw_req_not_found(rq);
    } else if (rows[0].role < l.need) {
        gw_req_forbidden(rq, "viewers may only look");
    } else {
        rq->role = rows[0].role;
        l.fn(rq, &rows[0]);
    }
    gw_req_unref(rq);
}

static void look_up(struct gw_req *rq, enum dbx_role need, gw_visible_fn *fn, bool execution)
{
    struct dbx_id id;
    if (dbx_id_parse(rq->params.first, &id) < 0) {
        gw_req_not_found(rq);
        return;
    }
    struct lookup *l = DBX_NEW(struct lookup);
    l->rq = rq;
    l->need = need;
    l->fn = fn;
    gw_req_ref(rq);
    gw_store_seen(rq->gw->store, execution, &id, &rq->user, on_found, l);
}

void gw_with_execution(struct gw_req *rq, enum dbx_role need, gw_visible_fn *fn)
{
    look_up(rq, need, fn, true);
}

void gw_with_process(struct gw_req *rq, enum dbx_role need, gw_visible_fn *fn)
{
    look_up(rq, need, fn, false);
}

/* --- the object of one --- */

static void put_details(struct dbx_jw *w, const struct gw_process *p)
{
    gw_put_id(w, "process_id", &p->id);
    gw_put_id(w, "sandbox_id", &p->sandbox);
    dbx_jw_kstr(w, "template", p->template);
    gw_put_time(w, "created_at", p->created_us);
    gw_put_time(w, "started_at", p->started_us);
    gw_put_time(w, "ended_at", p->ended_us);
}

static void put_execution_id(struct dbx_jw *w, const struct gw_process *p)
{
    if (dbx_id_is_zero(&p->execution))
        dbx_jw_kstr(w, "execution_id", NULL);
    else
        gw_put_id(w, "execution_id", &p->execution);
}

static void answer_open(struct gw_req *rq, const struct gw_process *p, int status)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    gw_put_id(w, "id", &p->execution);
    gw_put_end(w, &p->end);
    put_details(w, p);
    gw_put_token(w, rq, &p->sandbox, dbx_wall_us() / 1000000);
    dbx_jw_object_end(w);
    gw_answer_json(rq, status, &buf, &w);
}

/* An answer that waits for the log to be read. */
struct reading {
    struct gw_req *rq; /* borrowed: the request owns this */
    struct gw_process p;
    struct gw_result *result;
    int status;
};

static void free_reading(void *op)
{
    struct reading *rd = op;
    rd->result = gw_result_free(rd->result);
    free(rd);
}

/* An object that is not empty, and a token as its last key. */
static void answer_with_token(struct gw_req *rq, const struct gw_process *p, int status,
                              const char *object, size_t len)
{
    char token[DBX_TOKEN_MAX];
    struct dbx_buf buf;
    sign_token(rq, &p->sandbox, dbx_wall_us() / 1000000, token);
    dbx_buf_init(&buf, len + sizeof(token) + 32);
    int r = dbx_buf_reserve(&buf, buf.max - 1);
    r = r ? r : dbx_buf_append(&buf, object, len - 1);
    r = r ? r : dbx_buf_printf(&buf, ",\"stream_token\":\"%s\"}", token);
    dbx_assert(r == 0);
    gw_req_json(rq, status, &buf);
    dbx_buf_done(&buf);
}

static void on_read(struct gw_result *rs, const struct dbx_err *err, void *arg)
{
    struct reading *rd = arg;
    struct gw_req *rq = rd->rq;
    struct dbx_buf buf;
    if (err) {
        gw_req_fail_output(rq, err);
        return;
    }
    dbx_buf_init(&buf, MAX_OBJECT);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    gw_result_write(w, rs);
    put_details(w, &rd->p);
    dbx_jw_object_end(w);
    if (dbx_jw_end(&w) < 0) {
        gw_req_fail_status(rq, 500, DBX_INTERNAL, NULL, "the answer is too large", NULL);
    } else {
        if (gw_result_is_final(rs))
            gw_recent_keep(rq->gw->recent, &rd->p.id, dbx_buf_cstr(&buf), buf.len);
        answer_with_token(rq, &rd->p, rd->status, dbx_buf_cstr(&buf), buf.len);
    }
    dbx_buf_done(&buf);
}

void gw_answer_execution(struct gw_req *rq, const struct gw_process *p, int status)
{
    if (!p->end.terminal) {
        answer_open(rq, p, status);
        return;
    }
    size_t len;
    const char *known = gw_recent_find(rq->gw->recent, &p->id, &len);
    if (known) {
        answer_with_token(rq, p, 200, known, len);
        return;
    }
    if (!rq->gw->olog) {
        gw_req_fail_output(rq, NULL);
        return;
    }
    struct reading *rd = DBX_NEW(struct reading);
    rd->rq = rq;
    rd->p = *p;
    rd->status = 200; /* also after a cancel that found it ended */
    rq->op = rd;
    rq->op_free = free_reading;
    rd->result = gw_result_new(rq->gw, p, on_read, rd);
}

static void found_execution(struct gw_req *rq, const struct gw_process *p)
{
    gw_answer_execution(rq, p, 200);
}

void gw_executions_get(struct gw_req *rq)
{
    gw_with_execution(rq, DBX_ROLE_VIEWER, found_execution);
}

void gw_answer_process(struct gw_req *rq, const struct gw_process *p, int status)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    gw_put_id(w, "id", &p->id);
    put_execution_id(w, p);
    gw_put_end(w, &p->end);
    put_details(w, p);
    gw_put_usage(w, &p->end);
    gw_put_token(w, rq, &p->sandbox, dbx_wall_us() / 1000000);
    dbx_jw_object_end(w);
    gw_answer_json(rq, status, &buf, &w);
}

static void found_process(struct gw_req *rq, const struct gw_process *p)
{
    gw_answer_process(rq, p, 200);
}

void gw_processes_get(struct gw_req *rq)
{
    gw_with_process(rq, DBX_ROLE_VIEWER, found_process);
}

/* --- the list --- */

/* The cursor: "<created, microseconds>.<process id>" of the last item given. */
static int parse_cursor(const char *text, int64_t *ret_us, struct dbx_id *ret_id)
{
    const char *dot = strchr(text, '.');
    if (!dot || dbx_parse_i64(text, (size_t)(dot - text), 1, INT64_MAX / 2, ret_us) < 0)
        return -EINVAL;
    return dbx_id_parse(dot + 1, ret_id);
}

struct list {
    struct gw_req *rq;
    size_t limit;
    bool processes;
};

static void put_item(struct dbx_jw *w, const struct gw_process *p, bool process)
{
    dbx_jw_object(w);
    gw_put_id(w, "id", process ? &p->id : &p->execution);
    if (process)
        put_execution_id(w, p);
    gw_put_end(w, &p->end);
    put_details(w, p);
    gw_put_usage(w, &p->end);
    dbx_jw_object_end(w);
}

static void on_list(const struct gw_process *rows, size_t n, const struct dbx_err *err, void *arg)
{
    struct list l = *(struct list *)arg;
    struct gw_req *rq = l.rq;
    struct dbx_buf buf;
    free(arg);
    if (gw_req_gone(rq) || err) {
        if (err)
            gw_req_fail_db(rq, err);
        gw_req_unref(rq);
        return;
    }
    dbx_buf_init(&buf, DBX_MAX_BODY);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_key(w, "items");
    dbx_jw_array(w);
    for (size_t i = 0; i < n && i < l.limit; i++)
        put_item(w, &rows[i], l.processes);
    dbx_jw_array_end(w);
    if (n > l.limit) {
        char id[DBX_ID_TEXT], cursor[DBX_ID_TEXT + 24];
        dbx_id_format(&rows[l.limit - 1].id, id);
        snprintf(cursor, sizeof(cursor), "%" PRId64 ".%s", rows[l.limit - 1].created_us, id);
        dbx_jw_kstr(w, "next_cursor", cursor);
    } else {
        dbx_jw_kstr(w, "next_cursor", NULL);
    }
    dbx_jw_object_end(w);
    gw_answer_json(rq, 200, &buf, &w);
    gw_req_unref(rq);
}

int gw_list_range(struct gw_req *rq, struct gw_list_range *ret, struct dbx_err *err)
{
    const char *limit = dbx_http_query(rq->http, "limit", 0);
    const char *cursor = dbx_http_query(rq->http, "cursor", 0);
    uint64_t count = LIST_DEFAULT;
    *ret = (struct gw_list_range){0};
    if (limit && dbx_parse_u64(limit, strlen(limit), 1, LIST_MAX, &count) < 0)
        return dbx_err_field(err, "limit", "must be a number from 1 to %d", LIST_MAX);
    if (cursor && parse_cursor(cursor, &ret->before_us, &ret->before) < 0)
        return dbx_err_field(err, "cursor", "was not given by this server");
    ret->limit = count;
    return 0;
}

static void ask_list(struct gw_req *rq, struct gw_store_range *asked, struct dbx_err *err)
{
    struct gw_list_range range;
    if (gw_list_range(rq, &range, err) < 0) {
        gw_req_fail(rq, err, NULL);
        return;
    }
    struct list *l = DBX_NEW(struct list);
    l->rq = rq;
    l->limit = range.limit;
    l->processes = !asked->executions;
    asked->owner = &rq->user.id;
    asked->before_us = range.before_us;
    asked->before = range.before;
    asked->limit = (uint32_t)range.limit + 1;
    gw_req_ref(rq);
    gw_store_list(rq->gw->store, asked, on_list, l);
}

void gw_executions_list(struct gw_req *rq)
{
    struct gw_store_range asked = {.executions = true};
    struct dbx_err err = {0};
    ask_list(rq, &asked, &err);
}

void gw_processes_list(struct gw_req *rq)
{
    const char *sandbox = dbx_http_query(rq->http, "sandbox_id", 0);
    const char *open = dbx_http_query(rq->http, "open", 0);
    struct gw_store_range asked = {.open = dbx_streq(open, "true")};
    struct dbx_err err = {0};
    struct dbx_id id;
    if (sandbox && dbx_id_parse(sandbox, &id) < 0)
        (void)dbx_err_field(&err, "sandbox_id", "is not an id");
    else if (open && !asked.open && !dbx_streq(open, "false"))
        (void)dbx_err_field(&err, "open", "must be true or false");
    if (err.code < 0) {
        gw_req_fail(rq, &err, NULL);
        return;
    }
    asked.sandbox = sandbox ? &id : NULL;
    ask_list(rq, &asked, &err);
}
