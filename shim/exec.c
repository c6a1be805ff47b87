/* SPDX-License-Identifier: Apache-2.0 */
/* The life of an execution: order, claim, files, and the one setter of its state. What happens in
 * the sandbox is exec_phase.c, how it is told is exec_end.c.
 *
 * Who holds whom: the table of executions holds one reference, and so does everything that will
 * call back later (a claim, a request to init, bytes in flight). So an execution that is dropped
 * at any moment is freed when the last of these has come home. */
#include "shim/exec_int.h"

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/io/loop.h"
#include "shim/launch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Files of so much are written in no time, and START does not wait for that. */
#define AHEAD_MAX (1u << 20)

/* ---- states ---- */

void shim_exec__arm(struct shim_exec *ex, uint64_t ms)
{
    if (ms)
        dbx_timer_start(ex->deadline, ms, 0);
    else
        dbx_timer_stop(ex->deadline);
}

void shim_exec__set_state(struct shim_exec *ex, enum shim_exec_state st)
{
    uint64_t now = dbx_now_ms();
    dbx_assert(shim_exec_may(ex->state, st));
    dbx_log(DBX_LOG_DEBUG, &ex->log_trace, "%s -> %s after %llu ms",
            shim_exec_state_name(ex->state), shim_exec_state_name(st),
            (unsigned long long)(now - ex->state_ms));
    ex->state = st;
    ex->state_ms = now;
    ex->deadlines = 0;
    shim_exec__arm(ex, shim_exec_deadline_ms(st));
    if (st == SHIM_EX_ENDED) {
        ex->execs->live--;
        ex->execs->opts.on_change(ex->execs->opts.user);
    }
}

/* ---- memory ---- */

void shim_exec__unref(struct shim_exec *ex)
{
    if (--ex->refs)
        return;
    ex->magic = 0;
    shim_request_free(ex->rq);
    if (ex->has_plan)
        bnd_plan_done(&ex->plan);
    dbx_buf_done(&ex->block);
    dbx_buf_done(&ex->end);
    bnd_deps_done(&ex->layer);
    for (size_t i = 0; ex->kept_argv && ex->kept_argv[i]; i++)
        free(ex->kept_argv[i]);
    free(ex->kept_argv);
    dbx_timer_free(ex->deadline);
    dbx_timer_free(ex->watch);
    free(ex);
}

static void forget(struct shim_exec *ex)
{
    struct shim_execs *execs = ex->execs;
    if (ex->forgotten)
        return;
    ex->forgotten = true;
    shim_exec__erase(ex);
    execs->recent[execs->recent_at++ % SHIM_EXECS_RECENT] =
        (struct shim_exec_recent){ex->rq->process, ex->rq->attempt};
    if (dbx_map_get(execs->by_process, ex->rq->process.b, 16) == ex)
        (void)dbx_map_del(execs->by_process, ex->rq->process.b, 16);
    dbx_list_remove(&ex->link);
    shim_exec__unref(ex);
}

/* ---- claim and files ---- */

static void on_process_started(struct shim_sandbox *sb, const struct shim_init_started *s,
                               void *user)
{
    (void)sb;
    shim_exec__on_started(DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user), s);
}

static void on_process_exited(struct shim_sandbox *sb, const struct shim_init_exited *e, void *user)
{
    (void)sb;
    shim_exec__on_exited(DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user), e);
}

static void on_process_saw(struct shim_sandbox *sb, const struct shim_init_saw *s, void *user)
{
    (void)sb;
    shim_exec__on_saw(DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user), s);
}

static void on_sandbox_lost(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    (void)sb;
    shim_exec__sandbox_lost(DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user), err);
}

static const struct shim_sandbox_handlers sandbox_handlers = {.on_lost = on_sandbox_lost,
                                                              .on_started = on_process_started,
                                                              .on_exited = on_process_exited,
                                                              .on_saw = on_process_saw};

void shim_exec__own_sandbox(struct shim_exec *ex, struct shim_sandbox *sb)
{
    ex->sb = sb;
    shim_sandbox_set_owner(sb, &sandbox_handlers, ex);
}

void shim_exec__leave_sandbox(struct shim_exec *ex)
{
    if (ex->box) {
        shim_box_leave(ex);
        return;
    }
    if (ex->lane) {
        shim_lane_leave(ex, /* fit= */ false);
        return;
    }
    struct shim_sandbox *sb = DBX_TAKE(ex->sb);
    if (!sb)
        return;
    shim_sandbox_set_owner(sb, NULL, NULL);
    shim_sandbox_end(sb);
}

void shim_exec__begin_phases(struct shim_exec *ex)
{
    ex->compile.argv = ex->rq->workspace ? NULL : ex->plan.compile_argv;
    ex->run.argv = ex->plan.run_argv;
    if (ex->box && !ex->layered && shim_exec__find_layer(ex))
        return;
    shim_exec__phase_begin(ex, ex->compile.argv ? &ex->compile : &ex->run);
}

static void on_files_written(uint64_t value, const struct dbx_err *err, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    (void)value;
    if (err && ex->box)
        shim_box_forget_files(ex->box);
    if (err && ex->ahead)
        ex->files_err = *err; /* told by the START that came behind */
    if (ex->state != SHIM_EX_PREPARING) {
        ; /* ended meanwhile */
    } else if (!err) {
        dbx_buf_done(&ex->block);
        shim_exec__begin_phases(ex);
    } else if (err->code == -ENOSPC || err->code == -EDQUOT) {
        ex->run.ending.disk_full = true;
        shim_exec__finish_unplanned(ex, "the files do not fit on the disk");
    } else {
        dbx_log(DBX_LOG_WARN, &ex->log_trace, "writing its files: %s", err->msg);
        shim_exec__finish(ex, err->msg);
    }
    shim_exec__unref(ex);
}

void shim_exec__prepare(struct shim_exec *ex)
{
    struct dbx_err err = {0};
    int r = ex->box ? shim_box_files(ex, &ex->block, &err)
                    : shim_launch_files(ex->rq, &ex->plan, &ex->block, &err);
    if (r == 0 && ex->block.len == 0) { /* a workspace whose files stand there already */
        shim_exec__begin_phases(ex);
        return;
    }
    if (r == 0) {
        r = shim_init_files(shim_sandbox_init(ex->sb), BND_WORK_DIR, ex->uid, ex->uid,
                            ex->block.data, ex->block.len, 0, on_files_written, ex);
        if (r < 0)
            dbx_err_set(&err, r, DBX_INTERNAL, "init takes no files");
    }
    if (r == 0) {
        ex->refs++;
        ex->ahead = !ex->box && !ex->plan.compile_argv && ex->block.len <= AHEAD_MAX;
        if (!ex->box && !ex->ahead) /* the limits are set while init writes */
            r = shim_exec__phase_limit(ex, ex->plan.compile_argv ? &ex->compile : &ex->run, &err);
    }
    if (r < 0)
        shim_exec__finish(ex, err.msg);
    else if (ex->ahead)
        shim_exec__begin_phases(ex);
}

void shim_exec__claimed(struct shim_exec *ex, struct shim_sandbox *sb)
{
    ex->claimed_us = dbx_wall_us();
    ex->claimed_ms = dbx_now_ms();
    ex->warm = ex->claimed_ms - ex->state_ms < 20;
    shim_exec__own_sandbox(ex, sb);
    shim_exec__set_state(ex, SHIM_EX_PREPARING);
    dbx_log(DBX_LOG_DEBUG, &ex->log_trace, "runs in sandbox %s", shim_sandbox_id_text(sb));
    shim_exec__prepare(ex);
}

static void on_claimed(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    ex->claim = NULL;
    if (ex->state != SHIM_EX_CLAIMING) {
        if (sb)
            shim_sandbox_end(sb);
    } else if (err) {
        dbx_log(DBX_LOG_WARN, &ex->log_trace, "no sandbox: %s", err->msg);
        shim_exec__finish(ex, err->msg);
    } else if (ex->rq->shares) {
        shim_lane_begin(ex, sb);
    } else {
        shim_exec__claimed(ex, sb);
    }
    shim_exec__unref(ex);
}

static uint64_t larger(int64_t a, int64_t b)
{
    return (uint64_t)(a > b ? a : b);
}

static uint64_t smaller(int64_t a, int64_t b)
{
    return (uint64_t)(a < b ? a : b);
}

void shim_exec__claim(struct shim_exec *ex)
{
    const struct dbx_limits *run = &ex->rq->limits;
    const struct dbx_limits *cc = ex->plan.compile_argv ? &ex->rq->compile_limits : run;
    struct shim_claim_opts opts = {
        .template = ex->rq->template,
        .disk_mb = smaller(run->disk_mb, cc->disk_mb), /* one disk for both phases */
        .memory_mb = larger(run->memory_mb, cc->memory_mb),
        .processes = (uint32_t)larger(run->processes, cc->processes),
        .background = ex->rq->in_batch,
        .wait_ms = SHIM_EXEC_CLAIM_MS,
    };
    ex->refs++;
    ex->claim = shim_pool_claim(ex->execs->opts.pool, &opts, on_claimed, ex);
}

static void claim(struct shim_exec *ex)
{
    shim_exec__set_state(ex, SHIM_EX_CLAIMING);
    if (!ex->rq->shares || !shim_lane_join(ex))
        shim_exec__claim(ex);
}

static void on_deadline(void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    switch (ex->state) {
    case SHIM_EX_COMPILING:
    case SHIM_EX_RUNNING:
    case SHIM_EX_DRAINING:
        shim_exec__phase_deadline(ex);
        break;
    case SHIM_EX_SHIPPING:
        dbx_log(DBX_LOG_ERR, &ex->log_trace, "the log did not take its end in time");
        shim_exec__finish_now(ex);
        break;
    case SHIM_EX_ENDED:
    case SHIM_EX_STATES:
        break;
    case SHIM_EX_QUEUED:
    case SHIM_EX_CLAIMING:
    case SHIM_EX_PREPARING:
        dbx_log(DBX_LOG_ERR, &ex->log_trace, "%s took too long", shim_exec_state_name(ex->state));
        shim_exec__finish(ex, "took too long");
    }
}

/* ---- orders ---- */

struct shim_exec *shim_exec__new(struct shim_execs *execs, struct shim_request *rq)
{
    struct shim_exec *ex = DBX_NEW(struct shim_exec);
    ex->magic = SHIM_EXEC_MAGIC;
    ex->execs = execs;
    ex->rq = rq;
    ex->refs = 1;
    ex->arrived_us = dbx_wall_us();
    ex->state_ms = dbx_now_ms();
    ex->compile.flag = DBX_REC_COMPILE;
    ex->compile.limits = rq->workspace ? &shim_exec__install_limits : &rq->compile_limits;
    ex->install_fd = -1;
    ex->run.limits = &rq->limits;
    ex->uid = BND_USER_UID; /* and of the group of the same number */
    dbx_log_ctx_init(&ex->log_process, execs->opts.log, "process", rq->process_text);
    dbx_log_ctx_init(&ex->log_trace, &ex->log_process, "trace", rq->trace);
    dbx_buf_init(&ex->block, 0);
    dbx_buf_init(&ex->end, DBX_MAX_HEADER);
    ex->deadline = dbx_timer_new(execs->opts.loop, on_deadline, ex);
    ex->watch = dbx_timer_new(execs->opts.loop, shim_exec__on_watch, ex);
    ex->ship = shim_ship_proc_new(execs->opts.ship, &rq->sandbox, &rq->process);
    dbx_list_push(&execs->all, &ex->link);
    (void)dbx_map_put(execs->by_process, rq->process.b, 16, ex);
    execs->live++;
    shim_exec__arm(ex, shim_exec_deadline_ms(SHIM_EX_QUEUED));
    execs->opts.on_change(execs->opts.user);
    return ex;
}

static bool was_here(const struct shim_execs *execs, const struct shim_request *rq)
{
    for (size_t i = 0; i < SHIM_EXECS_RECENT; i++)
        if (execs->recent[i].attempt == rq->attempt &&
            dbx_id_equal(&execs->recent[i].process, &rq->process))
            return true;
    return false;
}

int shim_execs__check(struct shim_execs *execs, const char *template, struct dbx_err *err)
{
    if (execs->refuse)
        return dbx_err_set(err, -EBUSY, DBX_UNAVAIL, "%s", execs->refuse);
    const char *held = shim_pool_held(execs->opts.pool);
    if (held) /* not yet, or not any more: another node may be */
        return dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "the node is not fit: %s", held);
    if (!shim_keeper_is_up(execs->opts.keeper))
        return dbx_err_set(err, -ENOTCONN, DBX_UNAVAIL, "the keeper is away");
    if (shim_execs_unreported(execs) >= execs->opts.max)
        return dbx_err_set(err, -ENOBUFS, DBX_LIMIT, "this node has %u executions",
                           execs->opts.max);
    const struct bnd_template *tpl = bnd_template_find(execs->opts.store, template);
    if (!tpl)
        return dbx_err_set(err, -ENOENT, DBX_NOT_FOUND, "no template %s", template);
    if (!tpl->image)
        return dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "the image of %s is not built", tpl->name);
    return 0;
}

/* 1: it is known, nothing to do. 0: it is new. */
static int check_order(struct shim_execs *execs, const struct shim_request *rq, struct dbx_err *err)
{
    struct shim_exec *old = shim_execs_find(execs, &rq->process);
    if ((old && old->rq->attempt == rq->attempt) || was_here(execs, rq))
        return 1;
    if (old && old->rq->attempt > rq->attempt)
        return dbx_err_set(err, -EEXIST, DBX_CONFLICT, "a later attempt is here");
    int r = shim_execs__check(execs, rq->template, err);
    if (r < 0)
        return r;
    const struct shim_box *box = rq->workspace ? shim_box_find(execs, &rq->sandbox) : NULL;
    if (box && shim_box_closing(box))
        return dbx_err_set(err, -EBUSY, DBX_CONFLICT, "the workspace's sandbox is ending");
    if (old)
        shim_exec_drop(old);
    return 0;
}

int shim_execs_start(struct shim_execs *execs, struct shim_request *rq, struct dbx_err *err)
{
    int r = check_order(execs, rq, err);
    if (r != 0) {
        shim_request_free(rq);
        return r > 0 ? 0 : r;
    }
    struct shim_exec *ex = shim_exec__new(execs, rq);
    struct dbx_err why = {0};
    ex->tpl = bnd_template_find(execs->opts.store, rq->template);
    ex->has_plan = shim_launch_plan(ex->tpl, rq, &ex->plan, &why) == 0;
    if (ex->has_plan && rq->workspace)
        shim_box_join(ex);
    else if (ex->has_plan)
        claim(ex);
    else
        shim_exec__finish_unplanned(ex, why.msg);
    return 0;
}

void shim_exec_cancel(struct shim_exec *ex)
{
    bool over = ex->state >= SHIM_EX_SHIPPING || (ex->now == &ex->run && ex->run.exited);
    if (over || ex->cancelled)
        return;
    ex->cancelled = true;
    if (ex->now && !ex->now->ended) {
        ex->now->ending.cancelled = true;
        shim_exec__kill(ex);
    } else {
        shim_exec__finish(ex, NULL);
    }
}

void shim_exec_drop(struct shim_exec *ex)
{
    dbx_log(DBX_LOG_INFO, &ex->log_trace, "dropped in state %s", shim_exec_state_name(ex->state));
    ex->dropped = true;
    ex->refs++;
    if (ex->state != SHIM_EX_ENDED)
        shim_exec__finish_now(ex);
    forget(ex);
    shim_exec__unref(ex);
}

void shim_exec_reported(struct shim_exec *ex)
{
    dbx_assert(ex->state == SHIM_EX_ENDED);
    forget(ex);
}

/* Before the program is there, what comes joins what the request brought. */
static bool stdin_waits(const struct shim_exec *ex)
{
    return !ex->run.began && ex->state < SHIM_EX_SHIPPING && ex->rq->stdin_open;
}

int shim_exec_input(struct shim_exec *ex, const void *data, size_t len, struct dbx_err *err)
{
    if (ex->in)
        return shim_stdin_write(ex->in, data, len, err);
    if (!stdin_waits(ex))
        return dbx_err_set(err, -EPIPE, DBX_CONFLICT, "stdin is not open");
    ex->early += len;
    if (ex->early > SHIM_STDIN_MAX_WAITING || dbx_buf_append(&ex->rq->input, data, len) < 0) {
        ex->early -= len;
        return dbx_err_set(err, -ENOBUFS, DBX_LIMIT, "the program has not begun to read");
    }
    if (ex->saved)
        shim_exec__save(ex);
    return 0;
}

/* A terminal stays open; what says the end to its programs is a character. */
int shim_exec_eof(struct shim_exec *ex, struct dbx_err *err)
{
    int r = 0;
    if (ex->rq->cols)
        return shim_exec_input(ex, "\x04", 1, err);
    if (ex->in)
        r = shim_stdin_eof(ex->in, err);
    else if (!stdin_waits(ex))
        r = dbx_err_set(err, -EPIPE, DBX_CONFLICT, "stdin is not open");
    if (r < 0)
        return r;
    ex->rq->stdin_open = false;
    if (ex->saved)
        shim_exec__save(ex);
    return 0;
}

int shim_exec_resize(struct shim_exec *ex, uint16_t cols, uint16_t rows, struct dbx_err *err)
{
    if (!ex->rq->cols)
        return dbx_err_set(err, -ENOTTY, DBX_CONFLICT, "it has no terminal");
    ex->rq->cols = cols;
    ex->rq->rows = rows;
    if (ex->saved)
        shim_exec__save(ex);
    if (!ex->run.began || ex->run.exited || !ex->sb)
        return 0;
    const struct init_winsize size = {.cols = cols, .rows = rows};
    if (shim_init_resize(shim_sandbox_init(ex->sb), &ex->rq->process, ex->run.flag, size, NULL,
                         NULL) < 0)
        return dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "the sandbox takes no orders");
    return 0;
}

int shim_exec_signal(struct shim_exec *ex, int signo, struct dbx_err *err)
{
    const struct shim_exec_phase *ph = ex->now;
    bool installs = ph == &ex->compile && ex->installing; /* no process of init's */
    /* behind its START, which may be on its way: init takes one after the other */
    if (!ph || (installs ? !ph->started : !ph->began) || ph->exited || !ex->sb)
        return dbx_err_set(err, -ESRCH, DBX_CONFLICT, "it does not run");
    if (shim_init_signal(shim_sandbox_init(ex->sb), &ex->rq->process, ph->flag, signo,
                         INIT_TO_GROUP, NULL, NULL) < 0)
        return dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "the sandbox takes no orders");
    return 0;
}

/* ---- all of them ---- */

struct shim_execs *shim_execs_new(const struct shim_execs_opts *opts)
{
    struct shim_execs *execs = DBX_NEW(struct shim_execs);
    execs->opts = *opts;
    execs->by_process = dbx_map_new();
    execs->boxes = dbx_map_new();
    dbx_list_init(&execs->all);
    dbx_list_init(&execs->lanes);
    for (size_t i = 0; i < SHIM_EXECS_RECENT; i++)
        execs->recent[i].attempt = -1;
    execs->start_seconds = dbx_histogram("devbox_shim_start_seconds", NULL,
                                         "From the start order to the running program");
    execs->first_byte_seconds = dbx_histogram("devbox_shim_first_byte_seconds", NULL,
                                              "From the start order to the first byte of output");
    return execs;
}

struct shim_execs *shim_execs_free(struct shim_execs *execs)
{
    if (!execs)
        return NULL;
    while (!dbx_list_empty(&execs->all))
        shim_exec_drop(dbx_list_first(&execs->all, struct shim_exec, link));
    execs->opts.on_box_ended = NULL;
    shim_boxes_end(execs);
    shim_lanes_end(execs);
    dbx_map_free(execs->boxes);
    dbx_map_free(execs->by_process);
    free(execs->refuse);
    free(execs);
    return NULL;
}

struct shim_exec *shim_execs_find(struct shim_execs *execs, const struct dbx_id *process)
{
    return dbx_map_get(execs->by_process, process->b, 16);
}

size_t shim_execs_count(const struct shim_execs *execs)
{
    return execs->live;
}

size_t shim_execs_unreported(const struct shim_execs *execs)
{
    return dbx_map_count(execs->by_process);
}

void shim_execs_each(struct shim_execs *execs, void (*fn)(struct shim_exec *ex, void *user),
                     void *user)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &execs->all) fn(dbx_list_entry(it, struct shim_exec, link), user);
}

void shim_execs_refuse(struct shim_execs *execs, const char *why)
{
    free(execs->refuse);
    execs->refuse = why ? dbx_strdup(why) : NULL;
}

static void lose(struct shim_exec *ex, void *user)
{
    (void)user;
    if (ex->state >= SHIM_EX_SHIPPING)
        return;
    ex->node_lost = true;
    if (ex->now && !ex->now->ended)
        shim_exec__phase_lost(ex);
    else
        shim_exec__finish(ex, NULL);
}

void shim_execs_keeper_down(struct shim_execs *execs)
{
    shim_execs_each(execs, lose, NULL);
    shim_boxes_end(execs);
    shim_lanes_end(execs);
}

void shim_execs_end_all(struct shim_execs *execs)
{
    shim_execs_keeper_down(execs);
}

const struct shim_request *shim_exec_request(const struct shim_exec *ex)
{
    return ex->rq;
}

enum shim_exec_state shim_exec_state(const struct shim_exec *ex)
{
    return ex->state;
}

const struct dbx_log_ctx *shim_exec_log(const struct shim_exec *ex)
{
    return &ex->log_trace;
}

int64_t shim_exec_started_us(const struct shim_exec *ex)
{
    return ex->started_us;
}

struct shim_exec_report *shim_exec_report(struct shim_exec *ex)
{
    return &ex->report;
}

const char *shim_exec_end_json(const struct shim_exec *ex, size_t *ret_len)
{
    *ret_len = ex->end.len;
    return dbx_buf_cstr(&ex->end);
}

const struct shim_exec_result *shim_exec_result(const struct shim_exec *ex)
{
    return &ex->result;
}
