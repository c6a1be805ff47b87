/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the parts together, hands requests to their routes, and takes everything down again. */
#include "gateway/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/ext/blob.h"
#include "common/io/address.h"
#include "common/io/httpd.h"
#include "common/io/loop.h"
#include "common/proto/output_log.h"
#include "common/proto/token.h"
#include "gateway/access.h"
#include "gateway/archiver.h"
#include "gateway/assets.h"
#include "gateway/auth.h"
#include "gateway/batch_decode.h"
#include "gateway/batches.h"
#include "gateway/error.h"
#include "gateway/garbage.h"
#include "gateway/gw.h"
#include "gateway/keep.h"
#include "gateway/offload.h"
#include "gateway/oidc.h"
#include "gateway/passwords.h"
#include "gateway/rate.h"
#include "gateway/recent.h"
#include "gateway/routes.h"
#include "gateway/session.h"
#include "gateway/session_int.h"
#include "gateway/socket.h"
#include "gateway/templates.h"
#include "gateway/upstream.h"
#include "gateway/webhooks.h"

#define RETRY_MS 200 /* for what is not there yet at start */
#define MAX_KEY_FILE 1024
#define RECENT_BYTES (8u << 20)

/* --- requests --- */

static const struct gw_route *find_route(struct dbx_http_req *http, struct gw_route_params *params,
                                         bool *known, char *allow, size_t size)
{
    return gw_route_find(gw_routes, gw_routes_len, dbx_http_method(http), dbx_http_path(http),
                         params, known, allow, size);
}

/* Bodies that are too large are refused before they are read. */
static int64_t on_headers(struct dbx_http_req *http, void *user)
{
    struct gw *gw = user;
    struct gw_route_params params;
    char allow[64];
    bool known;
    uint64_t length = 0;
    const struct gw_route *route = find_route(http, &params, &known, allow, sizeof(allow));
    const char *given = dbx_http_header(http, "content-length");
    size_t max = route ? route->max_body : DBX_MAX_HEADER;
    if (max == GW_UPLOAD_BODY)
        max = gw->cfg->max_upload;
    else if (max == GW_BATCH_BODY)
        max = gw->cfg->max_batch_body;
    else if (max > gw->cfg->max_body)
        max = gw->cfg->max_body;
    if (!given || dbx_parse_u64(given, strlen(given), 0, UINT64_MAX, &length) < 0 || length <= max)
        return (int64_t)max;
    struct gw_req *rq = gw_req_new(gw, http);
    rq->route = route;
    gw_req_fail_status(rq, 413, DBX_LIMIT, "body_too_large", "the body is too large", NULL);
    return -E2BIG;
}

static void on_abort(struct dbx_http_req *http, void *user)
{
    struct gw_req *rq = DBX_CAST(struct gw_req, GW_REQ_MAGIC, user);
    (void)http;
    rq->http = NULL;
    gw_req_unref(rq);
}

static void handle(struct gw_req *rq)
{
    rq->route->handler(rq);
}

static void on_request(struct dbx_http_req *http, void *user)
{
    struct gw *gw = user;
    char allow[64] = "";
    bool known;
    struct gw_req *rq = gw_req_new(gw, http);
    dbx_http_on_abort(http, on_abort, rq);
    rq->route = find_route(http, &rq->params, &known, allow, sizeof(allow));
    if (!rq->route && known) {
        const struct dbx_header header[] = {{"Allow", allow}, {NULL, NULL}};
        gw_req_fail_status(rq, 405, DBX_INVALID, "method_not_allowed", "not with this method",
                           header);
    } else if (!rq->route) {
        gw_req_fail_status(rq, 404, DBX_NOT_FOUND, NULL, "no such URL", NULL);
    } else if (rq->route->auth != GW_AUTH_NONE) {
        gw_auth_request(rq, handle);
    } else if (!dbx_starts_with(rq->route->pattern, "/api/") || gw_rate_allow_call(rq)) {
        handle(rq);
    }
}

static int on_upgrade(struct dbx_http_req *http, const struct dbx_ws_handlers **ret_handlers,
                      void **ret_ws_user, const char **ret_subprotocol, void *user)
{
    struct gw *gw = user;
    char allow[64];
    bool known;
    struct gw_req *rq = gw_req_new(gw, http);
    rq->route = find_route(http, &rq->params, &known, allow, sizeof(allow));
    if (rq->route && rq->route->handler == gw_socket_get) {
        dbx_http_on_abort(http, on_abort, rq);
        gw_socket_upgrade(rq);
        return DBX_UPGRADE_LATER;
    }
    rq->route = NULL;
    int r = gw_session_upgrade(rq, ret_handlers, ret_ws_user, ret_subprotocol);
    if (r == 0) { /* no answer of ours: the request goes as it came */
        rq->http = NULL;
        gw_req_unref(rq);
    }
    return r;
}

static void on_ws_open(struct dbx_ws *ws, void *ws_user, void *user)
{
    (void)user;
    if (*(const uint32_t *)ws_user == GW_SOCKET_MAGIC)
        gw_socket_opened(ws, ws_user);
    else
        gw_session_opened(ws, ws_user);
}

static const struct dbx_httpd_handlers httpd_handlers = {.on_headers = on_headers,
                                                         .on_request = on_request,
                                                         .on_upgrade = on_upgrade,
                                                         .on_ws_open = on_ws_open};

/* --- start --- */

static void open_log(struct gw *gw)
{
    const struct dbx_olog_opts opts = {.loop = gw->loop, .url = gw->cfg->output_log};
    struct dbx_err err = {0};
    if (gw->olog)
        return;
    if (dbx_olog_open(&opts, &gw->olog, &err) < 0)
        dbx_log(DBX_LOG_WARN, &gw->log, "open the output log: %s", err.msg);
    else
        dbx_olog_on_away(gw->olog, gw_sessions_tell_log, gw);
}

static int open_blobs(struct gw *gw, struct dbx_err *err)
{
    const struct dbx_blobs_opts opts = {.loop = gw->loop,
                                        .url = gw->cfg->blobs,
                                        .keys_file = gw->cfg->blob_keys_file,
                                        .ca_file = gw->cfg->ca_file};
    return *gw->cfg->blobs ? dbx_blobs_open(&opts, &gw->blobs, err) : 0;
}

static void on_retry(void *user)
{
    struct gw *gw = user;
    open_log(gw);
    if (gw_store_ready(gw->store))
        gw_auth_announce_admin(gw);
    if (gw->olog && gw->admin_known)
        dbx_timer_stop(gw->retry_timer);
}

static int read_admin_key(struct gw *gw, struct dbx_err *err)
{
    struct dbx_buf buf;
    if (!*gw->cfg->admin_key_file) {
        gw->admin_known = true; /* none to make known */
        return 0;
    }
    int r = dbx_fs_read(gw->cfg->admin_key_file, MAX_KEY_FILE, &buf, err);
    if (r == 0) {
        size_t len = strcspn(dbx_buf_cstr(&buf), "\r\n \t");
        gw->admin_key = dbx_strndup(dbx_buf_cstr(&buf), len);
        if (len < 16)
            r = dbx_err_field(err, "admin_key_file", "the key must have 16 characters or more");
    }
    dbx_buf_done(&buf);
    return r;
}

static int check_config(const struct gw_config *cfg, struct dbx_err *err)
{
    const struct {
        const char *name, *value;
    } wanted[] = {{"database", cfg->database},
                  {"scheduler", cfg->scheduler},
                  {"keys", cfg->keys},
                  {"output_log", cfg->output_log},
                  {"templates_dir", cfg->templates_dir}};
    for (size_t i = 0; i < DBX_ARRAY_LEN(wanted); i++)
        if (!*wanted[i].value)
            return dbx_err_field(err, wanted[i].name, "%s: must be given", wanted[i].name);
    if (!*cfg->tls_cert != !*cfg->tls_key)
        return dbx_err_field(err, "tls_key", "tls_cert and tls_key: give both or none");
    if (dbx_networks_check(cfg->webhook_allow) < 0)
        return dbx_err_field(err, "webhook_allow", "webhook_allow: not a list of ADDRESS/BITS");
    return 0;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void set_limits(struct gw *gw)
{
    const struct gw_config *cfg = gw->cfg;
    const struct dbx_limits *d = &dbx_limits_compile_default;
    gw->limits_max = (struct dbx_limits){.cpu_ms = (int64_t)cfg->max_cpu_ms,
                                         .wall_ms = (int64_t)cfg->max_wall_ms,
                                         .memory_mb = (int64_t)cfg->max_memory_mb,
                                         .output_bytes = (int64_t)cfg->max_output_bytes,
                                         .processes = (int64_t)cfg->max_processes,
                                         .open_files = (int64_t)cfg->max_open_files,
                                         .disk_mb = (int64_t)cfg->max_disk_mb};
    const struct dbx_limits *m = &gw->limits_max;
    gw->compile_limits_max =
        (struct dbx_limits){.cpu_ms = larger(m->cpu_ms, d->cpu_ms),
                            .wall_ms = larger(m->wall_ms, d->wall_ms),
                            .memory_mb = larger(m->memory_mb, d->memory_mb),
                            .output_bytes = larger(m->output_bytes, d->output_bytes),
                            .processes = larger(m->processes, d->processes),
                            .open_files = larger(m->open_files, d->open_files),
                            .disk_mb = larger(m->disk_mb, d->disk_mb)};
}

static void set_rates(struct gw *gw)
{
    const struct gw_config *cfg = gw->cfg;
    if (!cfg->rate_per_second)
        return;
    gw->rate = (struct gw_rate_rule){"call", (uint32_t)cfg->rate_burst,
                                     DBX_NS_PER_S / cfg->rate_per_second};
    gw->rate_of_admins =
        (struct gw_rate_rule){"admin call", (uint32_t)cfg->rate_burst * GW_RATE_ADMIN,
                              DBX_NS_PER_S / (cfg->rate_per_second * GW_RATE_ADMIN)};
}

static int start_httpd(struct gw *gw, struct dbx_err *err)
{
    const struct gw_config *cfg = gw->cfg;
    const struct dbx_httpd_opts opts = {
        .loop = gw->loop,
        .listen = cfg->listen,
        .tls_cert = *cfg->tls_cert ? cfg->tls_cert : NULL,
        .tls_key = *cfg->tls_key ? cfg->tls_key : NULL,
        .max_body = cfg->max_body,
        .max_connections = (uint32_t)cfg->max_connections,
        .ws = {.max_message = 2u << 20, .high_water = GW_HIGH_WATER, .low_water = 64u << 10},
        .handlers = &httpd_handlers,
        .user = gw,
        .common_headers = gw_auth_secure(gw) ? gw_tls_headers : gw_common_headers};
    return dbx_httpd_new(&opts, &gw->httpd, err);
}

static void on_keys(const struct dbx_err *err, void *user)
{
    const struct gw *gw = user;
    dbx_log(err ? DBX_LOG_ERR : DBX_LOG_INFO, &gw->log, "keys %s: %s", gw->cfg->keys,
            err ? err->msg : "taken over");
}

static void on_drain_timer(void *user);

int gw_server_start(const struct gw_config *cfg, struct dbx_loop *loop, int unpacker,
                    struct gw **ret, struct dbx_err *err)
{
    struct gw *gw = DBX_NEW(struct gw);
    gw->cfg = cfg;
    gw->loop = loop;
    gw->unpacker = unpacker;
    dbx_list_init(&gw->requests);
    dbx_list_init(&gw->sessions);
    dbx_list_init(&gw->batch_readers);
    dbx_list_init(&gw->sockets);
    dbx_log_ctx_init(&gw->log, NULL, "listen", cfg->listen);
    gw->open_sockets = dbx_gauge("devbox_gateway_streams_open", NULL, "Streams that are open.");
    gw->bytes_out = dbx_counter("devbox_gateway_bytes_out_total", NULL, "Bytes of answers given.");
    *ret = gw; /* also on failure: the caller frees it */
    set_limits(gw);
    set_rates(gw);
    int r = check_config(cfg, err);
    if (r == 0)
        r = dbx_keyring_load(cfg->keys, &gw->keys, err);
    if (r == 0)
        r = gw_templates_load(cfg->templates_dir, &gw->templates, err);
    if (r == 0)
        r = gw_assets_load(cfg->ide_dir, &gw->assets, err);
    if (r == 0)
        r = read_admin_key(gw, err);
    if (r == 0)
        r = gw_oidc_new(gw, &gw->oidc, err);
    if (r == 0)
        r = open_blobs(gw, err);
    if (r < 0)
        return r;
    gw->store = gw_store_new(loop, cfg->database, (uint32_t)cfg->db_pool);
    gw->auth = gw_auth_new();
    gw->access = gw_access_new(gw);
    gw->passwords = gw_passwords_new(loop);
    gw->rates = gw_rates_new();
    gw->watches = gw_watches_new(gw);
    gw->rooms = gw_rooms_new(gw);
    gw->shares = gw_shares_new(GW_SHARES_MAX);
    gw->recent = gw_recent_new(RECENT_BYTES);
    gw->up = gw_upstream_new(gw);
    gw->webhooks = gw_webhooks_new(gw);
    gw->archiver = gw_archiver_new(gw);
    gw->garbage = gw->blobs ? gw_garbage_new(gw) : NULL;
    gw->offload = gw->blobs ? gw_offload_new(gw) : NULL;
    gw->keep = gw_keep_new(gw);
    gw->drain_timer = dbx_timer_new(loop, on_drain_timer, gw);
    gw->retry_timer = dbx_timer_new(loop, on_retry, gw);
    dbx_timer_start(gw->retry_timer, 0, RETRY_MS);
    dbx_keyring_watch(gw->keys, loop, on_keys, gw);
    r = start_httpd(gw, err);
    if (r == 0)
        dbx_log(DBX_LOG_INFO, &gw->log, "serving on port %u", dbx_httpd_port(gw->httpd));
    return r;
}

bool gw_server_ready(const struct gw *gw, const char **ret_why)
{
    *ret_why = NULL;
    if (gw->draining)
        *ret_why = "its end";
    else if (!gw_store_ready(gw->store) || !gw->admin_known)
        *ret_why = "the database";
    else if (!gw->olog)
        *ret_why = "the output log";
    else if (!gw_upstream_seen(gw->up)) /* later on it is needed only by those who wait */
        *ret_why = "the scheduler";
    return !*ret_why;
}

/* --- end --- */

static bool is_idle(const struct gw *gw)
{
    return dbx_list_empty(&gw->requests) && dbx_list_empty(&gw->sessions) &&
           dbx_list_empty(&gw->sockets);
}

void gw_server_check_drained(struct gw *gw)
{
    if (gw->draining && gw->httpd && is_idle(gw))
        dbx_timer_start(gw->drain_timer, 20, 0); /* what was answered last is still on its way */
}

static void each_waiting(struct gw *gw)
{
    struct dbx_list *node, *tmp;
    dbx_list_each(node, tmp, &gw->requests)
    {
        struct gw_req *rq = dbx_list_entry(node, struct gw_req, node);
        if (!gw_req_gone(rq) && rq->hurry)
            rq->hurry(rq);
    }
}

/* Twice: three quarters into the time those who wait are answered, then it is over. */
static void on_drain_timer(void *user)
{
    struct gw *gw = user;
    if (is_idle(gw) || gw->drain_hurried) {
        dbx_loop_stop(gw->loop, 0);
        return;
    }
    gw->drain_hurried = true;
    dbx_timer_start(gw->drain_timer, gw->cfg->drain_ms / 4 + 1, 0);
    each_waiting(gw);
}

void gw_server_drain(struct gw *gw)
{
    if (gw->draining)
        return;
    gw->draining = true;
    dbx_log(DBX_LOG_INFO, &gw->log, "draining");
    dbx_timer_start(gw->drain_timer, gw->cfg->drain_ms * 3 / 4, 0);
    gw_sessions_close(gw);
    gw_sockets_close(gw);
    dbx_httpd_drain(gw->httpd);
    gw_server_check_drained(gw);
}

struct gw *gw_server_free(struct gw *gw)
{
    if (!gw)
        return NULL;
    gw->draining = true;
    gw->httpd = dbx_httpd_free(gw->httpd); /* aborts requests, closes sessions */
    gw->retry_timer = dbx_timer_free(gw->retry_timer);
    gw->drain_timer = dbx_timer_free(gw->drain_timer);
    gw->passwords = gw_passwords_free(gw->passwords);
    gw->oidc = gw_oidc_free(gw->oidc);
    gw->webhooks = gw_webhooks_free(gw->webhooks);
    gw->archiver = gw_archiver_free(gw->archiver);
    gw->up = gw_upstream_free(gw->up);
    gw->garbage = gw_garbage_free(gw->garbage);
    gw->offload = gw_offload_free(gw->offload);
    gw->blobs = dbx_blobs_free(gw->blobs);
    gw->store = gw_store_free(gw->store);
    gw->access = gw_access_free(gw->access); /* what these had asked is answered by now */
    gw->keep = gw_keep_free(gw->keep);
    gw->watches = gw_watches_free(gw->watches);
    gw->rooms = gw_rooms_free(gw->rooms);
    gw->shares = gw_shares_free(gw->shares);
    gw->recent = gw_recent_free(gw->recent);
    gw->auth = gw_auth_free(gw->auth);
    gw->rates = gw_rates_free(gw->rates);
    gw->olog = gw->olog ? dbx_olog_close(gw->olog) : NULL;
    gw->templates = gw_templates_free(gw->templates);
    gw->assets = gw_assets_free(gw->assets);
    gw->keys = dbx_keyring_free(gw->keys);
    free(gw->admin_key);
    free(gw);
    return NULL;
}
