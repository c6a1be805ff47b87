/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/workspaces/{id}/archive: all files of record, as they were together at one moment. */
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/archive.h"
#include "gateway/contents.h"
#include "gateway/download.h"
#include "gateway/workspaces.h"
#include "gateway/workspaces_int.h"

#define MAX_ARCHIVE (GW_MAX_WORKSPACE_BYTES + (6u << 20)) /* and the headers of 1000 entries */
#define MAX_AT_A_TIME 4

struct download {
    struct gw *gw;
    enum gw_archive_kind kind;
    struct dbx_contents *contents;
    char *name; /* owned: the workspace's */
    struct entry {
        char *path; /* owned */
        bool folder;
        int64_t mtime;
    } * entries; /* owned; as many as contents */
    size_t n;
};

static void free_download(void *op)
{
    struct download *dl = op;
    dl->gw->archives--;
    dbx_contents_free(dl->contents);
    for (size_t i = 0; i < dl->n; i++)
        free(dl->entries[i].path);
    free(dl->entries);
    free(dl->name);
    free(dl);
}

static int pack(const struct download *dl, struct gw_archive *a)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < dl->n; i++) {
        const struct dbx_content *c = dbx_contents_at(dl->contents, i);
        const struct gw_archive_entry e = {.path = dl->entries[i].path,
                                           .folder = dl->entries[i].folder,
                                           .mtime = dl->entries[i].mtime,
                                           .data = c->data,
                                           .len = c->len};
        r = gw_archive_add(a, &e);
    }
    return r == 0 ? gw_archive_end(a) : r;
}

static void answer(struct gw_req *rq)
{
    const struct download *dl = rq->op;
    bool zip = dl->kind == GW_ARCHIVE_ZIP;
    DBX_CLEANUP(dbx_freep) char *name = gw_disposition(dl->name, zip ? ".zip" : ".tar");
    const struct dbx_header headers[] = {{"Content-Disposition", name}, {NULL, NULL}};
    struct dbx_buf out;
    struct gw_archive a;
    dbx_buf_init(&out, MAX_ARCHIVE);
    gw_archive_init(&a, dl->kind, &out);
    if (pack(dl, &a) < 0)
        gw_req_fail_status(rq, 500, DBX_INTERNAL, NULL, "the archive is too large", NULL);
    else
        gw_req_reply(rq, 200, zip ? "application/zip" : "application/x-tar", headers, out.data,
                     out.len);
    gw_archive_done(&a);
    dbx_buf_done(&out);
}

static void on_loaded(struct dbx_contents *cs, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    (void)cs;
    if (!gw_req_gone(rq) && err)
        gw_req_fail_blobs(rq, err);
    else if (!gw_req_gone(rq))
        answer(rq);
    gw_req_unref(rq);
}

static void load(struct gw_req *rq, const struct dbx_pg_result *res)
{
    struct download *dl = rq->op;
    dl->name = dbx_strdup(dbx_pg_text(res, 0, "name", NULL));
    dl->contents = dbx_contents_new(rq->gw->loop, rq->gw->blobs);
    dl->entries = dbx_calloc(dbx_pg_rows(res), sizeof(*dl->entries));
    for (size_t i = 0; i < dbx_pg_rows(res); i++) {
        const char *path = dbx_pg_text(res, i, "path", NULL);
        if (!path)
            continue; /* the workspace has none */
        dl->entries[dl->n++] =
            (struct entry){.path = dbx_strdup(path),
                           .folder = dbx_streq(dbx_pg_text(res, i, "type", NULL), "directory"),
                           .mtime = dbx_pg_i64(res, i, "updated_us", 0) / 1000000};
        dbx_contents_add(dl->contents, res, i);
    }
    gw_req_ref(rq);
    dbx_contents_load(dl->contents, on_loaded, rq);
}

static void on_contents(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_found(rq, res, err)) {
        load(rq, res);
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
