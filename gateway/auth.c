/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/auth.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "common/io/httpd.h"
#include "gateway/gw.h"

#define REMEMBER_MS 2000
#define MAX_REMEMBERED 10000
#define MAX_KEY 512

struct known {
    uint8_t hash[DBX_SHA256_LEN];
    bool valid;
    struct gw_user user;
    uint64_t until_ms;
};

struct gw_auth_cache {
    struct dbx_map *keys; /* hash -> struct known, owned */
};

/* A request whose key the database is asked about. */
struct lookup {
    struct gw_req *rq;
    void (*next)(struct gw_req *rq);
    uint8_t hash[DBX_SHA256_LEN];
};

struct gw_auth_cache *gw_auth_new(void)
{
    struct gw_auth_cache *au = DBX_NEW(struct gw_auth_cache);
    au->keys = dbx_map_new();
    return au;
}

static void forget(struct gw_auth_cache *au, uint64_t before_ms)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(au->keys, &it)) {
        struct known *k = it.value;
        if (k->until_ms >= before_ms)
            continue;
        (void)dbx_map_del(au->keys, k->hash, sizeof(k->hash));
        free(k);
    }
}

struct gw_auth_cache *gw_auth_free(struct gw_auth_cache *au)
{
    if (!au)
        return NULL;
    forget(au, UINT64_MAX);
    dbx_map_free(au->keys);
    free(au);
    return NULL;
}

static void remember(struct gw_auth_cache *au, const uint8_t *hash, const struct gw_user *user)
{
    if (dbx_map_count(au->keys) >= MAX_REMEMBERED)
        forget(au, dbx_now_ms());
    if (dbx_map_count(au->keys) >= MAX_REMEMBERED)
        forget(au, UINT64_MAX);
    struct known *k = DBX_NEW(struct known);
    memcpy(k->hash, hash, sizeof(k->hash));
    k->valid = user != NULL;
    if (user)
        k->user = *user;
    k->until_ms = dbx_now_ms() + REMEMBER_MS;
    free(dbx_map_put(au->keys, k->hash, sizeof(k->hash), k));
}

const char *gw_bearer(const char *header)
{
    if (!header || strncasecmp(header, "bearer ", 7) != 0)
        return NULL;
    header += 7;
    while (*header == ' ')
        header++;
    size_t len = strlen(header);
    return len > 0 && len <= MAX_KEY && strcspn(header, " \t") == len ? header : NULL;
}

static void refuse(struct gw_req *rq)
{
    static const struct dbx_header header[] = {{"WWW-Authenticate", "Bearer realm=\"devbox\""},
                                               {NULL, NULL}};
    gw_req_fail_status(rq, 401, DBX_DENIED, "unauthorized",
                       "give a valid API key: Authorization: Bearer KEY", header);
}

static void on_user(const struct gw_user *user, const struct dbx_err *err, void *arg)
{
    struct lookup *l = arg;
    struct gw_req *rq = l->rq;
    if (!err)
        remember(rq->gw->auth, l->hash, user);
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err) {
        gw_req_fail_db(rq, err);
    } else if (!user) {
        refuse(rq);
    } else {
        rq->user = *user;
        l->next(rq);
    }
    gw_req_unref(rq);
    free(l);
}

void gw_auth_request(struct gw_req *rq, void (*next)(struct gw_req *rq))
{
    const char *key = gw_bearer(dbx_http_header(rq->http, "authorization"));
    uint8_t hash[DBX_SHA256_LEN];
    if (!key) {
        refuse(rq);
        return;
    }
    dbx_sha256(key, strlen(key), hash);
    const struct known *k = dbx_map_get(rq->gw->auth->keys, hash, sizeof(hash));
    if (k && k->until_ms >= dbx_now_ms()) {
        rq->user = k->user;
        if (k->valid)
            next(rq);
        else
            refuse(rq);
        return;
    }
    struct lookup *l = DBX_NEW(struct lookup);
    l->rq = rq;
    l->next = next;
    memcpy(l->hash, hash, sizeof(hash));
    gw_req_ref(rq);
    gw_store_user_of_key(rq->gw->store, hash, on_user, l);
}

static void on_admin(const struct dbx_err *err, void *arg)
{
    struct gw *gw = arg;
    gw->admin_asked = false;
    if (err) {
        dbx_log(DBX_LOG_WARN, &gw->log, "make the administrator's key known: %s", err->msg);
        return;
    }
    gw->admin_known = true;
    explicit_bzero(gw->admin_key, strlen(gw->admin_key));
    free(DBX_TAKE(gw->admin_key));
}

void gw_auth_announce_admin(struct gw *gw)
{
    uint8_t hash[DBX_SHA256_LEN];
    if (gw->admin_known || gw->admin_asked)
        return;
    gw->admin_asked = true;
    dbx_sha256(gw->admin_key, strlen(gw->admin_key), hash);
    gw_store_put_admin_key(gw->store, hash, on_admin, gw);
}
