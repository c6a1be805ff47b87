/* SPDX-License-Identifier: Apache-2.0 */
/* A process in the sandbox, from its start to its last byte. Four things must have come home before
 * a phase is over: the process's end (on_exited), the end of the others it left (KILL_ALL), the end
 * of both streams, and the accounts. Whatever does not come is forced by the next harder means:
 * KILL_ALL, then the whole sandbox, then we go on without it.
 *
 * What init reports is believed only for how the process ended; limits are judged by the cgroup,
 * the clock and the shipper. */
#include "shim/exec_int.h"

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "shim/launch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define KILL_MS 3000     /* from the kill to the report of the end */
#define KILL_ALL_MS 3000 /* what init is given for it */

/* ---- the keeper's rings as a source ---- */

static const uint8_t *ring_peek(void *stream, size_t *ret_len)
{
    return shim_stream_peek(stream, ret_len);
}
static void ring_advance(void *stream, size_t n)
{
    shim_stream_advance(stream, n);
}
static void ring_release(void *stream, uint64_t upto)
{
    shim_stream_release(stream, upto);
}
static void ring_resume(void *stream)
{
    shim_stream_resume(stream);
}
static bool ring_at_eof(void *stream)
{
    return shim_stream_at_eof(stream);
}
static bool ring_is_full(void *stream)
{
    return shim_stream_is_full(stream);
}
static const struct shim_source_ops ring_ops = {.peek = ring_peek,
                                                .advance = ring_advance,
                                                .release = ring_release,
                                                .resume = ring_resume,
                                                .at_eof = ring_at_eof,
                                                .is_full = ring_is_full};

static void note_first_byte(struct shim_exec *ex, struct shim_stream *s)
{
    size_t n = 0;
    if (!shim_stream_peek(s, &n) || n == 0)
        return; /* its end */
    ex->spoke = true;
    dbx_metric_observe(ex->execs->first_byte_seconds,
                       (double)(dbx_wall_us() - ex->arrived_us) / 1e6);
}

bool shim_exec__on_stream(struct shim_kept *kept, struct shim_stream *s, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    struct shim_exec_phase *ph = shim_kept_phase(kept) == DBX_REC_COMPILE ? &ex->compile : &ex->run;
    if (!ph->ship || ph->kept != kept)
        return false;
    if (!ex->spoke && ph == &ex->run)
        note_first_byte(ex, s);
    return shim_ship_feed(ph->ship, shim_stream_index(s)); /* may end the phase, and ex with it */
}

/* ---- over ---- */

/* In a workspace the cgroup is everybody's: what init says of the process is what there is to say.
 */
static void account_in_box(struct shim_exec *ex, struct shim_exec_phase *ph,
                           const struct shim_init_exited *e, const struct shim_sandbox_usage *u)
{
    ph->outcome.usage.memory_peak_bytes = u->memory_peak_bytes;
    ph->ending.oom |= u->oom_kills > ex->oom_mark && (!e || e->signal == SIGKILL);
    if (!e)
        return;
    ph->outcome.usage.cpu_ms = (int64_t)((e->utime_us + e->stime_us) / 1000);
    ph->ending.cpu_over |= ph->limits->cpu_ms > 0 && e->signal == SIGXCPU;
}

/* The writable layer at its fullest, as far as init has looked (at the end, too). Init is believed
 * within what the disk can hold. */
static int64_t disk_used(uint64_t size, uint64_t free_min)
{
    return free_min < size ? (int64_t)(size - free_min) : 0;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* e: NULL when it did not end by itself. */
static void account(struct shim_exec *ex, struct shim_exec_phase *ph,
                    const struct shim_init_exited *e)
{
    struct shim_sandbox_usage u = {0};
    struct dbx_usage *usage = &ph->outcome.usage;
    if (!ph->exited_ms)
        ph->exited_ms = dbx_now_ms();
    shim_watch_hold(&ph->watch, false, ph->exited_ms);
    if (ex->sb)
        shim_sandbox_usage(ex->sb, &u);
    if (ex->box) {
        account_in_box(ex, ph, e, &u);
    } else if (ex->sb) {
        usage->cpu_ms = u.cpu_ms;
        usage->memory_peak_bytes = u.memory_peak_bytes;
        ph->ending.oom |= u.oom;
        if (e && !ex->lane)
            usage->disk_bytes = disk_used(shim_sandbox_disk_bytes(ex->sb), e->disk_free_min);
        if (ph == &ex->run && ex->compile.began) /* the same disk, and one bill */
            usage->disk_bytes = larger(usage->disk_bytes, ex->compile.outcome.usage.disk_bytes);
    }
    if (ph->started) {
        usage->wall_ms = (int64_t)shim_watch_wall_ms(&ph->watch, ph->exited_ms);
        ph->ending.cpu_over |= ph->limits->cpu_ms > 0 && usage->cpu_ms >= ph->limits->cpu_ms;
    }
}

static void phase_over(struct shim_exec *ex, struct shim_exec_phase *ph)
{
    ph->ended = true;
    dbx_timer_stop(ex->watch);
    ex->in = shim_stdin_free(ex->in);
    ph->ending.cancelled |= ex->cancelled;
    ph->ending.node_lost |= ex->node_lost;
    shim_verdict_fill(&ph->ending, &ph->outcome);
    ph->outcome.stdout_bytes = (int64_t)shim_ship_bytes(ph->ship, 0);
    ph->outcome.stderr_bytes = (int64_t)shim_ship_bytes(ph->ship, 1);
    ph->outcome.usage.output_bytes = ph->outcome.stdout_bytes + ph->outcome.stderr_bytes;
    ph->outcome.usage.queued_ms = (ex->claimed_us - ex->rq->accepted_us) / 1000;
    if (ph->outcome.usage.queued_ms < 0 || ex->rq->accepted_us <= 0)
        ph->outcome.usage.queued_ms = 0;
    shim_exec__phase_release(ex, ph);
    /* Where dependencies could not be installed the program may be just what mends that. */
    bool mendable = ex->rq->workspace && ph->outcome.verdict == DBX_V_EXIT_CODE;
    if (ph == &ex->run || (ph->outcome.verdict != DBX_V_OK && !mendable))
        shim_exec__finish(ex, NULL);
    else if (ex->sb)
        shim_exec__phase_begin(ex, &ex->run);
    else
        shim_exec__finish(ex, "the compiler left the sandbox unusable");
}

static void check_over(struct shim_exec *ex, struct shim_exec_phase *ph)
{
    if (ph->exited && ph->others_gone && ph->streams_ended && !ph->ended)
        phase_over(ex, ph);
}

void shim_exec__phase_lost(struct shim_exec *ex)
{
    struct shim_exec_phase *ph = ex->now;
    if (!ph->exited)
        account(ex, ph, NULL);
    dbx_timer_stop(ex->watch);
    shim_exec__leave_sandbox(ex);
    /* What stands in the rings is still good. */
    shim_ship_hurry(ph->ship);
    for (int i = 0; i < 2 && ph->kept; i++) {
        struct shim_stream *s = shim_kept_stream(ph->kept, i);
        size_t n = 0;
        while (!ph->streams_ended && shim_stream_peek(s, &n) && n > 0)
            if (!shim_ship_feed(ph->ship, i))
                break;
    }
    phase_over(ex, ph);
}

void shim_exec__phase_release(struct shim_exec *ex, struct shim_exec_phase *ph)
{
    if (!ph->ship)
        return;
    for (int i = 0; i < 2; i++)
        shim_ship_sha256(ph->ship, i, ph->sha[i]);
    ph->shipped = true;
    if (ph == ex->now)
        ex->in = shim_stdin_free(ex->in);
    shim_ship_phase_stop(DBX_TAKE(ph->ship));
    ph->kept = NULL; /* its owner is on_released now */
}

/* ---- what the shipper says ---- */

static void on_over(void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    ex->now->ending.output_over = true;
    shim_exec__kill(ex);
}

static void on_held(bool held, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    struct shim_exec_phase *ph = ex->now;
    if (!ph || !ph->started || ph->exited)
        return;
    shim_watch_hold(&ph->watch, held, dbx_now_ms());
}

static void on_streams_ended(void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    ex->now->streams_ended = true;
    check_over(ex, ex->now);
}

static void on_released(void *source, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    if (source)
        shim_kept_remove(source);
    shim_exec__unref(ex);
}

static const struct shim_ship_handlers ship_handlers = {
    .on_over = on_over, .on_held = on_held, .on_eof = on_streams_ended, .on_released = on_released};

/* ---- begin ---- */

static void on_stdin_closed(void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    ex->in = shim_stdin_free(ex->in);
    if (ex->now && ex->now->kept)
        shim_kept_close_stdin(ex->now->kept);
}

static int start_process(struct shim_exec *ex, struct shim_exec_phase *ph, const int fds[3])
{
    struct init_rlimit rlimits[SHIM_LAUNCH_RLIMITS];
    bool tty = ph == &ex->run && ex->rq->cols > 0;
    shim_launch_rlimits(ph->limits, rlimits);
    DBX_CLEANUP(dbx_freep)
    char *cwd =
        ex->rq->cwd ? dbx_asprintf("%s/%s", BND_WORK_DIR, ex->rq->cwd) : dbx_strdup(BND_WORK_DIR);
    for (size_t i = 0; i < SHIM_LAUNCH_RLIMITS && ex->box && ph->limits->cpu_ms > 0; i++)
        if (rlimits[i].resource == RLIMIT_CPU) { /* the cgroup is shared: this is what judges */
            rlimits[i].soft = (uint64_t)(ph->limits->cpu_ms + 999) / 1000;
            rlimits[i].hard = rlimits[i].soft + 1;
        }
    char **env = shim_launch_env(ex->tpl, ex->box != NULL, ex->rq->env);
    struct shim_init_start req = {.process = ex->rq->process,
                                  .phase = ph->flag,
                                  .argv = ph->argv,
                                  .env = env,
                                  .cwd = cwd,
                                  .end_group = ex->box != NULL,
                                  .after_files = ex->ahead,
                                  .may_parked =
                                      ph == &ex->run && !ex->box && !tty && !ex->rq->cwd &&
                                      (!ex->lane || ex->tpl->parked.fork) &&
                                      shim_launch_may_parked(ex->tpl, ph->argv, ex->rq->env),
                                  .tty = {.cols = tty ? ex->rq->cols : 0, .rows = ex->rq->rows},
                                  .uid = ex->uid,
                                  .gid = ex->uid,
                                  .umask = 022,
                                  .rlimits = rlimits,
                                  .n_rlimits = SHIM_LAUNCH_RLIMITS,
                                  .fds = {fds[0], fds[1], tty ? -1 : fds[2]}};
    int r = shim_init_start(shim_sandbox_init(ex->sb), &req);
    if (r == 0 && req.may_parked)
        shim_sandbox_count_parked(ex->sb);
    shim_launch_env_free(env);
    return r;
}

int shim_exec__open_shipping(struct shim_exec *ex, struct shim_exec_phase *ph, bool adopt,
                             struct dbx_err *err)
{
    uint64_t at[2] = {0}, head[2] = {0};
    struct shim_ship_phase_opts opts = {.flags = (uint8_t)ph->flag,
                                        .pty = ph == &ex->run && ex->rq->cols > 0,
                                        .max_bytes = (uint64_t)ph->limits->output_bytes,
                                        .ops = ph->kept ? &ring_ops : NULL,
                                        .source = ph->kept,
                                        .durable = ph->kept ? shim_kept_durable(ph->kept) : NULL,
                                        .h = &ship_handlers,
                                        .user = ex};
    for (int i = 0; i < 2 && ph->kept; i++) {
        struct shim_stream *s = shim_kept_stream(ph->kept, i);
        opts.stream[i] = s;
        at[i] = shim_stream_next(s);
        head[i] = shim_stream_head(s);
    }
    int r = 0;
    if (adopt)
        r = shim_ship_phase_adopt(ex->ship, &opts, at, head, &ph->ship, err);
    else
        ph->ship = shim_ship_phase_new(ex->ship, &opts);
    if (r == 0)
        ex->refs++; /* until on_released */
    return r;
}

void shim_exec__open_stdin(struct shim_exec *ex, struct shim_exec_phase *ph, const void *data,
                           size_t len, bool open, uint64_t at)
{
    ex->in = shim_stdin_new(ex->execs->opts.loop, shim_kept_stdin(ph->kept), data, len, open,
                            on_stdin_closed, ex);
    shim_exec__keep_stdin(ex, at);
}

/* It has no room, or does not know the sandbox: nobody would read the streams. When it is away,
 * shim_execs_keeper_down says so to all. */
static void on_kept_answer(const struct dbx_err *err, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    bool lost = err && shim_keeper_is_up(ex->execs->opts.keeper) && ex->now && !ex->now->ended;
    if (lost) {
        dbx_log(DBX_LOG_ERR, &ex->log_trace, "the keeper does not take its streams: %s", err->msg);
        shim_exec__finish(ex, err->msg);
    }
    shim_exec__unref(ex);
}

static int open_streams(struct shim_exec *ex, struct shim_exec_phase *ph, struct dbx_err *err)
{
    bool input = ph == &ex->run && (ex->rq->input.len > 0 || ex->rq->stdin_open);
    int fds[3];
    struct shim_kept_opts opts = {.sandbox = *shim_sandbox_id(ex->sb),
                                  .process = ex->rq->process,
                                  .phase = ph->flag,
                                  .stdin_open = input,
                                  .fn = on_kept_answer,
                                  .user = ex};
    int r = shim_kept_new(ex->execs->opts.keeper, &opts, &ph->kept, fds, err);
    if (r < 0)
        return r;
    ex->refs++; /* until the keeper's answer */
    r = shim_exec__open_shipping(ex, ph, /* adopt= */ false, err);
    dbx_assert(r == 0); /* nothing to refuse */
    shim_ship_status(ph->ship);
    if (input)
        shim_exec__open_stdin(ex, ph, ex->rq->input.data, ex->rq->input.len, ex->rq->stdin_open, 0);
    if (ph == &ex->run) /* what comes on stdin is the program's, not the compiler's */
        dbx_buf_done(&ex->rq->input);
    shim_exec__save(ex); /* before the program may be there */
    r = ex->installing && ph == &ex->compile ? shim_exec__install(ex, fds[1])
                                             : start_process(ex, ph, fds);
    for (int i = 0; i < 3; i++)
        dbx_close(fds[i]);
    if (r < 0)
        return dbx_err_set(err, r, DBX_INTERNAL, "init takes no order to start");
    shim_kept_watch(ph->kept, shim_exec__on_stream, ex);
    return 0;
}

int shim_exec__phase_limit(struct shim_exec *ex, struct shim_exec_phase *ph, struct dbx_err *err)
{
    ph->limited = true;
    return shim_sandbox_set_limits(ex->sb, (uint64_t)ph->limits->memory_mb,
                                   (uint32_t)ph->limits->processes, err);
}

void shim_exec__phase_begin(struct shim_exec *ex, struct shim_exec_phase *ph)
{
    struct dbx_err err = {0};
    ph->began = true;
    ph->ordered_ms = dbx_now_ms();
    ph->outcome = (struct dbx_outcome){.exit_code = -1};
    ex->now = ph;
    if (ex->state == SHIM_EX_PREPARING && !ex->box)
        shim_sandbox_set_running(ex->sb, true);
    shim_exec__set_state(ex, ph == &ex->compile ? SHIM_EX_COMPILING : SHIM_EX_RUNNING);
    int r = 0;
    if (!ex->box) /* else its own, since it was claimed */
        r = ph->limited ? shim_sandbox_mark(ex->sb, &err) : shim_exec__phase_limit(ex, ph, &err);
    if (r == 0)
        r = open_streams(ex, ph, &err);
    if (r < 0) {
        dbx_log(DBX_LOG_WARN, &ex->log_trace, "it cannot be started: %s", err.msg);
        shim_exec__finish(ex, err.msg);
    }
}

/* ---- what init says ---- */

static struct shim_exec_phase *phase_of(struct shim_exec *ex, const struct dbx_id *process,
                                        uint32_t flag)
{
    struct shim_exec_phase *ph = ex->now;
    if (!ph || ph->ended || ph->flag != flag || !dbx_id_equal(process, &ex->rq->process))
        return NULL;
    ex->adopted = false;
    return ph;
}

/* It never ran, and how that is told: the exit code, and whoever saw a full disk says so. */
static void never_ran(struct shim_exec *ex, struct shim_exec_phase *ph, const char *words, int code)
{
    shim_ship_words(ph->ship, 1, words);
    account(ex, ph, NULL);
    ph->exited = ph->ending.exited = ph->others_gone = true;
    ph->ending.exit_code = code;
    shim_exec__set_state(ex, SHIM_EX_DRAINING);
    shim_ship_hurry(ph->ship);
    check_over(ex, ph);
}

static void files_failed(struct shim_exec *ex, struct shim_exec_phase *ph, int error)
{
    if (error == ENOSPC || error == EDQUOT) {
        ph->ending.disk_full = true;
        (void)dbx_strcpy(ex->words, sizeof(ex->words), "the files do not fit on the disk\n");
        never_ran(ex, ph, ex->words, 2);
        return;
    }
    const char *why = ex->files_err.code ? ex->files_err.msg : strerror(error);
    dbx_log(DBX_LOG_WARN, &ex->log_trace, "writing its files: %s", why);
    shim_exec__finish(ex, why);
}

/* Said as a shell says it, for a shell's users know these two codes. */
static void not_started(struct shim_exec *ex, struct shim_exec_phase *ph,
                        const struct shim_init_started *s)
{
    (void)shim_init_ack(shim_sandbox_init(ex->sb), &ex->rq->process, ph->flag);
    bool no_folder = s->stage == INIT_STAGE_CWD && ex->rq->cwd;
    if (s->stage == INIT_STAGE_FILES) {
        files_failed(ex, ph, s->error);
        return;
    }
    if (s->stage != INIT_STAGE_EXEC && !no_folder) {
        dbx_log(DBX_LOG_ERR, &ex->log_trace, "init could not start it: stage %d, %s", (int)s->stage,
                strerror(s->error));
        shim_exec__finish(ex, "init could not start it");
        return;
    }
    snprintf(ex->words, sizeof(ex->words), "%.200s: %s\n", no_folder ? ex->rq->cwd : ph->argv[0],
             strerror(s->error));
    never_ran(ex, ph, ex->words, s->error == ENOENT && !no_folder ? 127 : 126);
}

void shim_exec__on_started(struct shim_exec *ex, const struct shim_init_started *s)
{
    struct shim_exec_phase *ph = phase_of(ex, &s->process, s->phase);
    uint64_t now = dbx_now_ms();
    if (!ph || ph->started || ph->exited)
        return;
    if (s->error) {
        not_started(ex, ph, s);
        return;
    }
    ph->started = true;
    uint64_t since = ex->run.began && ex->compile.began ? ph->ordered_ms : ex->claimed_ms;
    ph->outcome.usage.start_ms = (int64_t)(now - since);
    uint64_t wall = ph->limits->wall_ms ? (uint64_t)ph->limits->wall_ms : UINT64_MAX;
    shim_watch_begin(&ph->watch, ex->box ? UINT64_MAX : (uint64_t)ph->limits->cpu_ms, wall,
                     ex->execs->opts.ncpu, now);
    shim_watch_hold(&ph->watch, shim_ship_is_held(ph->ship), now);
    if (ph->killed)
        return; /* the deadline of the kill runs already */
    shim_exec__arm(ex, 0);
    dbx_timer_start(ex->watch, SHIM_WATCH_MIN_MS, 0);
    if (!ex->started_us) {
        ex->started_us = dbx_wall_us();
        dbx_metric_observe(ex->execs->start_seconds,
                           (double)(ex->started_us - ex->arrived_us) / 1e6);
        ex->execs->opts.on_started(ex, ex->execs->opts.user);
    }
    shim_exec__save(ex);
}

static void on_others_gone(uint64_t value, const struct dbx_err *err, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    struct shim_exec_phase *ph = ex->now;
    (void)value;
    if (ph && ph->exited && !ph->ended && ex->sb && (!err || err->code != -ECANCELED)) {
        if (err) {
            dbx_log(DBX_LOG_WARN, &ex->log_trace, "its processes do not end: %s", err->msg);
            shim_exec__leave_sandbox(ex);
        }
        ph->others_gone = true;
        check_over(ex, ph);
    }
    shim_exec__unref(ex);
}

void shim_exec__kill_others(struct shim_exec *ex, struct shim_exec_phase *ph)
{
    if (shim_init_kill_all(shim_sandbox_init(ex->sb), KILL_ALL_MS, on_others_gone, ex) == 0) {
        ex->refs++;
        return;
    }
    shim_exec__leave_sandbox(ex);
    ph->others_gone = true;
}

/* A quick process may be reported started and ended in one breath. Init's own clock is finer then;
 * it is a report only, and never more than what passed here since the order. */
static void prefer_inner_wall(struct shim_exec *ex, struct shim_exec_phase *ph, uint64_t inner_ms)
{
    struct dbx_usage *usage = &ph->outcome.usage;
    uint64_t since = ph->exited_ms - ph->ordered_ms, begin = ex->claimed_ms;
    if (ex->catching_up && (int64_t)inner_ms < usage->wall_ms) { /* it ended while nobody looked */
        usage->wall_ms = (int64_t)inner_ms;
        return;
    }
    if (ph->watch.held_ms || inner_ms > since || (int64_t)inner_ms <= usage->wall_ms)
        return;
    if (ph == &ex->run && ex->compile.began)
        begin = ph->ordered_ms;
    usage->wall_ms = (int64_t)inner_ms;
    if (usage->start_ms > (int64_t)(ph->exited_ms - begin - inner_ms))
        usage->start_ms = (int64_t)(ph->exited_ms - begin - inner_ms);
}

static void note_seen(struct shim_exec_phase *ph, uint32_t seen)
{
    ph->ending.disk_full |= (seen & INIT_SAW_DISK_FULL) != 0;
    ph->ending.at_process_max |= (seen & INIT_SAW_PROCESS_MAX) != 0;
}

/* Told at once, so that it is known if the program takes the sandbox with it. */
void shim_exec__on_saw(struct shim_exec *ex, const struct shim_init_saw *s)
{
    struct shim_exec_phase *ph = phase_of(ex, &s->process, s->phase);
    if (ph && !ph->exited)
        note_seen(ph, s->seen);
}

/* What a program has just said waits for no bookkeeping of its end. */
static void ship_ready(struct shim_exec *ex, struct shim_exec_phase *ph)
{
    for (int i = 0; i < 2 && ph->kept; i++) {
        struct shim_stream *s = shim_kept_stream(ph->kept, i);
        size_t n = 0;
        if (shim_stream_peek(s, &n) && n > 0)
            (void)shim_exec__on_stream(ph->kept, s, ex);
    }
}

void shim_exec__on_exited(struct shim_exec *ex, const struct shim_init_exited *e)
{
    struct shim_exec_phase *ph = phase_of(ex, &e->process, e->phase);
    if (!ph || ph->exited || !ph->started)
        return;
    ship_ready(ex, ph);
    if (ph->exited) /* what it said was too much, and its sandbox did not obey */
        return;
    dbx_timer_stop(ex->watch);
    account(ex, ph, e);
    ph->exited = true;
    ph->ending.exited = e->signal == 0;
    ph->ending.exit_code = e->exit_code;
    ph->ending.signal = e->signal;
    note_seen(ph, e->seen);
    prefer_inner_wall(ex, ph, e->wall_us / 1000);
    shim_exec__set_state(ex, SHIM_EX_DRAINING);
    ph->others_gone = !(e->seen & INIT_LEFT_OTHERS) || ex->box;
    shim_exec__save(ex);
    (void)shim_init_ack(shim_sandbox_init(ex->sb), &ex->rq->process, ph->flag);
    if (e->seen & INIT_LEFT_OTHERS && !ex->box)
        shim_exec__kill_others(ex, ph);
    else
        ph->others_gone = true;
    shim_ship_hurry(ph->ship);
    check_over(ex, ph);
}

/* Nothing will come from init any more, the streams end by themselves: the sentry held them. */
static void without_sandbox(struct shim_exec *ex, struct shim_exec_phase *ph)
{
    if (!ph->exited)
        account(ex, ph, NULL);
    ph->exited = ph->others_gone = true;
    dbx_timer_stop(ex->watch);
    shim_exec__install_drop(ex);
    shim_exec__leave_sandbox(ex);
    if (ex->state != SHIM_EX_DRAINING)
        shim_exec__set_state(ex, SHIM_EX_DRAINING);
    shim_exec__save(ex);
    shim_ship_hurry(ph->ship);
    check_over(ex, ph);
}

void shim_exec__sandbox_lost(struct shim_exec *ex, const struct dbx_err *err)
{
    struct shim_exec_phase *ph = ex->now;
    if (!ex->sb || ex->state >= SHIM_EX_SHIPPING)
        return;
    if (!ph || ph->ended) {
        shim_exec__finish(ex, err ? err->msg : "the sandbox died");
        return;
    }
    if (!ph->exited)
        ph->ending.sandbox_lost = true;
    snprintf(ex->trouble, sizeof(ex->trouble), "the sandbox died: %.200s", err ? err->msg : "");
    without_sandbox(ex, ph);
}

/* ---- limits ---- */

void shim_exec__kill(struct shim_exec *ex)
{
    struct shim_exec_phase *ph = ex->now;
    if (ph->killed || ph->exited || !ex->sb)
        return;
    if (ex->installing && ph == &ex->compile) {
        shim_exec__install_end(ex, 1);
        return;
    }
    ph->killed = true;
    shim_exec__save(ex);
    dbx_timer_stop(ex->watch);
    shim_exec__arm(ex, KILL_MS);
    struct shim_init *init = shim_sandbox_init(ex->sb);
    int r = ex->box ? shim_init_signal(init, &ex->rq->process, ph->flag, SIGKILL, INIT_TO_GROUP,
                                       NULL, NULL)
                    : shim_init_kill_all(init, KILL_ALL_MS, NULL, NULL);
    if (r < 0)
        without_sandbox(ex, ph);
}

void shim_exec__on_watch(void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    struct shim_exec_phase *ph = ex->now;
    struct shim_sandbox_usage u = {0};
    uint64_t next;
    if (!ph || !ph->started || ph->exited || ph->killed || !ex->sb)
        return;
    if (ex->box && !ph->limits->wall_ms)
        return; /* nothing to look at */
    if (!ex->box)
        shim_sandbox_spent(ex->sb, &u);
    switch (shim_watch_check(&ph->watch, dbx_now_ms(), (uint64_t)u.cpu_ms, u.oom, &next)) {
    case SHIM_OVER_NOT:
        dbx_timer_start(ex->watch, next, 0);
        return;
    case SHIM_OVER_OOM:
        ph->ending.oom = true;
        break;
    case SHIM_OVER_CPU:
        ph->ending.cpu_over = true;
        break;
    case SHIM_OVER_WALL:
        ph->ending.wall_over = true;
        break;
    }
    shim_exec__kill(ex);
}

void shim_exec__phase_deadline(struct shim_exec *ex)
{
    struct shim_exec_phase *ph = ex->now;
    if (!ph->exited && ex->installing && ph == &ex->compile) {
        shim_exec__install_end(ex, 0);
        return;
    }
    if (!ph->exited) { /* it neither started nor, killed, ended */
        dbx_log(DBX_LOG_WARN, &ex->log_trace, "%s: its sandbox is ended",
                ph->killed ? "it does not end" : "it does not start");
        ph->ending.sandbox_lost = true;
        struct shim_box *box = ex->box;
        without_sandbox(ex, ph);
        if (box)
            shim_box_give_up(box);
        return;
    }
    if (shim_ship_is_held(ph->ship)) { /* the log is slow: these bytes are not given up */
        shim_exec__arm(ex, shim_exec_deadline_ms(SHIM_EX_DRAINING));
        return;
    }
    if (ex->box) { /* what it left behind in groups of its own holds them */
        shim_exec__phase_lost(ex);
        return;
    }
    if (ex->deadlines++ == 0 && ex->sb) {
        dbx_log(DBX_LOG_WARN, &ex->log_trace, "its streams do not end: its sandbox is ended");
        shim_exec__arm(ex, shim_exec_deadline_ms(SHIM_EX_DRAINING));
        without_sandbox(ex, ph);
        return;
    }
    dbx_log(DBX_LOG_ERR, &ex->log_trace, "its streams do not end");
    shim_exec__phase_lost(ex);
}
