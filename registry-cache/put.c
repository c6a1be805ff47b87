/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/put.h"

#include "common/base/fd.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "common/io/httpd.h"
#include "common/proto/layer_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct put {
    struct rc *rc;
    struct dbx_http_req *req; /* NULL: its client has gone */
    uint8_t digest[RC_DIGEST];
    size_t size;
    enum rc_kind kind;
    char key[2 * RC_DIGEST + 16];
};

static void answer(struct dbx_http_req *req, int status, const char *words)
{
    char body[160];
    int n = snprintf(body, sizeof(body), status < 300 ? "{}" : "{\"error\":\"%s\"}", words);
    dbx_http_reply(req, status, "application/json", NULL, body, (size_t)n);
}

bool rc_put_may(struct rc *rc, struct dbx_http_req *req)
{
    const char *auth = dbx_http_header(req, "authorization");
    struct dbx_token token;
    struct dbx_err err = {0};
    if (!rc->keys)
        answer(req, 403, "nothing may be put here: this cache has no keys");
    else if (!auth || !dbx_starts_with(auth, "Bearer "))
        answer(req, 401, "a node's token is wanted");
    else if (dbx_token_verify(rc->keys, auth + strlen("Bearer "), DBX_TOKEN_DAEMON, rc_wall_s(),
                              &token, &err) < 0 ||
             !dbx_starts_with(token.label, "node:"))
        answer(req, 403, "this is no node's token");
    else
        return true;
    return false;
}

static void on_abort(struct dbx_http_req *req, void *user)
{
    struct put *p = user;
    (void)req;
    p->req = NULL;
}

static void on_committed(int result, void *user)
{
    struct put *p = user;
    struct rc_ref ref = {.key = p->key,
                         .kind = p->kind,
                         .size = p->size,
                         .etag = "",
                         .modified = "",
                         .url = "",
                         .fetched_s = rc_wall_s()};
    memcpy(ref.digest, p->digest, RC_DIGEST);
    bool kept = result == 0 && rc_store_put(p->rc->store, &ref);
    if (p->req)
        answer(p->req, kept ? 201 : 507, "it could not be kept");
    free(p);
}

/* The whole body, whose digest p has, under the key of p. */
static void keep(struct put *p, const uint8_t *data)
{
    struct rc_temp temp;
    int r = rc_store_temp(p->rc->store, &temp);
    if (r == 0 && (r = dbx_write_all(temp.fd, data, p->size)) < 0)
        rc_store_discard(p->rc->store, &temp);
    if (r < 0) {
        answer(p->req, 507, "it could not be written");
        free(p);
        return;
    }
    dbx_http_on_abort(p->req, on_abort, p);
    rc_store_commit(p->rc->store, &temp, p->digest, p->size, on_committed, p);
}

static struct put *put_new(struct rc *rc, struct dbx_http_req *req, const char *prefix,
                           const char *name)
{
    struct put *p = DBX_NEW(struct put);
    const uint8_t *data = dbx_http_body(req, &p->size);
    p->rc = rc;
    p->req = req;
    dbx_sha256(data, p->size, p->digest);
    snprintf(p->key, sizeof(p->key), "%s:%s", prefix, name);
    return p;
}

void rc_put_blob(struct rc *rc, struct dbx_http_req *req, const char *digest)
{
    struct put *p = put_new(rc, req, "blob", digest);
    uint8_t named[RC_DIGEST];
    size_t len;
    p->kind = RC_FIXED;
    if (dbx_hex_decode(digest, 2 * RC_DIGEST, named) < 0 ||
        memcmp(named, p->digest, sizeof(named)) != 0)
        answer(req, 400, "the body has another digest than the path");
    else if (rc_store_find(rc->store, p->key, true))
        answer(req, 200, "");
    else
        return keep(p, dbx_http_body(req, &len));
    free(p);
}

/* ---- layers ---- */

static bool all_here(struct rc *rc, const struct dbx_layer_map *map)
{
    for (size_t i = 0; i < map->n_parts; i++) {
        struct rc_blob *b = rc_store_blob(rc->store, map->parts[i]);
        if (!b || b->size != dbx_layer_map_part(map, i))
            return false;
    }
    return true;
}

void rc_put_layer(struct rc *rc, struct dbx_http_req *req, const char *key)
{
    DBX_CLEANUP(dbx_layer_map_done) struct dbx_layer_map map = {0};
    struct dbx_err err = {0};
    size_t len;
    const uint8_t *data = dbx_http_body(req, &len);
    if (dbx_layer_map_read(data, len, &map, &err) < 0) {
        answer(req, 400,
               strcmp(err.field, "parts") == 0
                   ? "parts: no digests, or not as many as size asks for"
               : strcmp(err.field, "sha256") == 0 ? "sha256: no digest in hex"
               : strcmp(err.field, "size") == 0   ? "size: not between 1 byte and 4 GiB"
                                                  : "the body is not sha256, size, parts and seal");
    } else if (!all_here(rc, &map)) {
        answer(req, 409, "parts of it are not here");
    } else {
        struct put *p = put_new(rc, req, "layer", key);
        p->kind = RC_SOURCE; /* forgotten with its bytes */
        keep(p, data);
    }
}

void rc_get_layer(struct rc *rc, struct dbx_http_req *req, const char *key)
{
    DBX_CLEANUP(dbx_freep) char *name = dbx_asprintf("layer:%s", key);
    DBX_CLEANUP(dbx_layer_map_done) struct dbx_layer_map map = {0};
    DBX_CLEANUP(dbx_freep) uint8_t *words = NULL;
    struct rc_ref *ref = rc_store_find(rc->store, name, true);
    int fd = ref && ref->size <= DBX_LAYER_MAP_MAX ? rc_store_fd(rc->store, ref) : -1;
    size_t size = fd >= 0 ? ref->size : 0;
    if (size) {
        words = dbx_malloc(size);
        if (pread(fd, words, size, 0) == (ssize_t)size &&
            dbx_layer_map_read(words, size, &map, NULL) == 0 && all_here(rc, &map)) {
            dbx_http_reply(req, 200, "application/json", NULL, words, size);
            return;
        }
        rc_store_drop(rc->store, name);
    }
    answer(req, 404, "there is no such layer here");
}
