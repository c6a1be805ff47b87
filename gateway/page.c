/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/page.h"

#include "common/base/str.h"
#include "common/io/httpd.h"
#include "gateway/assets.h"
#include "gateway/gw.h"
#include "gateway/request.h"

/* Monaco and xterm position by style attributes; Monaco has its icons in a data: font. Scripts come
 * from here alone, nothing is evaluated, and nobody may frame the page. */
#define PAGE_CSP                                                                                   \
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self' 'unsafe-inline'; " \
    "font-src 'self' data:; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "           \
    "form-action 'none'; frame-ancestors 'none'"
#define FOR_EVER "public, max-age=31536000, immutable"

static void reply_asset(struct gw_req *rq, const struct gw_asset *a, int status)
{
    static const char *const codings[GW_CODINGS] = {
        [GW_GZIP] = "gzip", [GW_BROTLI] = "br", [GW_IDENTITY] = NULL};
    enum gw_coding coding = gw_asset_choose(a, dbx_http_header(rq->http, "accept-encoding"));
    const struct gw_asset_body *b = &a->body[coding];
    const struct dbx_header headers[] = {
        {"Content-Security-Policy", PAGE_CSP},
        {"Cache-Control", a->immutable ? FOR_EVER : "no-cache"},
        {"ETag", b->etag},
        {"Vary", "Accept-Encoding"},
        {codings[coding] ? "Content-Encoding" : NULL, codings[coding]},
        {NULL, NULL}};
    if (status == 200 && gw_etag_matches(dbx_http_header(rq->http, "if-none-match"), b->etag))
        gw_req_reply(rq, 304, a->type, headers, NULL, 0);
    else
        gw_req_reply(rq, status, a->type, headers, b->data.data, b->data.len);
}

bool gw_page_reply(struct gw_req *rq, int status)
{
    const struct gw_asset *a = gw_assets_find(rq->gw->assets, "index.html");
    if (a)
        reply_asset(rq, a, status);
    return a;
}

void gw_page_get(struct gw_req *rq)
{
    if (!gw_page_reply(rq, 200))
        gw_req_fail_status(rq, 404, DBX_NOT_FOUND, "no_ide",
                           "this gateway was started without an IDE", NULL);
}

void gw_page_asset(struct gw_req *rq)
{
    const struct gw_asset *a = gw_assets_find(rq->gw->assets, dbx_http_path(rq->http) + 1);
    if (a)
        reply_asset(rq, a, 200);
    else
        gw_req_not_found(rq);
}
