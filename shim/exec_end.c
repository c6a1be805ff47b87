/* SPDX-License-Identifier: Apache-2.0 */
/* How an execution's end is told: the END record, then the report to the scheduler. */
#include "shim/exec_int.h"

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/io/loop.h"

#include <stdio.h>
#include <string.h>

static void count_verdict(const struct shim_exec *ex)
{
    char labels[64];
    snprintf(labels, sizeof(labels), "verdict=\"%s\"", dbx_verdict_name(ex->result.verdict));
    dbx_metric_add(dbx_counter("devbox_shim_executions_total", labels, "Executions by verdict"), 1);
    if (!ex->claimed_us)
        return;
    snprintf(labels, sizeof(labels), "template=\"%.30s\",warm=\"%s\"", ex->rq->template,
             ex->warm ? "true" : "false");
    dbx_metric_add(dbx_counter("devbox_shim_starts_total", labels, "Sandboxes claimed"), 1);
}

static void ended(struct shim_exec *ex)
{
    shim_exec__set_state(ex, SHIM_EX_ENDED);
    ex->ship = shim_ship_proc_free(ex->ship);
    if (ex->dropped)
        return;
    shim_exec__save(ex);
    count_verdict(ex);
    dbx_log(DBX_LOG_INFO, &ex->log_trace, "ended: %s%s%s", dbx_verdict_name(ex->result.verdict),
            ex->trouble[0] ? ": " : "", ex->trouble);
    ex->execs->opts.on_ended(ex, ex->execs->opts.user);
}

static void on_shipped(const struct dbx_err *err, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    if (ex->state != SHIM_EX_SHIPPING)
        return;
    ex->result.end_record = !err;
    if (err)
        dbx_log(DBX_LOG_ERR, &ex->log_trace, "the log lost records: %s", err->msg);
    ended(ex);
}

static void write_end(const struct shim_exec *ex, struct dbx_buf *out)
{
    const struct shim_exec_phase *ph = ex->result.has_run ? &ex->run : &ex->compile;
    char hex[2 * DBX_SHA256_LEN + 1];
    uint8_t nothing[DBX_SHA256_LEN];
    dbx_sha256("", 0, nothing);
    struct dbx_jw *w = dbx_jw_new(out);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "status", dbx_verdict_status(ex->result.verdict));
    dbx_jw_kstr(w, "verdict", dbx_verdict_name(ex->result.verdict));
    dbx_jw_key(w, "compile");
    if (ex->result.has_compile)
        dbx_outcome_write(w, &ex->result.compile);
    else
        dbx_jw_null(w);
    dbx_jw_key(w, "run");
    if (ex->result.has_run)
        dbx_outcome_write(w, &ex->result.run);
    else
        dbx_jw_null(w);
    dbx_jw_key(w, "sha256");
    dbx_jw_object(w);
    for (int i = 0; i < 2; i++) {
        dbx_hex_encode(ph->shipped ? ph->sha[i] : nothing, DBX_SHA256_LEN, hex);
        dbx_jw_kstr(w, i == 0 ? "stdout" : "stderr", hex);
    }
    dbx_jw_object_end(w);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0); /* all of it is ours */
}

/* A phase that was begun but did not come to its end by itself. */
static void close_phase(struct shim_exec *ex, struct shim_exec_phase *ph, const char *trouble)
{
    if (ph->ended)
        return;
    ph->ended = true;
    ph->ending.sandbox_lost |= trouble != NULL;
    ph->ending.cancelled |= ex->cancelled;
    ph->ending.node_lost |= ex->node_lost;
    shim_verdict_fill(&ph->ending, &ph->outcome);
    if (ph->ship) {
        ph->outcome.stdout_bytes = (int64_t)shim_ship_bytes(ph->ship, 0);
        ph->outcome.stderr_bytes = (int64_t)shim_ship_bytes(ph->ship, 1);
        ph->outcome.usage.output_bytes = ph->outcome.stdout_bytes + ph->outcome.stderr_bytes;
        shim_exec__phase_release(ex, ph);
    }
}

static void decide(struct shim_exec *ex, const char *trouble)
{
    struct shim_exec_result *res = &ex->result;
    if (ex->compile.began)
        close_phase(ex, &ex->compile, trouble);
    if (ex->run.began)
        close_phase(ex, &ex->run, trouble);
    res->has_compile = ex->compile.began;
    res->has_run = ex->run.began;
    res->compile = ex->compile.outcome;
    res->run = ex->run.outcome;
    if (res->has_compile || res->has_run)
        res->verdict = shim_verdict_total(res->has_compile ? &res->compile : NULL,
                                          res->has_run ? &res->run : NULL);
    else
        res->verdict = ex->cancelled   ? DBX_V_CANCELLED
                       : ex->node_lost ? DBX_V_NODE_LOST
                                       : DBX_V_INTERNAL;
    /* Between the phases: the compiler's OK is not the whole story. */
    if (!res->has_run && res->has_compile && res->compile.verdict == DBX_V_OK && ex->cancelled)
        res->verdict = DBX_V_CANCELLED;
    if (!res->has_run && res->has_compile && res->compile.verdict == DBX_V_OK && ex->node_lost)
        res->verdict = DBX_V_NODE_LOST;
}

/* Nothing of it is left but what RENEW undoes, as far as was seen from here. */
static bool ended_well(const struct shim_exec *ex)
{
    const struct shim_exec_phase *ph = ex->now;
    return ph && ph->exited && ph->others_gone && ph->streams_ended && !ph->ending.oom &&
           !ph->ending.sandbox_lost && !ex->node_lost;
}

static void leave_all(struct shim_exec *ex)
{
    dbx_timer_stop(ex->watch);
    ex->in = shim_stdin_free(ex->in);
    if (ex->claim)
        shim_claim_cancel(DBX_TAKE(ex->claim));
    shim_exec__install_drop(ex);
    if (ex->lane)
        shim_lane_leave(ex, ended_well(ex));
    shim_exec__leave_sandbox(ex);
    dbx_buf_done(&ex->block);
    dbx_buf_done(&ex->rq->files);
    dbx_buf_done(&ex->rq->input);
}

void shim_exec__finish(struct shim_exec *ex, const char *trouble)
{
    if (ex->state >= SHIM_EX_SHIPPING)
        return;
    if (trouble && !ex->trouble[0])
        (void)dbx_strcpy(ex->trouble, sizeof(ex->trouble), trouble);
    decide(ex, trouble);
    write_end(ex, &ex->end);
    ex->end_seq = shim_ship_seq(ex->ship);
    shim_exec__set_state(ex, SHIM_EX_SHIPPING);
    shim_exec__save(ex); /* before the sandbox goes: from now on it is known how it ended */
    leave_all(ex);
    shim_ship_end(ex->ship, ex->end.data, ex->end.len, on_shipped, ex);
}

/* As an earlier shim would have given it to the log, or has. */
void shim_exec__ship_end(struct shim_exec *ex)
{
    size_t len = strlen(ex->words);
    const struct shim_exec_phase *ph = ex->run.began ? &ex->run : &ex->compile;
    bool tty = ph == &ex->run && ex->rq->cols > 0;
    uint64_t bytes = (uint64_t)(tty ? ph->outcome.stdout_bytes : ph->outcome.stderr_bytes);
    if (len > 0 && bytes >= len && ex->end_seq > 0) {
        shim_ship_go_on(ex->ship, ex->end_seq - 1);
        shim_ship_say(ex->ship, tty ? DBX_REC_PTY : DBX_REC_STDERR, (uint8_t)ph->flag, bytes - len,
                      ex->words, len);
    } else {
        shim_ship_go_on(ex->ship, ex->end_seq);
    }
    shim_ship_end(ex->ship, ex->end.data, ex->end.len, on_shipped, ex);
}

void shim_exec__finish_now(struct shim_exec *ex)
{
    if (ex->state != SHIM_EX_SHIPPING) {
        decide(ex, NULL);
        leave_all(ex);
    }
    ended(ex);
}

static void on_words_released(void *source, void *user)
{
    (void)source;
    shim_exec__unref(DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user));
}
static const struct shim_ship_handlers words_handlers = {.on_released = on_words_released};

void shim_exec__finish_unplanned(struct shim_exec *ex, const char *why)
{
    char words[256];
    struct shim_exec_phase *ph =
        ex->tpl->has_compile && !ex->run.ending.disk_full ? &ex->compile : &ex->run;
    struct shim_ship_phase_opts opts = {.flags = (uint8_t)ph->flag,
                                        .max_bytes = (uint64_t)ph->limits->output_bytes,
                                        .h = &words_handlers,
                                        .user = ex};
    ph->began = true;
    ph->outcome = (struct dbx_outcome){.exit_code = -1};
    ph->ending.exited = true;
    ph->ending.exit_code = 2;
    ph->ship = shim_ship_phase_new(ex->ship, &opts);
    ex->refs++;
    snprintf(words, sizeof(words), "%s\n", why);
    shim_ship_status(ph->ship);
    shim_ship_words(ph->ship, 1, words);
    shim_exec__finish(ex, NULL);
}
