/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/request.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/io/httpd.h"
#include "gateway/error.h"
#include "gateway/gw.h"
#include "gateway/once.h"
#include "gateway/server.h"

#define API_CSP "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
#define RATE_HEADERS 3
#define MAX_EXTRA 6

const struct dbx_header gw_tls_headers[] = {
    {"Strict-Transport-Security", "max-age=31536000"}, /* left out by gw_common_headers */
    {"DevBox-API-Version", "1"},
    {"X-Content-Type-Options", "nosniff"},
    {"Referrer-Policy", "no-referrer"},
    {"X-Frame-Options", "DENY"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {NULL, NULL},
};

void gw_request_id(const char *given, char out[static 65])
{
    size_t len = given ? strlen(given) : 0;
    bool sane = len >= 1 && len <= 64;
    for (size_t i = 0; sane && i < len; i++)
        sane = (given[i] >= 'a' && given[i] <= 'z') || (given[i] >= 'A' && given[i] <= 'Z') ||
               (given[i] >= '0' && given[i] <= '9') || strchr("._-", given[i]);
    if (sane) {
        memcpy(out, given, len + 1);
        return;
    }
    struct dbx_id id = dbx_id_new();
    dbx_id_format(&id, out);
}

/* "00-" 32 hex "-" 16 hex "-" 2 hex, lower case, neither id all zeros. */
static bool traceparent_ok(const char *s)
{
    static const char shape[] = "00-tttttttttttttttttttttttttttttttt-ssssssssssssssss-ff";
    bool trace = false, span = false;
    if (!s || strlen(s) != sizeof(shape) - 1)
        return false;
    for (size_t i = 0; shape[i]; i++) {
        bool hex = (s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f');
        if (strchr("tsf", shape[i]) ? !hex : s[i] != shape[i])
            return false;
        trace |= shape[i] == 't' && s[i] != '0';
        span |= shape[i] == 's' && s[i] != '0';
    }
    return trace && span;
}

void gw_traceparent(const char *given, char out[static GW_TRACE_TEXT])
{
    uint8_t ids[24];
    char trace[33], span[17];
    bool ok = traceparent_ok(given);
    dbx_random(ids, sizeof(ids));
    ids[15] |= 1;
    ids[23] |= 1;
    dbx_hex_encode(ids, 16, trace);
    dbx_hex_encode(ids + 16, 8, span);
    snprintf(out, GW_TRACE_TEXT, "00-%.32s-%s-%.2s", ok ? given + 3 : trace, span,
             ok ? given + 53 : "01");
}

struct gw_req *gw_req_new(struct gw *gw, struct dbx_http_req *http)
{
    struct gw_req *rq = DBX_NEW(struct gw_req);
    rq->magic = GW_REQ_MAGIC;
    rq->refs = 1; /* of `http` */
    rq->gw = gw;
    rq->http = http;
    rq->start_ns = dbx_now_ns();
    (void)dbx_strcpy(rq->peer, sizeof(rq->peer), dbx_http_peer(http));
    gw_request_id(dbx_http_header(http, "x-request-id"), rq->id);
    gw_traceparent(dbx_http_header(http, "traceparent"), rq->trace);
    dbx_log_ctx_init(&rq->log, &gw->log, "request_id", rq->id);
    dbx_list_push(&gw->requests, &rq->node);
    return rq;
}

void gw_req_ref(struct gw_req *rq)
{
    rq->refs++;
}

void gw_req_unref(struct gw_req *rq)
{
    DBX_CAST(struct gw_req, GW_REQ_MAGIC, rq);
    if (--rq->refs > 0)
        return;
    struct gw *gw = rq->gw;
    dbx_assert(!rq->http);
    if (rq->op)
        rq->op_free(rq->op);
    gw_again_free(rq->again);
    for (size_t i = 0; i < rq->n_extra; i++)
        free((char *)rq->extra[i].value);
    dbx_list_remove(&rq->node);
    rq->magic = 0;
    free(rq);
    gw_server_check_drained(gw);
}

void gw_req_add_header(struct gw_req *rq, const char *name, const char *value)
{
    dbx_assert(rq->n_extra < GW_MAX_EXTRA);
    rq->extra[rq->n_extra++] = (struct dbx_header){name, dbx_strdup(value)};
}

void gw_req_origin(const struct gw_req *rq, char out[static 128])
{
    snprintf(out, 128, "%.50s %.64s", rq->peer, rq->id);
}

static void account(struct gw_req *rq, int status, size_t bytes)
{
    char labels[160];
    double seconds = (double)(dbx_now_ns() - rq->start_ns) / 1e9;
    const char *pattern = rq->route ? rq->route->pattern : "other";
    snprintf(labels, sizeof(labels), "route=\"%s\",method=\"%s\",status=\"%d\"", pattern,
             rq->route ? rq->route->method : "other", status);
    dbx_metric_add(dbx_counter("devbox_gateway_requests_total", labels, "Requests answered."), 1);
    snprintf(labels, sizeof(labels), "route=\"%s\"", pattern);
    dbx_metric_observe(dbx_histogram("devbox_gateway_request_seconds", labels,
                                     "Time from the end of a request to its answer."),
                       seconds);
    dbx_metric_add(rq->gw->bytes_out, (double)bytes);
    bool probe = rq->route && strcmp(rq->route->pattern, "/readyz") == 0; /* "not yet" is its job */
    dbx_log(status >= 500 && !probe ? DBX_LOG_WARN : DBX_LOG_DEBUG, &rq->log,
            "%s %s status=%d ms=%.1f trace=%s", dbx_http_method(rq->http), dbx_http_path(rq->http),
            status, seconds * 1e3, rq->trace);
}

/* The headers of the rule that holds, with their values. */
struct rate_headers {
    char limit[12], remaining[12], reset[24];
};

static size_t put_rate(const struct gw_req *rq, struct rate_headers *values,
                       struct dbx_header headers[static RATE_HEADERS])
{
    const struct gw_req_rate *rate = &rq->rate;
    if (!rate->limit)
        return 0;
    snprintf(values->limit, sizeof(values->limit), "%u", rate->limit);
    snprintf(values->remaining, sizeof(values->remaining), "%u", rate->remaining);
    snprintf(values->reset, sizeof(values->reset), "%" PRIu64, rate->reset);
    headers[0] = (struct dbx_header){"RateLimit-Limit", values->limit};
    headers[1] = (struct dbx_header){"RateLimit-Remaining", values->remaining};
    headers[2] = (struct dbx_header){"RateLimit-Reset", values->reset};
    return RATE_HEADERS;
}

void gw_req_reply(struct gw_req *rq, int status, const char *type, const struct dbx_header *extra,
                  const void *body, size_t len)
{
    struct dbx_header headers[MAX_EXTRA + GW_MAX_EXTRA + RATE_HEADERS + 4];
    struct rate_headers rate;
    size_t n = 0;
    bool csp = false, cache = false;
    DBX_CAST(struct gw_req, GW_REQ_MAGIC, rq);
    if (!rq->http)
        return;
    for (; extra && extra->name; extra++) {
        dbx_assert(n < MAX_EXTRA);
        csp |= dbx_streq(extra->name, "Content-Security-Policy");
        cache |= dbx_streq(extra->name, "Cache-Control");
        headers[n++] = *extra;
    }
    for (size_t i = 0; i < rq->n_extra; i++)
        headers[n++] = rq->extra[i];
    n += put_rate(rq, &rate, headers + n);
    headers[n++] = (struct dbx_header){"X-Request-Id", rq->id};
    if (!csp)
        headers[n++] = (struct dbx_header){"Content-Security-Policy", API_CSP};
    if (!cache)
        headers[n++] = (struct dbx_header){"Cache-Control", "no-store"};
    headers[n] = (struct dbx_header){NULL, NULL};
    account(rq, status, len);
    if (status >= 400)
        gw_once_undone(rq);
    dbx_http_reply(DBX_TAKE(rq->http), status, type, headers, body, len);
    gw_req_unref(rq);
}

void gw_req_begin(struct gw_req *rq, int status, const char *type)
{
    struct dbx_header headers[RATE_HEADERS + 4] = {{"X-Request-Id", rq->id},
                                                   {"Content-Security-Policy", API_CSP},
                                                   {"Cache-Control", "no-store"}};
    struct rate_headers rate;
    (void)put_rate(rq, &rate, headers + 3);
    account(rq, status, 0);
    dbx_http_begin(rq->http, status, type, headers, -1);
}

void gw_req_end(struct gw_req *rq)
{
    if (!rq->http)
        return;
    dbx_http_end(DBX_TAKE(rq->http));
    gw_req_unref(rq);
}

void gw_req_cut(struct gw_req *rq)
{
    if (!rq->http)
        return;
    dbx_http_fail(DBX_TAKE(rq->http));
    gw_req_unref(rq);
}

void gw_req_json(struct gw_req *rq, int status, const struct dbx_buf *body)
{
    gw_req_reply(rq, status, "application/json", NULL, body->data, body->len);
}

static void reply_error(struct gw_req *rq, int status, enum dbx_kind kind, const char *code,
                        const char *message, const char *field, const struct dbx_header *extra)
{
    static const struct dbx_header retry[] = {{"Retry-After", "1"}, {NULL, NULL}};
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    gw_error_write(&buf, kind, code, message, field, rq->id);
    if (!extra && (status == 503 || status == 429))
        extra = retry;
    gw_req_reply(rq, status, "application/json", extra, buf.data, buf.len);
    dbx_buf_done(&buf);
}

void gw_req_fail(struct gw_req *rq, const struct dbx_err *err, const char *code)
{
    if (err->kind == DBX_INTERNAL || err->kind == DBX_OK) {
        dbx_log(DBX_LOG_ERR, &rq->log, "internal error: %s", err->msg);
        reply_error(rq, 500, DBX_INTERNAL, code, "internal error", "", NULL);
        return;
    }
    reply_error(rq, gw_error_status(err->kind), err->kind, code, err->msg, err->field, NULL);
}

void gw_req_fail_status(struct gw_req *rq, int status, enum dbx_kind kind, const char *code,
                        const char *message, const struct dbx_header *extra)
{
    reply_error(rq, status, kind, code, message, "", extra);
}

void gw_req_fail_field(struct gw_req *rq, int status, enum dbx_kind kind, const char *code,
                       const char *message, const char *field)
{
    reply_error(rq, status, kind, code, message, field, NULL);
}

void gw_req_fail_db(struct gw_req *rq, const struct dbx_err *err)
{
    bool away = err->kind == DBX_UNAVAIL || err->kind == DBX_TIMEOUT || err->kind == DBX_LIMIT ||
                rq->gw->draining;
    dbx_log(away ? DBX_LOG_WARN : DBX_LOG_ERR, &rq->log, "database: %s", err->msg);
    if (away)
        reply_error(rq, 503, DBX_UNAVAIL, "database_unavailable",
                    "the database cannot be reached, try again", "", NULL);
    else
        reply_error(rq, 500, DBX_INTERNAL, NULL, "internal error", "", NULL);
}

void gw_req_fail_output(struct gw_req *rq, const struct dbx_err *err)
{
    if (err && err->kind == DBX_INTERNAL) {
        gw_req_fail(rq, err, "output_unavailable");
        return;
    }
    if (err)
        dbx_log(DBX_LOG_WARN, &rq->log, "read output: %s", err->msg);
    reply_error(rq, 503, DBX_UNAVAIL, "output_unavailable",
                "the output cannot be read now, try again", "", NULL);
}

void gw_req_not_found(struct gw_req *rq)
{
    if (rq->http && gw_once_repeated(rq) && dbx_streq(dbx_http_method(rq->http), "DELETE")) {
        gw_req_reply(rq, 204, NULL, NULL, NULL, 0);
        return;
    }
    reply_error(rq, 404, DBX_NOT_FOUND, NULL, "no such object", "", NULL);
}

void gw_req_forbidden(struct gw_req *rq, const char *message)
{
    reply_error(rq, 403, DBX_DENIED, "forbidden", message, "", NULL);
}
