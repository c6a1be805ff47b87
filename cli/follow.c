/* SPDX-License-Identifier: Apache-2.0 */
/* Connected, or waiting for the next try, or asking a gateway for a fresh token (which also tells
 * that the gateway lives). Every try goes to the next gateway and resumes behind the last id seen.
 * The patience of CLI_RESUME_MS begins anew only with a message, or a connection that held. */
#include "cli/follow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/api.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/loop.h"
#include "common/io/ws.h"

#define MAGIC 0x434c4946u
#define MAX_MESSAGE (4u << 20)
#define MAX_SEND (1u << 20)
#define HELD_MS 10000u
#define AGAIN_MS 50u
#define AGAIN_MAX_MS 1000u

struct cli_follow {
    uint32_t magic;
    struct dbx_loop *loop;
    struct cli_api *api;
    char *execution, *process, *sandbox, *token, *last_id;
    struct dbx_ws *ws;
    bool open, closed, opened_before, progress;
    struct dbx_timer *again;
    uint64_t deadline_ms, opened_ms, received;
    uint32_t wait_ms;
    char why[160]; /* of the last failure */
    const struct cli_follow_handlers *h;
    void *user;
};

static void percent_encode(struct dbx_buf *out, const char *s)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (; *s; s++) {
        if (strchr(plain, *s))
            (void)dbx_buf_append(out, s, 1);
        else
            (void)dbx_buf_printf(out, "%%%02X", (unsigned char)*s);
    }
}

static void give_up(struct cli_follow *f, const struct dbx_err *err)
{
    f->closed = true;
    dbx_timer_stop(f->again);
    if (f->ws)
        dbx_ws_abort(f->ws);
    f->h->on_lost(err, f->user);
}

static void lost(struct cli_follow *f)
{
    uint64_t now = dbx_now_ms();
    if (f->progress || (f->open && now - f->opened_ms > HELD_MS)) {
        f->deadline_ms = now + CLI_RESUME_MS;
        f->wait_ms = AGAIN_MS;
    }
    f->open = f->progress = false;
    if (now < f->deadline_ms) {
        dbx_timer_start(f->again, f->wait_ms, 0);
        f->wait_ms = f->wait_ms < AGAIN_MAX_MS / 2 ? f->wait_ms * 2 : AGAIN_MAX_MS;
        return;
    }
    struct dbx_err err = {0};
    (void)dbx_err_set(&err, -ETIMEDOUT, DBX_UNAVAIL,
                      "the connection to DevBox is lost (%s); execution %.40s goes on", f->why,
                      f->execution);
    give_up(f, &err);
}

static void on_open(struct dbx_ws *ws, void *user)
{
    struct cli_follow *f = DBX_CAST(struct cli_follow, MAGIC, user);
    (void)ws;
    if (f->closed)
        return;
    bool again = f->opened_before;
    f->open = f->opened_before = true;
    f->opened_ms = dbx_now_ms();
    f->received = 0;
    f->h->on_open(again, f->user);
}

static void on_message(struct dbx_ws *ws, bool binary, const uint8_t *data, size_t len, void *user)
{
    struct cli_follow *f = DBX_CAST(struct cli_follow, MAGIC, user);
    struct cli_msg m;
    struct dbx_err err = {0};
    (void)ws;
    if (f->closed || binary)
        return;
    if (cli_msg_parse(data, len, f->process, &m, &err) < 0) {
        give_up(f, &err);
        return;
    }
    f->progress = true;
    if (m.id) {
        free(f->last_id);
        f->last_id = dbx_strdup(m.id);
    }
    if (m.type == CLI_MSG_OUTPUT)
        f->received += m.len;
    f->h->on_message(&m, f->user);
    cli_msg_done(&m);
}

static void on_close(struct dbx_ws *ws, int code, int http_status, const char *reason, void *user)
{
    struct cli_follow *f = DBX_CAST(struct cli_follow, MAGIC, user);
    (void)ws;
    f->ws = NULL;
    if (f->closed)
        return;
    DBX_CLEANUP(dbx_freep)
    char *why = http_status ? dbx_asprintf("HTTP %d", http_status)
                            : dbx_asprintf("%s", reason && *reason ? reason : "closed");
    (void)code;
    (void)dbx_strcpy(f->why, sizeof(f->why), why);
    lost(f);
}

static void connect_stream(struct cli_follow *f)
{
    static const struct dbx_ws_handlers handlers = {
        .on_open = on_open, .on_message = on_message, .on_close = on_close};
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf url = {0};
    dbx_buf_init(&url, DBX_MAX_HEADER);
    (void)dbx_buf_printf(&url, "ws%s/api/stream/", cli_api_url(f->api) + strlen("http"));
    percent_encode(&url, f->sandbox);
    (void)dbx_buf_str(&url, "?token=");
    percent_encode(&url, f->token);
    if (f->last_id) {
        (void)dbx_buf_str(&url, "&resume=");
        percent_encode(&url, f->process);
        (void)dbx_buf_str(&url, ":");
        percent_encode(&url, f->last_id);
    }
    struct dbx_ws_client_opts o = {.loop = f->loop,
                                   .url = dbx_buf_cstr(&url),
                                   .subprotocol = "devbox.json.v1",
                                   .ca_file = cli_api_ca_file(f->api),
                                   .ws = {.max_message = MAX_MESSAGE}};
    f->ws = dbx_ws_connect(&o, &handlers, f);
}

static void on_state(int status, const struct dbx_json *root, const struct dbx_err *err, void *user)
{
    struct cli_follow *f = DBX_CAST(struct cli_follow, MAGIC, user);
    const char *token = dbx_json_get_str(root, "stream_token");
    if (f->closed)
        return;
    if (status == 200 && token) {
        free(f->token);
        f->token = dbx_strdup(token);
        connect_stream(f);
        return;
    }
    if (status >= 400 && status < 500 && status != 429) {
        give_up(f, err);
        return;
    }
    (void)dbx_strcpy(f->why, sizeof(f->why), err->msg);
    lost(f);
}

static void on_again(void *user)
{
    struct cli_follow *f = user;
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("/api/executions/%s", f->execution);
    struct cli_call call = {.method = "GET", .path = path};
    cli_api_next(f->api);
    cli_api_call(f->api, &call, on_state, f);
}

struct cli_follow *cli_follow_new(const struct cli_follow_opts *opts,
                                  const struct cli_follow_handlers *h, void *user)
{
    struct cli_follow *f = DBX_NEW(struct cli_follow);
    f->magic = MAGIC;
    f->loop = opts->loop;
    f->api = opts->api;
    f->execution = dbx_strdup(opts->execution);
    f->process = dbx_strdup(opts->process);
    f->sandbox = dbx_strdup(opts->sandbox);
    f->token = dbx_strdup(opts->token);
    f->again = dbx_timer_new(f->loop, on_again, f);
    f->deadline_ms = dbx_now_ms() + CLI_RESUME_MS;
    f->wait_ms = AGAIN_MS;
    f->h = h;
    f->user = user;
    connect_stream(f);
    return f;
}

void cli_follow_close(struct cli_follow *f)
{
    if (!f)
        return;
    f->closed = true;
    f->again = dbx_timer_free(f->again);
    if (f->ws)
        dbx_ws_abort(f->ws);
}

struct cli_follow *cli_follow_free(struct cli_follow *f)
{
    if (!f)
        return NULL;
    free(f->execution);
    free(f->process);
    free(f->sandbox);
    free(f->token);
    free(f->last_id);
    f->magic = 0;
    free(f);
    return NULL;
}

bool cli_follow_is_open(const struct cli_follow *f)
{
    return f && f->open && !f->closed;
}

uint64_t cli_follow_received(const struct cli_follow *f)
{
    return f->received;
}

static struct dbx_jw *begin(struct cli_follow *f, struct dbx_buf *out, const char *type)
{
    dbx_buf_init(out, MAX_SEND);
    struct dbx_jw *w = dbx_jw_new(out);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "type", type);
    dbx_jw_kstr(w, "process_id", f->process);
    return w;
}

static int end(struct cli_follow *f, struct dbx_buf *out, struct dbx_jw *w)
{
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    if (r == 0)
        r = cli_follow_is_open(f) ? dbx_ws_send(f->ws, false, out->data, out->len) : -ENOTCONN;
    dbx_buf_done(out);
    return r;
}

int cli_follow_input(struct cli_follow *f, const void *data, size_t len, uint64_t seq)
{
    struct dbx_buf out;
    struct dbx_jw *w = begin(f, &out, "input");
    dbx_jw_key(w, "data");
    if (dbx_utf8_valid(data, len)) {
        dbx_jw_strn(w, data, len);
    } else {
        DBX_CLEANUP(dbx_freep) char *text = dbx_malloc((len + 2) / 3 * 4 + 1);
        dbx_jw_strn(w, text, dbx_base64_encode(data, len, text, false));
        dbx_jw_kstr(w, "encoding", "base64");
    }
    dbx_jw_ki64(w, "seq", (int64_t)seq);
    return end(f, &out, w);
}

int cli_follow_eof(struct cli_follow *f)
{
    struct dbx_buf out;
    return end(f, &out, begin(f, &out, "eof"));
}

void cli_follow_ack(struct cli_follow *f, uint64_t bytes)
{
    struct dbx_buf out;
    struct dbx_jw *w = begin(f, &out, "ack");
    dbx_jw_ki64(w, "bytes", (int64_t)bytes);
    (void)end(f, &out, w);
}
