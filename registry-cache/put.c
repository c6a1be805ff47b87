/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/put.h"

#include "common/base/fd.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "common/io/httpd.h"
#include "common/proto/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct put {
    struct rc *rc;
    struct dbx_http_req *req; /* NULL: its client has gone */
    uint8_t digest[RC_DIGEST];
    uint64_t size;
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
        answer(req, 401, "a daemon's token is wanted");
    else if (dbx_token_verify(rc->keys, auth + strlen("Bearer "), DBX_TOKEN_DAEMON, rc_wall_s(),
                              &token, &err) < 0)
        answer(req, 403, "this is no daemon's token");
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
                         .kind = RC_FIXED,
                         .size = p->size,
                         .etag = "",
                         .modified = "",
                         .url = "",
                         .fetched_s = rc_wall_s()};
    memcpy(ref.digest, p->digest, RC_DIGEST);
    bool kept = result == 0 && rc_store_put(p->rc->store, &ref);
    if (p->req)
        answer(p->req, kept ? 201 : 507, "the blob could not be kept");
    free(p);
}

static void keep(struct put *p, const uint8_t *data)
{
    struct rc_temp temp;
    int r = rc_store_temp(p->rc->store, &temp);
    if (r == 0 && (r = dbx_write_all(temp.fd, data, p->size)) < 0)
        rc_store_discard(p->rc->store, &temp);
    if (r < 0) {
        answer(p->req, 507, "the blob could not be written");
        free(p);
        return;
    }
    dbx_http_on_abort(p->req, on_abort, p);
    rc_store_commit(p->rc->store, &temp, p->digest, p->size, on_committed, p);
}

void rc_put_blob(struct rc *rc, struct dbx_http_req *req, const char *digest)
{
    uint8_t sum[DBX_SHA256_LEN], named[RC_DIGEST];
    size_t len;
    const uint8_t *data = dbx_http_body(req, &len);
    dbx_sha256(data, len, sum);
    if (dbx_hex_decode(digest, 2 * RC_DIGEST, named) < 0 || memcmp(named, sum, sizeof(sum)) != 0) {
        answer(req, 400, "the body has another digest than the path");
        return;
    }
    struct put *p = DBX_NEW(struct put);
    *p = (struct put){.rc = rc, .req = req, .size = len};
    memcpy(p->digest, sum, sizeof(sum));
    snprintf(p->key, sizeof(p->key), "blob:%s", digest);
    if (rc_store_find(rc->store, p->key, true)) {
        answer(req, 200, "");
        free(p);
    } else {
        keep(p, data);
    }
}
