/* SPDX-License-Identifier: Apache-2.0 */
/* The client's way to an open socket: the URL, the name's addresses (libuv's thread pool, because
 * lws would block), one attempt after the other, all under one deadline. */
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "common/io/lws_int.h"
#include "common/io/ws_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libwebsockets.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <uv.h>

static int parse_authority(struct ws_client *cl, const char *s, size_t len)
{
    const char *host = s, *colon = NULL;
    size_t host_len = len;
    uint64_t port = cl->tls ? 443 : 80;

    if (len && *s == '[') {
        const char *end = memchr(s, ']', len);
        if (!end)
            return -EINVAL;
        host = s + 1;
        host_len = (size_t)(end - host);
        colon = end + 1 < s + len ? end + 1 : NULL;
        if (colon && *colon != ':')
            return -EINVAL;
    } else if ((colon = memchr(s, ':', len))) {
        host_len = (size_t)(colon - s);
    }
    if (!host_len || host_len > 255)
        return -EINVAL;
    if (colon && dbx_parse_u64(colon + 1, (size_t)(s + len - colon - 1), 1, 65535, &port) < 0)
        return -EINVAL;
    cl->host = dbx_strndup(host, host_len);
    cl->host_header = dbx_strndup(s, len);
    cl->port = (uint16_t)port;
    return 0;
}

static int parse_url(struct ws_client *cl, const char *url)
{
    for (const char *p = url; *p; p++)
        if (*p <= ' ' || *p == 0x7f)
            return -EINVAL;
    if (dbx_starts_with(url, "ws+unix://")) {
        const char *path = url + 10, *colon = strchr(path, ':');
        size_t len = colon ? (size_t)(colon - path) : strlen(path);
        if (*path != '/' || len >= sizeof(((struct sockaddr_un *)0)->sun_path) ||
            (colon && colon[1] != '/'))
            return -EINVAL;
        cl->local = true;
        cl->address = dbx_asprintf("+%.*s", (int)len, path);
        cl->host = dbx_strdup("localhost");
        cl->host_header = dbx_strdup("localhost");
        cl->path = dbx_strdup(colon ? colon + 1 : "/");
        return 0;
    }
    cl->tls = dbx_starts_with(url, "wss://");
    if (!cl->tls && !dbx_starts_with(url, "ws://"))
        return -EINVAL;
    const char *authority = strchr(url, ':') + 3;
    size_t len = strcspn(authority, "/?#");
    if (authority[len] == '?' || authority[len] == '#')
        return -EINVAL;
    cl->path = dbx_strdup(authority[len] ? authority + len : "/");
    return parse_authority(cl, authority, len);
}

static void fail_later(struct dbx_ws *ws, const char *reason)
{
    ws->close_code = 1006;
    dbx_strcpy(ws->reason, sizeof(ws->reason), reason);
    dbx_ws__timer(ws, WS_T_FINISH, 0);
}

/* --- names --- */

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addrs)
{
    struct dbx_ws *ws = request->data;

    free(request);
    if (!ws) { /* its socket is gone */
        uv_freeaddrinfo(addrs);
        return;
    }
    ws->client->resolving = NULL;
    if (ws->state == WS_ABORTED) {
        uv_freeaddrinfo(addrs);
        return;
    }
    if (status < 0 || !addrs) {
        fail_later(ws, "the host's name could not be resolved");
        return;
    }
    ws->client->addrs = ws->client->next = addrs;
    dbx_ws__timer(ws, WS_T_TRY, 0);
}

static void resolve(struct dbx_ws *ws)
{
    struct ws_client *cl = ws->client;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    uv_getaddrinfo_t *request = DBX_NEW(uv_getaddrinfo_t);

    request->data = ws;
    if (uv_getaddrinfo(dbx_loop_uv(ws->loop), request, on_resolved, cl->host, NULL, &hints) < 0) {
        free(request);
        fail_later(ws, "the host's name could not be resolved");
        return;
    }
    cl->resolving = request;
    dbx_ws__timer(ws, WS_T_CONNECT, cl->deadline_ms - dbx_now_ms());
}

static bool is_numeric(const char *host)
{
    uint8_t out[16];

    return inet_pton(AF_INET, host, out) == 1 || inet_pton(AF_INET6, host, out) == 1;
}

/* --- attempts --- */

static void on_orphan_closed(uv_handle_t *handle)
{
    free(handle);
}

static void close_orphan(uv_handle_t *handle, void *dead)
{
    if (handle->type == UV_POLL && handle->data == dead && !uv_is_closing(handle))
        uv_close(handle, on_orphan_closed);
}

/* When connect() fails at once (a Unix socket that is not there), the packaged lws frees its own
 * object but neither closes nor frees that one's uv_poll_t: each attempt to reach a daemon that is
 * down would leave one in the loop. */
static void reap_orphan(struct dbx_ws *ws)
{
    if (ws->client->dead)
        uv_walk(dbx_loop_uv(ws->loop), close_orphan, ws->client->dead);
    ws->client->dead = NULL;
}

static void start_attempt(struct dbx_ws *ws)
{
    struct ws_client *cl = ws->client;
    char text[INET6_ADDRSTRLEN] = "";

    if (cl->next) {
        const struct sockaddr *sa = cl->next->ai_addr;
        const void *addr = sa->sa_family == AF_INET6
                               ? (const void *)&((const struct sockaddr_in6 *)sa)->sin6_addr
                               : (const void *)&((const struct sockaddr_in *)sa)->sin_addr;
        inet_ntop(sa->sa_family, addr, text, sizeof(text));
        cl->next = cl->next->ai_next;
    }
    struct lws_client_connect_info info = {
        .context = dbx_lws_context(ws->loop),
        .vhost = cl->vhost,
        .address = cl->local ? cl->address
                   : text[0] ? text
                             : cl->host,
        .port = cl->port,
        .path = cl->path,
        .host = cl->host_header,
        .protocol = cl->offered,
        .local_protocol_name = DBX_LWS_CLIENT_PROTOCOL,
        .ssl_connection = cl->tls ? LCCSCF_USE_SSL : 0,
        .ietf_version_or_minus_one = -1,
        .opaque_user_data = ws,
        .pwsi = &ws->wsi,
    };
    uint64_t now = dbx_now_ms();
    dbx_ws__timer(ws, WS_T_CONNECT, cl->deadline_ms > now ? cl->deadline_ms - now : 0);
    cl->starting = true;
    cl->failed = false;
    struct lws *wsi = lws_client_connect_via_info(&info);
    cl->starting = false;
    if (!wsi || cl->failed) {
        ws->wsi = NULL;
        reap_orphan(ws);
        dbx_ws__client_failed(ws, 0, "the connection could not be made");
        return;
    }
    dbx_lws_kick(ws->loop);
}

void dbx_ws__client_failed(struct dbx_ws *ws, int http_status, const char *reason)
{
    struct ws_client *cl = ws->client;
    char words[sizeof(ws->reason)];

    if (cl->starting) { /* lws tells it before lws_client_connect_via_info has returned */
        cl->failed = true;
        return;
    }
    if (ws->wsi)
        lws_set_opaque_user_data(ws->wsi, NULL);
    ws->wsi = NULL;
    if (ws->state == WS_STARTING && cl->next && !http_status && !dbx_lws_ending(ws->loop)) {
        dbx_ws__timer(ws, WS_T_TRY, 0);
        return;
    }
    dbx_strcpy(words, sizeof(words), ws->reason[0] ? ws->reason : reason);
    dbx_ws__finish(ws, ws->close_code ? ws->close_code : 1006, http_status, words);
}

void dbx_ws__client_timer(struct dbx_ws *ws, enum ws_timer what)
{
    struct ws_client *cl = ws->client;

    if (what == WS_T_CONNECT) {
        cl->next = NULL;
        dbx_strcpy(ws->reason, sizeof(ws->reason), "the connection was not made in time");
        ws->close_code = 1006;
        dbx_ws_abort(ws);
    } else if (cl->local || cl->addrs || is_numeric(cl->host)) {
        start_attempt(ws);
    } else {
        resolve(ws);
    }
}

void dbx_ws__client_free(struct ws_client *cl)
{
    if (!cl)
        return;
    if (cl->resolving) {
        uv_getaddrinfo_t *request = cl->resolving;
        request->data = NULL;
        (void)uv_cancel((uv_req_t *)request);
    }
    if (cl->addrs)
        uv_freeaddrinfo(cl->addrs);
    free(cl->host);
    free(cl->host_header);
    free(cl->path);
    free(cl->address);
    free(cl->authorization);
    free(cl->offered);
    free(cl);
}

struct dbx_ws *dbx_ws_connect(const struct dbx_ws_client_opts *opts,
                              const struct dbx_ws_handlers *handlers, void *user)
{
    struct dbx_ws *ws = dbx_ws__new(opts->loop, &opts->ws, handlers, user);
    struct ws_client *cl = ws->client = DBX_NEW(struct ws_client);
    struct dbx_err err;

    cl->deadline_ms = dbx_now_ms() + (opts->connect_timeout_ms ? opts->connect_timeout_ms : 5000);
    cl->offered = opts->subprotocol ? dbx_strdup(opts->subprotocol) : NULL;
    cl->authorization = opts->authorization ? dbx_strdup(opts->authorization) : NULL;
    if (parse_url(cl, opts->url) < 0 || (cl->authorization && strpbrk(cl->authorization, "\r\n"))) {
        fail_later(ws, "the URL or the authorization is malformed");
        return ws;
    }
    cl->vhost = dbx_lws_vhost(opts->loop);
    if (cl->tls && dbx_lws_tls_vhost(opts->loop, opts->ca_file, &cl->vhost, &err) < 0) {
        fail_later(ws, err.msg);
        return ws;
    }
    dbx_ws__timer(ws, WS_T_TRY, 0);
    return ws;
}
