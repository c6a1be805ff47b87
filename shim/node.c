/* SPDX-License-Identifier: Apache-2.0 */
/* Reports (started, ended) live on the execution itself, as two pairs of flags: sent and
 * acknowledged. Losing the link clears `sent`; being welcomed again sends what is not acknowledged.
 * So there is no queue of messages, only state, and its bound is that of the executions. Answers
 * find their execution by id and attempt, for it may have gone meanwhile.
 *
 * The epoch: every leader says its number in the answer to hello and in each start. A lower one
 * than was ever seen here is a leader that does not know yet that it was replaced: its orders are
 * refused. */
#include "shim/node.h"

#include "common/base/clock.h"
#include "common/io/loop.h"
#include "common/proto/link.h"
#include "shim/box.h"
#include "shim/lane.h"
#include "shim/pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_KEEP 1000
#define NODE_MAGIC 0x4b4e4c4eu
#define ANSWER_MS 10000
#define AGAIN_MS 500
#define STARTED_MS 20 /* what has ended by then is reported once */
#define CHANGE_MS 50  /* changes within so long are one message */
#define HEARTBEAT_MS 1000

struct shim_node_link {
    uint32_t magic;
    struct shim_node_link_opts opts;
    struct shim_execs *execs;
    struct dbx_link *link;
    struct dbx_timer *heartbeat, *change, *again, *started;
    int64_t epoch;
    uint64_t heartbeat_ms;
    bool welcome, change_due, started_due;
};

/* ---- what we have ---- */

/* The sizes of workspaces' sandboxes there may be room for. */
static void write_sizes(struct dbx_jw *w, uint64_t memory_mb)
{
    dbx_jw_key(w, "sizes");
    dbx_jw_array(w);
    for (size_t i = 0; i < dbx_sizes_len; i++)
        if (!dbx_sizes[i].special && (i == 0 || !memory_mb || dbx_sizes[i].memory_mb < memory_mb))
            dbx_jw_str(w, dbx_sizes[i].name);
    dbx_jw_array_end(w);
}

static void write_capacity(struct dbx_jw *w, const struct shim_node_link *nl)
{
    struct shim_pool_counts c;
    shim_pool_counts(nl->opts.pool, &c);
    dbx_jw_key(w, "capacity");
    dbx_jw_object(w);
    dbx_jw_ki64(w, "sandboxes", c.max_sandboxes);
    dbx_jw_ki64(w, "memory_mb", (int64_t)c.memory_mb);
    dbx_jw_ki64(w, "cpus", nl->opts.cpus);
    write_sizes(w, c.memory_mb);
    dbx_jw_object_end(w);
    dbx_jw_key(w, "templates");
    dbx_jw_object(w);
    for (size_t i = 0; i < c.n_templates; i++) {
        if (!c.templates[i].image)
            continue;
        dbx_jw_key(w, c.templates[i].name);
        dbx_jw_object(w);
        dbx_jw_ki64(w, "warm", c.templates[i].warm);
        dbx_jw_object_end(w);
    }
    dbx_jw_object_end(w);
    dbx_jw_key(w, "lanes");
    dbx_jw_array(w);
    shim_lanes_write(nl->execs, w);
    dbx_jw_array_end(w);
}

static const char *word_of(enum shim_exec_state st)
{
    if (st == SHIM_EX_SHIPPING || st == SHIM_EX_ENDED)
        return "ended";
    return st < SHIM_EX_COMPILING ? "starting" : "running";
}

static void write_process(struct shim_exec *ex, void *user)
{
    struct dbx_jw *w = user;
    dbx_jw_object(w);
    dbx_jw_kstr(w, "process_id", shim_exec_request(ex)->process_text);
    dbx_jw_ki64(w, "attempt", shim_exec_request(ex)->attempt);
    dbx_jw_kstr(w, "state", word_of(shim_exec_state(ex)));
    dbx_jw_object_end(w);
}

static void write_box(const char *id, void *user)
{
    dbx_jw_str(user, id);
}

static void fill_hello(struct dbx_jw *w, void *arg)
{
    const struct shim_node_link *nl = arg;
    dbx_jw_kstr(w, "node_id", nl->opts.node_id);
    dbx_jw_kstr(w, "url", nl->opts.url);
    dbx_jw_kstr(w, "version", DBX_VERSION);
    write_capacity(w, nl);
    dbx_jw_key(w, "processes");
    dbx_jw_array(w);
    shim_execs_each(nl->execs, write_process, w);
    dbx_jw_array_end(w);
    dbx_jw_key(w, "sandboxes");
    dbx_jw_array(w);
    shim_boxes_each(nl->execs, write_box, w);
    dbx_jw_array_end(w);
}

static void fill_state(struct dbx_jw *w, void *arg)
{
    const struct shim_node_link *nl = arg;
    write_capacity(w, nl);
    dbx_jw_ki64(w, "running", (int64_t)shim_execs_count(nl->execs));
}

static void send_state(void *user)
{
    struct shim_node_link *nl = DBX_CAST(struct shim_node_link, NODE_MAGIC, user);
    nl->change_due = false;
    if (nl->welcome)
        (void)dbx_link_send(nl->link, "state", fill_state, nl, NULL, 0); /* the next one will do */
}

void shim_node_link_changed(struct shim_node_link *nl)
{
    if (nl->change_due || !nl->welcome)
        return;
    nl->change_due = true;
    dbx_timer_start(nl->change, CHANGE_MS, 0);
}

/* ---- reports ---- */

struct asked {
    struct shim_node_link *nl;
    struct dbx_id process;
    int64_t attempt;
    bool end;
};

static void fill_target(struct dbx_jw *w, const struct shim_exec *ex)
{
    dbx_jw_kstr(w, "process_id", shim_exec_request(ex)->process_text);
    dbx_jw_ki64(w, "attempt", shim_exec_request(ex)->attempt);
}

static void fill_started(struct dbx_jw *w, void *arg)
{
    fill_target(w, arg);
    dbx_jw_ki64(w, "at_us", shim_exec_started_us(arg));
}

static void fill_ended(struct dbx_jw *w, void *arg)
{
    const struct shim_exec *ex = arg;
    const struct shim_exec_result *res = shim_exec_result(ex);
    struct dbx_json_doc *doc = NULL;
    size_t len;
    const char *json = shim_exec_end_json(ex, &len);
    fill_target(w, ex);
    dbx_jw_kstr(w, "status", dbx_verdict_status(res->verdict));
    dbx_jw_kstr(w, "verdict", dbx_verdict_name(res->verdict));
    dbx_jw_key(w, "outcome");
    if (len > 0 && dbx_json_parse(json, len, NULL, &doc, NULL) == 0)
        dbx_jw_node(w, dbx_json_root(doc));
    else
        dbx_jw_null(w);
    dbx_json_doc_free(doc);
    dbx_jw_kbool(w, "end_record", res->end_record);
    dbx_jw_ki64(w, "started_us", shim_exec_started_us(ex));
}

static void on_report_answer(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct asked *asked = user;
    struct shim_node_link *nl = asked->nl;
    (void)m;
    struct shim_exec *ex =
        err && err->code == -ECANCELED ? NULL : shim_execs_find(nl->execs, &asked->process);
    if (ex && shim_exec_request(ex)->attempt == asked->attempt) {
        struct shim_exec_report *rep = shim_exec_report(ex);
        *(asked->end ? &rep->ended_sent : &rep->started_sent) = false;
        if (!err || err->kind == DBX_NOT_FOUND || err->kind == DBX_CONFLICT) {
            /* Committed, or nothing that the scheduler will ever want to hear. */
            *(asked->end ? &rep->ended_acked : &rep->started_acked) = true;
            if (asked->end)
                shim_exec_reported(ex);
        } else {
            dbx_log(DBX_LOG_WARN, shim_exec_log(ex), "the scheduler did not take %s: %s",
                    asked->end ? "ended" : "started", err->msg);
            dbx_timer_start(nl->again, AGAIN_MS, 0);
        }
    }
    free(asked);
}

static void ask(struct shim_node_link *nl, struct shim_exec *ex, bool end)
{
    struct asked *asked = DBX_NEW(struct asked);
    *asked =
        (struct asked){nl, shim_exec_request(ex)->process, shim_exec_request(ex)->attempt, end};
    dbx_link_request(nl->link, end ? "ended" : "started", end ? fill_ended : fill_started, ex, NULL,
                     0, ANSWER_MS, on_report_answer, asked);
}

static void report(struct shim_exec *ex, void *user)
{
    struct shim_node_link *nl = user;
    struct shim_exec_report *rep = shim_exec_report(ex);
    if (!nl->welcome)
        return;
    if (shim_exec_started_us(ex) && !rep->started_acked && !rep->started_sent &&
        shim_exec_state(ex) != SHIM_EX_ENDED) {
        rep->started_sent = true;
        ask(nl, ex, false);
    }
    if (shim_exec_state(ex) == SHIM_EX_ENDED && !rep->ended_acked && !rep->ended_sent) {
        rep->ended_sent = true;
        ask(nl, ex, true);
    }
}

static void on_started_due(void *user)
{
    struct shim_node_link *nl = DBX_CAST(struct shim_node_link, NODE_MAGIC, user);
    nl->started_due = false;
    shim_execs_each(nl->execs, report, nl);
}

/* Nobody waits for it: who looks on is told by the log. It costs the scheduler a commit, on
 * processors that the program needs, and most have ended before that is through. */
void shim_node_link_started(struct shim_node_link *nl)
{
    if (nl->started_due)
        return;
    nl->started_due = true;
    dbx_timer_start(nl->started, STARTED_MS, 0);
}

void shim_node_link_ended(struct shim_node_link *nl, struct shim_exec *ex)
{
    report(ex, nl);
}

static void on_again(void *user)
{
    struct shim_node_link *nl = DBX_CAST(struct shim_node_link, NODE_MAGIC, user);
    shim_execs_each(nl->execs, report, nl);
}

/* ---- orders ---- */

static int take_epoch(struct shim_node_link *nl, int64_t epoch, struct dbx_err *err)
{
    if (epoch < nl->epoch)
        return dbx_err_set(err, -ESTALE, DBX_DENIED, "a leader of epoch %lld gives the orders",
                           (long long)nl->epoch);
    nl->epoch = epoch;
    return 0;
}

static int take_start(struct shim_node_link *nl, const struct dbx_link_msg *m, struct dbx_err *err)
{
    struct shim_request *rq;
    int r = shim_request_decode(m->header, m->blob, m->blob_len, &rq, err);
    if (r < 0)
        return r;
    r = take_epoch(nl, rq->epoch, err);
    if (r < 0) {
        shim_request_free(rq);
        return r;
    }
    return shim_execs_start(nl->execs, rq, err);
}

static int take_target(struct shim_node_link *nl, const struct dbx_link_msg *m, struct dbx_err *err)
{
    struct dbx_id process;
    int64_t attempt;
    int r = shim_request_target(m->header, &process, &attempt, err);
    if (r < 0)
        return r;
    struct shim_exec *ex = shim_execs_find(nl->execs, &process);
    if (!ex || shim_exec_request(ex)->attempt != attempt)
        return dbx_err_set(err, -ESRCH, DBX_NOT_FOUND, "it is not here");
    if (strcmp(m->op, "cancel") == 0)
        shim_exec_cancel(ex);
    else
        shim_exec_drop(ex);
    return 0;
}

static int take_end_sandbox(struct shim_node_link *nl, const struct dbx_link_msg *m,
                            struct dbx_err *err)
{
    struct dbx_id id;
    const char *text = dbx_json_get_str(m->header, "sandbox_id");
    if (!text || dbx_id_parse(text, &id) < 0)
        return dbx_err_field(err, "sandbox_id", "not an id");
    struct shim_box *box = shim_box_find(nl->execs, &id);
    if (!box)
        return dbx_err_set(err, -ESRCH, DBX_NOT_FOUND, "it is not here");
    shim_box_cancel(box);
    return 0;
}

static int take_prepare(struct shim_node_link *nl, const struct dbx_link_msg *m,
                        struct dbx_err *err)
{
    struct shim_box_order order;
    int r = shim_box_order_decode(m->header, &order, err);
    r = r ? r : take_epoch(nl, order.epoch, err);
    return r ? r : shim_box_order(nl->execs, &order, err);
}

/* Somebody watches these. Those that are not here are no error: they end while it is on its way. */
static int take_keep(struct shim_node_link *nl, const struct dbx_link_msg *m, struct dbx_err *err)
{
    const struct dbx_json *ids = dbx_json_get(m->header, "sandbox_ids");
    struct dbx_id id;
    if (dbx_json_type(ids) != DBX_JSON_ARRAY || dbx_json_count(ids) > MAX_KEEP)
        return dbx_err_field(err, "sandbox_ids", "not a list of at most %d", MAX_KEEP);
    for (size_t i = 0; i < dbx_json_count(ids); i++) {
        if (dbx_id_parse(dbx_json_str(dbx_json_at(ids, i), NULL), &id) < 0)
            return dbx_err_field(err, "sandbox_ids", "holds what is not an id");
        struct shim_box *box = shim_box_find(nl->execs, &id);
        if (box)
            shim_box_touch(box);
    }
    return 0;
}

/* Files of record have changed: of this sandbox, or (no id) perhaps of all. */
static int take_news(struct shim_node_link *nl, const struct dbx_link_msg *m, struct dbx_err *err)
{
    const char *text = dbx_json_get_str(m->header, "sandbox_id");
    struct dbx_id id;
    if (!text) {
        shim_boxes_pull(nl->execs);
        return 0;
    }
    if (dbx_id_parse(text, &id) < 0)
        return dbx_err_field(err, "sandbox_id", "not an id");
    struct shim_box *box = shim_box_find(nl->execs, &id);
    if (!box)
        return 0;
    if (strcmp(m->op, "record_files") == 0)
        return shim_box_record_files(box, m, err);
    shim_box_news(box, dbx_json_get_i64(m->header, "revision", INT64_MAX));
    return 0;
}

struct box_end {
    const char *sandbox_id, *why;
};

static void fill_box(struct dbx_jw *w, void *arg)
{
    const struct box_end *be = arg;
    dbx_jw_kstr(w, "sandbox_id", be->sandbox_id);
    dbx_jw_kstr(w, "reason", be->why);
}

bool shim_node_link_tell(struct shim_node_link *nl, const char *op, dbx_link_fill *fill, void *arg)
{
    return nl->welcome && dbx_link_send(nl->link, op, fill, arg, NULL, 0) == 0;
}

bool shim_node_link_files(struct shim_node_link *nl, dbx_link_fill *fill, void *arg,
                          const void *blob, size_t len, dbx_link_answer *fn, void *fn_user)
{
    if (nl->welcome)
        dbx_link_request(nl->link, "files", fill, arg, blob, len, ANSWER_MS, fn, fn_user);
    return nl->welcome;
}

/* Not heard: the next hello does not list it. */
void shim_node_link_box_ended(struct shim_node_link *nl, const char *sandbox_id, const char *why)
{
    struct box_end be = {.sandbox_id = sandbox_id, .why = why};
    if (nl->welcome)
        (void)dbx_link_send(nl->link, "sandbox_ended", fill_box, &be, NULL, 0);
}

static void on_msg(struct dbx_link *l, const struct dbx_link_msg *m, void *user)
{
    struct shim_node_link *nl = DBX_CAST(struct shim_node_link, NODE_MAGIC, user);
    struct dbx_err err = {0};
    int r;
    if (!nl->welcome)
        r = dbx_err_set(&err, -EPROTO, DBX_UNAVAIL, "hello is not answered yet");
    else if (strcmp(m->op, "start") == 0)
        r = take_start(nl, m, &err);
    else if (strcmp(m->op, "prepare") == 0)
        r = take_prepare(nl, m, &err);
    else if (strcmp(m->op, "cancel") == 0 || strcmp(m->op, "drop") == 0)
        r = take_target(nl, m, &err);
    else if (strcmp(m->op, "end_sandbox") == 0)
        r = take_end_sandbox(nl, m, &err);
    else if (strcmp(m->op, "files_changed") == 0 || strcmp(m->op, "record_files") == 0)
        r = take_news(nl, m, &err);
    else if (strcmp(m->op, "keep") == 0)
        r = take_keep(nl, m, &err);
    else
        r = dbx_err_set(&err, -ENOSYS, DBX_INVALID, "no such op");
    if (r < 0) /* a cancel that comes late is everyday */
        dbx_log(err.kind == DBX_NOT_FOUND ? DBX_LOG_DEBUG : DBX_LOG_WARN, nl->opts.log,
                "refused %.32s: %s", m->op, err.msg);
    if (m->rid > 0)
        (void)(r < 0 ? dbx_link_reply_error(l, m->rid, &err)
                     : dbx_link_reply(l, m->rid, NULL, NULL));
}

/* ---- the link ---- */

static void hello(struct shim_node_link *nl);

static void on_hello_again(void *user)
{
    struct shim_node_link *nl = DBX_CAST(struct shim_node_link, NODE_MAGIC, user);
    if (nl->welcome)
        on_again(nl);
    else if (dbx_link_is_up(nl->link))
        hello(nl);
}

static void on_welcome(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct shim_node_link *nl = DBX_CAST(struct shim_node_link, NODE_MAGIC, user);
    int64_t epoch = m ? dbx_json_get_i64(m->header, "epoch", -1) : -1;
    if (err || epoch < nl->epoch) {
        if (err && err->code == -ECANCELED)
            return;
        dbx_log(DBX_LOG_WARN, nl->opts.log, "the scheduler does not welcome this node: %s",
                err ? err->msg : "its epoch is past");
        dbx_timer_start(nl->again, AGAIN_MS, 0);
        return;
    }
    nl->epoch = epoch;
    nl->welcome = true;
    shim_boxes_pull(nl->execs); /* what was said meanwhile was not heard */
    shim_boxes_announce(nl->execs);
    int64_t ms = dbx_json_get_i64(m->header, "heartbeat_ms", HEARTBEAT_MS);
    nl->heartbeat_ms = ms >= 10 && ms <= 60000 ? (uint64_t)ms : HEARTBEAT_MS;
    dbx_timer_start(nl->heartbeat, nl->heartbeat_ms, nl->heartbeat_ms);
    dbx_log(DBX_LOG_INFO, nl->opts.log, "the scheduler of epoch %lld welcomes this node",
            (long long)epoch);
    shim_execs_each(nl->execs, report, nl);
}

static void hello(struct shim_node_link *nl)
{
    dbx_link_request(nl->link, "hello", fill_hello, nl, NULL, 0, ANSWER_MS, on_welcome, nl);
}

static void on_up(struct dbx_link *l, void *user)
{
    (void)l;
    hello(DBX_CAST(struct shim_node_link, NODE_MAGIC, user));
}

static void unsend(struct shim_exec *ex, void *user)
{
    (void)user;
    shim_exec_report(ex)->started_sent = shim_exec_report(ex)->ended_sent = false;
}

static void on_down(struct dbx_link *l, const char *reason, void *user)
{
    struct shim_node_link *nl = DBX_CAST(struct shim_node_link, NODE_MAGIC, user);
    (void)l;
    if (nl->welcome)
        dbx_log(DBX_LOG_WARN, nl->opts.log, "the scheduler is away: %s", reason);
    nl->welcome = false;
    dbx_timer_stop(nl->heartbeat);
    shim_execs_each(nl->execs, unsend, NULL);
}

struct shim_node_link *shim_node_link_new(const struct shim_node_link_opts *opts,
                                          struct shim_execs *execs)
{
    static const struct dbx_link_handlers handlers = {
        .on_up = on_up, .on_msg = on_msg, .on_down = on_down};
    struct shim_node_link *nl = DBX_NEW(struct shim_node_link);
    char label[65];
    nl->magic = NODE_MAGIC;
    nl->opts = *opts;
    nl->execs = execs;
    nl->heartbeat = dbx_timer_new(opts->loop, send_state, nl);
    nl->change = dbx_timer_new(opts->loop, send_state, nl);
    nl->again = dbx_timer_new(opts->loop, on_hello_again, nl);
    nl->started = dbx_timer_new(opts->loop, on_started_due, nl);
    snprintf(label, sizeof(label), "node:%s", opts->node_id);
    struct dbx_link_client_opts lo = {.loop = opts->loop,
                                      .url = opts->scheduler,
                                      .keys = opts->keys,
                                      .label = label,
                                      .ca_file = opts->ca_file};
    nl->link = dbx_link_connect(&lo, &handlers, nl);
    return nl;
}

struct shim_node_link *shim_node_link_free(struct shim_node_link *nl)
{
    if (!nl)
        return NULL;
    nl->welcome = false;
    dbx_link_free(nl->link);
    dbx_timer_free(nl->heartbeat);
    dbx_timer_free(nl->change);
    dbx_timer_free(nl->again);
    dbx_timer_free(nl->started);
    nl->magic = 0;
    free(nl);
    return NULL;
}

bool shim_node_link_is_up(const struct shim_node_link *nl)
{
    return nl->welcome;
}
