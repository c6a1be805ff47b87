/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/webhooks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/io/address.h"
#include "common/io/http_client.h"
#include "common/io/loop.h"
#include "gateway/batches.h"
#include "gateway/executions.h"
#include "gateway/gw.h"
#include "gateway/once.h"
#include "gateway/result.h"
#include "gateway/store.h"

#define LOOK_MS 1000
#define AT_A_TIME 8
#define TIMEOUT_MS 15000
#define LEASE_MS "40000" /* longer than an attempt and the writing of how it went */
#define MAX_ANSWER (64u << 10)
#define MAX_BACKOFF_MS 3600000u
#define MAX_BODY 4096u

struct gw_webhooks {
    struct gw *gw;
    struct dbx_http_client *client;
    struct dbx_timer *timer;
    struct dbx_metric *delivered, *failed;
    unsigned flying;
    bool asking;
};

struct delivery {
    struct gw_webhooks *wh;
    struct dbx_id batch;
    int64_t attempt;
    int status; /* of an answer whose body has begun; else 0 */
};

/* --- where it may go --- */

static int bad_url(struct dbx_err *err, const char *what)
{
    return dbx_err_field(err, "webhook.url", "%s", what);
}

static bool may_reach(const struct gw *gw, const struct sockaddr *addr)
{
    return dbx_address_public(addr) || dbx_address_listed(addr, gw->cfg->webhook_allow);
}

/* A host that is an address is looked at now: a clear answer instead of a delivery that fails. */
static bool literal_ok(const struct gw *gw, const char *host)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1)
        return may_reach(gw, (const struct sockaddr *)(const void *)&v4);
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1)
        return may_reach(gw, (const struct sockaddr *)(const void *)&v6);
    return true;
}

int gw_webhook_check_url(const char *url, struct dbx_err *err, void *user)
{
    char host[256];
    size_t scheme = strncmp(url, "https://", 8) == 0 ? 8 : strncmp(url, "http://", 7) == 0 ? 7 : 0;
    if (scheme == 0)
        return bad_url(err, "must begin with http:// or https://");
    for (const char *p = url; *p; p++)
        if (*p <= 0x20 || *p >= 0x7f || *p == '\\')
            return bad_url(err, "must be printable ASCII without spaces and backslashes");
    const char *at = url + scheme;
    size_t authority = strcspn(at, "/?#"), len = authority;
    if (memchr(at, '@', authority))
        return bad_url(err, "must not hold a user or password");
    if (*at == '[') {
        at++;
        len = strcspn(at, "]");
    } else {
        len = strcspn(at, ":/?#");
    }
    if (len == 0 || len > authority || len >= sizeof(host))
        return bad_url(err, "names no host");
    memcpy(host, at, len);
    host[len] = '\0';
    if (!literal_ok(user, host))
        return bad_url(err, "is not a public address");
    return 0;
}

static bool may_connect(const struct sockaddr *addr, void *user)
{
    struct delivery *d = user;
    return may_reach(d->wh->gw, addr);
}

/* --- how it went --- */

uint64_t gw_webhook_backoff(uint64_t first_ms, int64_t attempt)
{
    uint64_t ms = first_ms;
    for (int64_t i = 1; i < attempt && ms < MAX_BACKOFF_MS; i++)
        ms *= 2;
    return ms < MAX_BACKOFF_MS ? ms : MAX_BACKOFF_MS;
}

static void on_noted(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw *gw = user;
    (void)res;
    if (err && !gw->draining) /* its lease runs out, and it is tried again */
        dbx_log(DBX_LOG_WARN, &gw->log, "note how a webhook went: %s", err->msg);
}

static void note(const struct delivery *d, int status, const char *error)
{
    struct gw *gw = d->wh->gw;
    bool ok = status >= 200 && status < 300;
    bool last = d->attempt >= (int64_t)gw->cfg->webhook_attempts;
    char id[DBX_ID_TEXT], attempt[24], answer[12], wait[24], detail[200];
    dbx_id_format(&d->batch, id);
    snprintf(attempt, sizeof(attempt), "%" PRId64, d->attempt);
    snprintf(answer, sizeof(answer), "%d", status);
    snprintf(wait, sizeof(wait), "%" PRIu64,
             gw_webhook_backoff(gw->cfg->webhook_backoff_ms, d->attempt));
    if (!error)
        snprintf(detail, sizeof(detail), "answered with status %d", status);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(id),
                                          DBX_PG_TEXT(attempt),
                                          DBX_PG_TEXT(ok     ? "delivered"
                                                      : last ? "failed"
                                                             : "waiting"),
                                          DBX_PG_TEXT(status ? answer : NULL),
                                          DBX_PG_TEXT(ok      ? NULL
                                                      : error ? error
                                                              : detail),
                                          DBX_PG_TEXT(wait)};
    dbx_metric_add(ok ? d->wh->delivered : d->wh->failed, 1);
    dbx_pg_query(gw_store_pg(gw->store), "hook_done", params, DBX_ARRAY_LEN(params), on_noted, gw);
}

/* Its body says nothing to us, and how it ends neither. */
static int on_answer_body(struct dbx_fetch *f, const void *data, size_t len, void *user)
{
    struct delivery *d = user;
    (void)data;
    (void)len;
    d->status = dbx_fetch_status(f);
    return 0;
}

static void on_answer(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct delivery *d = user;
    struct gw_webhooks *wh = d->wh;
    (void)f;
    wh->flying--;
    if (!result->err || result->err->code != -ECANCELED) {
        int status = result->status ? result->status : d->status;
        note(d, status, result->err && !status ? result->err->msg : NULL);
        dbx_timer_start(wh->timer, 0, LOOK_MS);
    }
    free(d);
}

/* --- sending --- */

static void write_body(struct dbx_buf *out, const struct dbx_pg_result *res, size_t i,
                       const char *id)
{
    struct dbx_jw *w = dbx_jw_new(out);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "type", "batch.ended");
    dbx_jw_kstr(w, "id", id);
    dbx_jw_kstr(w, "status", dbx_pg_text(res, i, "status", NULL));
    dbx_jw_ki64(w, "total", dbx_pg_i64(res, i, "total", 0));
    dbx_jw_key(w, "counts");
    dbx_jw_object(w);
    dbx_jw_ki64(w, "completed", dbx_pg_i64(res, i, "n_completed", 0));
    dbx_jw_ki64(w, "failed", dbx_pg_i64(res, i, "n_failed", 0));
    dbx_jw_ki64(w, "cancelled", dbx_pg_i64(res, i, "n_cancelled", 0));
    dbx_jw_object_end(w);
    gw_put_time(w, "created_at", dbx_pg_i64(res, i, "created_us", 0));
    gw_put_time(w, "ended_at", dbx_pg_i64(res, i, "ended_us", 0));
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0);
}

/* "t=SECONDS,v1=HEX": HMAC-SHA256 of "SECONDS.BODY"; without a secret there is only the time. */
static void sign(const char *secret, const struct dbx_buf *body, char *out, size_t size)
{
    struct dbx_buf text;
    uint8_t mac[DBX_SHA256_LEN];
    char hex[2 * DBX_SHA256_LEN + 1];
    int64_t now = dbx_wall_us() / 1000000;
    dbx_buf_init(&text, MAX_BODY + 64);
    (void)dbx_buf_printf(&text, "%" PRId64 ".", now);
    (void)dbx_buf_append(&text, body->data, body->len);
    snprintf(out, size, "DevBox-Signature: t=%" PRId64, now);
    if (secret) {
        dbx_hmac_sha256(secret, strlen(secret), text.data, text.len, mac);
        dbx_hex_encode(mac, sizeof(mac), hex);
        snprintf(out, size, "DevBox-Signature: t=%" PRId64 ",v1=%s", now, hex);
    }
    dbx_buf_done(&text);
}

static void deliver(struct gw_webhooks *wh, const struct dbx_pg_result *res, size_t i)
{
    const char *id = dbx_pg_text(res, i, "batch_id", NULL);
    char signature[128], delivery[96];
    struct dbx_buf body;
    struct delivery *d = DBX_NEW(struct delivery);
    d->wh = wh;
    d->attempt = dbx_pg_i64(res, i, "attempts", 1);
    if (dbx_id_parse(id, &d->batch) < 0) {
        free(d);
        return;
    }
    dbx_buf_init(&body, MAX_BODY);
    write_body(&body, res, i, id);
    sign(dbx_pg_text(res, i, "webhook_secret", NULL), &body, signature, sizeof(signature));
    snprintf(delivery, sizeof(delivery), "DevBox-Delivery: %s/%" PRId64, id, d->attempt);
    const char *const headers[] = {"Content-Type: application/json",
                                   "User-Agent: DevBox/" DBX_VERSION,
                                   "Expect:",
                                   signature,
                                   delivery,
                                   NULL};
    const struct dbx_fetch_opts opts = {.method = "POST",
                                        .url = dbx_pg_text(res, i, "webhook_url", NULL),
                                        .headers = headers,
                                        .body = body.data,
                                        .body_len = body.len,
                                        .max_response = MAX_ANSWER,
                                        .timeout_ms = TIMEOUT_MS,
                                        .on_data = on_answer_body,
                                        .may_connect = may_connect};
    wh->flying++;
    (void)dbx_fetch(wh->client, &opts, on_answer, d);
    dbx_buf_done(&body);
}

/* --- which ones are due --- */

static void on_taken(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw *gw = user;
    struct gw_webhooks *wh = gw->webhooks;
    if (!wh)
        return; /* the end; whoever takes them next waits for the lease */
    wh->asking = false;
    if (err)
        return; /* the next look asks again */
    for (size_t i = 0; i < dbx_pg_rows(res); i++)
        deliver(wh, res, i);
}

static void on_timer(void *user)
{
    struct gw_webhooks *wh = user;
    char limit[12];
    if (wh->asking || wh->flying >= AT_A_TIME || wh->gw->draining || !gw_store_ready(wh->gw->store))
        return;
    snprintf(limit, sizeof(limit), "%u", AT_A_TIME - wh->flying);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(limit), DBX_PG_TEXT(LEASE_MS)};
    wh->asking = true;
    dbx_pg_query(gw_store_pg(wh->gw->store), "hook_take", params, 2, on_taken, wh->gw);
}

struct gw_webhooks *gw_webhooks_new(struct gw *gw)
{
    struct gw_webhooks *wh = DBX_NEW(struct gw_webhooks);
    wh->gw = gw;
    wh->client = dbx_http_client_new(gw->loop);
    wh->timer = dbx_timer_new(gw->loop, on_timer, wh);
    wh->delivered = dbx_counter("devbox_gateway_webhooks_total", "result=\"delivered\"",
                                "Attempts to tell a webhook.");
    wh->failed = dbx_counter("devbox_gateway_webhooks_total", "result=\"failed\"",
                             "Attempts to tell a webhook.");
    dbx_timer_start(wh->timer, LOOK_MS, LOOK_MS);
    return wh;
}

struct gw_webhooks *gw_webhooks_free(struct gw_webhooks *wh)
{
    if (!wh)
        return NULL;
    wh->client = dbx_http_client_free(wh->client);
    wh->timer = dbx_timer_free(wh->timer);
    free(wh);
    return NULL;
}

/* --- looking, and once more --- */

static void put_i64(struct dbx_jw *w, const char *key, int64_t v)
{
    dbx_jw_key(w, key);
    if (v > 0)
        dbx_jw_i64(w, v);
    else
        dbx_jw_null(w);
}

static void answer_hook(struct gw_req *rq, const struct dbx_pg_result *res)
{
    const char *status = dbx_pg_text(res, 0, "status", NULL);
    bool waits = dbx_streq(status, "waiting");
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "url", dbx_pg_text(res, 0, "url", NULL));
    dbx_jw_kstr(w, "status", status ? status : "waiting");
    dbx_jw_ki64(w, "attempts", dbx_pg_i64(res, 0, "attempts", 0));
    put_i64(w, "last_status", dbx_pg_i64(res, 0, "answer", 0));
    dbx_jw_kstr(w, "last_error", dbx_pg_text(res, 0, "error", NULL));
    gw_put_time(w, "due_at", dbx_pg_i64(res, 0, "created_us", 0));
    gw_put_time(w, "next_at", waits ? dbx_pg_i64(res, 0, "next_us", 0) : 0);
    gw_put_time(w, "ended_at", dbx_pg_i64(res, 0, "ended_us", 0));
    dbx_jw_object_end(w);
    gw_answer_json(rq, 200, &buf, &w);
}

static void on_hook(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw_req *rq = user;
    if (err)
        gw_req_fail_db(rq, err);
    else if (dbx_pg_rows(res) == 0)
        gw_req_not_found(rq);
    else if (!gw_req_gone(rq))
        answer_hook(rq, res);
    gw_req_unref(rq);
}

static void ask(struct gw_req *rq, const char *stmt, dbx_pg_fn *fn)
{
    struct dbx_id id;
    char user[DBX_ID_TEXT], text[DBX_ID_TEXT];
    if (dbx_id_parse(rq->params.first, &id) < 0) {
        gw_req_not_found(rq);
        return;
    }
    dbx_id_format(&id, text);
    dbx_id_format(&rq->user.id, user);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(text), DBX_PG_TEXT(user),
                                          DBX_PG_TEXT(rq->user.admin ? "t" : "f")};
    gw_req_ref(rq);
    dbx_pg_query(gw_store_pg(rq->gw->store), stmt, params, 3, fn, rq);
}

void gw_batches_hook_get(struct gw_req *rq)
{
    ask(rq, "hook_seen", on_hook);
}

static void on_again(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw_req *rq = user;
    (void)res; /* it waits already, or is not his: the row says */
    if (err)
        gw_req_fail_db(rq, err);
    else if (!gw_req_gone(rq))
        ask(rq, "hook_seen", on_hook);
    gw_req_unref(rq);
}

static void deliver_again(struct gw_req *rq)
{
    if (gw_once_repeated(rq)) /* what was sent since is enough */
        ask(rq, "hook_seen", on_hook);
    else
        ask(rq, "hook_again", on_again);
}

void gw_batches_hook_again(struct gw_req *rq)
{
    gw_once_again(rq, deliver_again);
}
