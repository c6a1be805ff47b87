/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/lane.h"

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/ext/json.h"
#include "common/io/loop.h"
#include "shim/exec_int.h"
#include "shim/launch.h"

#include <stdlib.h>
#include <string.h>

#define LANE_MAGIC 0x454e414cu
#define IDLE_MS 2000     /* the next of the batch comes long before, or never */
#define RENEW_MS 8000    /* init gives up before */
#define MAX_USES 1000    /* what little piles up in the runtime goes with it */
#define MORE_TASKS 32    /* of the runtime's own, which it keeps for the next program */
#define MAX_WRITTEN 1024 /* batches told to the scheduler */

enum lane_state { LANE_RENEWING, LANE_IDLE, LANE_USED };

struct shim_lane {
    uint32_t magic;
    struct dbx_list link;
    struct shim_execs *execs;
    struct dbx_id batch;
    const struct bnd_template *tpl;
    uint64_t disk_mb, memory_mb;
    enum lane_state state;
    struct shim_sandbox *sb; /* NULL: it has ended */
    struct shim_exec *ex;    /* who is in it, or waits for it; or NULL */
    uint32_t uses;
    bool fork;      /* the last one became what was parked, or would have */
    uint64_t tasks; /* in its cgroup, when it was new */
    struct dbx_timer *idle;
    unsigned refs; /* the list's, and an answer's */
};

static uint64_t larger(int64_t a, int64_t b)
{
    return (uint64_t)(a > b ? a : b);
}

static uint64_t disk_of(const struct shim_exec *ex)
{
    const struct shim_request *rq = ex->rq;
    return larger(rq->limits.disk_mb, ex->plan.compile_argv ? rq->compile_limits.disk_mb : 0);
}

static uint64_t memory_of(const struct shim_exec *ex)
{
    const struct shim_request *rq = ex->rq;
    return larger(rq->limits.memory_mb, ex->plan.compile_argv ? rq->compile_limits.memory_mb : 0);
}

/* Executions of a batch are mostly alike: what one can use, so can the next. */
static bool may_fork(const struct shim_exec *ex)
{
    return ex->tpl->parked.fork && !ex->rq->cwd && !ex->rq->cols &&
           shim_launch_may_parked(ex->tpl, ex->plan.run_argv, ex->rq->env);
}

static void unref(struct shim_lane *ln)
{
    if (--ln->refs)
        return;
    dbx_timer_free(ln->idle);
    ln->magic = 0;
    free(ln);
}

/* Who waited for it takes another way. */
static void end(struct shim_lane *ln)
{
    struct shim_sandbox *sb = DBX_TAKE(ln->sb);
    struct shim_exec *ex = DBX_TAKE(ln->ex);
    if (!sb)
        return;
    dbx_timer_stop(ln->idle);
    dbx_list_remove(&ln->link);
    shim_sandbox_set_owner(sb, NULL, NULL);
    shim_sandbox_end(sb);
    if (ex) {
        ex->lane = NULL;
        ex->sb = NULL;
        if (ex->state == SHIM_EX_CLAIMING)
            shim_exec__claim(ex);
    }
    ln->execs->opts.on_change(ln->execs->opts.user);
    unref(ln);
}

static void on_lost(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct shim_lane *ln = DBX_CAST(struct shim_lane, LANE_MAGIC, user);
    (void)sb;
    (void)err; /* the sandbox has logged it */
    end(ln);
}

/* Of one that was told to end, or whose end its execution did not wait for. */
static void on_exited(struct shim_sandbox *sb, const struct shim_init_exited *e, void *user)
{
    (void)user;
    (void)shim_init_ack(shim_sandbox_init(sb), &e->process, e->phase);
}

static const struct shim_sandbox_handlers handlers = {.on_lost = on_lost, .on_exited = on_exited};

static void on_idle(void *user)
{
    end(DBX_CAST(struct shim_lane, LANE_MAGIC, user));
}

static void give(struct shim_lane *ln)
{
    struct shim_exec *ex = ln->ex;
    ln->state = LANE_USED;
    shim_sandbox_wants(ln->sb, true);
    dbx_timer_stop(ln->idle);
    ex->uid = INIT_FIRST_UID + ln->uses;
    shim_exec__claimed(ex, ln->sb);
}

static void rest(struct shim_lane *ln)
{
    ln->state = LANE_IDLE;
    shim_sandbox_wants(ln->sb, false);
    dbx_timer_start(ln->idle, IDLE_MS, 0);
    ln->execs->opts.on_change(ln->execs->opts.user);
}

/* ---- renewing ---- */

static void count(const char *how)
{
    dbx_metric_add(dbx_counter("devbox_shim_renewals_total", how,
                               "Sandboxes made as new for the next execution of their batch"),
                   1);
}

static bool is_new(struct shim_lane *ln)
{
    uint64_t tasks = shim_sandbox_rest(ln->sb, ln->uses == 1, ln->fork);
    if (!ln->tasks)
        ln->tasks = tasks;
    if (tasks && tasks <= ln->tasks + MORE_TASKS)
        return true;
    dbx_log(DBX_LOG_WARN, shim_sandbox_log(ln->sb), "%llu tasks on the host, where %llu were",
            (unsigned long long)tasks, (unsigned long long)ln->tasks);
    return false;
}

static void on_renewed(uint64_t value, const struct dbx_err *err, void *user)
{
    struct shim_lane *ln = DBX_CAST(struct shim_lane, LANE_MAGIC, user);
    (void)value;
    if (ln->sb && err) {
        dbx_log(DBX_LOG_INFO, shim_sandbox_log(ln->sb), "not used again: %s", err->msg);
        count("result=\"refused\"");
        end(ln);
    } else if (ln->sb && !is_new(ln)) {
        count("result=\"refused\"");
        end(ln);
    } else if (ln->sb) {
        count("result=\"renewed\"");
        if (ln->ex)
            give(ln);
        else
            rest(ln);
    }
    unref(ln);
}

static void renew(struct shim_lane *ln)
{
    const struct dbx_limits limits = {.processes = 1 << 20, .open_files = 1024, .disk_mb = 1 << 20};
    struct init_rlimit rlimits[SHIM_LAUNCH_RLIMITS];
    const struct bnd_parked *k = &ln->tpl->parked;
    static const char *const none[] = {"-", NULL};
    const bool fork = k->fork && ln->fork;
    char **env = shim_launch_server_env(ln->tpl);
    ln->state = LANE_RENEWING;
    ln->uses++;
    const struct shim_init_start req = {.argv = (char *const *)(fork ? k->start : none),
                                        .env = env,
                                        .cwd = BND_WORK_DIR,
                                        .uid = INIT_FIRST_UID + ln->uses,
                                        .gid = INIT_FIRST_UID + ln->uses,
                                        .umask = 022,
                                        .rlimits = rlimits,
                                        .n_rlimits = SHIM_LAUNCH_RLIMITS};
    shim_launch_rlimits(&limits, rlimits);
    shim_sandbox_set_owner(ln->sb, &handlers, ln);
    struct shim_init *init = shim_sandbox_init(ln->sb);
    if (ln->uses <= MAX_USES && init &&
        shim_init_renew(init, &req, fork, RENEW_MS, on_renewed, ln) == 0)
        ln->refs++;
    else
        end(ln);
    shim_launch_env_free(env);
}

/* ---- the face ---- */

void shim_lane_begin(struct shim_exec *ex, struct shim_sandbox *sb)
{
    struct shim_lane *ln = DBX_NEW(struct shim_lane);
    *ln = (struct shim_lane){.magic = LANE_MAGIC,
                             .execs = ex->execs,
                             .batch = ex->rq->batch,
                             .tpl = ex->tpl,
                             .disk_mb = disk_of(ex),
                             .memory_mb = memory_of(ex),
                             .sb = sb,
                             .ex = ex,
                             .fork = may_fork(ex),
                             .refs = 1};
    ln->idle = dbx_timer_new(ex->execs->opts.loop, on_idle, ln);
    dbx_list_push(&ex->execs->lanes, &ln->link);
    ex->lane = ln;
    renew(ln);
}

static bool fits(const struct shim_lane *ln, const struct shim_exec *ex)
{
    return !ln->ex && dbx_id_equal(&ln->batch, &ex->rq->batch) && ln->tpl == ex->tpl &&
           ln->disk_mb == disk_of(ex) && ln->memory_mb == memory_of(ex);
}

bool shim_lane_join(struct shim_exec *ex)
{
    struct dbx_list *it, *tmp;
    struct shim_lane *best = NULL;
    dbx_list_each(it, tmp, &ex->execs->lanes)
    {
        struct shim_lane *ln = dbx_list_entry(it, struct shim_lane, link);
        if (fits(ln, ex) && (!best || ln->state == LANE_IDLE))
            best = ln;
    }
    if (!best)
        return false;
    best->ex = ex;
    ex->lane = best;
    if (best->state == LANE_IDLE)
        give(best);
    return true;
}

void shim_lane_leave(struct shim_exec *ex, bool fit)
{
    struct shim_lane *ln = DBX_TAKE(ex->lane);
    ex->sb = NULL;
    ln->ex = NULL;
    if (ln->state != LANE_USED) /* it only waited */
        return;
    if (!fit) {
        end(ln);
        return;
    }
    shim_sandbox_set_running(ln->sb, false);
    ln->fork = may_fork(ex);
    renew(ln);
}

void shim_lanes_end(struct shim_execs *execs)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &execs->lanes)
    {
        struct shim_lane *ln = dbx_list_entry(it, struct shim_lane, link);
        if (!ln->ex)
            end(ln);
    }
}

/* Few: at most as many as there are sandboxes. */
void shim_lanes_write(const struct shim_execs *execs, struct dbx_jw *w)
{
    struct dbx_list *it, *tmp;
    size_t n = 0;
    dbx_list_each(it, tmp, (struct dbx_list *)&execs->lanes)
    {
        const struct shim_lane *ln = dbx_list_entry(it, struct shim_lane, link);
        char id[DBX_ID_TEXT];
        if (ln->ex || n++ >= MAX_WRITTEN)
            continue;
        dbx_id_format(&ln->batch, id);
        dbx_jw_str(w, id);
    }
}
