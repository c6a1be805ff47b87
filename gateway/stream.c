/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a viewer is shown: one reader of the sandbox's log, and for each process where he stands.
 *
 * Where he stands is in byte positions (progress.h), so reading any part of the log again is
 * harmless, and everything that is hard becomes "read on from further back": a resume, a viewer who
 * lagged, a restart to learn where the log ends. A process is at its end when its row is terminal
 * (`ended` of the scheduler, or the database) and its END record has been seen; where there is
 * none, when the log has been read up to where it ended at that time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/ext/json.h"
#include "common/proto/output_log.h"
#include "gateway/follow.h"
#include "gateway/gw.h"
#include "gateway/result.h"
#include "gateway/session_int.h"
#include "gateway/store.h"

#define MAX_STATUS 4096
#define MAX_END_RECORD (64u << 10)
#define MAX_ASKING 16

struct gw_viewed *gw_stream_find(struct gw_session *ss, const struct dbx_id *process)
{
    return dbx_map_get(ss->viewed, process, sizeof(*process));
}

/* --- how much may be sent --- */

/* Bytes of output that may be sent now; *ret_in_flight: what an acknowledging viewer has open. */
static size_t room(const struct gw_session *ss, uint64_t *ret_in_flight)
{
    struct dbx_map_iter it = {0};
    bool acking = false;
    uint64_t in_flight = 0;
    while (dbx_map_next(ss->viewed, &it)) {
        const struct gw_viewed *v = it.value;
        acking |= v->acking;
        if (v->acking)
            in_flight += v->sent - v->acked;
    }
    *ret_in_flight = in_flight;
    if (!acking)
        return SIZE_MAX;
    return in_flight < GW_ACK_WINDOW ? GW_ACK_WINDOW - in_flight : 0;
}

void gw_stream_go_on(struct gw_session *ss)
{
    if (ss->follow && ss->ws && dbx_ws_queued(ss->ws) <= GW_HIGH_WATER)
        gw_follow_resume(ss->follow);
}

/* --- messages --- */

static void emit(const char *text, size_t len, size_t bytes, void *user)
{
    struct gw_viewed *v = user;
    v->sent += bytes;
    gw_session_text(v->ss, text, len);
}

/* Sends it; the frame is the caller's. */
static struct dbx_ws_frame *send_as_frame(struct gw_viewed *v, const struct dbx_record *r)
{
    uint8_t header[DBX_REC_HEADER];
    dbx_record_header(r, header);
    struct dbx_ws_frame *f = dbx_ws_frame_new(true, header, sizeof(header), r->data, r->len);
    gw_session_frame(v->ss, f);
    if (r->type <= DBX_REC_PTY)
        v->sent += r->len;
    return f;
}

static void send_record(struct gw_viewed *v, const struct dbx_record *r)
{
    dbx_ws_frame_unref(send_as_frame(v, r));
}

/* --- what was made for another viewer already --- */

static void send_shared(struct gw_viewed *v, const struct gw_shared *shared)
{
    for (size_t i = 0; i < shared->n; i++) {
        v->sent += shared->messages[i].bytes;
        gw_session_frame(v->ss, shared->messages[i].frame);
    }
}

struct sharing_emit {
    struct gw_viewed *v;
    struct gw_sharing sharing;
};

static void emit_and_share(const char *text, size_t len, size_t bytes, void *user)
{
    struct sharing_emit *se = user;
    struct dbx_ws_frame *f = dbx_ws_frame_new(false, text, len, NULL, 0);
    se->v->sent += bytes;
    gw_session_frame(se->v->ss, f);
    gw_sharing_add(&se->sharing, f, bytes);
}

/* The whole of a record, to one of many. */
static void share_text(struct gw_viewed *v, const struct dbx_record *r, int64_t offset)
{
    struct gw_shares *shares = v->ss->gw->shares;
    const struct gw_shared *shared = gw_shares_find(shares, &v->id, offset, &v->text);
    if (shared) {
        send_shared(v, shared);
        v->text = shared->after;
        return;
    }
    struct sharing_emit se = {.v = v, .sharing = {.before = v->text}};
    bool all = gw_text_record(&v->text, r, offset, SIZE_MAX, emit_and_share, &se);
    dbx_assert(all);
    gw_shares_keep(shares, &v->id, offset, &se.sharing, &v->text);
}

static void share_record(struct gw_viewed *v, const struct dbx_record *r, int64_t offset)
{
    struct gw_shares *shares = v->ss->gw->shares;
    const struct gw_shared *shared = gw_shares_find(shares, &v->id, offset, NULL);
    if (shared) {
        send_shared(v, shared);
        return;
    }
    struct gw_sharing sharing = {0};
    gw_sharing_add(&sharing, send_as_frame(v, r), r->type <= DBX_REC_PTY ? r->len : 0);
    gw_shares_keep(shares, &v->id, offset, &sharing, NULL);
}

static void send_status(struct gw_viewed *v)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, MAX_STATUS);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "type", "status");
    gw_put_id(w, "process_id", &v->id);
    gw_put_end(w, &v->end);
    gw_put_usage(w, &v->end);
    dbx_jw_key(w, "compile");
    if (v->end.compiled) {
        dbx_jw_object(w);
        gw_put_outcome(w, &v->end.compile);
        gw_put_usage_of(w, &v->end.compile.usage);
        dbx_jw_object_end(w);
    } else {
        dbx_jw_null(w);
    }
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0);
    gw_session_text(v->ss, dbx_buf_cstr(&buf), buf.len);
    dbx_buf_done(&buf);
}

/* The log has no END record of it: the row's words, in the form of one. */
static void send_made_end(struct gw_viewed *v)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, MAX_STATUS);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "compile", NULL);
    dbx_jw_kstr(w, "run", NULL);
    dbx_jw_kstr(w, "status", v->end.status);
    dbx_jw_kstr(w, "verdict", dbx_verdict_name(v->end.verdict));
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0);
    const struct dbx_record rec = {.type = DBX_REC_END,
                                   .seq = v->next_seq,
                                   .ts_us = dbx_wall_us(),
                                   .process = v->id,
                                   .data = buf.data,
                                   .len = (uint32_t)buf.len};
    send_record(v, &rec);
    dbx_buf_done(&buf);
}

/* --- the end of a process --- */

static bool saw_end(const struct gw_viewed *v)
{
    const struct gw_progress *p = &v->text.progress;
    return p->end && p->verdict == v->end.verdict;
}

/* Output that the row knows of and the log has lost. */
static void send_last_gaps(struct gw_viewed *v)
{
    static const char run[] = "{\"phase\":\"run\"}", compile[] = "{\"phase\":\"compile\"}";
    const struct gw_end *end = &v->end;
    const struct dbx_outcome *o = end->ran ? &end->run : &end->compile;
    const char *phase = end->ran ? run : compile;
    const struct dbx_record status = {.type = DBX_REC_STATUS,
                                      .ts_us = dbx_wall_us(),
                                      .process = v->id,
                                      .data = (const uint8_t *)phase,
                                      .len = (uint32_t)strlen(phase)};
    if (!end->ran && !end->compiled)
        return;
    (void)gw_text_record(&v->text, &status, v->text.last_offset, SIZE_MAX, emit, v);
    if (o->stdout_bytes > 0) /* a terminal's bytes are counted there too */
        gw_text_gap(&v->text, v->text.progress.pos[GW_PTY] > 0 ? GW_PTY : GW_STDOUT,
                    (uint64_t)o->stdout_bytes, emit, v);
    if (o->stderr_bytes > 0)
        gw_text_gap(&v->text, GW_STDERR, (uint64_t)o->stderr_bytes, emit, v);
}

static void finish(struct gw_viewed *v)
{
    v->done = true;
    gw_watch_remove(&v->watch);
    if (v->ss->binary) {
        struct dbx_record r;
        if (saw_end(v) && dbx_record_decode(v->end_record.data, v->end_record.len, &r) == 0)
            send_record(v, &r);
        else
            send_made_end(v);
        return;
    }
    gw_text_flush(&v->text, emit, v);
    if (v->ss->lost || !saw_end(v))
        send_last_gaps(v);
    send_status(v);
}

static void on_started(struct gw_watch *w)
{
    struct gw_viewed *v = dbx_container_of(w, struct gw_viewed, watch);
    v->started = true;
    gw_session_push_input(v);
}

static void on_ended(struct gw_watch *w, const struct gw_end *end)
{
    struct gw_viewed *v = dbx_container_of(w, struct gw_viewed, watch);
    if (v->end.terminal)
        return;
    v->end = *end;
    gw_session_push_input(v);
    if (saw_end(v))
        finish(v);
    else if (v->ss->follow) /* else the log could not be read, and the socket closes */
        gw_follow_to_end(v->ss->follow);
}

static void on_end(void *user)
{
    struct gw_session *ss = user;
    struct dbx_map_iter it = {0};
    while (dbx_map_next(ss->viewed, &it)) {
        struct gw_viewed *v = it.value;
        if (v->end.terminal && !v->done && !v->hidden)
            finish(v);
    }
}

/* --- records --- */

static bool show_text(struct gw_viewed *v, const struct dbx_record *r, int64_t offset)
{
    uint64_t in_flight;
    size_t max = room(v->ss, &in_flight);
    if (max < SIZE_MAX || gw_audience_is_one(v->ss->audience))
        return gw_text_record(&v->text, r, offset, max, emit, v);
    share_text(v, r, offset);
    return true;
}

static void send_gap_record(struct gw_viewed *v, const struct dbx_record *r,
                            const struct gw_event *ev)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, 32);
    int bad = dbx_buf_u64(&buf, ev->from) | dbx_buf_u64(&buf, ev->to) |
              dbx_buf_u8(&buf, (uint8_t)(DBX_REC_STDOUT + ev->stream));
    dbx_assert(!bad);
    struct dbx_record gap = *r;
    gap.type = DBX_REC_GAP;
    gap.seq = r->seq - 1; /* it stands for records that are gone */
    gap.data = buf.data;
    gap.len = (uint32_t)buf.len;
    send_record(v, &gap);
    dbx_buf_done(&buf);
}

static bool show_record(struct gw_viewed *v, const struct dbx_record *r,
                        const struct dbx_olog_entry *e)
{
    uint64_t in_flight;
    struct gw_event ev;
    bool wanted = r->seq >= v->next_seq, news = false;
    if (r->type <= DBX_REC_PTY && r->len > room(v->ss, &in_flight) && in_flight > 0)
        return false;
    do {
        gw_progress_next(&v->text.progress, r, DBX_REC_MAX_DATA, &ev);
        news |= ev.kind != GW_EV_NONE;
        if (ev.kind == GW_EV_GAP && r->type != DBX_REC_GAP && wanted)
            send_gap_record(v, r, &ev);
    } while (ev.kind != GW_EV_NONE && ev.kind != GW_EV_END);
    if (r->type == DBX_REC_END) {
        dbx_buf_clear(&v->end_record);
        (void)dbx_buf_append(&v->end_record, e->value, e->len); /* too large: one is made */
    } else if (wanted && news) {
        if (gw_audience_is_one(v->ss->audience))
            send_record(v, r);
        else
            share_record(v, r, e->offset);
    }
    if (r->seq >= v->next_seq)
        v->next_seq = r->seq + 1;
    return true;
}

static void ask(struct gw_session *ss, const struct dbx_id *process, bool by_viewer);

static bool on_record(const struct dbx_record *r, const struct dbx_olog_entry *e, void *user)
{
    struct gw_session *ss = user;
    struct gw_viewed *v = gw_stream_find(ss, &r->process);
    if (!ss->ws || dbx_ws_queued(ss->ws) > GW_HIGH_WATER)
        return false;
    if (!v) {
        ask(ss, &r->process, false);
        return false;
    }
    if (v->asked)
        return false;
    if (v->hidden || v->done || e->offset < v->from)
        return true;
    if (!v->started) {
        v->started = true;
        gw_session_push_input(v);
    }
    if (ss->binary ? !show_record(v, r, e) : !show_text(v, r, e->offset))
        return false;
    if (v->end.terminal && saw_end(v))
        finish(v);
    return true;
}

static void on_lost(void *user)
{
    struct gw_session *ss = user;
    ss->lost = true;
}

static bool wants(const struct dbx_id *process, void *user)
{
    struct gw_session *ss = user;
    const struct gw_viewed *v = gw_stream_find(ss, process);
    return v && !v->hidden && !v->done;
}

static void on_error(const struct dbx_err *err, void *user)
{
    struct gw_session *ss = user;
    dbx_log(DBX_LOG_ERR, &ss->log, "read the output log: %s", err->msg);
    ss->follow = gw_follow_free(ss->follow);
    if (ss->ws)
        gw_session_close(ss, 1011, "the output cannot be read, reconnect");
}

static const struct gw_follow_handlers follow_handlers = {.on_record = on_record,
                                                          .on_lost = on_lost,
                                                          .wants = wants,
                                                          .on_end = on_end,
                                                          .on_error = on_error};

/* --- processes --- */

static struct gw_viewed *new_viewed(struct gw_session *ss, const struct dbx_id *process)
{
    struct gw_viewed *v = DBX_NEW(struct gw_viewed);
    v->ss = ss;
    v->id = *process;
    v->watch.on_started = on_started;
    v->watch.on_ended = on_ended;
    dbx_buf_init(&v->input, GW_MAX_INPUT_QUEUE);
    v->input_seq = -1;
    dbx_buf_init(&v->end_record, MAX_END_RECORD);
    gw_text_init(&v->text, process);
    (void)dbx_map_put(ss->viewed, process, sizeof(*process), v);
    return v;
}

static void free_viewed(struct gw_viewed *v)
{
    gw_watch_remove(&v->watch);
    dbx_buf_done(&v->input);
    dbx_buf_done(&v->end_record);
    free(v);
}

static void set_row(struct gw_viewed *v, const struct gw_process *p)
{
    v->start = v->from = p->log_offset;
    v->end = p->end;
    v->started = p->started_us != 0;
    if (!p->end.terminal && !v->hidden)
        gw_watch_add(v->ss->gw->watches, &v->watch, &v->id, true);
}

static void on_asked(const struct gw_process *rows, size_t n, const struct dbx_err *err, void *arg)
{
    struct gw_viewed *v = arg;
    struct gw_session *ss = v->ss;
    ss->asking -= v->by_viewer;
    if (ss->ws && err) {
        v->asked = false;
        v->hidden = true; /* it is not known whether he may see it */
        gw_session_close(ss, 1013, "reconnect");
    } else if (ss->ws && v->by_viewer &&
               (n == 0 || !dbx_id_equal(&rows[0].sandbox, &ss->sandbox))) {
        gw_session_error(ss, &v->id, "unknown_process", "no such process in this sandbox");
        (void)dbx_map_del(ss->viewed, &v->id, sizeof(v->id));
        free_viewed(v);
    } else if (ss->ws) {
        v->asked = false;
        /* The database named all there were at connect but those that ended long before. */
        v->hidden = n == 0 || !dbx_id_equal(&rows[0].sandbox, &ss->sandbox) ||
                    (rows[0].ended_us && dbx_wall_us() - rows[0].ended_us > 300 * 1000000ll);
        if (n > 0)
            set_row(v, &rows[0]);
        if (v->end.terminal && !v->hidden && ss->follow)
            gw_follow_to_end(ss->follow);
        gw_session_push_input(v);
        gw_stream_go_on(ss);
    } else {
        free_viewed(v); /* left by gw_stream_stop */
    }
    gw_session_unref(ss);
}

static void ask(struct gw_session *ss, const struct dbx_id *process, bool by_viewer)
{
    struct gw_viewed *v = new_viewed(ss, process);
    v->asked = true;
    v->by_viewer = by_viewer;
    ss->asking += by_viewer;
    gw_session_ref(ss);
    gw_store_process(ss->gw->store, process, on_asked, v);
}

struct gw_viewed *gw_stream_ask(struct gw_session *ss, const struct dbx_id *process)
{
    if (ss->asking == MAX_ASKING)
        return NULL;
    ask(ss, process, true);
    return gw_stream_find(ss, process);
}

/* --- resume --- */

/* Puts v behind last_seen_id; what that is of no use for stays as it was, and -EINVAL. */
static int move_to(struct gw_viewed *v, const char *last_seen_id)
{
    struct gw_session *ss = v->ss;
    struct gw_stream_id id = {0};
    uint64_t next_seq = 0;
    if (ss->binary ? gw_stream_seq_parse(last_seen_id, &next_seq) < 0
                   : gw_stream_id_parse(last_seen_id, &id) < 0)
        return -EINVAL;
    /* An offset beyond the end is for the reader to find out: another gateway may have given what
     * the bounds here have not heard of yet. */
    bool begin = id.at.phase == GW_PHASE_NONE;
    if (!begin && id.log_offset < v->start)
        return -EINVAL;
    gw_text_init(&v->text, &v->id);
    gw_text_resume(&v->text, &id);
    v->from = begin ? v->start : id.log_offset;
    v->next_seq = next_seq;
    v->done = false;
    v->sent = v->acked = 0;
    dbx_buf_clear(&v->end_record);
    return 0;
}

int gw_stream_resume(struct gw_viewed *v, const char *last_seen_id)
{
    struct gw_session *ss = v->ss;
    struct dbx_buf buf;
    int64_t at = gw_follow_at(ss->follow);
    int r = move_to(v, last_seen_id);
    if (r < 0)
        return r;
    dbx_buf_init(&buf, MAX_STATUS);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "type", "resumed");
    gw_put_id(w, "process_id", &v->id);
    dbx_jw_kstr(w, "last_seen_id", last_seen_id);
    dbx_jw_object_end(w);
    r = dbx_jw_end(&w);
    dbx_assert(r == 0);
    gw_session_text(ss, dbx_buf_cstr(&buf), buf.len);
    dbx_buf_done(&buf);
    gw_follow_restart(ss->follow, v->from < at ? v->from : at);
    if (v->end.terminal)
        gw_follow_to_end(ss->follow);
    return 0;
}

/* --- begin and end --- */

/* The resume of the URL that names v, if any. An id that is of no use means: from the beginning. */
static void apply_resume(struct gw_viewed *v)
{
    struct gw_session *ss = v->ss;
    struct dbx_id process;
    for (size_t i = 0; i < ss->n_resume; i++)
        if (gw_resume_parse(ss->resume[i], ss->binary, &process) == 0 &&
            dbx_id_equal(&process, &v->id))
            (void)move_to(v, ss->resume[i] + DBX_ID_TEXT);
}

static void on_processes(const struct gw_process *rows, size_t n, const struct dbx_err *err,
                         void *arg)
{
    struct gw_session *ss = arg;
    static const char ready[] = "{\"type\":\"ready\"}";
    int64_t oldest, from = -1;
    bool ended = false;
    if (!ss->ws || err) {
        if (ss->ws) {
            dbx_log(DBX_LOG_WARN, &ss->log, "look up the processes: %s", err->msg);
            gw_session_close(ss, 1013, "reconnect");
        }
        gw_session_unref(ss);
        return;
    }
    if (dbx_olog_bounds(ss->gw->olog, dbx_olog_partition(&ss->sandbox), &oldest, &from, NULL) < 0)
        from = 0;
    for (size_t i = 0; i < n; i++) {
        struct gw_viewed *v = new_viewed(ss, &rows[i].id);
        set_row(v, &rows[i]);
        apply_resume(v);
        ended |= v->end.terminal;
        from = v->from < from ? v->from : from;
    }
    ss->follow = gw_follow_new(ss->gw, &ss->sandbox, from, &follow_handlers, ss);
    if (ended)
        gw_follow_to_end(ss->follow);
    if (ss->channel)
        gw_session_text(ss, ready, sizeof(ready) - 1);
    else
        dbx_ws_pause(ss->ws, false);
    gw_session_tell_log(ss);
    gw_session_unref(ss);
}

void gw_stream_start(struct gw_session *ss)
{
    struct dbx_id *named = dbx_calloc(ss->n_resume + 1, sizeof(*named));
    for (size_t i = 0; i < ss->n_resume; i++) {
        int r = gw_resume_parse(ss->resume[i], ss->binary, &named[i]);
        dbx_assert(r == 0); /* checked at the upgrade */
    }
    if (!ss->channel)
        dbx_ws_pause(ss->ws, true); /* what is said is about processes that are not known yet */
    gw_session_ref(ss);
    gw_store_processes_of_sandbox(ss->gw->store, &ss->sandbox, named, ss->n_resume, on_processes,
                                  ss);
    free(named);
}

void gw_stream_stop(struct gw_session *ss)
{
    struct dbx_map_iter it = {0};
    ss->follow = gw_follow_free(ss->follow);
    while (dbx_map_next(ss->viewed, &it)) {
        struct gw_viewed *v = it.value;
        (void)dbx_map_del(ss->viewed, it.key, it.key_len);
        if (v->asked)
            gw_watch_remove(&v->watch); /* on_asked frees it */
        else
            free_viewed(v);
    }
}
