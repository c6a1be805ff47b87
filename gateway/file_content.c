/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/files/{id}/content: the bytes of a file. They are anybody's, so no browser may take them
 * for a page or a script of ours: always an attachment of octets, nosniff, under an empty policy.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/str.h"
#include "gateway/contents.h"
#include "gateway/download.h"
#include "gateway/workspaces.h"
#include "gateway/workspaces_int.h"

#define TYPE "application/octet-stream"

static void answer(struct gw_req *rq, const char *path, const char *etag, const uint8_t *data,
                   size_t len)
{
    DBX_CLEANUP(dbx_freep) char *name = gw_disposition(path, "");
    char quoted[80], range[72];
    uint64_t from = 0, to = 0;
    const char *if_range = dbx_http_header(rq->http, "if-range");
    struct dbx_header headers[] = {{"ETag", quoted},
                                   {"Cache-Control", "private, no-cache"},
                                   {"Accept-Ranges", "bytes"},
                                   {"Content-Disposition", name},
                                   {NULL, NULL},
                                   {NULL, NULL}};
    snprintf(quoted, sizeof(quoted), "\"%.64s\"", etag);
    if (gw_etag_listed(dbx_http_header(rq->http, "if-none-match"), etag)) {
        gw_req_reply(rq, 304, NULL, headers, NULL, 0);
        return;
    }
    int r = if_range && !dbx_streq(if_range, quoted)
                ? 0
                : gw_range_parse(dbx_http_header(rq->http, "range"), len, &from, &to);
    if (r < 0) {
        snprintf(range, sizeof(range), "bytes */%zu", len);
        const struct dbx_header whole[] = {{"Content-Range", range}, {NULL, NULL}};
        gw_req_fail_status(rq, 416, DBX_INVALID, "range", "the file is not as long", whole);
    } else if (r > 0) {
        snprintf(range, sizeof(range), "bytes %" PRIu64 "-%" PRIu64 "/%zu", from, to, len);
        headers[4] = (struct dbx_header){"Content-Range", range};
        gw_req_reply(rq, 206, TYPE, headers, data + from, to - from + 1);
    } else {
        gw_req_reply(rq, 200, TYPE, headers, data, len);
    }
}

/* A file whose content is on its way. */
struct reading {
    struct dbx_contents *contents;
    char path[1025], etag[65];
};

static void free_reading(void *op)
{
    struct reading *rd = op;
    dbx_contents_free(rd->contents);
    free(rd);
}

static void on_loaded(struct dbx_contents *cs, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    const struct reading *rd = rq->op;
    if (!gw_req_gone(rq) && err) {
        gw_req_fail_blobs(rq, err);
    } else if (!gw_req_gone(rq)) {
        const struct dbx_content *c = dbx_contents_at(cs, 0);
        answer(rq, rd->path, rd->etag, c->data, c->len);
    }
    gw_req_unref(rq);
}

/* What the client has already is not fetched. */
static void load(struct gw_req *rq, const struct dbx_pg_result *res)
{
    const char *etag = dbx_pg_text(res, 0, "etag", NULL);
    const char *path = dbx_pg_text(res, 0, "path", NULL);
    if (gw_etag_listed(dbx_http_header(rq->http, "if-none-match"), etag)) {
        answer(rq, path, etag, NULL, 0);
        return;
    }
    struct reading *rd = DBX_NEW(struct reading);
    (void)dbx_strcpy(rd->etag, sizeof(rd->etag), etag);
    (void)dbx_strcpy(rd->path, sizeof(rd->path), path);
    rd->contents = dbx_contents_new(rq->gw->loop, rq->gw->blobs);
    rq->op = rd;
    rq->op_free = free_reading;
    dbx_contents_add(rd->contents, res, 0);
    gw_req_ref(rq);
    dbx_contents_load(rd->contents, on_loaded, rq);
}

static void on_file(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (dbx_pg_rows(res) == 0) {
        gw_req_not_found(rq);
    } else if (!dbx_streq(dbx_pg_text(res, 0, "type", NULL), "file")) {
        gw_req_fail_status(rq, 409, DBX_CONFLICT, "directory", "this is a directory", NULL);
    } else {
        load(rq, res);
    }
    gw_req_unref(rq);
}

void gw_files_content(struct gw_req *rq)
{
    struct dbx_id id;
    if (gw_route_id(rq, &id))
        gw_workspace_ask(rq, "file_get", &id, on_file);
}
