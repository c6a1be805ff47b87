/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/result.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "gateway/follow.h"
#include "gateway/gw.h"
#include "gateway/progress.h"
#include "gateway/watch.h"

#define MAX_STREAM (1u << 20) /* of one stream in the object */

struct gw_result {
    struct gw *gw;
    struct gw_process p;
    struct gw_watch watch;
    struct gw_follow *follow;
    struct gw_progress progress;
    struct dbx_buf out[GW_PHASE_RUN + 1][GW_STREAMS];
    bool truncated[GW_PHASE_RUN + 1][GW_STREAMS];
    gw_result_fn *fn; /* NULL once called */
    void *arg;
};

/* What the row knows of and the log has lost. A terminal's bytes are counted as stdout. */
static void look_for_holes(struct gw_result *rs, enum gw_phase phase, const struct dbx_outcome *o)
{
    const struct dbx_buf *out = rs->out[phase];
    if (out[GW_STDOUT].len + out[GW_PTY].len < (uint64_t)o->stdout_bytes)
        rs->truncated[phase][GW_STDOUT] = true;
    if (out[GW_STDERR].len < (uint64_t)o->stderr_bytes)
        rs->truncated[phase][GW_STDERR] = true;
}

static void finish(struct gw_result *rs, const struct dbx_err *err)
{
    gw_result_fn *fn = DBX_TAKE(rs->fn);
    if (rs->p.end.compiled)
        look_for_holes(rs, GW_PHASE_COMPILE, &rs->p.end.compile);
    if (rs->p.end.ran)
        look_for_holes(rs, GW_PHASE_RUN, &rs->p.end.run);
    if (fn)
        fn(rs, err, rs->arg);
}

static void take(struct gw_result *rs, const struct gw_event *ev)
{
    struct dbx_buf *buf = &rs->out[ev->phase][ev->stream];
    bool *truncated = &rs->truncated[ev->phase][ev->stream];
    size_t room = buf->max - buf->len;
    if (ev->kind == GW_EV_GAP) {
        *truncated = true;
        return;
    }
    if (*truncated)
        return; /* only what stands before the first hole */
    if (dbx_buf_append(buf, ev->data, ev->len < room ? ev->len : room) < 0 || ev->len > room)
        *truncated = true;
}

/* An END record with another verdict is that of an attempt that was lost and made again. */
bool gw_result_is_final(const struct gw_result *rs)
{
    return rs->p.end.terminal && rs->progress.end && rs->progress.verdict == rs->p.end.verdict;
}

static bool on_record(const struct dbx_record *r, const struct dbx_olog_entry *e, void *user)
{
    struct gw_result *rs = user;
    struct gw_event ev;
    (void)e;
    if (!dbx_id_equal(&r->process, &rs->p.id))
        return true;
    do {
        gw_progress_next(&rs->progress, r, DBX_REC_MAX_DATA, &ev);
        if (ev.kind == GW_EV_DATA || ev.kind == GW_EV_GAP)
            take(rs, &ev);
    } while (ev.kind != GW_EV_NONE && ev.kind != GW_EV_END);
    if (gw_result_is_final(rs))
        finish(rs, NULL);
    return true;
}

static void on_end(void *user)
{
    struct gw_result *rs = user;
    if (rs->p.end.terminal)
        finish(rs, NULL);
}

static void on_error(const struct dbx_err *err, void *user)
{
    finish(user, err);
}

static bool wants(const struct dbx_id *process, void *user)
{
    const struct gw_result *rs = user;
    return dbx_id_equal(process, &rs->p.id);
}

static const struct gw_follow_handlers follow_handlers = {
    .on_record = on_record, .wants = wants, .on_end = on_end, .on_error = on_error};

static void on_started(struct gw_watch *w)
{
    struct gw_result *rs = dbx_container_of(w, struct gw_result, watch);
    if (!rs->p.end.terminal)
        (void)dbx_strcpy(rs->p.end.status, sizeof(rs->p.end.status), "running");
}

static void on_ended(struct gw_watch *w, const struct gw_end *end)
{
    struct gw_result *rs = dbx_container_of(w, struct gw_result, watch);
    if (rs->p.end.terminal)
        return;
    rs->p.end = *end;
    if (gw_result_is_final(rs))
        finish(rs, NULL);
    else
        gw_follow_to_end(rs->follow); /* the END record stands there, or never will */
}

struct gw_result *gw_result_new(struct gw *gw, const struct gw_process *p, gw_result_fn *fn,
                                void *arg)
{
    struct gw_result *rs = DBX_NEW(struct gw_result);
    rs->gw = gw;
    rs->p = *p;
    rs->fn = fn;
    rs->arg = arg;
    for (size_t i = 0; i <= GW_PHASE_RUN; i++)
        for (size_t k = 0; k < GW_STREAMS; k++)
            dbx_buf_init(&rs->out[i][k], MAX_STREAM);
    rs->follow = gw_follow_new(gw, &p->sandbox, p->log_offset, &follow_handlers, rs);
    rs->watch.on_started = on_started;
    rs->watch.on_ended = on_ended;
    if (p->end.terminal)
        gw_follow_to_end(rs->follow);
    else
        gw_watch_add(gw->watches, &rs->watch, &p->id, false);
    return rs;
}

struct gw_result *gw_result_free(struct gw_result *rs)
{
    if (!rs)
        return NULL;
    gw_watch_remove(&rs->watch);
    rs->follow = gw_follow_free(rs->follow);
    for (size_t i = 0; i <= GW_PHASE_RUN; i++)
        for (size_t k = 0; k < GW_STREAMS; k++)
            dbx_buf_done(&rs->out[i][k]);
    free(rs);
    return NULL;
}

/* --- the object --- */

void gw_put_id(struct dbx_jw *w, const char *key, const struct dbx_id *id)
{
    char text[DBX_ID_TEXT];
    dbx_id_format(id, text);
    dbx_jw_kstr(w, key, text);
}

void gw_put_time(struct dbx_jw *w, const char *key, int64_t us)
{
    char text[25];
    if (us)
        dbx_format_time(us, text);
    dbx_jw_kstr(w, key, us ? text : NULL);
}

void gw_put_outcome(struct dbx_jw *w, const struct dbx_outcome *o)
{
    dbx_jw_kstr(w, "verdict", dbx_verdict_name(o->verdict));
    dbx_jw_key(w, "exit_code");
    if (o->exit_code >= 0)
        dbx_jw_i64(w, o->exit_code);
    else
        dbx_jw_null(w);
    dbx_jw_kstr(w, "signal", o->signal ? dbx_signal_name(o->signal) : NULL);
}

void gw_put_end(struct dbx_jw *w, const struct gw_end *end)
{
    struct dbx_outcome o = {.exit_code = -1};
    if (end->ran)
        o = end->run;
    o.verdict = end->verdict;
    dbx_jw_kstr(w, "status", end->status);
    gw_put_outcome(w, &o);
}

void gw_put_usage_of(struct dbx_jw *w, const struct dbx_usage *u)
{
    dbx_jw_key(w, "usage");
    dbx_jw_object(w);
    dbx_jw_ki64(w, "queued_ms", u->queued_ms);
    dbx_jw_ki64(w, "start_ms", u->start_ms);
    dbx_jw_ki64(w, "wall_ms", u->wall_ms);
    dbx_jw_ki64(w, "cpu_ms", u->cpu_ms);
    dbx_jw_ki64(w, "memory_peak_bytes", u->memory_peak_bytes);
    dbx_jw_ki64(w, "output_bytes", u->output_bytes);
    dbx_jw_ki64(w, "disk_bytes", u->disk_bytes);
    dbx_jw_object_end(w);
}

void gw_put_usage(struct dbx_jw *w, const struct gw_end *end)
{
    const struct dbx_usage none = {0};
    const struct dbx_usage *u = end->ran        ? &end->run.usage
                                : end->compiled ? &end->compile.usage
                                                : &none;
    gw_put_usage_of(w, u);
}

/* key, and key_encoding when the bytes are not text. What was cut may have been cut within a
 * character: the rest of it goes. */
static void put_bytes(struct dbx_jw *w, const char *key, const struct dbx_buf *buf, bool truncated)
{
    bool incomplete = false;
    size_t len = buf->len, text = dbx_utf8_prefix(buf->data, len, &incomplete);
    char name[32];
    if (truncated && incomplete)
        len = text;
    dbx_jw_key(w, key);
    if (text >= len) {
        dbx_jw_strn(w, dbx_buf_cstr(buf), len);
        return;
    }
    char *b64 = dbx_malloc((len + 2) / 3 * 4 + 1);
    dbx_jw_strn(w, b64, dbx_base64_encode(buf->data, len, b64, false));
    free(b64);
    snprintf(name, sizeof(name), "%s_encoding", key);
    dbx_jw_kstr(w, name, "base64");
}

static void put_streams(struct dbx_jw *w, const struct gw_result *rs, enum gw_phase phase)
{
    put_bytes(w, "stdout", &rs->out[phase][GW_STDOUT], rs->truncated[phase][GW_STDOUT]);
    put_bytes(w, "stderr", &rs->out[phase][GW_STDERR], rs->truncated[phase][GW_STDERR]);
}

static bool any_truncated(const struct gw_result *rs)
{
    bool any = false;
    for (size_t i = 0; i <= GW_PHASE_RUN; i++)
        for (size_t k = 0; k < GW_STREAMS; k++)
            any |= rs->truncated[i][k];
    return any;
}

void gw_result_write(struct dbx_jw *w, const struct gw_result *rs)
{
    const struct gw_end *end = &rs->p.end;
    gw_put_id(w, "id", &rs->p.execution);
    gw_put_end(w, end);
    put_streams(w, rs, GW_PHASE_RUN);
    dbx_jw_kbool(w, "truncated", any_truncated(rs));
    dbx_jw_key(w, "compile");
    if (end->compiled) {
        dbx_jw_object(w);
        gw_put_outcome(w, &end->compile);
        put_streams(w, rs, GW_PHASE_COMPILE);
        gw_put_usage_of(w, &end->compile.usage);
        dbx_jw_object_end(w);
    } else {
        dbx_jw_null(w);
    }
    gw_put_usage(w, end);
}
