/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/ask.h"
#include "common/base/clock.h"
#include "common/io/http_client.h"
#include "common/io/httpd.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MAX_ANSWER (8u << 20)
#define ASK_MS 20000

static void on_answer(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct rc_call *c = user;
    char type[128];

    c->asking = NULL;
    if (c->gone) {
        rc_call_end(c);
        return;
    }
    if (result->err || result->status >= 500 || result->status < 200 ||
        (result->status >= 300 && result->status < 400)) {
        rc_call_fail(c, 503, "upstream does not answer this now");
        return;
    }
    const char *said = dbx_fetch_header(f, "content-type");
    (void)snprintf(type, sizeof(type), "%s",
                   said && strncasecmp(said, "application/json", 16) == 0 ? "application/json"
                                                                          : "text/plain");
    c->how = RC_MISS;
    rc_call_text(c, result->status, type, dbx_buf_cstr(result->body), result->body->len);
}

/* The answer is still to come: the call lives until then. */
static void on_abort(struct dbx_http_req *req, void *user)
{
    struct rc_call *c = user;

    (void)req;
    c->gone = true;
    dbx_fetch_cancel(c->asking);
}

void rc_ask(struct rc_call *c, const char *path)
{
    struct rc_upstream *up = &c->rc->ups.of[c->rt.eco][0];
    const char *query = dbx_http_raw_query(c->req), *headers[8];
    const char *encoding = dbx_http_header(c->req, "content-encoding");
    bool post = strcmp(dbx_http_method(c->req), "POST") == 0;
    size_t len, n = 0;

    if (!c->rc->ups.n[c->rt.eco] || c->rc->cfg->offline || up->down_until_ms > dbx_now_ms()) {
        rc_call_fail(c, 503, "this is answered by upstream only, which is not reached");
        return;
    }
    DBX_CLEANUP(dbx_freep) char *base = rc_url_text(&up->url);
    DBX_CLEANUP(dbx_freep)
    char *url = dbx_asprintf("%s/%s%s%s", base, path, query ? "?" : "", query ? query : "");
    headers[n++] = "User-Agent: devbox-registry-cache/" DBX_VERSION;
    headers[n++] = "Accept: application/json";
    if (post)
        headers[n++] = "Content-Type: application/json";
    if (encoding && strcasecmp(encoding, "gzip") == 0)
        headers[n++] = "Content-Encoding: gzip";
    if (up->auth)
        headers[n++] = up->auth;
    headers[n] = NULL;
    const uint8_t *body = dbx_http_body(c->req, &len);
    struct dbx_fetch_opts opts = {.method = post ? "POST" : "GET",
                                  .url = url,
                                  .headers = headers,
                                  .body = body,
                                  .body_len = post ? len : 0,
                                  .max_response = MAX_ANSWER,
                                  .timeout_ms = ASK_MS};
    dbx_http_on_abort(c->req, on_abort, c);
    c->asking = dbx_fetch(c->rc->client, &opts, on_answer, c);
}
