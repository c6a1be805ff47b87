/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/page.h"

#include "common/base/str.h"
#include "common/io/httpd.h"
#include "gateway/request.h"

#define PAGE_CSP                                                                                   \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src "        \
    "'self'; "                                                                                     \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

void gw_page_get(struct gw_req *rq)
{
    static const struct dbx_header headers[] = {
        {"Content-Security-Policy", PAGE_CSP}, {"Cache-Control", "no-cache"}, {NULL, NULL}};
    const char *path = dbx_http_path(rq->http);
    for (size_t i = 0; i < gw_page_len; i++)
        if (dbx_streq(gw_page_files[i].path, path)) {
            gw_req_reply(rq, 200, gw_page_files[i].type, headers, gw_page_files[i].data,
                         gw_page_files[i].len);
            return;
        }
    gw_req_not_found(rq);
}
