/* SPDX-License-Identifier: Apache-2.0 */
/* The connection of a workspace's socket: who may open it, its channels, what is said on channel 0.
 */
#include "gateway/socket.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "gateway/access.h"
#include "gateway/auth.h"
#include "gateway/executions.h"
#include "gateway/gw.h"
#include "gateway/keep.h"
#include "gateway/request.h"
#include "gateway/result.h"
#include "gateway/server.h"
#include "gateway/session.h"
#include "gateway/session_int.h"
#include "gateway/socket_int.h"
#include "gateway/store.h"
#include "gateway/workspaces_int.h"

#define MAX_MALFORMED 10
#define MAX_WORDS 2048
#define MAX_UNREAD (4u << 20)
#define PROTOCOL "devbox.socket.v1"

static const struct gw_channel_kind *const kinds[] = {&gw_channel_tree, &gw_channel_search,
                                                      &gw_channel_processes};

/* --- what is sent --- */

struct dbx_jw *gw_channel_begin(struct gw_socket *sk, const struct gw_channel *ch, const char *type,
                                struct dbx_buf *buf, size_t max)
{
    (void)sk;
    dbx_buf_init(buf, max);
    struct dbx_jw *w = dbx_jw_new(buf);
    dbx_jw_object(w);
    dbx_jw_ki64(w, "ch", ch ? ch->number : 0);
    dbx_jw_kstr(w, "type", type);
    return w;
}

void gw_channel_send(struct gw_socket *sk, struct dbx_buf *buf, struct dbx_jw **w)
{
    dbx_jw_object_end(*w);
    int r = dbx_jw_end(w);
    if (r == 0 && sk->ws) {
        dbx_metric_add(sk->gw->bytes_out, (double)buf->len);
        r = dbx_ws_send(sk->ws, false, buf->data, buf->len);
    }
    if (r < 0 && sk->ws) {
        dbx_log(DBX_LOG_WARN, &sk->log, "a message of %zu bytes cannot be sent", buf->len);
        dbx_ws_abort(sk->ws);
    }
    dbx_buf_done(buf);
}

static void put_words(struct dbx_jw *w, const char *code, const char *message)
{
    dbx_jw_kstr(w, "code", code);
    dbx_jw_key(w, "message");
    dbx_jw_strn(w, message, dbx_utf8_prefix(message, strlen(message), &(bool){false}));
}

void gw_channel_error(struct gw_socket *sk, const struct gw_channel *ch, const char *code,
                      const char *message)
{
    struct dbx_buf buf;
    struct dbx_jw *w = gw_channel_begin(sk, ch, "error", &buf, MAX_WORDS);
    put_words(w, code, message);
    gw_channel_send(sk, &buf, &w);
}

bool gw_socket_full(const struct gw_socket *sk)
{
    return !sk->ws || dbx_ws_queued(sk->ws) > GW_HIGH_WATER;
}

void gw_socket_end(struct gw_socket *sk, int code, const char *reason)
{
    if (sk->ws)
        dbx_ws_close(sk->ws, code, reason);
}

const struct dbx_json_limits gw_socket_json = {.max_depth = 6, .max_nodes = 1000};

/* --- channels --- */

static void free_channel(struct gw_channel *ch)
{
    (void)dbx_map_del(ch->sk->channels, &ch->number, sizeof(ch->number));
    ch->kind->close(ch);
    free(ch->state);
    free(ch);
}

void gw_channel_end(struct gw_channel *ch, const char *code, const char *message)
{
    struct dbx_buf buf;
    struct dbx_jw *w = gw_channel_begin(ch->sk, NULL, "closed", &buf, MAX_WORDS);
    dbx_jw_ki64(w, "channel", ch->number);
    if (code)
        put_words(w, code, message);
    gw_channel_send(ch->sk, &buf, &w);
    free_channel(ch);
}

struct question {
    struct gw_socket *sk;
    uint32_t number;
    uint64_t serial;
    gw_channel_fn *fn;
};

static void on_answer(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct question q = *(struct question *)arg;
    free(arg);
    struct gw_channel *ch = dbx_map_get(q.sk->channels, &q.number, sizeof(q.number));
    if (ch && ch->serial == q.serial)
        q.fn(ch, res, err);
    gw_socket_unref(q.sk);
}

void gw_channel_ask(struct gw_channel *ch, const char *stmt, const struct dbx_pg_param *params,
                    size_t n, gw_channel_fn *fn)
{
    struct question *q = DBX_NEW(struct question);
    q->sk = ch->sk;
    q->number = ch->number;
    q->serial = ch->serial;
    q->fn = fn;
    ch->sk->refs++;
    dbx_pg_query(gw_store_pg(ch->sk->gw->store), stmt, params, n, on_answer, q);
}

/* --- what the client says --- */

struct opening {
    const char *kind;
    int64_t channel;
};

static void say_opened(struct gw_channel *ch)
{
    struct dbx_buf buf;
    struct dbx_jw *w = gw_channel_begin(ch->sk, NULL, "opened", &buf, MAX_WORDS);
    dbx_jw_ki64(w, "channel", ch->number);
    dbx_jw_kstr(w, "kind", ch->kind->name);
    gw_channel_send(ch->sk, &buf, &w);
}

/* Behind the fields that each `open` has, those of its kind; offsets of the first lead behind the
 * state. */
static int decode_open(const struct dbx_json *root, const struct gw_channel_kind *kind,
                       struct gw_channel *ch, struct dbx_err *err)
{
    struct {
        const char *type, *kind;
        int64_t ch, channel;
    } all = {0};
    size_t at = (kind->size + 15) / 16 * 16, n = kind->nfields + 4;
    const struct dbx_json_field own[] = {
        {"ch", DBX_JSON_INT, at + offsetof(__typeof__(all), ch), 0, 0, 0, false},
        {"type", DBX_JSON_STRING, at + offsetof(__typeof__(all), type), 0, 0, 0, false},
        {"channel", DBX_JSON_INT, at + offsetof(__typeof__(all), channel), 0, 0, 0, false},
        {"kind", DBX_JSON_STRING, at + offsetof(__typeof__(all), kind), 0, 0, 0, false}};
    DBX_CLEANUP(dbx_freep) struct dbx_json_field *fields = dbx_calloc(n, sizeof(*fields));
    memcpy(fields, own, sizeof(own));
    if (kind->nfields)
        memcpy(fields + 4, kind->fields, kind->nfields * sizeof(*fields));
    ch->state = dbx_calloc(1, at + sizeof(all));
    return dbx_json_decode(root, fields, n, ch->state, "", err);
}

static const struct gw_channel_kind *find_kind(const char *name)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(kinds); i++)
        if (dbx_streq(kinds[i]->name, name))
            return kinds[i];
    return NULL;
}

int gw_channel_decode(const struct dbx_json *root, struct gw_channel *ch, struct dbx_err *err)
{
    int64_t number = dbx_json_get_i64(root, "channel", 0);
    ch->kind = find_kind(dbx_json_get_str(root, "kind"));
    if (number < 1 || number > INT32_MAX)
        return dbx_err_field(err, "channel", "must be a number from 1 to 2147483647");
    if (!ch->kind)
        return dbx_err_field(err, "kind", "there is no such kind of channel");
    ch->number = (uint32_t)number;
    return decode_open(root, ch->kind, ch, err);
}

static int may_open(const struct gw_socket *sk, const struct gw_channel *ch, struct dbx_err *err)
{
    if (dbx_map_get(sk->channels, &ch->number, sizeof(ch->number)))
        return dbx_err_field(err, "channel", "is open already");
    if (dbx_map_count(sk->channels) >= GW_MAX_CHANNELS)
        return dbx_err_field(err, "channel", "at most %d channels", GW_MAX_CHANNELS);
    return 0;
}

static int open_channel(struct gw_socket *sk, const struct dbx_json *root, struct dbx_err *err)
{
    struct gw_channel *ch = DBX_NEW(struct gw_channel);
    ch->sk = sk;
    ch->serial = dbx_now_ns();
    int r = gw_channel_decode(root, ch, err);
    if (r == 0)
        r = may_open(sk, ch, err);
    if (r < 0) {
        free(ch->state);
        free(ch);
        return r;
    }
    (void)dbx_map_put(sk->channels, &ch->number, sizeof(ch->number), ch);
    say_opened(ch);
    ch->kind->open(ch);
    return 0;
}

static int control(struct gw_socket *sk, const struct dbx_json *root, const char *type,
                   struct dbx_err *err)
{
    if (dbx_streq(type, "open"))
        return open_channel(sk, root, err);
    if (dbx_streq(type, "ping")) {
        struct dbx_buf buf;
        struct dbx_jw *w = gw_channel_begin(sk, NULL, "pong", &buf, MAX_WORDS);
        gw_channel_send(sk, &buf, &w);
        return 0;
    }
    if (!dbx_streq(type, "close"))
        return dbx_err_set(err, -ENOSYS, DBX_INVALID, "unknown type '%.40s'", type);
    int64_t number = dbx_json_get_i64(root, "channel", 0);
    uint32_t key = (uint32_t)number;
    struct gw_channel *ch =
        number > 0 && number <= INT32_MAX ? dbx_map_get(sk->channels, &key, sizeof(key)) : NULL;
    if (ch) /* else it has ended by itself: the client has been told */
        gw_channel_end(ch, NULL, NULL);
    return 0;
}

static int take(struct gw_socket *sk, const struct dbx_json *root, struct dbx_err *err)
{
    const char *type = dbx_json_get_str(root, "type");
    int64_t number = dbx_json_get_i64(root, "ch", -1);
    uint32_t key = (uint32_t)number;
    if (!type)
        return dbx_err_field(err, "type", "is missing");
    if (number < 0 || number > INT32_MAX)
        return dbx_err_field(err, "ch", "must be the number of a channel");
    if (number == 0)
        return control(sk, root, type, err);
    struct gw_channel *ch = dbx_map_get(sk->channels, &key, sizeof(key));
    if (!ch) /* may have ended while this was on its way */
        return dbx_err_set(err, -ENOENT, DBX_INVALID, "channel %" PRId64 " is not open", number);
    if (!ch->kind->message)
        return dbx_err_set(err, -ENOSYS, DBX_INVALID, "unknown type '%.40s'", type);
    ch->kind->message(ch, root);
    return 0;
}

static void on_message(struct dbx_ws *ws, bool binary, const uint8_t *data, size_t len, void *user)
{
    struct gw_socket *sk = DBX_CAST(struct gw_socket, GW_SOCKET_MAGIC, user);
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_err err = {0};
    char words[sizeof(err.field) + sizeof(err.msg) + 4];
    if (dbx_ws_queued(ws) > MAX_UNREAD) {
        dbx_ws_close(ws, 1008, "the answers are not read");
        return;
    }
    if (binary || dbx_json_parse(data, len, &gw_socket_json, &doc, &err) < 0 ||
        dbx_json_type(dbx_json_root(doc)) != DBX_JSON_OBJECT) {
        gw_channel_error(sk, NULL, "malformed", "messages are JSON objects");
        if (++sk->malformed > MAX_MALFORMED)
            dbx_ws_close(ws, 1008, "too many malformed messages");
        return;
    }
    int r = take(sk, dbx_json_root(doc), &err);
    if (r == 0)
        return;
    snprintf(words, sizeof(words), "%s%s%s", err.field, err.field[0] ? ": " : "", err.msg);
    gw_channel_error(sk, NULL,
                     r == -ENOSYS ? "unknown_type" : (r == -ENOENT ? "unknown_channel" : "invalid"),
                     words);
}

/* --- its life --- */

static void on_drain(struct dbx_ws *ws, void *user)
{
    struct gw_socket *sk = DBX_CAST(struct gw_socket, GW_SOCKET_MAGIC, user);
    struct dbx_map_iter it = {0};
    (void)ws;
    while (dbx_map_next(sk->channels, &it)) {
        struct gw_channel *ch = it.value;
        if (ch->kind->drain)
            ch->kind->drain(ch);
    }
}

static void on_close(struct dbx_ws *ws, int code, int http_status, const char *reason, void *user)
{
    struct gw_socket *sk = DBX_CAST(struct gw_socket, GW_SOCKET_MAGIC, user);
    struct dbx_map_iter it = {0};
    (void)ws;
    (void)http_status;
    dbx_log(DBX_LOG_DEBUG, &sk->log, "socket closed: %d %s", code, reason ? reason : "");
    if (sk->ws)
        dbx_metric_add(sk->gw->open_sockets, -1);
    sk->ws = NULL;
    gw_room_leave(sk);
    while (dbx_map_next(sk->channels, &it))
        free_channel(it.value);
    gw_socket_unref(sk);
}

static const struct dbx_ws_handlers ws_handlers = {
    .on_message = on_message, .on_drain = on_drain, .on_close = on_close};

void gw_socket_unref(struct gw_socket *sk)
{
    DBX_CAST(struct gw_socket, GW_SOCKET_MAGIC, sk);
    if (--sk->refs > 0)
        return;
    struct gw *gw = sk->gw;
    dbx_assert(!sk->room && dbx_map_count(sk->channels) == 0);
    dbx_map_free(sk->channels);
    dbx_list_remove(&sk->node);
    sk->magic = 0;
    free(sk);
    gw_server_check_drained(gw);
}

void gw_socket_opened(struct dbx_ws *ws, void *ws_user)
{
    struct gw_socket *sk = DBX_CAST(struct gw_socket, GW_SOCKET_MAGIC, ws_user);
    struct dbx_buf buf;
    sk->ws = ws;
    dbx_metric_add(sk->gw->open_sockets, 1);
    gw_keep_soon(sk->gw);
    gw_room_enter(sk);
    struct dbx_jw *w = gw_channel_begin(sk, NULL, "hello", &buf, MAX_WORDS);
    gw_put_id(w, "workspace_id", &sk->workspace);
    dbx_jw_kstr(w, "role", gw_role_name(sk->role));
    gw_channel_send(sk, &buf, &w);
}

void gw_sockets_close(struct gw *gw)
{
    struct dbx_list *node, *tmp;
    dbx_list_each(node, tmp, &gw->sockets)
        gw_socket_end(dbx_list_entry(node, struct gw_socket, node), 1001, "reconnect");
}

/* --- opening it --- */

struct asking {
    struct dbx_id workspace, sandbox; /* sandbox: of a stream token, else zero */
    enum dbx_role most;
    char credential[65];
};

static void ask_role(struct gw *gw, const struct asking *a, const struct gw_user *user,
                     dbx_pg_fn *fn, void *arg)
{
    static const struct dbx_id none;
    char id[DBX_ID_TEXT], who[DBX_ID_TEXT], sandbox[DBX_ID_TEXT];
    dbx_id_format(&a->workspace, id);
    dbx_id_format(&user->id, who);
    dbx_id_format(&a->sandbox, sandbox);
    const struct dbx_pg_param params[] = {
        DBX_PG_TEXT(id), DBX_PG_TEXT(who), DBX_PG_TEXT(user->admin ? "t" : "f"),
        DBX_PG_TEXT(a->credential), DBX_PG_TEXT(dbx_id_equal(&a->sandbox, &none) ? NULL : sandbox)};
    dbx_pg_query(gw_store_pg(gw->store), "socket_role", params, DBX_ARRAY_LEN(params), fn, arg);
}

/* A workspace that is not there gives no row. */
static enum dbx_role role_of(const struct dbx_pg_result *res, const struct dbx_err *err)
{
    return err || dbx_pg_rows(res) == 0 ? DBX_ROLE_NONE
                                        : (enum dbx_role)dbx_pg_i64(res, 0, "role", DBX_ROLE_NONE);
}

static void accept_socket(struct gw_req *rq, enum dbx_role role)
{
    static const char *const protocols[] = {PROTOCOL, NULL};
    const struct asking *a = rq->op;
    struct gw_socket *sk = DBX_NEW(struct gw_socket);
    char id[DBX_ID_TEXT];
    sk->magic = GW_SOCKET_MAGIC;
    sk->refs = 1;
    sk->gw = rq->gw;
    sk->workspace = a->workspace;
    sk->user = rq->user;
    sk->most = a->most;
    (void)dbx_strcpy(sk->credential, sizeof(sk->credential), a->credential);
    sk->role = role < a->most ? role : a->most;
    sk->channels = dbx_map_new();
    dbx_list_init(&sk->room_node);
    dbx_list_push(&rq->gw->sockets, &sk->node);
    dbx_id_format(&a->workspace, id);
    dbx_log_ctx_init(&sk->log, &rq->gw->log, "workspace", id);
    struct dbx_http_req *http = DBX_TAKE(rq->http);
    dbx_http_upgrade(http, &ws_handlers, sk, dbx_http_pick_subprotocol(http, protocols));
    gw_req_unref(rq);
}

static void on_workspace(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    enum dbx_role role = role_of(res, err);
    if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (role == DBX_ROLE_NONE) {
        gw_req_not_found(rq);
    } else if (rq->gw->draining) {
        gw_req_fail_status(rq, 503, DBX_UNAVAIL, "draining",
                           "this server is going away; try another one", NULL);
    } else {
        accept_socket(rq, role);
    }
    gw_req_unref(rq);
}

static void ask_for_workspace(struct gw_req *rq)
{
    struct asking *a = rq->op;
    if (rq->user.by != GW_CRED_NONE) {
        gw_credential_label(&rq->user, a->credential);
        a->most = gw_auth_live_role(&rq->user, a->most);
    }
    gw_req_ref(rq);
    ask_role(rq->gw, a, &rq->user, on_workspace, rq);
}

/* A token of this workspace, or of a sandbox (then it has to be one of the workspace). */
static int take_token(struct gw_req *rq, const char *text, struct asking *a, struct dbx_err *err)
{
    int64_t now = dbx_wall_us() / 1000000;
    struct dbx_token t;
    int r = dbx_token_verify(rq->gw->keys, text, DBX_TOKEN_WORKSPACE, now, &t, err);
    bool stream = r == -EACCES;
    if (stream)
        r = dbx_token_verify(rq->gw->keys, text, DBX_TOKEN_STREAM, now, &t, err);
    if (r < 0)
        return r;
    if (stream)
        a->sandbox = t.subject;
    else if (!dbx_id_equal(&t.subject, &a->workspace))
        return dbx_err_set(err, -EPERM, DBX_DENIED, "the token is that of another workspace");
    a->most = t.role;
    (void)dbx_strcpy(a->credential, sizeof(a->credential), t.label);
    rq->user = (struct gw_user){.id = t.user, .admin = t.role == DBX_ROLE_ADMIN};
    return 0;
}

static void refuse_token(struct gw_req *rq, int r, const struct dbx_err *err)
{
    static const struct dbx_header header[] = {{"WWW-Authenticate", "Bearer realm=\"devbox\""},
                                               {NULL, NULL}};
    if (r == -EPERM)
        gw_req_fail_status(rq, 403, DBX_DENIED, "foreign_token", err->msg, NULL);
    else
        gw_req_fail_status(rq, 401, DBX_DENIED, r == -ETIME ? "token_expired" : "unauthorized",
                           r == -ETIME ? "the token has expired" : "the token is not valid",
                           header);
}

void gw_socket_upgrade(struct gw_req *rq)
{
    const char *token = dbx_http_query(rq->http, "token", 0);
    struct asking *a = DBX_NEW(struct asking);
    struct dbx_err err = {0};
    a->most = DBX_ROLE_ADMIN;
    rq->op = a;
    rq->op_free = free;
    if (!gw_origin_ok(dbx_http_header(rq->http, "origin"), dbx_http_header(rq->http, "host"),
                      rq->gw->cfg->origins)) {
        gw_req_fail_status(rq, 403, DBX_DENIED, "foreign_origin",
                           "pages of this origin may not open sockets", NULL);
        return;
    }
    if (!gw_route_id(rq, &a->workspace))
        return;
    if (!token) {
        gw_auth_request(rq, ask_for_workspace);
        return;
    }
    int r = take_token(rq, token, a, &err);
    if (r < 0)
        refuse_token(rq, r, &err);
    else
        ask_for_workspace(rq);
}

void gw_socket_get(struct gw_req *rq)
{
    static const struct dbx_header header[] = {{"Upgrade", "websocket"}, {NULL, NULL}};
    gw_req_fail_status(rq, 426, DBX_INVALID, "upgrade_required", "this is a WebSocket", header);
}

/* --- while it is open --- */

static void say_role(struct gw_socket *sk)
{
    struct dbx_buf buf;
    struct dbx_jw *w = gw_channel_begin(sk, NULL, "role", &buf, MAX_WORDS);
    dbx_jw_kstr(w, "role", gw_role_name(sk->role));
    gw_channel_send(sk, &buf, &w);
}

static void on_role(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_socket *sk = arg;
    enum dbx_role was = sk->role;
    if (!err && sk->ws) {
        sk->role = role_of(res, err);
        if (sk->role > sk->most)
            sk->role = sk->most;
        if (sk->role == DBX_ROLE_NONE)
            gw_socket_end(sk, 1008, "revoked");
        else if (sk->role != was)
            say_role(sk);
    }
    gw_socket_unref(sk);
}

void gw_sockets_check(struct gw *gw)
{
    struct dbx_list *node, *tmp;
    dbx_list_each(node, tmp, &gw->sockets)
    {
        struct gw_socket *sk = dbx_list_entry(node, struct gw_socket, node);
        if (!sk->ws)
            continue;
        struct asking a = {.workspace = sk->workspace};
        (void)dbx_strcpy(a.credential, sizeof(a.credential), sk->credential);
        sk->refs++;
        ask_role(gw, &a, &sk->user, on_role, sk);
    }
}

/* --- a token for it --- */

static void on_may(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    enum dbx_role role = role_of(res, err);
    int64_t now = dbx_wall_us() / 1000000;
    char text[DBX_TOKEN_MAX];
    if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (role == DBX_ROLE_NONE) {
        gw_req_not_found(rq);
    } else {
        const struct asking *a = rq->op;
        struct dbx_token t = {.kind = DBX_TOKEN_WORKSPACE,
                              .role = gw_auth_live_role(&rq->user, role),
                              .expires = now + GW_TOKEN_SECONDS,
                              .subject = a->workspace,
                              .user = rq->user.id};
        struct dbx_buf buf;
        (void)dbx_strcpy(t.label, sizeof(t.label), a->credential);
        int r = dbx_token_sign(rq->gw->keys, &t, text);
        dbx_assert(r == 0);
        dbx_buf_init(&buf, DBX_MAX_HEADER);
        struct dbx_jw *w = dbx_jw_new(&buf);
        dbx_jw_object(w);
        dbx_jw_kstr(w, "token", text);
        dbx_jw_kstr(w, "role", gw_role_name(t.role));
        gw_put_time(w, "expires_at", t.expires * 1000000);
        dbx_jw_object_end(w);
        gw_answer_json(rq, 200, &buf, &w);
    }
    gw_req_unref(rq);
}

void gw_socket_token(struct gw_req *rq)
{
    struct asking *a = DBX_NEW(struct asking);
    rq->op = a;
    rq->op_free = free;
    if (!gw_route_id(rq, &a->workspace))
        return;
    if ((rq->user.scopes & GW_SCOPE_READ) == 0) {
        gw_req_forbidden(rq, "this key's scopes do not allow it");
        return;
    }
    gw_credential_label(&rq->user, a->credential);
    gw_req_ref(rq);
    ask_role(rq->gw, a, &rq->user, on_may, rq);
}
