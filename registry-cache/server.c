/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/server.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/io/httpd.h"
#include "common/proto/layer_map.h"
#include "registry-cache/call.h"
#include "registry-cache/put.h"

#include <stdio.h>
#include <string.h>

#define MAX_METRICS (4u << 20)
#define MAX_BODY (64u << 10)
#define MAX_AUDIT (4u << 20)

/* --- metrics --- */

void rc_metrics_init(struct rc_metrics *m)
{
    static const char *const how[] = {"hit", "miss", "stale", "error"};
    char label[96];

    for (int e = 0; e < RC_ECOS; e++) {
        for (int h = 0; h < 4; h++) {
            (void)snprintf(label, sizeof(label), "ecosystem=\"%s\",result=\"%s\"", rc_eco_names[e],
                           how[h]);
            m->requests[e][h] = dbx_counter("devbox_registry_requests_total", label, "Requests.");
        }
        (void)snprintf(label, sizeof(label), "ecosystem=\"%s\"", rc_eco_names[e]);
        m->fetches[e] = dbx_counter("devbox_registry_upstream_requests_total", label,
                                    "Requests made to upstreams.");
        m->fetch_failed[e] = dbx_counter("devbox_registry_upstream_failures_total", label,
                                         "Fetches that gave nothing, 404 not counted.");
        m->lies[e] = dbx_counter("devbox_registry_mismatches_total", label,
                                 "Fetches whose bytes were not what metadata or memory says.");
    }
    m->received = dbx_counter("devbox_registry_received_bytes_total", NULL, "From upstreams.");
    m->fetch_seconds = dbx_histogram("devbox_registry_upstream_seconds", NULL, "Of one request.");
    m->derive_seconds = dbx_histogram("devbox_registry_derive_seconds", NULL,
                                      "Turning a document into what a client wants.");
    m->fills = dbx_gauge("devbox_registry_fills", NULL, "What is being fetched now.");
    m->refused = dbx_counter("devbox_registry_refused_total", NULL,
                             "Requests whose path is none, or that a rule denies.");
    m->bytes = dbx_gauge("devbox_registry_store_bytes", NULL, "Size of all blobs.");
    m->blobs = dbx_gauge("devbox_registry_store_blobs", NULL, "Blobs.");
    m->refs = dbx_gauge("devbox_registry_store_refs", NULL, "Names that are known.");
    m->evicted = dbx_gauge("devbox_registry_store_evicted", NULL, "Blobs evicted since the start.");
    m->torn = dbx_gauge("devbox_registry_store_torn", NULL,
                        "Blobs whose file was gone or of another size.");
    m->connections = dbx_gauge("devbox_registry_connections", NULL, "Clients connected.");
}

static void reply_metrics(struct rc *rc, struct dbx_http_req *req)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out = {.max = MAX_METRICS};
    struct rc_store_stats st;
    const struct rc_metrics *m = &rc->metrics;

    rc_store_stats(rc->store, &st);
    dbx_metric_set(m->bytes, (double)st.bytes);
    dbx_metric_set(m->blobs, (double)st.blobs);
    dbx_metric_set(m->refs, (double)st.refs);
    dbx_metric_set(m->evicted, (double)st.evicted);
    dbx_metric_set(m->torn, (double)st.torn);
    size_t n = dbx_httpd_connections(rc->admin);
    n += rc->sandboxes ? dbx_httpd_connections(rc->sandboxes) : 0;
    dbx_metric_set(m->connections, (double)n);
    if (dbx_metrics_print(&out) < 0)
        dbx_http_reply(req, 500, "text/plain", NULL, "the metrics do not fit\n", 23);
    else
        dbx_http_reply(req, 200, "text/plain; version=0.0.4", NULL, out.data, out.len);
}

/* --- requests --- */

bool rc_base_of(const char *host, char *out, size_t size)
{
    struct rc_url url;
    int n = host ? snprintf(out, size, "http://%s", host) : -1;

    if (n < 0 || (size_t)n >= size || rc_url_parse(out, &url) < 0 || url.userinfo[0] ||
        strcmp(url.path, "/") != 0)
        return false;
    return strpbrk(host, "/?#@%") == NULL;
}

static void reply_error(struct dbx_http_req *req, int status, const char *words)
{
    char body[256];
    int n = snprintf(body, sizeof(body), "{\"error\":\"%s\"}", words);

    dbx_http_reply(req, status, "application/json", NULL, body, (size_t)n);
}

static void reply_blob(struct rc *rc, struct dbx_http_req *req, const struct rc_route *rt)
{
    uint8_t digest[RC_DIGEST];
    struct rc_blob *b =
        dbx_hex_decode(rt->file, 64, digest) == 0 ? rc_store_blob(rc->store, digest) : NULL;
    struct rc_answer a = {.type = "application/octet-stream",
                          .digest = digest,
                          .size = b ? b->size : 0,
                          .immutable = true,
                          .how = RC_HIT};
    int fd = b ? rc_store_blob_fd(rc->store, b) : -1;

    if (fd < 0)
        reply_error(req, 404, "there is no blob of this digest");
    else
        rc_serve_file(req, &a, fd);
}

static bool is_own(enum rc_what what)
{
    return what == RC_BLOB || what == RC_LAYER || what == RC_HEALTH || what == RC_READY ||
           what == RC_METRICS;
}

static void own_request(struct rc *rc, struct dbx_http_req *req, const struct rc_route *rt)
{
    if (rt->what == RC_METRICS)
        reply_metrics(rc, req);
    else if (rt->what == RC_BLOB && strcmp(dbx_http_method(req), "PUT") == 0)
        rc_put_blob(rc, req, rt->file);
    else if (rt->what == RC_BLOB)
        reply_blob(rc, req, rt);
    else if (rt->what == RC_LAYER && strcmp(dbx_http_method(req), "PUT") == 0)
        rc_put_layer(rc, req, rt->file);
    else if (rt->what == RC_LAYER)
        rc_get_layer(rc, req, rt->file);
    else
        dbx_http_reply(req, 200, "text/plain", NULL, "ok\n", 3);
}

static bool takes_gzip(struct dbx_http_req *req)
{
    const char *accept = dbx_http_header(req, "accept-encoding");

    for (const char *p = accept; p && *p;) {
        p += strspn(p, " \t,");
        size_t n = strcspn(p, ",");
        if (strncmp(p, "gzip", 4) == 0 && n >= 4)
            return !memmem(p, n, "q=0,", 4) && !(n > 3 && strncmp(p + n - 3, "q=0", 3) == 0);
        p += n;
    }
    return false;
}

static void package_request(struct rc *rc, struct dbx_http_req *req, const struct rc_route *rt,
                            bool admin)
{
    enum rc_verdict verdict =
        rt->name[0] ? rc_rules_judge(rc->rules, rt->eco, rt->name) : RC_ALLOWED;

    if (verdict == RC_DENIED) {
        dbx_metric_add(rc->metrics.refused, 1);
        reply_error(req, 403, "a rule of this cache denies this name");
        return;
    }
    struct rc_call *c = rc_call_new(rc, req, rt, admin);
    c->gzip = takes_gzip(req);
    c->no_upstream = verdict == RC_PRIVATE;
    if (rc->cfg->public_base[0])
        (void)dbx_strcpy(c->base, sizeof(c->base), rc->cfg->public_base);
    else if (!rc_base_of(dbx_http_header(req, "host"), c->base, sizeof(c->base))) {
        rc_call_fail(c, 400, "the Host header is malformed");
        return;
    }
    rc_call_go(c);
}

static bool may(const struct rc_route *rt, const char *method)
{
    if (rt->what == RC_NPM_AUDIT)
        return strcmp(method, "POST") == 0;
    if ((rt->what == RC_BLOB || rt->what == RC_LAYER) && strcmp(method, "PUT") == 0)
        return true;
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

static void request(struct rc *rc, struct dbx_http_req *req, bool admin)
{
    struct rc_route rt;
    const char *why;
    int status = rc_route_parse(dbx_http_path(req), &rt, &why);

    if (status || (is_own(rt.what) && !admin)) {
        dbx_metric_add(rc->metrics.refused, 1);
        reply_error(req, status ? status : 404,
                    status ? why : "there is nothing of that name here");
    } else if (!may(&rt, dbx_http_method(req))) {
        reply_error(req, 405, "this cache is only read from");
    } else if (is_own(rt.what)) {
        own_request(rc, req, &rt);
    } else {
        package_request(rc, req, &rt, admin);
    }
}

static void on_admin(struct dbx_http_req *req, void *user)
{
    request(user, req, true);
}

static void on_sandbox(struct dbx_http_req *req, void *user)
{
    request(user, req, false);
}

static int64_t on_headers(struct dbx_http_req *req, void *user)
{
    (void)user;
    return strncmp(dbx_http_path(req), "/npm/-/npm/", 11) == 0 ? MAX_AUDIT : MAX_BODY;
}

/* Who may not put is told before the body comes. */
static int64_t on_admin_headers(struct dbx_http_req *req, void *user)
{
    bool put = strcmp(dbx_http_method(req), "PUT") == 0;
    bool blob = dbx_starts_with(dbx_http_path(req), "/blobs/");
    if (!put || (!blob && !dbx_starts_with(dbx_http_path(req), "/layers/")))
        return on_headers(req, user);
    return !rc_put_may(user, req) ? -1 : blob ? (int64_t)RC_MAX_PUT : (int64_t)DBX_LAYER_MAP_MAX;
}

/* --- the sides --- */

int rc_server_start(struct rc *rc, struct dbx_err *err)
{
    /* What is served here was written by strangers, and may be looked at in a browser. */
    static const struct dbx_header common[] = {
        {"X-Content-Type-Options", "nosniff"},
        {"Content-Security-Policy", "default-src 'none'; sandbox"},
        {NULL, NULL}};
    static const struct dbx_httpd_handlers admin = {.on_headers = on_admin_headers,
                                                    .on_request = on_admin};
    static const struct dbx_httpd_handlers sandbox = {.on_headers = on_headers,
                                                      .on_request = on_sandbox};
    struct dbx_httpd_opts opts = {.loop = rc->loop,
                                  .listen = rc->cfg->listen,
                                  .max_body = MAX_BODY,
                                  .max_bodies = 64u << 20,
                                  .max_connections = (uint32_t)rc->cfg->max_connections,
                                  .handlers = &admin,
                                  .user = rc,
                                  .common_headers = common};
    int r = dbx_httpd_new(&opts, &rc->admin, err);
    if (r < 0 || !rc->cfg->socket[0])
        return r;
    DBX_CLEANUP(dbx_freep) char *unix_listen = dbx_asprintf("unix:%s", rc->cfg->socket);
    opts.listen = unix_listen;
    opts.handlers = &sandbox;
    return dbx_httpd_new(&opts, &rc->sandboxes, err);
}

void rc_server_stop(struct rc *rc)
{
    rc->admin = dbx_httpd_free(rc->admin);
    rc->sandboxes = dbx_httpd_free(rc->sandboxes);
}
