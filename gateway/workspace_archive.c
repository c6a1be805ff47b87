/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/workspaces/{id}/archive: all files of record, as they were together at one moment. */
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/archive.h"
#include "gateway/download.h"
#include "gateway/workspaces.h"
#include "gateway/workspaces_int.h"

#define MAX_ARCHIVE (GW_MAX_WORKSPACE_BYTES + (6u << 20)) /* and the headers of 1000 entries */
#define MAX_AT_A_TIME 4

struct download {
    struct gw *gw;
    enum gw_archive_kind kind;
};

static void free_download(void *op)
{
    struct download *dl = op;
    dl->gw->archives--;
    free(dl);
}

static int pack(const struct dbx_pg_result *res, struct gw_archive *a)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < dbx_pg_rows(res); i++) {
        size_t len = 0;
        const char *path = dbx_pg_text(res, i, "path", NULL);
        if (!path)
            continue; /* the workspace has none */
        DBX_CLEANUP(dbx_freep) uint8_t *data = dbx_pg_bytes(res, i, "content", &len);
        const struct gw_archive_entry e = {
            .path = path,
            .folder = dbx_streq(dbx_pg_text(res, i, "type", NULL), "directory"),
            .mtime = dbx_pg_i64(res, i, "updated_us", 0) / 1000000,
            .data = data,
            .len = len};
        r = gw_archive_add(a, &e);
    }
    return r == 0 ? gw_archive_end(a) : r;
}

static void answer(struct gw_req *rq, const struct dbx_pg_result *res)
{
    const struct download *dl = rq->op;
    bool zip = dl->kind == GW_ARCHIVE_ZIP;
    DBX_CLEANUP(dbx_freep)
    char *name = gw_disposition(dbx_pg_text(res, 0, "name", NULL), zip ? ".zip" : ".tar");
    const struct dbx_header headers[] = {{"Content-Disposition", name}, {NULL, NULL}};
    struct dbx_buf out;
    struct gw_archive a;
    dbx_buf_init(&out, MAX_ARCHIVE);
    gw_archive_init(&a, dl->kind, &out);
    if (pack(res, &a) < 0)
        gw_req_fail_status(rq, 500, DBX_INTERNAL, NULL, "the archive is too large", NULL);
    else
        gw_req_reply(rq, 200, zip ? "application/zip" : "application/x-tar", headers, out.data,
                     out.len);
    gw_archive_done(&a);
    dbx_buf_done(&out);
}

static void on_contents(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (dbx_pg_rows(res) == 0) {
        gw_req_not_found(rq);
    } else {
        answer(rq, res);
    }
    gw_req_unref(rq);
}

void gw_workspaces_archive(struct gw_req *rq)
{
    const char *format = dbx_http_query(rq->http, "format", 0);
    struct dbx_err err = {0};
    struct dbx_id id;
    if (!gw_route_id(rq, &id))
        return;
    if (format && !dbx_streq(format, "zip") && !dbx_streq(format, "tar")) {
        dbx_err_field(&err, "format", "must be zip or tar");
        gw_req_fail(rq, &err, NULL);
        return;
    }
    if (rq->gw->archives >= MAX_AT_A_TIME) {
        gw_req_fail_status(rq, 503, DBX_UNAVAIL, "busy", "too many archives at once, try again",
                           NULL);
        return;
    }
    struct download *dl = DBX_NEW(struct download);
    dl->gw = rq->gw;
    dl->gw->archives++;
    dl->kind = dbx_streq(format, "tar") ? GW_ARCHIVE_TAR : GW_ARCHIVE_ZIP;
    rq->op = dl;
    rq->op_free = free_download;
    gw_workspace_ask(rq, "ws_contents", &id, on_contents);
}
