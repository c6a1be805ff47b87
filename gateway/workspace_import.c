/* SPDX-License-Identifier: Apache-2.0 */
/* Many files into a workspace at once, all or none: an upload (multipart/form-data; a part's file
 * name is its path) or an archive, which is read by a process that can do nothing else (unpack.h).
 * What has the same path is replaced. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/str.h"
#include "common/proto/files.h"
#include "common/proto/path.h"
#include "gateway/contents.h"
#include "gateway/execution_decode.h"
#include "gateway/multipart.h"
#include "gateway/unpack.h"
#include "gateway/workspaces.h"
#include "gateway/workspaces_int.h"

#define MAX_ARRAY (2u * GW_MAX_WORKSPACE_BYTES + (4u << 20)) /* contents in hex, quoted */
#define MAX_AT_A_TIME 4

/* What is to be written, by path. A folder has no data. */
struct item {
    bool folder;
    const uint8_t *data; /* borrowed from the body, or from the block */
    size_t len;
    char etag[2 * DBX_SHA256_LEN + 1]; /* once it is known */
};

struct gw_import {
    struct dbx_map *items; /* path -> struct item, owned */
    size_t files, bytes;
    struct dbx_buf block, arrays[6]; /* block: what the worker made of an archive */
};

static struct gw_import *import_new(void)
{
    struct gw_import *im = DBX_NEW(struct gw_import);
    im->items = dbx_map_new();
    dbx_buf_init(&im->block, 0);
    for (size_t i = 0; i < DBX_ARRAY_LEN(im->arrays); i++)
        dbx_buf_init(&im->arrays[i], MAX_ARRAY);
    return im;
}

void gw_import_free(struct gw_import *im)
{
    struct dbx_map_iter it = {0};
    if (!im)
        return;
    while (dbx_map_next(im->items, &it))
        free(it.value);
    dbx_map_free(im->items);
    dbx_buf_done(&im->block);
    for (size_t i = 0; i < DBX_ARRAY_LEN(im->arrays); i++)
        dbx_buf_done(&im->arrays[i]);
    free(im);
}

/* --- collecting --- */

static int too_many(struct dbx_err *err)
{
    return dbx_err_set(err, -E2BIG, DBX_INVALID, "more than %d files and folders",
                       GW_MAX_WORKSPACE_FILES);
}

static int add_folder(struct gw_import *im, const char *path, size_t len, struct dbx_err *err)
{
    struct item *it = dbx_map_get(im->items, path, len);
    if (it)
        return it->folder ? 0 : dbx_err_field(err, "path", "'%.200s' is a file and a folder", path);
    if (dbx_map_count(im->items) >= GW_MAX_WORKSPACE_FILES)
        return too_many(err);
    it = DBX_NEW(struct item);
    it->folder = true;
    (void)dbx_map_put(im->items, path, len, it);
    return 0;
}

static int add_parents(struct gw_import *im, const char *path, struct dbx_err *err)
{
    int r = 0;
    for (size_t i = 1; r == 0 && path[i]; i++)
        if (path[i] == '/')
            r = add_folder(im, path, i, err);
    return r;
}

static int add_file(struct gw_import *im, const char *path, const uint8_t *data, size_t len,
                    struct dbx_err *err)
{
    size_t n = strlen(path);
    if (dbx_map_get(im->items, path, n))
        return dbx_err_field(err, "path", "'%.200s' comes twice", path);
    if (len > GW_MAX_FILE)
        return dbx_err_set(err, -E2BIG, DBX_INVALID, "'%.200s' has more than %u bytes", path,
                           GW_MAX_FILE);
    int r = add_parents(im, path, err);
    if (r < 0)
        return r;
    if (dbx_map_count(im->items) >= GW_MAX_WORKSPACE_FILES)
        return too_many(err);
    im->bytes += len;
    if (im->bytes > GW_MAX_WORKSPACE_BYTES)
        return dbx_err_set(err, -E2BIG, DBX_INVALID, "more than %u bytes in all",
                           GW_MAX_WORKSPACE_BYTES);
    struct item *it = DBX_NEW(struct item);
    it->data = data;
    it->len = len;
    im->files++;
    (void)dbx_map_put(im->items, path, n, it);
    return 0;
}

/* A path of the upload below ?path=. */
static char *below(struct gw_write *wr, const char *path)
{
    const char *folder = dbx_http_query(wr->rq->http, "path", 0);
    return folder && *folder ? dbx_asprintf("%s/%s", folder, path) : dbx_strdup(path);
}

static int check_folder(struct gw_write *wr, struct dbx_err *err)
{
    const char *folder = dbx_http_query(wr->rq->http, "path", 0);
    return folder && *folder ? dbx_path_check(folder, strlen(folder), "path", err) : 0;
}

static int decode_upload(struct gw_write *wr, const void *body, size_t len, struct dbx_err *err)
{
    char boundary[GW_MULTIPART_BOUNDARY];
    struct gw_part part;
    size_t offset = 0;
    wr->import = import_new();
    int r = gw_multipart_boundary(dbx_http_header(wr->rq->http, "content-type"), boundary, err);
    if (r == 0)
        r = check_folder(wr, err);
    while (r >= 0 && (r = gw_multipart_next(body, len, boundary, &offset, &part, err)) == 1) {
        if (!part.filename[0])
            return dbx_err_field(err, part.name, "every part has to be a file with its path");
        DBX_CLEANUP(dbx_freep) char *path = below(wr, part.filename);
        r = dbx_path_check(path, strlen(path), "filename", err);
        if (r == 0)
            r = add_file(wr->import, path, part.data, part.len, err);
    }
    if (r == 0 && wr->import->files == 0)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "there is no file in it");
    return r;
}

/* --- writing --- */

static void put_text(struct dbx_buf *out, const char *s, size_t len)
{
    (void)dbx_buf_str(out, out->len > 1 ? ",\"" : "\"");
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"' || s[i] == '\\')
            (void)dbx_buf_str(out, "\\");
        (void)dbx_buf_append(out, s + i, 1);
    }
    (void)dbx_buf_str(out, "\"");
}

static int put_bytes(struct dbx_buf *out, const uint8_t *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    int r = dbx_buf_str(out, out->len > 1 ? ",\"\\\\x" : "\"\\\\x");
    if (r < 0 || (r = dbx_buf_reserve(out, 2 * len + 2)) < 0)
        return r;
    for (size_t i = 0; i < len; i++) {
        out->data[out->len++] = (uint8_t)digits[data[i] >> 4];
        out->data[out->len++] = (uint8_t)digits[data[i] & 15];
    }
    return dbx_buf_str(out, "\"");
}

enum { IDS, PATHS, TYPES, CONTENTS, ETAGS, SIZES };

static void hash_item(struct item *it)
{
    uint8_t hash[DBX_SHA256_LEN];
    dbx_sha256(it->len ? it->data : (const uint8_t *)"", it->len, hash);
    dbx_hex_encode(hash, sizeof(hash), it->etag);
}

struct gw_store_item *gw_import_items(struct gw_import *im, size_t *ret_n)
{
    struct gw_store_item *all = dbx_calloc(im->files + 1, sizeof(*all));
    struct dbx_map_iter each = {0};
    *ret_n = 0;
    while (dbx_map_next(im->items, &each)) {
        struct item *it = each.value;
        hash_item(it);
        if (!it->folder)
            all[(*ret_n)++] = (struct gw_store_item){it->etag, it->data, it->len};
    }
    return all;
}

static void put_item(struct gw_import *im, const char *path, size_t len, const struct item *it,
                     bool large)
{
    char id[DBX_ID_TEXT];
    struct dbx_id made = dbx_id_new();
    dbx_id_format(&made, id);
    put_text(&im->arrays[IDS], id, strlen(id));
    put_text(&im->arrays[PATHS], path, len);
    put_text(&im->arrays[TYPES], it->folder ? "directory" : "file", it->folder ? 9 : 4);
    int r = put_bytes(&im->arrays[CONTENTS], it->data, large ? 0 : it->len);
    dbx_assert(r == 0); /* counted by add_file */
    (void)dbx_buf_printf(&im->arrays[SIZES], "%s%zu", im->arrays[SIZES].len > 1 ? "," : "",
                         it->len);
    if (it->folder)
        (void)dbx_buf_str(&im->arrays[ETAGS], im->arrays[ETAGS].len > 1 ? ",null" : "null");
    else
        put_text(&im->arrays[ETAGS], it->etag, strlen(it->etag));
}

static size_t fill(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    struct gw_import *im = wr->import;
    struct dbx_map_iter it = {0};
    for (size_t i = 0; i < DBX_ARRAY_LEN(im->arrays); i++) {
        dbx_buf_clear(&im->arrays[i]);
        (void)dbx_buf_str(&im->arrays[i], "{");
    }
    while (dbx_map_next(im->items, &it))
        put_item(im, it.key, it.key_len, it.value,
                 gw_content_is_large(wr->rq->gw, ((const struct item *)it.value)->len));
    params[4] = DBX_PG_TEXT(wr->object_text);
    for (size_t i = 0; i < DBX_ARRAY_LEN(im->arrays); i++) {
        (void)dbx_buf_str(&im->arrays[i], "}");
        params[5 + i] = DBX_PG_TEXT(dbx_buf_cstr(&im->arrays[i]));
    }
    int r = dbx_buf_printf(&wr->kept, "{\"files\":%zu,\"directories\":%zu,\"bytes\":%zu}",
                           im->files, dbx_map_count(im->items) - im->files, im->bytes);
    dbx_assert(r == 0);
    return 11;
}

void gw_workspaces_upload(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.decode = decode_upload,
                                              .lock = "ws_lock_bytes",
                                              .stores = true,
                                              .stmt = "files_import",
                                              .by_role = true,
                                              .fill = fill,
                                              .done = gw_write_done_kept,
                                              .again = gw_write_again_kept,
                                              .kept_status = 201};
    gw_write_begin(rq, &kind);
}

/* --- an archive --- */

static int decode_archive(struct gw_write *wr, const void *body, size_t len, struct dbx_err *err)
{
    (void)body;
    wr->import = import_new();
    if (len == 0)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "there is no archive in the body");
    return check_folder(wr, err);
}

/* What the worker said is checked as what a client says: it has read foreign bytes. */
static int take_block(struct gw_write *wr, struct dbx_err *err)
{
    struct gw_import *im = wr->import;
    struct dbx_file f;
    size_t offset = 0;
    int r;
    while ((r = dbx_files_next(im->block.data, im->block.len, &offset, &f)) == 1) {
        DBX_CLEANUP(dbx_freep) char *name = dbx_strndup(f.path, f.path_len);
        DBX_CLEANUP(dbx_freep) char *path = below(wr, name);
        r = dbx_path_check(path, strlen(path), "path", err);
        if (r == 0 && f.folder) {
            r = add_parents(im, path, err);
            if (r == 0)
                r = add_folder(im, path, strlen(path), err);
        } else if (r == 0) {
            r = add_file(im, path, f.data, f.size, err);
        }
        if (r < 0)
            return r;
    }
    return r < 0 ? dbx_err_set(err, r, DBX_INTERNAL, "the unpacked files are malformed") : 0;
}

static void on_unpacked(struct dbx_buf *block, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct gw_write *wr = rq->op;
    struct dbx_err why = {0};
    rq->gw->archives--;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err && err->kind == DBX_LIMIT) {
        gw_req_fail_status(rq, 413, DBX_LIMIT, "archive_too_large", err->msg, NULL);
    } else if (err) {
        gw_req_fail(rq, err, err->kind == DBX_INVALID ? "bad_archive" : NULL);
    } else {
        wr->import->block = *block;
        dbx_buf_init(block, 0);
        if (take_block(wr, &why) < 0)
            gw_req_fail(rq, &why, NULL);
        else
            gw_write_store(wr);
    }
    gw_req_unref(rq);
}

static void begin_archive(struct gw_write *wr)
{
    struct gw_req *rq = wr->rq;
    size_t len;
    const uint8_t *body = dbx_http_body(rq->http, &len);
    struct dbx_err err = {0};
    if (rq->gw->archives >= MAX_AT_A_TIME) {
        gw_req_fail_status(rq, 503, DBX_UNAVAIL, "busy", "too many archives at once, try again",
                           NULL);
        return;
    }
    if (gw_unpack(rq->gw->loop, rq->gw->unpacker, body, len, on_unpacked, rq, &err) < 0) {
        gw_req_fail(rq, &err, NULL);
        return;
    }
    rq->gw->archives++;
    gw_req_ref(rq);
}

void gw_workspaces_import(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.decode = decode_archive,
                                              .begin = begin_archive,
                                              .lock = "ws_lock_bytes",
                                              .stores = true,
                                              .stmt = "files_import",
                                              .by_role = true,
                                              .fill = fill,
                                              .done = gw_write_done_kept,
                                              .again = gw_write_again_kept,
                                              .kept_status = 201};
    gw_write_begin(rq, &kind);
}
