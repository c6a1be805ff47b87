/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/flow.h"

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/io/loop.h"
#include "common/proto/files.h"
#include "common/proto/link.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define START_TIMEOUT_MS 5000
#define CANCEL_TIMEOUT_MS 5000
#define MAX_ASKS 3
#define MAX_FAULTS 3 /* refusals for which nobody can say that another time will do */
#define HOLD_MS 100

/* A question to a node or the database, which the process, its attempt or the reign may not
 * outlive. */
struct ask {
    struct sched *s;
    uint64_t reign, number, conn;
    struct dbx_id id;
    uint32_t attempt;
};

static struct ask *ask_new(struct sched *s, const struct sched_proc *sp)
{
    struct ask *a = DBX_NEW(struct ask);

    a->s = s;
    a->reign = s->reign;
    a->number = ++s->last_ask;
    a->id = sp->id;
    a->attempt = sp->attempt;
    return a;
}

/* The process that was asked for, if it is still at that attempt. */
static struct sched_proc *ask_proc(const struct ask *a)
{
    struct sched *s = a->s;
    struct sched_proc *sp =
        s->leading && s->reign == a->reign ? sched_core_find(s->core, &a->id) : NULL;

    return sp && sp->attempt == a->attempt ? sp : NULL;
}

static void log_proc(enum dbx_log_level level, const struct sched_proc *sp, const char *what,
                     const char *why)
{
    char id[DBX_ID_TEXT];

    dbx_id_format(&sp->id, id);
    dbx_log(level, NULL, "process %s, node %s, attempt %u: %s: %s", id,
            sp->node ? sp->node->id : "-", sp->attempt, what, why);
}

/* ---- placing ---- */

void sched_pump(struct sched *s)
{
    struct sched_proc *sp;

    if (!s->leading)
        return;
    while ((sp = sched_core_assign(s->core, dbx_now_ms()))) {
        struct sched_entry *e = DBX_NEW(struct sched_entry);
        e->id = sp->id;
        e->attempt = sp->attempt;
        (void)dbx_strcpy(e->node, sizeof(e->node), sp->node->id);
        sched_store_put(s->store, SCHED_B_PLACE, e);
    }
}

static void on_pump(void *user)
{
    struct sched *s = user;

    s->pump_due = false;
    sched_pump(s);
}

void sched_pump_soon(struct sched *s)
{
    if (s->pump_due || !s->leading || sched_core_queued(s->core) == 0)
        return;
    s->pump_due = true;
    dbx_loop_defer(s->loop, on_pump, s);
}

void sched_on_placed(struct sched *s, const struct sched_entry *e)
{
    struct sched_proc *sp = sched_core_find(s->core, &e->id);

    if (!sp || sp->state != SCHED_PLACING || sp->attempt != e->attempt)
        return;
    if (!e->hit) { /* ended meanwhile, or its owner was deleted: nothing is left to do */
        if (sp->batch)
            sched_batches_feed(s);
        sched_core_remove(s->core, sp);
        sched_pump_soon(s);
        return;
    }
    if (sp->cancel) {
        sched_end(s, sp, DBX_V_CANCELLED, NULL, /* ran= */ false, NULL);
        return;
    }
    if (sp->node->deadline == 0) { /* lost while the commit was under way: it was never told */
        sched_core_requeue(s->core, sp, 0, /* refused= */ true);
        sched_pump_soon(s);
        return;
    }
    dbx_metric_add(s->metrics.placed, 1);
    if (sp->accepted_us > 0 && sp->attempt == 1)
        dbx_metric_observe(s->metrics.wait, (double)(dbx_wall_us() - sp->accepted_us) / 1e6);
    sched_proc_set_state(s->core, sp, SCHED_STARTING);
    sched_start(s, sp);
}

/* ---- starting ---- */

static void fill_ref(struct dbx_jw *w, void *arg)
{
    const struct ask *a = arg;
    char id[DBX_ID_TEXT];

    dbx_id_format(&a->id, id);
    dbx_jw_kstr(w, "process_id", id);
    dbx_jw_ki64(w, "attempt", a->attempt);
}

struct start_args {
    const struct ask *ask;
    const struct sched_proc *sp;
    const struct dbx_json *request;
};

static void fill_start(struct dbx_jw *w, void *arg)
{
    const struct start_args *args = arg;
    const struct sched_proc *sp = args->sp;
    char sandbox[DBX_ID_TEXT], owner[DBX_ID_TEXT];

    dbx_id_format(&sp->sandbox, sandbox);
    dbx_id_format(&sp->owner, owner);
    fill_ref(w, (void *)args->ask);
    dbx_jw_ki64(w, "epoch", args->ask->s->epoch);
    dbx_jw_kstr(w, "sandbox_id", sandbox);
    dbx_jw_kstr(w, "owner", owner);
    dbx_jw_kstr(w, "trace", sp->trace);
    dbx_jw_ki64(w, "accepted_us", sp->accepted_us);
    dbx_jw_ki64(w, "files_len", (int64_t)sp->files_len);
    if (sp->batch) {
        char batch[DBX_ID_TEXT];
        dbx_id_format(&sp->batch->id, batch);
        dbx_jw_key(w, "batch");
        dbx_jw_object(w);
        dbx_jw_kstr(w, "id", batch);
        dbx_jw_kbool(w, "shares", sp->batch->shares);
        dbx_jw_object_end(w);
    }
    dbx_jw_key(w, "request");
    dbx_jw_node(w, args->request);
}

static void refuse(struct sched *s, struct sched_proc *sp, const char *why)
{
    uint64_t now = dbx_now_ms();

    log_proc(DBX_LOG_INFO, sp, "refused, will be placed again", why);
    dbx_metric_add(s->metrics.refused, 1);
    sp->node->hold_until = now + HOLD_MS;
    if (sp->cancel)
        sched_end(s, sp, DBX_V_CANCELLED, NULL, /* ran= */ false, NULL);
    else
        sched_core_requeue(s->core, sp, sp->refusals > 0 ? now + sched_proc_backoff(sp) : 0,
                           /* refused= */ true); /* the first time another node may do */
    sched_pump_soon(s);
}

static void fault(struct sched *s, struct sched_proc *sp, const char *why)
{
    log_proc(DBX_LOG_ERR, sp, "cannot be started", why);
    sched_end(s, sp, DBX_V_INTERNAL, NULL, /* ran= */ false, NULL);
}

/* What a node's (or our own link's) error means for a `start`. */
static void start_failed(struct sched *s, struct sched_proc *sp, const struct ask *a,
                         const struct dbx_err *err)
{
    struct sched_conn *cn = sched_conn_find(s, a->conn);
    bool remote = err->code == -EREMOTEIO;

    if (!remote &&
        err->kind == DBX_TIMEOUT) { /* it may have it: the same again, or a new hello, will tell */
        if (sp->asks < MAX_ASKS)
            sched_start(s, sp);
        else if (cn)
            dbx_link_drop(cn->link, "does not answer");
    } else if (!remote && err->kind == DBX_UNAVAIL) {
        log_proc(DBX_LOG_DEBUG, sp, "waits for the node's hello", err->msg);
    } else if (err->kind == DBX_LIMIT || err->kind == DBX_UNAVAIL || err->kind == DBX_CONFLICT ||
               err->kind == DBX_DENIED) { /* denied: it follows a later leader; our next commit will
                                             say so */
        refuse(s, sp, err->msg);
    } else if (remote && err->kind == DBX_INTERNAL && sp->refusals < MAX_FAULTS) {
        refuse(s, sp, err->msg);
    } else {
        fault(s, sp, err->msg);
    }
}

static void on_start_answer(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct ask *a = user;
    struct sched_proc *sp = ask_proc(a);

    (void)m;
    if (sp && sp->start_ask == a->number) {
        sp->start_ask = 0;
        if (!err) {
            sp->accepted = true;
            if (sp->workspace)
                sched_core_box_live(a->s->core, &sp->sandbox, sp->node);
            sched_proc_drop_blob(a->s->core, sp);
            if (sp->cancel)
                sched_send_cancel(a->s, sp);
        } else if (sp->state == SCHED_STARTING) {
            start_failed(a->s, sp, a, err);
        }
    }
    free(a);
}

static void send_start(struct sched *s, struct sched_proc *sp, struct sched_conn *cn)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_err err = {0};

    if (dbx_json_parse(sp->request, strlen(sp->request), NULL, &doc, &err) < 0) {
        fault(s, sp, err.msg);
        return;
    }
    struct ask *a = ask_new(s, sp);
    a->conn = cn->id;
    sp->start_ask = a->number;
    sp->asks++;
    struct start_args args = {.ask = a, .sp = sp, .request = dbx_json_root(doc)};
    dbx_link_request(cn->link, "start", fill_start, &args, sp->blob, sp->blob_len, START_TIMEOUT_MS,
                     on_start_answer, a);
}

/* Files and stdin, one behind the other, as a link carries them. */
static bool take_input(struct sched *s, struct sched_proc *sp, const struct dbx_pg_result *res)
{
    size_t files_len = 0, stdin_len = 0, shared_len = 0;
    DBX_CLEANUP(dbx_freep) uint8_t *files = NULL;
    DBX_CLEANUP(dbx_freep) uint8_t *input = NULL;
    DBX_CLEANUP(dbx_freep) uint8_t *shared = NULL;

    if (dbx_pg_rows(res) != 1)
        return false;
    files = dbx_pg_bytes(res, 0, "files", &files_len);
    input = dbx_pg_bytes(res, 0, "stdin", &stdin_len);
    shared = dbx_pg_bytes(res, 0, "shared", &shared_len);
    if (!files || !input)
        return false;
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf blob;
    dbx_buf_init(&blob, DBX_MAX_LINK_MSG);
    const struct sched_batch *b = sp->batch;
    bool kept = b && b->has_shared;
    if (dbx_buf_append(&blob, kept ? b->shared : shared, kept ? b->shared_len : shared_len) < 0 ||
        dbx_files_join(&blob, files, files_len) < 0)
        return false;
    if (b && shared)
        sched_core_batch_keep(s->core, sp->batch, &shared, shared_len);
    files_len = blob.len;
    if (dbx_buf_append(&blob, input, stdin_len) < 0)
        return false;
    size_t len = blob.len;
    sched_proc_set_blob(s->core, sp, dbx_buf_take(&blob), len, files_len);
    return true;
}

static void on_input(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct ask *a = user;
    struct sched *s = a->s;
    struct sched_proc *sp = ask_proc(a);

    if (sp && sp->state == SCHED_STARTING && sp->start_ask == a->number) {
        sp->start_ask = 0;
        if (err && err->kind != DBX_INTERNAL)
            refuse(s, sp, err->msg);
        else if (err || (!sp->blob && !take_input(s, sp, res)))
            fault(s, sp, err ? err->msg : "its input is not in the database");
        else
            sched_start(s, sp);
    }
    free(a);
}

static void read_input(struct sched *s, struct sched_proc *sp)
{
    struct ask *a = ask_new(s, sp);
    char id[DBX_ID_TEXT], batch[DBX_ID_TEXT];
    bool whole = sp->batch && !sp->batch->has_shared;
    struct dbx_pg_param params[] = {DBX_PG_TEXT(id), DBX_PG_TEXT(whole ? batch : NULL)};

    dbx_id_format(&sp->id, id);
    if (whole)
        dbx_id_format(&sp->batch->id, batch);
    sp->start_ask = a->number;
    dbx_pg_query(s->pg, "input", params, 2, on_input, a);
}

void sched_start(struct sched *s, struct sched_proc *sp)
{
    struct sched_conn *cn = sp->node->online ? sched_conn_find(s, sp->node->conn) : NULL;

    if (!cn || !dbx_link_is_up(cn->link))
        return; /* its hello, or the end of its lease, decides */
    if (sp->blob)
        send_start(s, sp, cn);
    else
        read_input(s, sp);
}

/* ---- started ---- */

void sched_started(struct sched *s, struct sched_proc *sp, int64_t at_us,
                   const struct sched_target *t)
{
    struct sched_entry *e = sched_store_find(s->store, SCHED_B_STARTED, &sp->id);

    if (sp->state == SCHED_STARTING) {
        sched_proc_set_state(s->core, sp, SCHED_RUNNING);
        sp->accepted = true;
        sched_proc_drop_blob(s->core, sp);
        if (sp->cancel)
            sched_send_cancel(s, sp);
        if (!e) {
            e = DBX_NEW(struct sched_entry);
            e->id = sp->id;
            e->attempt = sp->attempt;
            e->at_us = at_us;
            sched_entry_target(e, t);
            sched_store_put(s->store, SCHED_B_STARTED, e);
            return;
        }
    }
    if (e)
        sched_entry_target(e, t);
    else
        sched_reply_ok(s, t);
}

static void fill_started(struct dbx_jw *w, void *arg)
{
    const struct sched_proc *sp = arg;
    char id[DBX_ID_TEXT], sandbox[DBX_ID_TEXT];

    dbx_id_format(&sp->id, id);
    dbx_id_format(&sp->sandbox, sandbox);
    dbx_jw_kstr(w, "process_id", id);
    dbx_jw_kstr(w, "sandbox_id", sandbox);
    dbx_jw_kstr(w, "node_id", sp->node->id);
    dbx_jw_kstr(w, "url", sp->node->url);
}

void sched_on_started(struct sched *s, const struct sched_entry *e)
{
    struct sched_proc *sp = sched_core_find(s->core, &e->id);

    for (size_t i = 0; i < e->ntargets; i++)
        sched_reply_ok(s, &e->targets[i]);
    if (sp && e->hit && sp->state == SCHED_RUNNING && sp->attempt == e->attempt)
        sched_tell_gateways(s, "started", fill_started, sp);
}

/* ---- the end ---- */

void sched_end(struct sched *s, struct sched_proc *sp, enum dbx_verdict v, char *outcome, bool ran,
               const struct sched_target *t)
{
    struct sched_entry *e = sched_store_find(s->store, SCHED_B_ENDED, &sp->id);

    if (sp->state == SCHED_ENDING) { /* said twice: answered with the first */
        free(outcome);
        if (e)
            sched_entry_target(e, t);
        return;
    }
    dbx_assert(!e);
    sched_proc_set_state(s->core, sp, SCHED_ENDING);
    sched_proc_drop_blob(s->core, sp);
    e = DBX_NEW(struct sched_entry);
    e->id = sp->id;
    e->verdict = v;
    e->outcome = outcome;
    e->ran = ran;
    e->at_us = sp->started_us;
    sched_entry_target(e, t);
    sched_store_put(s->store, SCHED_B_ENDED, e);
}

struct ended_args {
    const struct sched_entry *e;
    const struct sched_proc *sp;
    const struct dbx_json *outcome;
};

static void fill_ended(struct dbx_jw *w, void *arg)
{
    const struct ended_args *args = arg;
    char id[DBX_ID_TEXT], sandbox[DBX_ID_TEXT];

    dbx_id_format(&args->sp->id, id);
    dbx_id_format(&args->sp->sandbox, sandbox);
    dbx_jw_kstr(w, "process_id", id);
    dbx_jw_kstr(w, "sandbox_id", sandbox);
    dbx_jw_kstr(w, "status", dbx_verdict_status(args->e->verdict));
    dbx_jw_kstr(w, "verdict", dbx_verdict_name(args->e->verdict));
    if (args->sp->batch) {
        dbx_id_format(&args->sp->batch->id, id);
        dbx_jw_kstr(w, "batch_id", id);
    }
    dbx_jw_key(w, "outcome");
    if (args->outcome)
        dbx_jw_node(w, args->outcome);
    else
        dbx_jw_null(w);
}

static void tell_ended(struct sched *s, const struct sched_entry *e, const struct sched_proc *sp)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct ended_args args = {.e = e, .sp = sp};

    if (e->outcome && dbx_json_parse(e->outcome, strlen(e->outcome), NULL, &doc, NULL) == 0)
        args.outcome = dbx_json_root(doc);
    sched_tell_gateways(s, "ended", fill_ended, &args);
    dbx_metric_add(s->metrics.ended[e->verdict], 1);
}

void sched_on_ended(struct sched *s, const struct sched_entry *e)
{
    struct sched_proc *sp = sched_core_find(s->core, &e->id);

    for (size_t i = 0; i < e->ntargets; i++)
        sched_reply_ok(s, &e->targets[i]);
    if (!sp || sp->state != SCHED_ENDING)
        return;
    if (e->hit)
        tell_ended(s, e, sp);
    if (sp->batch)
        sched_batches_feed(s);
    sched_core_remove(s->core, sp);
    sched_pump_soon(s);
}

void sched_lost(struct sched *s, struct sched_proc *sp)
{
    switch (sched_proc_fate(sp)) {
    case SCHED_AGAIN:
        log_proc(DBX_LOG_WARN, sp, "lost", "will be run again");
        dbx_metric_add(s->metrics.retried, 1);
        sched_core_requeue(s->core, sp, 0, /* refused= */ false);
        sched_pump_soon(s);
        break;
    case SCHED_END_LOST:
        log_proc(DBX_LOG_WARN, sp, "lost", "ends in NODE_LOST");
        dbx_metric_add(s->metrics.lost, 1);
        sched_end(s, sp, DBX_V_NODE_LOST, NULL, /* ran= */ false, NULL);
        break;
    case SCHED_END_CANCELLED:
        sched_end(s, sp, DBX_V_CANCELLED, NULL, /* ran= */ false, NULL);
        break;
    }
}

/* ---- cancelling ---- */

static void on_cancel_answer(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct ask *a = user;
    struct sched_proc *sp = ask_proc(a);

    (void)m;
    if (sp && err && err->code != -EREMOTEIO && err->kind == DBX_TIMEOUT &&
        sp->state != SCHED_ENDING)
        sched_send_cancel(a->s, sp);
    free(a);
}

void sched_send_cancel(struct sched *s, struct sched_proc *sp)
{
    struct sched_conn *cn =
        sp->node && sp->node->online ? sched_conn_find(s, sp->node->conn) : NULL;

    if (!cn || !dbx_link_is_up(cn->link))
        return; /* said again at its hello; if it does not come, the lease ends it */
    struct ask *a = ask_new(s, sp);
    a->conn = cn->id;
    dbx_link_request(cn->link, "cancel", fill_ref, a, NULL, 0, CANCEL_TIMEOUT_MS, on_cancel_answer,
                     a);
}

void sched_cancel(struct sched *s, struct sched_proc *sp)
{
    bool first = !sp->cancel;

    sp->cancel = true;
    if (sp->state == SCHED_QUEUED)
        sched_end(s, sp, DBX_V_CANCELLED, NULL, /* ran= */ false, NULL);
    else if (first && (sp->accepted || sp->state == SCHED_RUNNING))
        sched_send_cancel(s, sp);
    /* PLACING: when the commit is there. STARTING: when the node has answered. ENDING: too late. */
}
