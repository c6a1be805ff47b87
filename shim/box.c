/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/box_int.h"

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/io/loop.h"
#include "shim/ledger.h"
#include "shim/record.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* What a program did in its last moment is heard of by then. */
#define SPARED_MS 2000

static void end_box(struct shim_box *box);

void shim_box__unref(struct shim_box *box)
{
    if (--box->refs)
        return;
    shim_box__sync_free(box);
    shim_box_forget_files(box);
    dbx_map_free(box->written);
    dbx_timer_free(box->idle);
    dbx_timer_free(box->max);
    dbx_timer_free(box->prepare);
    box->magic = 0;
    free(box);
}

/* ---- for the next shim ---- */

static struct shim_ledger *ledger_of(const struct shim_box *box)
{
    return box->execs->opts.ledger ? *box->execs->opts.ledger : NULL;
}

void shim_box__save(struct shim_box *box)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    if (!box->sb || box->ended || !ledger_of(box))
        return;
    const struct shim_box_record rec = {.instance = *shim_sandbox_id(box->sb),
                                        .idle_ms = box->idle_ms,
                                        .idle_at_ms = box->idle_at_ms,
                                        .max_at_ms = box->max_at_ms,
                                        .memory_mb = box->size->memory_mb,
                                        .closing = box->closing,
                                        .standby = box->standby};
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    int r = shim_box_record_encode(&rec, &buf);
    if (r == 0)
        r = shim_ledger_put(ledger_of(box), SHIM_LG_BOX, &box->id, buf.data, buf.len);
    if (r < 0)
        dbx_log(DBX_LOG_WARN, &box->log, "the next shim will not know it: %s", strerror(-r));
}

/* ---- who is in it ---- */

static struct shim_exec *member_of(struct shim_box *box, const struct dbx_id *process)
{
    struct shim_exec *ex = shim_execs_find(box->execs, process);
    return ex && ex->box == box ? ex : NULL;
}

static void kill_group(struct shim_box *box, const struct dbx_id *process)
{
    struct shim_init *init = box->sb ? shim_sandbox_init(box->sb) : NULL;
    if (init)
        (void)shim_init_signal(init, process, 0, SIGKILL, INIT_TO_GROUP, NULL, NULL);
}

static void enter(struct shim_exec *ex)
{
    struct shim_box *box = ex->box;
    struct shim_sandbox_usage u;
    ex->sb = box->sb;
    ex->claimed_us = dbx_wall_us();
    ex->claimed_ms = dbx_now_ms();
    ex->warm = ex->claimed_ms - ex->state_ms < 20;
    shim_sandbox_usage(box->sb, &u);
    ex->oom_mark = u.oom_kills;
    shim_sandbox_set_running(box->sb, true);
    shim_exec__set_state(ex, SHIM_EX_PREPARING);
    shim_exec__prepare(ex);
}

/* The first reason counts. */
static void because(struct shim_box *box, const char *why)
{
    if (!box->why)
        box->why = why;
}

static void nobody_left(struct shim_box *box)
{
    if (box->closing) {
        end_box(box);
        return;
    }
    if (box->sb)
        shim_sandbox_set_running(box->sb, false);
    if (!box->idle_at_ms)
        box->idle_at_ms = dbx_now_ms() + box->idle_ms;
    uint64_t now = dbx_now_ms();
    dbx_timer_start(box->idle, box->idle_at_ms > now ? box->idle_at_ms - now : 0, 0);
    shim_box__save(box);
}

void shim_box_leave(struct shim_exec *ex)
{
    struct shim_box *box = DBX_TAKE(ex->box);
    if (!box)
        return;
    ex->sb = NULL;
    dbx_list_remove(&ex->box_link);
    if (ex->run.began && !ex->run.exited)
        kill_group(box, &ex->rq->process);
    if (dbx_list_empty(&box->members) && !box->ended)
        nobody_left(box);
}

/* ---- what the sandbox says ---- */

static void on_started(struct shim_sandbox *sb, const struct shim_init_started *s, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct shim_exec *ex = member_of(box, &s->process);
    (void)sb;
    if (ex)
        shim_exec__on_started(ex, s);
    else if (s->error)
        (void)shim_init_ack(shim_sandbox_init(box->sb), &s->process, s->phase);
    else
        kill_group(box, &s->process); /* dropped while it was on its way */
}

static void on_exited(struct shim_sandbox *sb, const struct shim_init_exited *e, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct shim_exec *ex = member_of(box, &e->process);
    box->refs++;
    if (ex)
        shim_exec__on_exited(ex, e);
    struct shim_init *init = box->sb ? shim_sandbox_init(sb) : NULL;
    if (init) /* also of those that have left */
        (void)shim_init_ack(init, &e->process, e->phase);
    shim_box__unref(box);
}

static void on_saw(struct shim_sandbox *sb, const struct shim_init_saw *s, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct shim_exec *ex = member_of(box, &s->process);
    (void)sb;
    if (ex)
        shim_exec__on_saw(ex, s);
}

static void on_lost(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    (void)sb;
    box->refs++;
    box->closing = true;
    because(box, "lost");
    while (!dbx_list_empty(&box->members)) {
        struct shim_exec *ex = dbx_list_first(&box->members, struct shim_exec, box_link);
        shim_exec__sandbox_lost(ex, err);
        if (ex->box == box) /* never: it leaves when its sandbox is lost */
            shim_box_leave(ex);
    }
    end_box(box);
    shim_box__unref(box);
}

static const struct shim_sandbox_handlers sandbox_handlers = {
    .on_lost = on_lost, .on_started = on_started, .on_exited = on_exited, .on_saw = on_saw};

/* ---- beginning and end ---- */

static void tell_ended(struct shim_box *box)
{
    if (box->execs->opts.on_box_ended)
        box->execs->opts.on_box_ended(box->id_text, box->why ? box->why : "lost",
                                      box->execs->opts.user);
}

/* Nobody is in it, or whoever is has been told. */
static void end_box(struct shim_box *box)
{
    struct shim_sandbox *sb = DBX_TAKE(box->sb);
    if (box->ended)
        return;
    box->ended = box->closing = true;
    dbx_timer_stop(box->idle);
    dbx_timer_stop(box->max);
    dbx_timer_stop(box->prepare);
    (void)dbx_map_del(box->execs->boxes, box->id.b, sizeof(box->id.b));
    shim_ledger_del(ledger_of(box), SHIM_LG_BOX, &box->id);
    shim_ledger_del(ledger_of(box), SHIM_LG_FILES, &box->id);
    if (box->claim)
        shim_claim_cancel(DBX_TAKE(box->claim));
    shim_box__sync_end(box);
    if (sb) {
        shim_sandbox_set_owner(sb, NULL, NULL);
        shim_sandbox_end(sb);
    }
    dbx_log(DBX_LOG_INFO, &box->log, "the workspace's sandbox ended: %s",
            box->why ? box->why : "lost");
    tell_ended(box);
    shim_box__unref(box);
}

static void finish_all(struct shim_box *box, const char *reason, const char *why)
{
    box->refs++;
    box->closing = true;
    because(box, reason);
    while (!dbx_list_empty(&box->members)) {
        struct shim_exec *ex = dbx_list_first(&box->members, struct shim_exec, box_link);
        shim_exec__finish(ex, why);
        if (ex->box == box)
            shim_box_leave(ex);
    }
    end_box(box);
    shim_box__unref(box);
}

static void on_claimed(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct dbx_list *it, *tmp;
    struct dbx_err why = {0};
    box->claim = NULL;
    if (box->ended) {
        if (sb)
            shim_sandbox_end(sb);
        shim_box__unref(box);
        return;
    }
    if (sb && shim_sandbox_set_limits(sb, box->size->memory_mb, box->size->processes, &why) < 0) {
        shim_sandbox_set_owner(sb, NULL, NULL);
        shim_sandbox_end(sb);
        sb = NULL;
        err = &why;
    }
    if (!sb) {
        dbx_log(DBX_LOG_WARN, &box->log, "no sandbox: %s", err->msg);
        finish_all(box, "failed", err->msg);
        shim_box__unref(box);
        return;
    }
    box->sb = sb;
    shim_sandbox_set_owner(sb, &sandbox_handlers, box);
    shim_sandbox_open_registry(sb);
    shim_sandbox_set_running(sb, true);
    shim_box__save(box);
    shim_box__sync_begin(box, /* again= */ false);
    dbx_log(DBX_LOG_INFO, &box->log, "the workspace's sandbox is %s", shim_sandbox_id_text(sb));
    dbx_list_each(it, tmp, &box->members)
    {
        struct shim_exec *ex = dbx_list_entry(it, struct shim_exec, box_link);
        if (ex->state == SHIM_EX_CLAIMING && box->sb)
            enter(ex);
    }
    if (dbx_list_empty(&box->members) && !box->ended)
        nobody_left(box);
    if (!box->ended)
        shim_box__prepare(box);
    shim_box__unref(box);
}

static void on_idle(void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    if (!dbx_list_empty(&box->members))
        return;
    because(box, "idle");
    end_box(box);
}

/* Of one who is there: the process is killed, of one on its way: it ends now. */
static void end_member(struct shim_exec *ex)
{
    if (ex->now && !ex->now->ended) {
        ex->now->ending.wall_over = true;
        shim_exec__kill(ex);
    } else {
        shim_exec__finish(ex, "the sandbox is as old as one may be");
    }
}

static void on_max(void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct dbx_list *it, *tmp;
    dbx_log(DBX_LOG_INFO, &box->log, "the workspace's sandbox is as old as one may be");
    box->refs++;
    box->closing = true;
    because(box, "max_age");
    shim_box__save(box);
    dbx_list_each(it, tmp, &box->members)
        end_member(dbx_list_entry(it, struct shim_exec, box_link));
    if (dbx_list_empty(&box->members))
        end_box(box);
    shim_box__unref(box);
}

static struct shim_box *box_new(struct shim_execs *execs, const struct dbx_id *id,
                                const struct dbx_size *size, uint64_t max_at_ms)
{
    struct shim_box *box = DBX_NEW(struct shim_box);
    uint64_t now = dbx_now_ms();
    box->magic = SHIM_BOX_MAGIC;
    box->refs = 1; /* the table */
    box->execs = execs;
    box->size = size;
    box->id = *id;
    box->revision = box->layer_revision = -1;
    box->written = dbx_map_new();
    dbx_id_format(&box->id, box->id_text);
    dbx_log_ctx_init(&box->log, execs->opts.log, "sandbox", box->id_text);
    dbx_list_init(&box->members);
    box->idle = dbx_timer_new(execs->opts.loop, on_idle, box);
    box->max = dbx_timer_new(execs->opts.loop, on_max, box);
    box->prepare = dbx_timer_new(execs->opts.loop, shim_box__on_prepare, box);
    (void)dbx_map_put(execs->boxes, box->id.b, sizeof(box->id.b), box);
    box->max_at_ms = max_at_ms;
    dbx_timer_start(box->max, max_at_ms > now ? max_at_ms - now : 0, 0);
    return box;
}

struct shim_box *shim_box__claim(struct shim_execs *execs, const struct dbx_id *id,
                                 const char *template, const struct dbx_size *size, int64_t max_ms,
                                 bool ahead)
{
    struct shim_box *box = box_new(execs, id, size, dbx_now_ms() + (uint64_t)max_ms);
    const struct shim_claim_opts opts = {.template = template,
                                         .disk_mb = size->disk_mb,
                                         .memory_mb = size->memory_mb,
                                         .processes = size->processes,
                                         .cpu_millis = size->cpu_millis,
                                         .workspace = true,
                                         .ahead = ahead,
                                         .wait_ms = SHIM_EXEC_CLAIM_MS};
    box->refs++; /* until it is answered */
    box->claim = shim_pool_claim(execs->opts.pool, &opts, on_claimed, box);
    return box;
}

void shim_box_join(struct shim_exec *ex)
{
    const struct shim_request *rq = ex->rq;
    struct shim_box *box = shim_box_find(ex->execs, &rq->sandbox);
    if (!box)
        box = shim_box__claim(ex->execs, &rq->sandbox, rq->template, rq->size, rq->max_ms,
                              /* ahead= */ false);
    else if (box->claim)
        shim_claim_wanted(box->claim);
    dbx_assert(!box->closing);
    ex->box = box;
    dbx_list_push(&box->members, &ex->box_link);
    box->idle_ms = (uint64_t)rq->idle_ms;
    box->idle_at_ms = 0;
    box->used = true;
    dbx_timer_stop(box->idle);
    shim_box__save(box);
    shim_exec__set_state(ex, SHIM_EX_CLAIMING);
    if (box->sb)
        enter(ex);
}

/* An earlier version's has no memory_mb: it knew one size. */
static const struct dbx_size *size_of(const struct shim_box_record *rec)
{
    for (size_t i = 0; i < dbx_sizes_len; i++)
        if (dbx_sizes[i].memory_mb == rec->memory_mb)
            return &dbx_sizes[i];
    return &dbx_sizes[0];
}

struct shim_box *shim_box_adopt(struct shim_execs *execs, const struct dbx_id *id,
                                const struct shim_box_record *rec, struct shim_sandbox *sb)
{
    struct shim_box *box = box_new(execs, id, size_of(rec), rec->max_at_ms);
    box->idle_ms = rec->idle_ms;
    box->idle_at_ms = rec->idle_at_ms;
    box->closing = rec->closing;
    box->standby = rec->standby;
    box->used = true;
    box->sb = sb;
    shim_sandbox_set_owner(sb, &sandbox_handlers, box);
    shim_sandbox_open_registry(sb);
    shim_box__sync_begin(box, shim_box__load_files(box));
    shim_box__prepare(box);
    dbx_log(DBX_LOG_INFO, &box->log, "the workspace's sandbox %s is adopted",
            shim_sandbox_id_text(sb));
    return box;
}

void shim_box_rejoin(struct shim_exec *ex)
{
    struct shim_box *box = shim_box_find(ex->execs, &ex->rq->sandbox);
    if (!box || !box->sb)
        return;
    ex->box = box;
    ex->sb = box->sb;
    dbx_list_push(&box->members, &ex->box_link);
}

void shim_box_settle(struct shim_box *box)
{
    if (dbx_list_empty(&box->members) && !box->ended)
        nobody_left(box);
}

struct shim_box *shim_box_find(struct shim_execs *execs, const struct dbx_id *sandbox)
{
    return dbx_map_get(execs->boxes, sandbox->b, sizeof(sandbox->b));
}

void shim_box_touch(struct shim_box *box)
{
    if (!box->idle_at_ms || box->closing || box->ended)
        return;
    box->idle_at_ms = dbx_now_ms() + box->idle_ms;
    dbx_timer_start(box->idle, box->idle_ms, 0);
    shim_box__save(box);
}

bool shim_box_closing(const struct shim_box *box)
{
    return box->closing;
}

void shim_box_cancel(struct shim_box *box)
{
    struct dbx_list *it, *tmp;
    box->refs++;
    box->closing = true;
    because(box, "requested");
    shim_box__save(box);
    dbx_list_each(it, tmp, &box->members)
        shim_exec_cancel(dbx_list_entry(it, struct shim_exec, box_link));
    if (dbx_list_empty(&box->members))
        end_box(box);
    shim_box__unref(box);
}

static bool may_be_spared(const struct shim_box *box)
{
    return box->sb && !box->closing && box->idle_at_ms && dbx_list_empty(&box->members) &&
           (!box->standby || box->ready) && shim_box__sync_rests(box) &&
           (!box->used || box->idle_at_ms - box->idle_ms + SPARED_MS <= dbx_now_ms());
}

/* What nobody has used holds nothing that the record has not. */
static bool is_missed_less(const struct shim_box *a, const struct shim_box *b)
{
    if (a->used != b->used)
        return !a->used;
    return a->idle_at_ms - a->idle_ms < b->idle_at_ms - b->idle_ms;
}

struct shim_sandbox *shim_boxes_spare(struct shim_execs *execs)
{
    struct dbx_map_iter it = {0};
    struct shim_box *best = NULL;
    while (dbx_map_next(execs->boxes, &it)) {
        struct shim_box *box = it.value;
        if (may_be_spared(box) && (!best || is_missed_less(box, best)))
            best = box;
    }
    if (!best)
        return NULL;
    struct shim_sandbox *sb = best->sb;
    because(best, "evicted");
    end_box(best);
    return sb;
}

void shim_box_give_up(struct shim_box *box)
{
    struct dbx_err err = {0};
    if (box->ended || !box->sb)
        return;
    dbx_err_set(&err, -ETIMEDOUT, DBX_TIMEOUT, "a process in it did not end");
    shim_sandbox_end(box->sb);
    on_lost(box->sb, &err, box);
}

void shim_boxes_end(struct shim_execs *execs)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(execs->boxes, &it))
        finish_all(it.value, "drained", "the node ends it");
}

void shim_boxes_each(struct shim_execs *execs, void (*fn)(const char *id, void *user), void *user)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(execs->boxes, &it))
        fn(((struct shim_box *)it.value)->id_text, user);
}
