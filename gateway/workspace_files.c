/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/contents.h"
#include "gateway/executions.h"
#include "gateway/result.h"
#include "gateway/store.h"
#include "gateway/workspaces.h"
#include "gateway/workspaces_int.h"

#define MAX_TREE (4u << 20)    /* 1000 paths of 1024 bytes, escaped */
#define MAX_FILE (8u << 20)    /* 1 MiB, escaped at worst */
#define MAX_LITERAL (2u << 20) /* the parents of one path, each at most 1024 bytes and quoted */

void gw_put_entry(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row)
{
    dbx_jw_kstr(w, "id", dbx_pg_text(res, row, "id", NULL));
    dbx_jw_kstr(w, "path", dbx_pg_text(res, row, "path", NULL));
    dbx_jw_kstr(w, "type", dbx_pg_text(res, row, "type", NULL));
    dbx_jw_ki64(w, "size", dbx_pg_i64(res, row, "size", 0));
    dbx_jw_kstr(w, "etag", dbx_pg_text(res, row, "etag", NULL));
    gw_put_time(w, "updated_at", dbx_pg_i64(res, row, "updated_us", 0));
}

static void on_tree(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_found(rq, res, err)) {
        struct dbx_buf buf;
        dbx_buf_init(&buf, MAX_TREE);
        struct dbx_jw *w = dbx_jw_new(&buf);
        dbx_jw_array(w);
        for (size_t i = 0; i < dbx_pg_rows(res); i++) {
            if (!dbx_pg_text(res, i, "id", NULL))
                continue; /* the workspace has none */
            dbx_jw_object(w);
            gw_put_entry(w, res, i);
            dbx_jw_object_end(w);
        }
        dbx_jw_array_end(w);
        gw_answer_json(rq, 200, &buf, &w);
    }
    gw_req_unref(rq);
}

void gw_files_tree(struct gw_req *rq)
{
    struct dbx_id id;
    if (gw_route_id(rq, &id))
        gw_workspace_ask(rq, "ws_tree", &id, on_tree);
}

static void answer_buf(struct gw_req *rq, int status, const char *etag, int r,
                       const struct dbx_buf *buf)
{
    char quoted[80];
    struct dbx_header header[] = {{"ETag", quoted}, {NULL, NULL}};
    snprintf(quoted, sizeof(quoted), "\"%.64s\"", etag ? etag : "");
    if (r < 0)
        gw_req_fail_status(rq, 500, DBX_INTERNAL, NULL, "the answer is too large", NULL);
    else
        gw_req_reply(rq, status, "application/json", etag ? header : NULL, buf->data, buf->len);
}

static void answer_with_etag(struct gw_req *rq, int status, const char *etag, struct dbx_buf *buf,
                             struct dbx_jw **w)
{
    int r = dbx_jw_end(w);
    answer_buf(rq, status, etag, r, buf);
    dbx_buf_done(buf);
}

/* --- one file --- */

static void put_content(struct dbx_jw *w, const uint8_t *content, size_t len)
{
    if (!content || dbx_utf8_valid(content, len)) {
        dbx_jw_key(w, "content");
        dbx_jw_strn(w, content ? (const char *)content : "", len);
        return;
    }
    DBX_CLEANUP(dbx_freep) char *text = dbx_malloc((len + 2) / 3 * 4 + 1);
    (void)dbx_base64_encode(content, len, text, false);
    dbx_jw_kstr(w, "content_base64", text);
}

/* A file that is asked for, while its content is on its way. */
struct reading {
    struct dbx_contents *contents;
    struct dbx_buf buf; /* the answer as far as it is known */
    struct dbx_jw *w;
    char etag[65];
};

static void free_reading(void *op)
{
    struct reading *rd = op;
    dbx_contents_free(rd->contents);
    if (rd->w)
        (void)!dbx_jw_end(&rd->w);
    dbx_buf_done(&rd->buf);
    free(rd);
}

static void answer_file(struct gw_req *rq, struct reading *rd)
{
    if (rd->contents) {
        const struct dbx_content *c = dbx_contents_at(rd->contents, 0);
        put_content(rd->w, c->data, c->len);
    }
    dbx_jw_object_end(rd->w);
    int r = dbx_jw_end(&rd->w);
    answer_buf(rq, 200, rd->etag[0] ? rd->etag : NULL, r, &rd->buf);
}

static void on_loaded(struct dbx_contents *cs, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    (void)cs;
    if (!gw_req_gone(rq) && err)
        gw_req_fail_blobs(rq, err);
    else if (!gw_req_gone(rq))
        answer_file(rq, rq->op);
    gw_req_unref(rq);
}

static void read_file(struct gw_req *rq, const struct dbx_pg_result *res)
{
    struct reading *rd = DBX_NEW(struct reading);
    const char *etag = dbx_pg_text(res, 0, "etag", NULL);
    rq->op = rd;
    rq->op_free = free_reading;
    dbx_buf_init(&rd->buf, MAX_FILE);
    (void)dbx_strcpy(rd->etag, sizeof(rd->etag), etag ? etag : "");
    rd->w = dbx_jw_new(&rd->buf);
    dbx_jw_object(rd->w);
    gw_put_entry(rd->w, res, 0);
    dbx_jw_kstr(rd->w, "workspace_id", dbx_pg_text(res, 0, "workspace_id", NULL));
    if (dbx_streq(dbx_pg_text(res, 0, "type", NULL), "file") &&
        dbx_pg_i64(res, 0, "size", 0) <= GW_MAX_CONTENT) { /* larger: .../content */
        rd->contents = dbx_contents_new(rq->gw->loop, rq->gw->blobs);
        dbx_contents_add(rd->contents, res, 0);
    }
    if (!rd->contents || dbx_contents_here(rd->contents)) {
        answer_file(rq, rd);
    } else {
        gw_req_ref(rq);
        dbx_contents_load(rd->contents, on_loaded, rq);
    }
}

static void on_file(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_found(rq, res, err)) {
        read_file(rq, res);
    }
    gw_req_unref(rq);
}

void gw_files_get(struct gw_req *rq)
{
    struct dbx_id id;
    if (gw_route_id(rq, &id))
        gw_workspace_ask(rq, "file_get", &id, on_file);
}

/* --- writing --- */

static void put_quoted(struct dbx_buf *out, const char *s, size_t len)
{
    (void)dbx_buf_str(out, out->len > 1 ? ",\"" : "\"");
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"' || s[i] == '\\')
            (void)dbx_buf_str(out, "\\");
        (void)dbx_buf_append(out, s + i, 1);
    }
    (void)dbx_buf_str(out, "\"");
}

/* The folders above a path, and ids for those that are not there yet, as PostgreSQL's arrays. */
static void name_parents(struct gw_write *wr)
{
    const char *path = wr->body.path;
    struct dbx_buf paths, ids;
    dbx_buf_init(&paths, MAX_LITERAL);
    dbx_buf_init(&ids, MAX_LITERAL);
    (void)dbx_buf_str(&paths, "{");
    (void)dbx_buf_str(&ids, "{");
    for (size_t i = 1; path[i]; i++) {
        if (path[i] != '/')
            continue;
        char id[DBX_ID_TEXT];
        struct dbx_id made = dbx_id_new();
        dbx_id_format(&made, id);
        put_quoted(&paths, path, i);
        put_quoted(&ids, id, strlen(id));
    }
    int r = dbx_buf_str(&paths, "}");
    r |= dbx_buf_str(&ids, "}");
    dbx_assert(r == 0); /* at most 512 parents of 1024 bytes */
    free(wr->parents);
    free(wr->parent_ids);
    wr->parents = (char *)dbx_buf_take(&paths);
    wr->parent_ids = (char *)dbx_buf_take(&ids);
}

void gw_write_hash(struct gw_write *wr)
{
    uint8_t hash[DBX_SHA256_LEN];
    dbx_sha256(wr->body.content ? wr->body.content : (const uint8_t *)"", wr->body.content_len,
               hash);
    dbx_hex_encode(hash, sizeof(hash), wr->etag);
}

/* What stands in the row: nothing of what is in the blob store. */
static struct dbx_pg_param row_content(struct gw_write *wr)
{
    size_t len = gw_content_is_large(wr->rq->gw, wr->body.content_len) ? 0 : wr->body.content_len;
    snprintf(wr->size_text, sizeof(wr->size_text), "%zu", wr->body.content_len);
    return DBX_PG_BYTES(len ? wr->body.content : (const uint8_t *)"", len);
}

static size_t fill_create(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    const struct gw_body *b = &wr->body;
    struct dbx_jw *w = dbx_jw_new(&wr->kept);
    name_parents(wr);
    gw_write_hash(wr);
    snprintf(wr->at_text, sizeof(wr->at_text), "%" PRId64, wr->at_us);
    const char *etag = b->directory ? NULL : wr->etag;
    dbx_jw_object(w);
    dbx_jw_kstr(w, "id", wr->made_text);
    dbx_jw_kstr(w, "path", b->path);
    dbx_jw_kstr(w, "type", b->directory ? "directory" : "file");
    dbx_jw_ki64(w, "size", (int64_t)b->content_len);
    dbx_jw_kstr(w, "etag", etag);
    gw_put_time(w, "updated_at", wr->at_us);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0); /* a path is bounded */
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = DBX_PG_TEXT(wr->made_text);
    params[6] = DBX_PG_TEXT(b->path);
    params[7] = DBX_PG_TEXT(b->directory ? "directory" : "file");
    params[8] = row_content(wr);
    params[9] = DBX_PG_TEXT(etag);
    params[10] = DBX_PG_TEXT(wr->parents);
    params[11] = DBX_PG_TEXT(wr->parent_ids);
    params[12] = DBX_PG_TEXT(wr->at_text);
    params[13] = DBX_PG_TEXT(wr->size_text);
    return 14;
}

static void done_created(struct gw_write *wr, const struct dbx_pg_result *res)
{
    char quoted[80];
    const struct dbx_header header[] = {{"ETag", quoted}, {NULL, NULL}};
    (void)res;
    snprintf(quoted, sizeof(quoted), "\"%s\"", wr->etag);
    gw_req_reply(wr->rq, 201, "application/json", wr->body.directory ? NULL : header, wr->kept.data,
                 wr->kept.len);
}

void gw_files_create(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.body = GW_BODY_FILE,
                                              .lock = "ws_lock_bytes",
                                              .stores = true,
                                              .stmt = "file_create",
                                              .by_role = true,
                                              .fill = fill_create,
                                              .done = done_created,
                                              .again = gw_write_again_kept,
                                              .kept_status = 201};
    gw_write_begin(rq, &kind);
}

static void done_changed(struct gw_write *wr, const struct dbx_pg_result *res)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    gw_put_entry(w, res, 0);
    dbx_jw_object_end(w);
    answer_with_etag(wr->rq, 200, dbx_pg_text(res, 0, "etag", NULL), &buf, &w);
}

static void on_changed_before(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_found(rq, res, err)) {
        done_changed(rq->op, res);
    }
    gw_req_unref(rq);
}

/* The key was used: the entry as it is now. */
static void again_changed(struct gw_write *wr, const char *kept)
{
    (void)kept;
    gw_workspace_ask(wr->rq, "file_get", &wr->object, on_changed_before);
}

static size_t fill_put(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    gw_write_hash(wr);
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = row_content(wr);
    params[6] = DBX_PG_TEXT(wr->etag);
    params[7] = DBX_PG_TEXT(wr->if_match);
    params[8] = DBX_PG_TEXT(wr->size_text);
    return 9;
}

void gw_files_put(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.body = GW_BODY_CONTENT,
                                              .lock = "ws_lock_bytes_by_file",
                                              .stores = true,
                                              .stmt = "file_put",
                                              .by_role = true,
                                              .fill = fill_put,
                                              .done = done_changed,
                                              .again = again_changed};
    gw_write_begin(rq, &kind);
}

static size_t fill_move(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    name_parents(wr);
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = DBX_PG_TEXT(wr->body.path);
    params[6] = DBX_PG_TEXT(wr->parents);
    params[7] = DBX_PG_TEXT(wr->parent_ids);
    params[8] = DBX_PG_TEXT(wr->if_match);
    return 9;
}

void gw_files_move(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.body = GW_BODY_MOVE,
                                              .lock = "ws_lock_by_file",
                                              .stmt = "file_move",
                                              .by_role = true,
                                              .fill = fill_move,
                                              .done = done_changed,
                                              .again = again_changed};
    gw_write_begin(rq, &kind);
}

static size_t fill_delete(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = DBX_PG_TEXT(wr->if_match);
    return 6;
}

void gw_files_delete(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.no_body = true,
                                              .lock = "ws_lock_by_file",
                                              .stmt = "file_delete",
                                              .by_role = true,
                                              .fill = fill_delete,
                                              .done = gw_write_done_empty,
                                              .again = gw_write_again_empty};
    gw_write_begin(rq, &kind);
}
