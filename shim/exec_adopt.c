/* SPDX-License-Identifier: Apache-2.0 */
/* What an execution leaves to the next shim, and how that one goes on with it.
 *
 * The record is put before anything happens in the world that it tells of, or that follows from it:
 * before START is sent, before an exit is acknowledged to init, before the sandbox is ended. What
 * init says is asked for again (LIST), so between two records nothing is lost. Positions in the
 * output are not in here but beside the rings (ship_durable.h). */
#include "shim/exec_int.h"

#include "bundles/bundles.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "shim/ledger.h"
#include "shim/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KILL_MS 3000

static struct shim_ledger *ledger_of(const struct shim_exec *ex)
{
    return ex->execs->opts.ledger ? *ex->execs->opts.ledger : NULL;
}

/* ---- leaving ---- */

static void save_phase(const struct shim_exec_phase *ph, struct shim_phase_record *rec)
{
    rec->began = ph->began;
    rec->started = ph->started;
    rec->exited = ph->exited;
    rec->killed = ph->killed;
    rec->others_gone = ph->others_gone;
    rec->ended = ph->ended;
    rec->shipped = ph->shipped;
    rec->watch = ph->watch;
    rec->ending = ph->ending;
    rec->outcome = ph->outcome;
    rec->ordered_ms = ph->ordered_ms;
    rec->exited_ms = ph->exited_ms;
    memcpy(rec->sha, ph->sha, sizeof(rec->sha));
}

static void fill(struct shim_exec *ex, struct shim_exec_record *rec)
{
    *rec = (struct shim_exec_record){.rq = ex->rq,
                                     .state = ex->state,
                                     .in_compile = ex->now == &ex->compile,
                                     .warm = ex->warm,
                                     .spoke = ex->spoke,
                                     .cancelled = ex->cancelled,
                                     .node_lost = ex->node_lost,
                                     .arrived_us = ex->arrived_us,
                                     .claimed_us = ex->claimed_us,
                                     .started_us = ex->started_us,
                                     .claimed_ms = ex->claimed_ms,
                                     .oom_mark = ex->oom_mark,
                                     .uid = ex->uid,
                                     .run_argv = ex->run.began ? NULL : (char **)ex->run.argv,
                                     .verdict = ex->result.verdict,
                                     .has_compile = ex->result.has_compile,
                                     .has_run = ex->result.has_run,
                                     .end_record = ex->result.end_record,
                                     .end_seq = ex->end_seq,
                                     .end = ex->end};
    if (ex->rq->workspace)
        ; /* its box knows the sandbox */
    else if (ex->now && ex->now->kept)
        rec->instance = *shim_kept_sandbox(ex->now->kept);
    (void)dbx_strcpy(rec->trouble, sizeof(rec->trouble), ex->trouble);
    (void)dbx_strcpy(rec->words, sizeof(rec->words), ex->words);
    save_phase(&ex->compile, &rec->compile);
    save_phase(&ex->run, &rec->run);
}

void shim_exec__save(struct shim_exec *ex)
{
    struct shim_ledger *lg = ledger_of(ex);
    struct shim_exec_record rec;
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    bool over = ex->state >= SHIM_EX_SHIPPING;
    if (!lg || ex->dropped || (over && !ex->saved))
        return; /* what never began is not adopted: its end would be nothing but words */
    dbx_buf_init(&buf, SHIM_LEDGER_MAX);
    fill(ex, &rec);
    int r = shim_exec_record_encode(&rec, &buf);
    if (r == 0)
        r = shim_ledger_put(lg, SHIM_LG_EXEC, &ex->rq->process, buf.data, buf.len);
    else
        shim_ledger_del(lg, SHIM_LG_EXEC, &ex->rq->process);
    if (r < 0)
        dbx_log(DBX_LOG_WARN, &ex->log_trace, "the next shim will not know it: %s", strerror(-r));
    ex->saved = r == 0;
}

void shim_exec__erase(struct shim_exec *ex)
{
    shim_ledger_del(ledger_of(ex), SHIM_LG_STDIN, &ex->rq->process);
    shim_ledger_del(ledger_of(ex), SHIM_LG_EXEC, &ex->rq->process);
    ex->saved = false;
}

static void on_stdin_save(uint64_t at, const void *data, size_t len, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    dbx_buf_init(&buf, SHIM_LEDGER_MAX);
    int r = shim_stdin_record_encode(at, data, len, &buf);
    if (r == 0)
        r = shim_ledger_put(ledger_of(ex), SHIM_LG_STDIN, &ex->rq->process, buf.data, buf.len);
    if (r < 0)
        dbx_log(DBX_LOG_WARN, &ex->log_trace, "the next shim will not know its input: %s",
                strerror(-r));
}

static void on_stdin_mark(uint64_t given, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    shim_ledger_mark(ledger_of(ex), SHIM_LG_STDIN, &ex->rq->process, given);
}

void shim_exec__keep_stdin(struct shim_exec *ex, uint64_t at)
{
    static const struct shim_stdin_keep keep = {on_stdin_save, on_stdin_mark};
    if (ledger_of(ex))
        shim_stdin_keep(ex->in, &keep, at, ex);
}

/* ---- going on ---- */

static void restore_phase(struct shim_exec_phase *ph, const struct shim_phase_record *rec)
{
    ph->began = rec->began;
    ph->limited = rec->began;
    ph->started = rec->started;
    ph->exited = rec->exited;
    ph->others_gone = rec->others_gone;
    ph->ended = rec->ended;
    ph->shipped = rec->shipped;
    ph->watch = rec->watch;
    ph->ending = rec->ending;
    ph->outcome = rec->outcome;
    ph->ordered_ms = rec->ordered_ms;
    ph->exited_ms = rec->exited_ms;
    memcpy(ph->sha, rec->sha, sizeof(ph->sha));
}

static struct shim_exec *restore(struct shim_execs *execs, struct shim_exec_record *rec)
{
    struct shim_exec *ex = shim_exec__new(execs, DBX_TAKE(rec->rq));
    ex->saved = true;
    ex->tpl = bnd_template_find(execs->opts.store, ex->rq->template);
    ex->warm = rec->warm;
    ex->spoke = rec->spoke;
    ex->cancelled = rec->cancelled;
    ex->node_lost = rec->node_lost;
    ex->arrived_us = rec->arrived_us;
    ex->claimed_us = rec->claimed_us;
    ex->started_us = rec->started_us;
    ex->claimed_ms = rec->claimed_ms;
    ex->oom_mark = rec->oom_mark;
    if (rec->uid)
        ex->uid = rec->uid;
    ex->end_seq = rec->end_seq;
    ex->kept_argv = DBX_TAKE(rec->run_argv);
    ex->run.argv = ex->kept_argv;
    ex->result.verdict = (enum dbx_verdict)rec->verdict;
    ex->result.has_compile = rec->has_compile;
    ex->result.has_run = rec->has_run;
    ex->result.end_record = rec->end_record;
    (void)dbx_strcpy(ex->trouble, sizeof(ex->trouble), rec->trouble);
    (void)dbx_strcpy(ex->words, sizeof(ex->words), rec->words);
    restore_phase(&ex->compile, &rec->compile);
    restore_phase(&ex->run, &rec->run);
    ex->result.compile = ex->compile.outcome;
    ex->result.run = ex->run.outcome;
    dbx_buf_done(&ex->end);
    ex->end = rec->end;
    rec->end = (struct dbx_buf){0};
    return ex;
}

/* Its unacknowledged records go to the log again; nothing new is taken from its rings. */
static void finish_shipping(struct shim_exec *ex, struct shim_exec_phase *ph,
                            struct shim_kept *kept)
{
    struct dbx_err err = {0};
    if (!kept)
        return;
    ph->kept = kept;
    if (shim_exec__open_shipping(ex, ph, /* adopt= */ true, &err) < 0) {
        dbx_log(DBX_LOG_ERR, &ex->log_trace, "%s", err.msg);
        ph->kept = shim_kept_remove(kept);
        return;
    }
    shim_ship_phase_stop(DBX_TAKE(ph->ship));
    ph->kept = NULL;
}

static void open_stdin(struct shim_exec *ex, struct shim_exec_phase *ph)
{
    struct shim_stdin_record rec = {0};
    struct dbx_err err = {0};
    const struct dbx_id *id = &ex->rq->process;
    size_t len;
    const uint8_t *data = shim_ledger_get(ledger_of(ex), SHIM_LG_STDIN, id, &len);
    if (ph != &ex->run || shim_kept_stdin(ph->kept) < 0)
        return;
    if (!data || shim_stdin_record_decode(data, len, &rec, &err) < 0) {
        dbx_log(DBX_LOG_WARN, &ex->log_trace, "what waited for its stdin is not known: %s",
                err.msg);
        shim_kept_close_stdin(ph->kept);
        return;
    }
    uint64_t given = shim_ledger_marked(ledger_of(ex), SHIM_LG_STDIN, id);
    size_t done = given > rec.at ? (size_t)(given - rec.at) : 0;
    if (done > rec.data.len)
        done = rec.data.len;
    shim_exec__open_stdin(ex, ph, rec.data.data ? rec.data.data + done : NULL, rec.data.len - done,
                          ex->rq->stdin_open, rec.at + done);
    shim_stdin_record_done(&rec);
}

/* It stands as it stood, and what was being done is begun anew: a kill, the end of the others. */
static void go_on(struct shim_exec *ex, struct shim_exec_phase *ph, bool killed)
{
    ex->state = ph->exited           ? SHIM_EX_DRAINING
                : ph == &ex->compile ? SHIM_EX_COMPILING
                                     : SHIM_EX_RUNNING;
    shim_exec__arm(ex, ph->started && !ph->exited ? 0 : shim_exec_deadline_ms(ex->state));
    ex->adopted = ex->catching_up = !ph->exited;
    open_stdin(ex, ph);
    if (ph->exited) {
        if (!ph->others_gone)
            shim_exec__kill_others(ex, ph);
        shim_ship_hurry(ph->ship);
    } else if (killed) {
        shim_exec__kill(ex);
    } /* its limits: when it is known that it has not ended in time */
    shim_kept_watch(ph->kept, shim_exec__on_stream, ex);
}

/* Its end must not come under a number that was used. */
static void give_up_streams(struct shim_exec *ex, struct shim_exec_phase *ph)
{
    const struct keeper_durable *d = shim_kept_durable(ph->kept);
    shim_ship_go_on(ex->ship, atomic_load(&d->next_seq) + KEEPER_INTENTS);
    ph->kept = shim_kept_remove(ph->kept);
}

static void adopt_live(struct shim_exec *ex, const struct shim_exec_record *rec,
                       struct shim_sandbox *sb, struct shim_kept *const kept[static 2])
{
    struct shim_exec_phase *ph = rec->in_compile ? &ex->compile : &ex->run;
    struct dbx_err err = {0};
    if (ph == &ex->run)
        finish_shipping(ex, &ex->compile, kept[0]);
    else
        shim_kept_remove(kept[1]); /* begun, but START was not sent: it begins anew */
    ex->now = ph;
    ph->kept = kept[ph == &ex->run];
    ex->state = SHIM_EX_RUNNING;
    if (ex->rq->workspace)
        shim_box_rejoin(ex);
    else if (sb)
        shim_exec__own_sandbox(ex, sb);
    if (!ph->kept)
        dbx_err_set(&err, -ENOENT, DBX_INTERNAL, "the keeper does not have its streams");
    else if (shim_exec__open_shipping(ex, ph, /* adopt= */ true, &err) < 0)
        give_up_streams(ex, ph);
    if (!ph->ship) {
        shim_exec__finish(ex, err.msg);
        return;
    }
    if (ph == &ex->compile && ex->rq->workspace && !ph->exited) {
        /* dependencies were being installed, which went with the shim before: on without them */
        ph->exited = ph->others_gone = ph->ending.exited = true;
        ph->exited_ms = dbx_now_ms();
    }
    if (!ex->sb) {
        ph->others_gone = true;
        ph->ending.sandbox_lost |= !ph->exited;
        ph->exited = true;
        if (!ph->exited_ms)
            ph->exited_ms = dbx_now_ms();
    }
    go_on(ex, ph, rec->in_compile ? rec->compile.killed : rec->run.killed);
}

static void adopt_over(struct shim_exec *ex, const struct shim_exec_record *rec,
                       struct shim_kept *const kept[static 2])
{
    finish_shipping(ex, &ex->compile, kept[0]);
    finish_shipping(ex, &ex->run, kept[1]);
    if (rec->state == SHIM_EX_ENDED) {
        ex->state = SHIM_EX_SHIPPING;
        shim_exec__finish_now(ex);
        return;
    }
    ex->state = SHIM_EX_SHIPPING;
    shim_exec__arm(ex, shim_exec_deadline_ms(ex->state));
    shim_exec__ship_end(ex);
}

void shim_execs_adopt(struct shim_execs *execs, struct shim_exec_record *rec,
                      struct shim_sandbox *sb, struct shim_kept *const kept[static 2])
{
    bool over = rec->state >= SHIM_EX_SHIPPING;
    struct shim_exec *ex = restore(execs, rec);
    dbx_log(DBX_LOG_INFO, &ex->log_trace, "adopted while %s",
            shim_exec_state_name((enum shim_exec_state)rec->state));
    ex->refs++; /* what follows may end it */
    if (over)
        adopt_over(ex, rec, kept);
    else
        adopt_live(ex, rec, sb, kept);
    shim_exec__unref(ex);
    shim_exec_record_done(rec);
}

struct listed {
    const struct shim_sandbox *sb;
};

static void check_listed(struct shim_exec *ex, void *user)
{
    struct listed *listed = user;
    struct dbx_err err = {0};
    if (ex->sb != listed->sb || !ex->catching_up)
        return;
    ex->catching_up = false;
    if (ex->now->started && !ex->now->exited && !ex->now->killed)
        dbx_timer_start(ex->watch, 0, 0);
    if (!ex->adopted)
        return;
    ex->adopted = false;
    if (!ex->now->started) {
        shim_exec_drop(ex);
        return;
    }
    dbx_err_set(&err, -ESRCH, DBX_INTERNAL, "its init does not know it");
    shim_exec__sandbox_lost(ex, &err);
}

void shim_execs_listed(struct shim_execs *execs, const struct shim_sandbox *sb)
{
    struct listed listed = {sb};
    shim_execs_each(execs, check_listed, &listed);
}
