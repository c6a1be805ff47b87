/* SPDX-License-Identifier: Apache-2.0 */
/* One link, either side.
 *
 * A request waits in `open` until its answer, its deadline, or the end of the connection. One that
 * cannot be sent waits there too, with its error, for a timer of 0 ms: so that a request is never
 * called back before it was made.
 *
 * Any callback may free the link. What calls back holds `depth` up; dbx_link_free then only marks
 * it dead, and the memory goes when the outermost call ends. */
#include "common/proto/link.h"

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "common/io/ws.h"
#include "common/proto/link_int.h"
#include "common/proto/token.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINK_MAGIC 0x6c696e6b
#define REQUEST_MAGIC 0x6c725131
#define MAX_OPEN 200000
#define TOKEN_S 60
#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 1000
#define STABLE_MS 1000 /* up as long as this: the next attempt is made at once again */
#define PING_MS 10000
#define MAX_URL_FILE 4096

/* What a client link needs to connect again. */
struct dial {
    char *url, *url_file, *ca_file; /* owned */
    const struct dbx_keyring *keys; /* borrowed */
    char label[65];
    struct dbx_timer *timer;
    uint32_t backoff_ms;
    uint32_t attempts;
    uint64_t up_since;
};

struct dbx_link {
    uint32_t magic;
    struct dbx_loop *loop;
    struct dbx_link_handlers h;
    void *user;
    struct dbx_ws *ws; /* NULL between connections */
    bool up, dead;
    int depth;
    int64_t last_rid;
    struct dbx_map *by_rid;        /* open requests */
    struct dbx_list open, failing; /* struct request */
    struct dial *dial;             /* NULL on the server side */
};

struct request {
    uint32_t magic;
    struct dbx_list node;
    struct dbx_link *link;
    int64_t rid;
    struct dbx_timer *timer;
    struct dbx_err failed; /* code 0: waits for its answer */
    dbx_link_answer *fn;
    void *user;
};

static void destroy(struct dbx_link *l)
{
    if (l->dial) {
        dbx_timer_free(l->dial->timer);
        free(l->dial->url);
        free(l->dial->url_file);
        free(l->dial->ca_file);
        free(l->dial);
    }
    dbx_map_free(l->by_rid);
    l->magic = 0;
    free(l);
}

static void enter(struct dbx_link *l)
{
    l->depth++;
}

static void leave(struct dbx_link *l)
{
    if (--l->depth == 0 && l->dead)
        destroy(l);
}

/* ---- requests ---- */

/* Ends a request; the link may be gone when it returns. */
static void finish(struct request *rq, const struct dbx_link_msg *m, const struct dbx_err *err)
{
    dbx_link_answer *fn = rq->fn;
    void *user = rq->user;

    (void)dbx_map_del(rq->link->by_rid, &rq->rid, sizeof(rq->rid));
    dbx_list_remove(&rq->node);
    dbx_timer_free(rq->timer);
    rq->magic = 0;
    free(rq);
    fn(m, err, user);
}

static void on_deadline(void *user)
{
    struct request *rq = DBX_CAST(struct request, REQUEST_MAGIC, user);
    struct dbx_err err = rq->failed;

    if (err.code == 0)
        (void)dbx_err_set(&err, -ETIMEDOUT, DBX_TIMEOUT, "the peer did not answer in time");
    finish(rq, NULL, &err);
}

/* Callbacks may make new requests: those stay open. */
static void fail_all(struct dbx_link *l, int code, const char *reason)
{
    struct dbx_err err = {0};
    struct dbx_list *it, *next;

    (void)dbx_err_set(&err, code, DBX_UNAVAIL, "%s", reason);
    dbx_list_each(it, next, &l->open)
    {
        dbx_list_remove(it);
        dbx_list_push(&l->failing, it);
    }
    while (!dbx_list_empty(&l->failing))
        finish(dbx_list_first(&l->failing, struct request, node), NULL, &err);
}

static int transmit(struct dbx_link *l, const struct dbx_link__head *head, const void *blob,
                    size_t len)
{
    struct dbx_buf buf;
    int r;

    if (!l->up)
        return -ENOTCONN;
    dbx_buf_init(&buf, DBX_LINK_MAX_HEADER);
    r = dbx_link__encode(&buf, head);
    if (r == 0 && len > DBX_MAX_LINK_MSG - buf.len)
        r = -E2BIG;
    if (r == 0)
        r = dbx_ws_send2(l->ws, /* binary= */ true, buf.data, buf.len, blob, len);
    dbx_buf_done(&buf);
    return r;
}

static void set_failed(struct request *rq, int code)
{
    if (code == -ENOTCONN)
        (void)dbx_err_set(&rq->failed, code, DBX_UNAVAIL, "the link is down");
    else if (code == -ENOBUFS || code == -E2BIG || code == -EMFILE)
        (void)dbx_err_set(&rq->failed, code, DBX_LIMIT,
                          "the link is full, or the message too large");
    else
        (void)dbx_err_set(&rq->failed, code, DBX_INTERNAL, "the message cannot be written");
}

void dbx_link_request(struct dbx_link *l, const char *op, dbx_link_fill *fill, void *arg,
                      const void *blob, size_t blob_len, uint32_t timeout_ms, dbx_link_answer *fn,
                      void *user)
{
    dbx_assert(!l->dead);
    struct request *rq = DBX_NEW(struct request);
    struct dbx_link__head head = {.op = op, .rid = ++l->last_rid, .fill = fill, .arg = arg};

    rq->magic = REQUEST_MAGIC;
    rq->link = l;
    rq->rid = head.rid;
    rq->fn = fn;
    rq->user = user;
    rq->timer = dbx_timer_new(l->loop, on_deadline, rq);
    int r = dbx_map_count(l->by_rid) < MAX_OPEN ? transmit(l, &head, blob, blob_len) : -EMFILE;
    if (r < 0)
        set_failed(rq, r);
    dbx_list_push(&l->open, &rq->node);
    (void)dbx_map_put(l->by_rid, &rq->rid, sizeof(rq->rid), rq);
    dbx_timer_start(rq->timer, r < 0 ? 0 : timeout_ms, 0);
}

int dbx_link_send(struct dbx_link *l, const char *op, dbx_link_fill *fill, void *arg,
                  const void *blob, size_t blob_len)
{
    struct dbx_link__head head = {.op = op, .fill = fill, .arg = arg};
    return transmit(l, &head, blob, blob_len);
}

int dbx_link_reply(struct dbx_link *l, int64_t rid, dbx_link_fill *fill, void *arg)
{
    struct dbx_link__head head = {.re = rid, .fill = fill, .arg = arg};
    return rid > 0 ? transmit(l, &head, NULL, 0) : 0;
}

int dbx_link_reply_error(struct dbx_link *l, int64_t rid, const struct dbx_err *err)
{
    struct dbx_link__head head = {.re = rid, .error = err};
    return rid > 0 ? transmit(l, &head, NULL, 0) : 0;
}

/* ---- the socket ---- */

static void on_answer(struct dbx_link *l, const struct dbx_link__decoded *d)
{
    struct request *rq = dbx_map_get(l->by_rid, &d->re, sizeof(d->re));
    struct dbx_err err;

    if (!rq || rq->failed.code != 0)
        return; /* too late, or never asked */
    dbx_link__answer_error(d->msg.header, &err);
    finish(rq, err.code < 0 ? NULL : &d->msg, err.code < 0 ? &err : NULL);
}

static void on_message(struct dbx_ws *ws, bool binary, const uint8_t *data, size_t len, void *user)
{
    struct dbx_link__decoded d;
    struct dbx_err err;

    if (!user) /* freed */
        return;
    struct dbx_link *l = DBX_CAST(struct dbx_link, LINK_MAGIC, user);
    if (!binary || dbx_link__decode(data, len, &d, &err) < 0) {
        dbx_ws_close(ws, 1002, binary ? err.msg : "not binary");
        return;
    }
    enter(l);
    if (d.re > 0)
        on_answer(l, &d);
    else
        l->h.on_msg(l, &d.msg, l->user);
    dbx_link__decoded_done(&d);
    leave(l);
}

static void on_open(struct dbx_ws *ws, void *user)
{
    if (!user)
        return;
    struct dbx_link *l = DBX_CAST(struct dbx_link, LINK_MAGIC, user);
    l->ws = ws;
    l->up = true;
    if (l->dial)
        l->dial->up_since = dbx_now_ms();
    enter(l);
    if (l->h.on_up)
        l->h.on_up(l, l->user);
    leave(l);
}

/* Doubles the wait unless the connection was good for a while; half of it is random, so that a
 * thousand nodes do not come back at the same instant. */
static void dial_later(struct dbx_link *l, bool was_up)
{
    struct dial *d = l->dial;

    if (was_up && dbx_now_ms() - d->up_since >= STABLE_MS)
        d->backoff_ms = BACKOFF_MIN_MS;
    dbx_timer_start(d->timer, d->backoff_ms / 2 + dbx_random_below(d->backoff_ms / 2 + 1), 0);
    d->backoff_ms = d->backoff_ms * 2 < BACKOFF_MAX_MS ? d->backoff_ms * 2 : BACKOFF_MAX_MS;
}

static void on_close(struct dbx_ws *ws, int code, int http_status, const char *reason, void *user)
{
    (void)ws;
    if (!user)
        return;
    struct dbx_link *l = DBX_CAST(struct dbx_link, LINK_MAGIC, user);
    bool was_up = l->up;
    char why[200];

    if (http_status > 0)
        (void)snprintf(why, sizeof(why), "HTTP %d %s", http_status, reason ? reason : "");
    else
        (void)snprintf(why, sizeof(why), "%d %s", code, reason ? reason : "");
    l->ws = NULL;
    l->up = false;
    enter(l);
    if (was_up)
        fail_all(l, -EPIPE, "the link went down");
    if (!l->dead && was_up && l->h.on_down)
        l->h.on_down(l, why, l->user);
    else if (!l->dead && !was_up && l->dial && l->h.on_refused)
        l->h.on_refused(l, why, l->user);
    if (!l->dead && l->dial)
        dial_later(l, was_up);
    else if (!l->dead)
        dbx_link_free(l);
    leave(l);
}

static const struct dbx_ws_handlers ws_handlers = {
    .on_open = on_open,
    .on_message = on_message,
    .on_close = on_close,
};

static struct dbx_link *link_new(struct dbx_loop *loop, const struct dbx_link_handlers *h,
                                 void *user)
{
    struct dbx_link *l = DBX_NEW(struct dbx_link);

    l->magic = LINK_MAGIC;
    l->loop = loop;
    l->h = *h;
    l->user = user;
    l->by_rid = dbx_map_new();
    dbx_list_init(&l->open);
    dbx_list_init(&l->failing);
    return l;
}

struct dbx_link *dbx_link_free(struct dbx_link *l)
{
    if (!l || l->dead)
        return NULL;
    dbx_assert(l->magic == LINK_MAGIC);
    l->up = false;
    if (l->ws) {
        dbx_ws_set_user(l->ws, NULL);
        dbx_ws_abort(l->ws);
        l->ws = NULL;
    }
    if (l->dial)
        dbx_timer_stop(l->dial->timer);
    enter(l);
    fail_all(l, -ECANCELED, "the link is being closed");
    l->dead = true;
    dbx_assert(dbx_list_empty(&l->open)); /* a callback asked again */
    leave(l);
    return NULL;
}

void dbx_link_drop(struct dbx_link *l, const char *reason)
{
    if (l->ws)
        dbx_ws_close(l->ws, 1000, reason);
}

bool dbx_link_is_up(const struct dbx_link *l)
{
    return l->up;
}

size_t dbx_link_queued(const struct dbx_link *l)
{
    return l->ws ? dbx_ws_queued(l->ws) : 0;
}

void dbx_link_set_user(struct dbx_link *l, void *user)
{
    l->user = user;
}

/* ---- client ---- */

/* The n-th of a list separated by commas, counted round. Caller frees. */
static char *nth_url(const char *list, uint32_t n)
{
    uint32_t count = 1;

    for (const char *p = list; *p; p++)
        count += *p == ',';
    for (n %= count; n > 0; n--)
        list = strchr(list, ',') + 1;
    return dbx_strndup(list, strcspn(list, ","));
}

static char *choose_url(struct dial *d)
{
    struct dbx_buf text = {0};
    char *url;

    if (d->url_file && dbx_fs_read(d->url_file, MAX_URL_FILE, &text, NULL) == 0 && text.len > 0) {
        char *line = dbx_strndup(dbx_buf_cstr(&text), strcspn(dbx_buf_cstr(&text), "\r\n"));
        url = nth_url(line, d->attempts);
        free(line);
    } else {
        url = nth_url(d->url ? d->url : "", d->attempts);
    }
    d->attempts++;
    dbx_buf_done(&text);
    return url;
}

static void dial_now(void *user)
{
    struct dbx_link *l = DBX_CAST(struct dbx_link, LINK_MAGIC, user);
    struct dial *d = l->dial;
    DBX_CLEANUP(dbx_freep) char *url = choose_url(d);
    char text[DBX_TOKEN_MAX], authorization[DBX_TOKEN_MAX + 8];
    struct dbx_token t = {.kind = DBX_TOKEN_DAEMON, .expires = dbx_wall_us() / 1000000 + TOKEN_S};

    (void)dbx_strcpy(t.label, sizeof(t.label), d->label);
    int r = dbx_token_sign(d->keys, &t, text);
    dbx_assert(r == 0);
    (void)snprintf(authorization, sizeof(authorization), "Bearer %s", text);
    struct dbx_ws_client_opts opts = {
        .loop = l->loop,
        .url = url,
        .subprotocol = DBX_LINK_SUBPROTOCOL,
        .authorization = authorization,
        .ca_file = d->ca_file,
        .ws = {.max_message = DBX_MAX_LINK_MSG, .ping_ms = PING_MS},
    };
    l->ws = dbx_ws_connect(&opts, &ws_handlers, l);
    if (!l->ws)
        dial_later(l, false);
}

struct dbx_link *dbx_link_connect(const struct dbx_link_client_opts *opts,
                                  const struct dbx_link_handlers *h, void *user)
{
    struct dbx_link *l = link_new(opts->loop, h, user);
    struct dial *d = DBX_NEW(struct dial);

    l->dial = d;
    d->url = opts->url ? dbx_strdup(opts->url) : NULL;
    d->url_file = opts->url_file ? dbx_strdup(opts->url_file) : NULL;
    d->ca_file = opts->ca_file ? dbx_strdup(opts->ca_file) : NULL;
    d->keys = opts->keys;
    d->backoff_ms = BACKOFF_MIN_MS;
    bool fits = dbx_strcpy(d->label, sizeof(d->label), opts->label);
    dbx_assert(fits);
    d->timer = dbx_timer_new(opts->loop, dial_now, l);
    dial_now(l);
    return l;
}

/* ---- server ---- */

int dbx_link_authorize(const struct dbx_keyring *keys, const char *authorization_header,
                       char label[static 65], struct dbx_err *err)
{
    static const char scheme[] = "Bearer ";
    struct dbx_token t;

    if (!authorization_header || !dbx_starts_with(authorization_header, scheme))
        return dbx_err_set(err, -EACCES, DBX_DENIED, "a daemon's token is needed");
    int r = dbx_token_verify(keys, authorization_header + sizeof(scheme) - 1, DBX_TOKEN_DAEMON,
                             dbx_wall_us() / 1000000, &t, err);
    if (r == 0)
        memcpy(label, t.label, sizeof(t.label));
    return r;
}

const struct dbx_ws_handlers *dbx_link_ws_handlers(void)
{
    return &ws_handlers;
}

struct dbx_link *dbx_link_accept(struct dbx_loop *loop, const struct dbx_link_handlers *h,
                                 void *user)
{
    return link_new(loop, h, user);
}

void dbx_link_opened(struct dbx_link *l, struct dbx_ws *ws)
{
    on_open(ws, l);
}
