/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/loop.h"
#include "common/proto/output_log.h"
#include "gateway/access.h"
#include "gateway/gw.h"
#include "gateway/keep.h"
#include "gateway/request.h"
#include "gateway/routes.h"
#include "gateway/server.h"
#include "gateway/session_int.h"
#include "gateway/socket_int.h"
#include "gateway/stream_message.h"
#include "gateway/upstream.h"

#define MAX_MALFORMED 10
#define MAX_RESUME 32
#define MAX_ERROR 1024
#define MAX_UNREAD (2u << 20) /* of what he was sent; output alone never comes to as much */
#define JSON_PROTOCOL "devbox.json.v1"
#define BINARY_PROTOCOL "devbox.bin.v1"

void gw_session_ref(struct gw_session *ss)
{
    ss->refs++;
}

void gw_session_unref(struct gw_session *ss)
{
    DBX_CAST(struct gw_session, GW_SESSION_MAGIC, ss);
    if (--ss->refs > 0)
        return;
    struct gw *gw = ss->gw;
    gw_stream_stop(ss);
    for (size_t i = 0; i < ss->n_resume; i++)
        free(ss->resume[i]);
    free(ss->resume);
    dbx_map_free(ss->viewed);
    ss->audience = gw_audience_leave(ss->audience);
    dbx_list_remove(&ss->node);
    ss->magic = 0;
    free(ss);
    gw_server_check_drained(gw);
}

/* --- what is sent --- */

static void was_sent(struct gw_session *ss, int r, size_t len)
{
    dbx_metric_add(ss->gw->bytes_out, (double)len);
    if (r == -ENOBUFS)
        dbx_ws_abort(ss->ws); /* never within bounds: it resumes by its last id */
}

/* On a channel the number comes before all other fields. */
static void send_on_channel(struct gw_session *ss, const uint8_t *text, size_t len)
{
    char prefix[32];
    int n = snprintf(prefix, sizeof(prefix), "{\"ch\":%u,", ss->channel->number);
    was_sent(ss, dbx_ws_send2(ss->ws, false, prefix, (size_t)n, text + 1, len - 1), len);
}

void gw_session_text(struct gw_session *ss, const char *text, size_t len)
{
    if (ss->ws && ss->channel)
        send_on_channel(ss, (const uint8_t *)text, len);
    else if (ss->ws)
        was_sent(ss, dbx_ws_send(ss->ws, false, text, len), len);
}

void gw_session_frame(struct gw_session *ss, struct dbx_ws_frame *frame)
{
    size_t len;
    const uint8_t *data = dbx_ws_frame_data(frame, &len);
    if (ss->ws && ss->channel)
        send_on_channel(ss, data, len);
    else if (ss->ws)
        was_sent(ss, dbx_ws_send_frame(ss->ws, frame), len);
}

void gw_session_error(struct gw_session *ss, const struct dbx_id *process, const char *code,
                      const char *message)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, MAX_ERROR);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "type", "error");
    if (process) {
        char id[DBX_ID_TEXT];
        dbx_id_format(process, id);
        dbx_jw_kstr(w, "process_id", id);
    }
    dbx_jw_kstr(w, "code", code);
    dbx_jw_key(w, "message");
    dbx_jw_strn(w, message, dbx_utf8_prefix(message, strlen(message), &(bool){false}));
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0);
    gw_session_text(ss, dbx_buf_cstr(&buf), buf.len);
    dbx_buf_done(&buf);
}

void gw_session_tell_log(struct gw_session *ss)
{
    static const char away[] = "{\"type\":\"log\",\"status\":\"away\",\"message\":\"what programs "
                               "write is held back until the output log is there again\"}";
    static const char back[] = "{\"type\":\"log\",\"status\":\"back\"}";
    bool is_away = dbx_olog_away(ss->gw->olog, dbx_olog_partition(&ss->sandbox));
    if (!ss->ws || is_away == ss->told_away) /* who is not there yet is told when he is */
        return;
    ss->told_away = is_away;
    if (is_away)
        gw_session_text(ss, away, sizeof(away) - 1);
    else
        gw_session_text(ss, back, sizeof(back) - 1);
}

/* --- input --- */

struct input_call {
    struct gw_session *ss;
    struct dbx_id process;
    int64_t seq; /* of the last piece in it, or -1 */
};

/* Who numbers his input is told when it has reached the program's stdin, and so can pace himself.
 */
static void say_taken(struct gw_session *ss, const struct dbx_id *process, int64_t seq)
{
    struct dbx_buf buf;
    char id[DBX_ID_TEXT];
    dbx_buf_init(&buf, MAX_ERROR);
    dbx_id_format(process, id);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "type", "input_taken");
    dbx_jw_kstr(w, "process_id", id);
    dbx_jw_ki64(w, "seq", seq);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0);
    gw_session_text(ss, dbx_buf_cstr(&buf), buf.len);
    dbx_buf_done(&buf);
}

static const char *input_code(const struct dbx_err *err)
{
    switch (err->kind) {
    case DBX_LIMIT:
        return "input_full";
    case DBX_CONFLICT:
        return "stdin_closed";
    case DBX_NOT_FOUND:
        return "not_running";
    default:
        return "unavailable";
    }
}

static void on_input_done(const struct dbx_err *err, void *arg)
{
    struct input_call call = *(struct input_call *)arg;
    struct gw_session *ss = call.ss;
    free(arg);
    if (ss->ws) {
        struct gw_viewed *v = gw_stream_find(ss, &call.process);
        dbx_assert(v);
        v->input_busy = false;
        if (err)
            gw_session_error(ss, &v->id, input_code(err), err->msg);
        else if (call.seq >= 0)
            say_taken(ss, &v->id, call.seq);
        gw_session_push_input(v);
    }
    gw_session_unref(ss);
}

static void push_size(struct gw_viewed *v);

static void on_resized(const struct dbx_err *err, void *arg)
{
    struct input_call call = *(struct input_call *)arg;
    struct gw_session *ss = call.ss;
    free(arg);
    if (ss->ws) {
        struct gw_viewed *v = gw_stream_find(ss, &call.process);
        dbx_assert(v);
        v->resize_busy = false;
        if (err && err->kind == DBX_CONFLICT)
            gw_session_error(ss, &v->id, "no_terminal", "the process has no terminal");
        else if (err)
            gw_session_error(ss, &v->id, input_code(err), err->msg);
        push_size(v);
    }
    gw_session_unref(ss);
}

/* Of several sizes that come while one is on its way, the last counts. */
static void push_size(struct gw_viewed *v)
{
    if (!v->cols || !v->started || v->resize_busy || v->end.terminal)
        return;
    struct input_call *call = DBX_NEW(struct input_call);
    call->ss = v->ss;
    call->process = v->id;
    gw_session_ref(v->ss);
    v->resize_busy = true;
    gw_upstream_resize(v->ss->gw->up, &v->id, v->cols, v->rows, on_resized, call);
    v->cols = v->rows = 0;
}

static void take_size(struct gw_viewed *v, const struct gw_message *m)
{
    if (v->end.terminal) {
        gw_session_error(v->ss, &v->id, "not_running", "the process has ended");
        return;
    }
    v->cols = m->cols;
    v->rows = m->rows;
    push_size(v);
}

void gw_session_push_input(struct gw_viewed *v)
{
    push_size(v);
    if (v->end.terminal) {
        if (v->input.len > 0)
            gw_session_error(v->ss, &v->id, "not_running", "the process has ended");
        dbx_buf_clear(&v->input);
        v->input_eof = false;
        return;
    }
    if (!v->started || v->input_busy || (v->input.len == 0 && !v->input_eof))
        return;
    struct input_call *call = DBX_NEW(struct input_call);
    call->ss = v->ss;
    call->process = v->id;
    call->seq = v->input_seq;
    v->input_seq = -1;
    gw_session_ref(v->ss);
    v->input_busy = true;
    gw_upstream_input(v->ss->gw->up, &v->id, v->input.data, v->input.len, v->input_eof,
                      on_input_done, call);
    dbx_buf_clear(&v->input);
    v->input_eof = false;
}

static void take_input(struct gw_viewed *v, const struct gw_message *m)
{
    if (v->end.terminal) {
        gw_session_error(v->ss, &v->id, "not_running", "the process has ended");
        return;
    }
    if (v->input_eof) {
        gw_session_error(v->ss, &v->id, "stdin_closed", "eof was sent before");
        return;
    }
    if (m->type == GW_MSG_EOF)
        v->input_eof = true;
    else if (dbx_buf_append(&v->input, m->data, m->len) < 0)
        gw_session_error(v->ss, &v->id, "input_full",
                         "the program does not read; this message was not taken");
    else
        v->input_seq = m->seq;
    gw_session_push_input(v);
}

/* --- what the viewer says --- */

static void on_cancelled(const struct dbx_err *err, void *arg)
{
    struct input_call call = *(struct input_call *)arg;
    free(arg);
    if (err && err->kind != DBX_NOT_FOUND && err->kind != DBX_CONFLICT)
        gw_session_error(call.ss, &call.process, "unavailable", err->msg);
    gw_session_unref(call.ss);
}

static void cancel(struct gw_viewed *v)
{
    if (v->end.terminal)
        return; /* its status says so */
    struct input_call *call = DBX_NEW(struct input_call);
    call->ss = v->ss;
    call->process = v->id;
    gw_session_ref(v->ss);
    gw_upstream_cancel(v->ss->gw->up, &v->id, on_cancelled, call);
}

static void take_ack(struct gw_viewed *v, int64_t bytes)
{
    v->acking = true;
    if ((uint64_t)bytes > v->acked)
        v->acked = (uint64_t)bytes < v->sent ? (uint64_t)bytes : v->sent;
    gw_stream_go_on(v->ss);
}

static void handle(struct gw_session *ss, const struct gw_message *m)
{
    struct gw_viewed *v = gw_stream_find(ss, &m->process);
    if (!ss->follow)
        return; /* the socket closes already */
    bool waits = m->type == GW_MSG_INPUT || m->type == GW_MSG_EOF || m->type == GW_MSG_RESIZE;
    if ((waits || m->type == GW_MSG_CANCEL) && ss->role < DBX_ROLE_EDITOR) {
        gw_session_error(ss, &m->process, "forbidden", "viewers may only look");
        return;
    }
    if (!v && waits)
        v = gw_stream_ask(ss, &m->process);
    if (!v || v->hidden || (v->asked && !waits)) {
        gw_session_error(ss, &m->process, "unknown_process", "no such process in this sandbox");
        return;
    }
    switch (m->type) {
    case GW_MSG_RESUME:
        if (gw_stream_resume(v, m->last_seen_id) < 0)
            gw_session_error(ss, &v->id, "invalid", "last_seen_id: is none of this stream");
        break;
    case GW_MSG_INPUT:
    case GW_MSG_EOF:
        take_input(v, m);
        break;
    case GW_MSG_CANCEL:
        cancel(v);
        break;
    case GW_MSG_RESIZE:
        take_size(v, m);
        break;
    case GW_MSG_ACK:
        take_ack(v, m->acked);
        break;
    }
}

void gw_session_said(struct gw_session *ss, bool binary, const uint8_t *data, size_t len)
{
    struct gw_message m;
    struct dbx_err err = {0};
    char words[sizeof(err.field) + sizeof(err.msg) + 4];
    if (dbx_ws_queued(ss->ws) > MAX_UNREAD) {
        gw_session_close(ss, 1008, "the answers are not read");
        return;
    }
    int r = binary ? dbx_err_set(&err, -EBADMSG, DBX_INVALID, "messages are JSON text")
                   : gw_message_decode(data, len, &m, &err);
    if (r == 0) {
        handle(ss, &m);
        gw_message_done(&m);
        return;
    }
    if (r == -EBADMSG) {
        gw_session_error(ss, NULL, "malformed", err.msg);
        if (++ss->malformed > MAX_MALFORMED)
            gw_session_close(ss, 1008, "too many malformed messages");
        return;
    }
    snprintf(words, sizeof(words), "%s%s%s", err.field, err.field[0] ? ": " : "", err.msg);
    gw_session_error(ss, NULL, r == -ENOSYS ? "unknown_type" : "invalid", words);
}

static void on_message(struct dbx_ws *ws, bool binary, const uint8_t *data, size_t len, void *user)
{
    (void)ws;
    gw_session_said(DBX_CAST(struct gw_session, GW_SESSION_MAGIC, user), binary, data, len);
}

static void on_drain(struct dbx_ws *ws, void *user)
{
    (void)ws;
    gw_stream_go_on(DBX_CAST(struct gw_session, GW_SESSION_MAGIC, user));
}

static void on_close(struct dbx_ws *ws, int code, int http_status, const char *reason, void *user)
{
    struct gw_session *ss = DBX_CAST(struct gw_session, GW_SESSION_MAGIC, user);
    (void)ws;
    (void)http_status;
    dbx_log(DBX_LOG_DEBUG, &ss->log, "viewer left: %d %s", code, reason ? reason : "");
    if (ss->ws)
        dbx_metric_add(ss->gw->open_sockets, -1);
    ss->ws = NULL;
    ss->audience = gw_audience_leave(ss->audience);
    gw_stream_stop(ss);
    gw_session_unref(ss);
}

static const struct dbx_ws_handlers ws_handlers = {
    .on_message = on_message, .on_drain = on_drain, .on_close = on_close};

static struct gw_session *new_session(struct gw *gw, const struct dbx_id *sandbox,
                                      const struct dbx_token *token, const char *protocol);

/* --- as a channel of a workspace's socket --- */

void gw_session_left(struct gw_session *ss)
{
    ss->ws = NULL;
    ss->channel = NULL;
    ss->audience = gw_audience_leave(ss->audience);
    gw_stream_stop(ss);
    gw_session_unref(ss);
}

static void end_channel(void *user)
{
    struct gw_session *ss = user;
    if (ss->channel)
        gw_channel_end(ss->channel, "ended", ss->over);
    gw_session_unref(ss);
}

void gw_session_close(struct gw_session *ss, int code, const char *reason)
{
    if (!ss->channel) {
        dbx_ws_close(ss->ws, code, reason);
    } else if (!ss->over) {
        ss->over = reason;
        gw_session_ref(ss);
        dbx_loop_defer(ss->gw->loop, end_channel, ss);
    }
}

struct gw_session *gw_session_of_channel(struct gw_channel *ch, const struct dbx_id *sandbox,
                                         char **resume, size_t n_resume)
{
    struct dbx_token as = {.role = ch->sk->role, .user = ch->sk->user.id};
    (void)dbx_strcpy(as.label, sizeof(as.label), ch->sk->credential);
    struct gw_session *ss = new_session(ch->sk->gw, sandbox, &as, JSON_PROTOCOL);
    ss->channel = ch;
    ss->ws = ch->sk->ws;
    ss->resume = resume;
    ss->n_resume = n_resume;
    ss->audience = gw_audience_join(ss->gw->shares, &ss->sandbox);
    return ss;
}

/* --- opening and closing --- */

bool gw_origin_ok(const char *origin, const char *host, const char *allowed)
{
    if (!origin)
        return true;
    const char *rest = NULL;
    if (dbx_starts_with(origin, "https://"))
        rest = origin + 8;
    else if (dbx_starts_with(origin, "http://"))
        rest = origin + 7;
    if (rest && host && *rest && strcasecmp(rest, host) == 0)
        return true;
    for (size_t len; allowed && *allowed; allowed += len) {
        allowed += strspn(allowed, " ");
        len = strcspn(allowed, " ");
        if (len > 0 && len == strlen(origin) && strncasecmp(allowed, origin, len) == 0)
            return true;
    }
    return false;
}

static int read_resume(struct dbx_http_req *http, struct gw_session *ss, struct dbx_err *err)
{
    const char *text;
    for (size_t i = 0; (text = dbx_http_query(http, "resume", i)); i++) {
        if (i == MAX_RESUME)
            return dbx_err_field(err, "resume", "more than %d", MAX_RESUME);
        if (gw_resume_parse(text, ss->binary, &(struct dbx_id){0}) < 0)
            return dbx_err_field(err, "resume", "must be PROCESS_ID:LAST_SEEN_ID");
        ss->resume = dbx_realloc(ss->resume, (i + 1) * sizeof(*ss->resume));
        ss->resume[ss->n_resume++] = dbx_strdup(text);
    }
    return 0;
}

/* The token of the URL, good for this very sandbox. Answers and returns nonzero when it is not. */
static int check_token(struct gw_req *rq, const struct dbx_id *sandbox, struct dbx_token *ret)
{
    static const struct dbx_header header[] = {{"WWW-Authenticate", "Bearer realm=\"devbox\""},
                                               {NULL, NULL}};
    const char *text = dbx_http_query(rq->http, "token", 0);
    const char *origin = dbx_http_header(rq->http, "origin");
    struct dbx_err err = {0};
    if (!gw_origin_ok(origin, dbx_http_header(rq->http, "host"), rq->gw->cfg->origins)) {
        gw_req_fail_status(rq, 403, DBX_DENIED, "foreign_origin",
                           "pages of this origin may not open streams", NULL);
        return -EACCES;
    }
    if (!text || dbx_token_verify(rq->gw->keys, text, DBX_TOKEN_STREAM, dbx_wall_us() / 1000000,
                                  ret, &err) < 0) {
        gw_req_fail_status(rq, 401, DBX_DENIED,
                           err.code == -ETIME ? "token_expired" : "unauthorized",
                           err.code == -ETIME ? "the stream token has expired"
                                              : "give a valid stream token: ?token=TOKEN",
                           header);
        return -EACCES;
    }
    if (!dbx_id_equal(&ret->subject, sandbox)) {
        gw_req_fail_status(rq, 403, DBX_DENIED, "foreign_token",
                           "the token is that of another sandbox", NULL);
        return -EACCES;
    }
    return 0;
}

static struct gw_session *new_session(struct gw *gw, const struct dbx_id *sandbox,
                                      const struct dbx_token *token, const char *protocol)
{
    char id[DBX_ID_TEXT];
    struct gw_session *ss = DBX_NEW(struct gw_session);
    ss->magic = GW_SESSION_MAGIC;
    ss->refs = 1;
    ss->gw = gw;
    ss->sandbox = *sandbox;
    ss->user = token->user;
    ss->role = token->role;
    (void)dbx_strcpy(ss->credential, sizeof(ss->credential), token->label);
    ss->binary = dbx_streq(protocol, BINARY_PROTOCOL);
    ss->viewed = dbx_map_new();
    dbx_id_format(sandbox, id);
    dbx_log_ctx_init(&ss->log, &gw->log, "sandbox", id);
    dbx_list_push(&gw->sessions, &ss->node);
    return ss;
}

int gw_session_upgrade(struct gw_req *rq, const struct dbx_ws_handlers **ret_handlers,
                       void **ret_ws_user, const char **ret_subprotocol)
{
    const char *path = dbx_http_path(rq->http);
    static const char *const protocols[] = {JSON_PROTOCOL, BINARY_PROTOCOL, NULL};
    struct dbx_id sandbox;
    struct dbx_token token;
    struct dbx_err err = {0};
    if (!dbx_starts_with(path, GW_STREAM_PREFIX) ||
        dbx_id_parse(path + sizeof(GW_STREAM_PREFIX) - 1, &sandbox) < 0) {
        gw_req_not_found(rq);
        return -ENOENT;
    }
    int r = check_token(rq, &sandbox, &token);
    if (r < 0)
        return r;
    *ret_subprotocol = dbx_http_pick_subprotocol(rq->http, protocols);
    if (!*ret_subprotocol && dbx_http_header(rq->http, "sec-websocket-protocol")) {
        dbx_err_field(&err, "Sec-WebSocket-Protocol",
                      "must be " JSON_PROTOCOL " or " BINARY_PROTOCOL);
        gw_req_fail(rq, &err, NULL);
        return -EINVAL;
    }
    if (rq->gw->draining || !rq->gw->olog) {
        gw_req_fail_output(rq, NULL);
        return -EAGAIN;
    }
    struct gw_session *ss = new_session(rq->gw, &sandbox, &token, *ret_subprotocol);
    r = read_resume(rq->http, ss, &err);
    if (r < 0) {
        gw_session_unref(ss);
        gw_req_fail(rq, &err, NULL);
        return r;
    }
    *ret_handlers = &ws_handlers;
    *ret_ws_user = ss;
    return 0;
}

void gw_session_opened(struct dbx_ws *ws, void *ws_user)
{
    struct gw_session *ss = DBX_CAST(struct gw_session, GW_SESSION_MAGIC, ws_user);
    ss->ws = ws;
    ss->audience = gw_audience_join(ss->gw->shares, &ss->sandbox);
    dbx_metric_add(ss->gw->open_sockets, 1);
    gw_stream_start(ss);
    gw_access_check(ss);
    gw_keep_soon(ss->gw);
}

void gw_sessions_tell_log(void *arg)
{
    struct gw *gw = arg;
    struct dbx_list *node, *tmp;
    dbx_list_each(node, tmp, &gw->sessions)
        gw_session_tell_log(dbx_list_entry(node, struct gw_session, node));
}

void gw_sessions_close(struct gw *gw)
{
    struct dbx_list *node, *tmp;
    dbx_list_each(node, tmp, &gw->sessions)
    {
        struct gw_session *ss = dbx_list_entry(node, struct gw_session, node);
        if (ss->ws && !ss->channel) /* sockets of workspaces are closed as such */
            dbx_ws_close(ss->ws, 1001, "reconnect");
    }
}
