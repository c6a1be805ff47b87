/* SPDX-License-Identifier: Apache-2.0 */
/* POST /api/executions: decode, one statement, tell the scheduler, answer (or wait for the end). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "common/ext/json.h"
#include "common/io/httpd.h"
#include "common/io/loop.h"
#include "common/proto/output_log.h"
#include "gateway/execution_decode.h"
#include "gateway/executions.h"
#include "gateway/gw.h"
#include "gateway/once.h"
#include "gateway/result.h"
#include "gateway/store.h"
#include "gateway/templates.h"
#include "gateway/upstream.h"

#define MAX_RESULT (64u << 20) /* four streams of 1 MiB, escaped at worst */

/* What is kept under an idempotency key is enough to give the same answer again. */
struct accepted {
    struct dbx_id execution, process, sandbox;
    int64_t at; /* unix seconds */
};

struct create {
    struct gw_req *rq; /* borrowed: the request owns this */
    struct gw_execution ex;
    struct dbx_buf request, response;
    char *key; /* owned, or NULL */
    uint8_t hash[DBX_SHA256_LEN];
    bool wait;
    int64_t log_offset;
    struct accepted ids;
    /* while it waits for the end */
    struct gw_process p;
    struct gw_result *result;
    struct dbx_timer *deadline;
};

static void free_create(void *op)
{
    struct create *c = op;
    gw_execution_done(&c->ex);
    dbx_buf_done(&c->request);
    dbx_buf_done(&c->response);
    free(c->key);
    c->result = gw_result_free(c->result);
    c->deadline = dbx_timer_free(c->deadline);
    free(c);
}

/* --- the answers --- */

static void answer_accepted(struct create *c, const char *status)
{
    struct dbx_buf buf;
    int64_t now = dbx_wall_us() / 1000000, issued = c->ids.at;
    /* The same answer again, byte by byte, while its token is good for ten minutes yet. */
    if (issued > now || now - issued > GW_TOKEN_SECONDS - 10 * 60)
        issued = now;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    gw_put_id(w, "id", &c->ids.execution);
    gw_put_id(w, "process_id", &c->ids.process);
    gw_put_id(w, "sandbox_id", &c->ids.sandbox);
    gw_put_token(w, c->rq, &c->ids.sandbox, issued);
    dbx_jw_kstr(w, "status", status);
    dbx_jw_object_end(w);
    gw_answer_json(c->rq, 202, &buf, &w);
}

static void on_result(struct gw_result *rs, const struct dbx_err *err, void *arg)
{
    struct create *c = arg;
    struct dbx_buf buf;
    if (err) {
        dbx_log(DBX_LOG_ERR, &c->rq->log, "read the output: %s", err->msg);
        answer_accepted(c, "pending");
        return;
    }
    dbx_buf_init(&buf, MAX_RESULT);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    gw_result_write(w, rs);
    dbx_jw_object_end(w);
    gw_answer_json(c->rq, 200, &buf, &w);
}

static void on_deadline(void *user)
{
    answer_accepted(user, "pending");
}

static void hurry(struct gw_req *rq)
{
    on_deadline(rq->op);
}

static void wait_for_end(struct create *c)
{
    struct gw *gw = c->rq->gw;
    c->result = gw_result_new(gw, &c->p, on_result, c);
    c->deadline = dbx_timer_new(gw->loop, on_deadline, c);
    dbx_timer_start(c->deadline, gw->cfg->wait_max_ms, 0);
    c->rq->hurry = hurry;
}

/* --- the same key again --- */

static int read_accepted(const char *response, struct accepted *ret)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    int r = dbx_json_parse(response, strlen(response), NULL, &doc, NULL);
    if (r < 0)
        return r;
    const struct dbx_json *root = dbx_json_root(doc);
    const char *execution = dbx_json_get_str(root, "id");
    const char *process = dbx_json_get_str(root, "process_id");
    const char *sandbox = dbx_json_get_str(root, "sandbox_id");
    ret->at = dbx_json_get_i64(root, "at", 0);
    if (!execution || !process || !sandbox || dbx_id_parse(execution, &ret->execution) < 0 ||
        dbx_id_parse(process, &ret->process) < 0 || dbx_id_parse(sandbox, &ret->sandbox) < 0)
        return -EBADMSG;
    return 0;
}

static void on_row(const struct gw_process *rows, size_t n, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct create *c = rq->op;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err) {
        gw_req_fail_db(rq, err);
    } else if (n == 0) {
        gw_req_not_found(rq);
    } else {
        c->p = rows[0];
        wait_for_end(c);
    }
    gw_req_unref(rq);
}

static void on_idempotent(const char *response, bool same, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct create *c = rq->op;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err) {
        gw_req_fail_db(rq, err);
    } else if (response && !same) {
        gw_req_key_reused(rq);
    } else if (!response || read_accepted(response, &c->ids) < 0) {
        gw_req_fail_status(rq, 503, DBX_UNAVAIL, "idempotency_unknown",
                           "what was answered under this key is not known, try again", NULL);
    } else if (c->wait) {
        gw_req_ref(rq);
        gw_store_process(rq->gw->store, &c->ids.process, on_row, rq);
    } else {
        answer_accepted(c, "pending");
    }
    gw_req_unref(rq);
}

/* --- acceptance --- */

static bool stdin_open(const struct create *c)
{
    /* Nobody who waits for the end can write meanwhile: he was told no id yet. */
    return !c->ex.has_stdin && !c->wait;
}

static void on_accepted(bool taken, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct create *c = rq->op;
    if (err && err->code == -EDQUOT) {
        gw_req_fail(rq, err, "quota");
        gw_req_unref(rq);
        return;
    }
    if (err) {
        gw_req_fail_db(rq, err);
        gw_req_unref(rq);
        return;
    }
    if (!taken) {
        gw_store_idempotent(rq->gw->store, &rq->user.id, c->key, c->hash, on_idempotent, rq);
        return;
    }
    char text[DBX_ID_TEXT];
    dbx_id_format(&c->ids.process, text);
    dbx_log(DBX_LOG_INFO, &rq->log, "accepted process=%s template=%s trace=%s", text,
            c->ex.template, rq->trace);
    if (!gw_req_gone(rq) && c->wait)
        wait_for_end(c); /* it watches before the scheduler knows */
    const struct gw_place place = {.process = &c->ids.process,
                                   .sandbox = &c->ids.sandbox,
                                   .owner = &rq->user.id,
                                   .trace = rq->trace,
                                   .ex = &c->ex,
                                   .files = &c->ex.files,
                                   .stdin_data = c->ex.stdin_data,
                                   .stdin_len = c->ex.stdin_len,
                                   .stdin_open = stdin_open(c)};
    gw_upstream_place(rq->gw->up, &place);
    if (!gw_req_gone(rq) && !c->wait)
        answer_accepted(c, "pending");
    gw_req_unref(rq);
}

static void write_texts(struct create *c)
{
    struct dbx_jw *w = dbx_jw_new(&c->request);
    gw_execution_write_request(w, &c->ex, stdin_open(c));
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0); /* the body was bounded */
    w = dbx_jw_new(&c->response);
    dbx_jw_object(w);
    gw_put_id(w, "id", &c->ids.execution);
    gw_put_id(w, "process_id", &c->ids.process);
    gw_put_id(w, "sandbox_id", &c->ids.sandbox);
    dbx_jw_ki64(w, "at", c->ids.at);
    dbx_jw_object_end(w);
    r = dbx_jw_end(&w);
    dbx_assert(r == 0);
}

static void accept_execution(struct create *c)
{
    struct gw_req *rq = c->rq;
    c->ids = (struct accepted){.sandbox = c->ids.sandbox,
                               .execution = dbx_id_new(),
                               .process = dbx_id_new(),
                               .at = dbx_wall_us() / 1000000};
    write_texts(c);
    c->p = (struct gw_process){.id = c->ids.process,
                               .sandbox = c->ids.sandbox,
                               .execution = c->ids.execution,
                               .owner = rq->user.id,
                               .log_offset = c->log_offset};
    int r = gw_end_read("pending", NULL, NULL, &c->p.end);
    dbx_assert(r == 0);
    const struct gw_accept a = {.owner = rq->user.id,
                                .sandbox = c->ids.sandbox,
                                .process = c->ids.process,
                                .execution = c->ids.execution,
                                .template = c->ex.template,
                                .request = dbx_buf_cstr(&c->request),
                                .trace = rq->trace,
                                .retry_safe = c->ex.retry_safe,
                                .log_offset = c->log_offset,
                                .files = &c->ex.files,
                                .stdin_data = c->ex.stdin_data,
                                .stdin_len = c->ex.stdin_len,
                                .key = c->key,
                                .hash = c->hash,
                                .response = dbx_buf_cstr(&c->response)};
    gw_req_ref(rq);
    gw_store_accept(rq->gw->store, &a, on_accepted, rq);
}

static int read_options(struct gw_req *rq, struct create *c, struct dbx_err *err)
{
    const char *wait = dbx_http_query(rq->http, "wait", 0);
    const char *key = dbx_http_header(rq->http, "idempotency-key");
    if (wait && !dbx_streq(wait, "true") && !dbx_streq(wait, "false"))
        return dbx_err_field(err, "wait", "must be true or false");
    c->wait = dbx_streq(wait, "true");
    return gw_idempotency_key(key, &c->key, err);
}

static bool has_template(const char *name, void *user)
{
    return gw_templates_has(user, name);
}

static int read_request(struct gw_req *rq, struct create *c, struct dbx_err *err)
{
    const struct gw_execution_rules rules = {.max = rq->gw->limits_max,
                                             .compile_max = rq->gw->compile_limits_max,
                                             .has_template = has_template,
                                             .user = rq->gw->templates};
    size_t len;
    const uint8_t *body = dbx_http_body(rq->http, &len);
    int64_t oldest;
    int r = read_options(rq, c, err);
    if (r < 0)
        return r;
    dbx_sha256(body, len, c->hash);
    r = gw_execution_decode(body, len, &rules, &c->ex, err);
    if (r < 0)
        return r;
    if (!rq->gw->olog)
        return dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "the output log is not there yet, try again");
    if (c->wait && !gw_upstream_ready(rq->gw->up))
        return dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "the scheduler is away, try again");
    c->ids.sandbox = dbx_id_new();
    return dbx_olog_bounds(rq->gw->olog, dbx_olog_partition(&c->ids.sandbox), &oldest,
                           &c->log_offset, err);
}

void gw_executions_create(struct gw_req *rq)
{
    struct create *c = DBX_NEW(struct create);
    struct dbx_err err = {0};
    rq->role = DBX_ROLE_OWNER;
    c->rq = rq;
    dbx_buf_init(&c->ex.files, 0);
    dbx_buf_init(&c->request, DBX_MAX_LINK_MSG);
    dbx_buf_init(&c->response, DBX_MAX_HEADER);
    rq->op = c;
    rq->op_free = free_create;
    if (read_request(rq, c, &err) < 0)
        gw_req_fail(rq, &err, NULL);
    else
        accept_execution(c);
}
