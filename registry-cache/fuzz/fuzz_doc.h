/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets of documents have in common: in whole and byte by byte must give the same.
 */
#pragma once

#include "registry-cache/links.h"
#include "registry-cache/transform.h"

#include <string.h>

static inline int fuzz_run(const struct rc_transform_opts *opts, const uint8_t *data, size_t size,
                           size_t step, struct dbx_buf *out)
{
    struct rc_transform *t = rc_transform_new(opts);
    int r = 0;

    for (size_t at = 0; at < size && r == 0; at += step)
        r = rc_transform_feed(t, data + at, size - at < step ? size - at : step, out);
    if (r == 0)
        r = rc_transform_end(t, out);
    rc_transform_free(t);
    return r;
}

static inline void fuzz_document(enum rc_form form, bool html, const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf a = {.max = 8u << 20}, b = {.max = 8u << 20};
    struct rc_url from;
    struct rc_link link;
    dbx_assert(rc_url_parse("https://h.example/x/y/", &from) == 0);
    struct rc_transform_opts opts = {
        .form = form, .html = html, .name = "name", .base = "http://127.0.0.1:1", .from = &from};

    int r = fuzz_run(&opts, data, size, size ? size : 1, &a),
        s = fuzz_run(&opts, data, size, 1, &b);
    dbx_assert(r == s);
    dbx_assert(r < 0 || (a.len == b.len && (!a.len || memcmp(a.data, b.data, a.len) == 0)));
    if (r == 0 && rc_links_find(a.data, a.len, "name-1.0.0.tgz", &link) == 0)
        rc_link_done(&link);
}
