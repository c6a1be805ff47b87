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
#include "gateway/credentials.h"
#include "gateway/gw.h"
#include "gateway/session.h"

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

/* A request whose key or session the database is asked about. */
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

void gw_auth_forget(struct gw_auth_cache *au)
{
    forget(au, UINT64_MAX);
}

bool gw_auth_secure(const struct gw *gw)
{
    return *gw->cfg->tls_cert || dbx_starts_with(gw->cfg->public_url, "https://");
}

static void refuse(struct gw_req *rq)
{
    static const struct dbx_header header[] = {{"WWW-Authenticate", "Bearer realm=\"devbox\""},
                                               {NULL, NULL}};
    gw_req_fail_status(rq, 401, DBX_DENIED, "unauthorized",
                       "sign in, or give a valid API key: Authorization: Bearer KEY", header);
}

static bool is_write(const struct gw_req *rq)
{
    const char *method = dbx_http_method(rq->http);
    return !dbx_streq(method, "GET") && !dbx_streq(method, "HEAD");
}

static uint32_t scope_needed(const struct gw_req *rq)
{
    switch (rq->route->auth) {
    case GW_AUTH_RUN:
        return GW_SCOPE_RUN;
    case GW_AUTH_ACCOUNT:
        return GW_SCOPE_ACCOUNT;
    case GW_AUTH_KEY:
        return is_write(rq) ? GW_SCOPE_WRITE : GW_SCOPE_READ;
    case GW_AUTH_ANY:
    case GW_AUTH_OPTIONAL:
    case GW_AUTH_NONE:
        break;
    }
    return GW_SCOPE_ALL;
}

enum dbx_role gw_auth_live_role(const struct gw_user *user, enum dbx_role role)
{
    bool runs = user->admin || (user->scopes & GW_SCOPE_RUN) != 0;
    return runs || role < DBX_ROLE_VIEWER ? role : DBX_ROLE_VIEWER;
}

bool gw_auth_own_origin(struct gw_req *rq)
{
    return gw_origin_ok(dbx_http_header(rq->http, "origin"), dbx_http_header(rq->http, "host"),
                        rq->gw->cfg->origins);
}

/* A browser sends its cookie with whatever page asks: a write must show that the page is ours. */
static bool csrf_ok(struct gw_req *rq)
{
    const char *given = dbx_http_header(rq->http, "x-csrf-token");
    return !is_write(rq) ||
           (given && strlen(given) == sizeof(rq->csrf) - 1 &&
            dbx_equal_secret(given, rq->csrf, sizeof(rq->csrf) - 1) && gw_auth_own_origin(rq));
}

/* The caller is who he says, or nobody (user NULL). */
static void decide(struct gw_req *rq, const struct gw_user *user, void (*next)(struct gw_req *rq))
{
    bool optional = rq->route->auth == GW_AUTH_OPTIONAL;
    if (user)
        rq->user = *user;
    if (!gw_rate_allow_call(rq)) {
        /* it has answered */
    } else if (!user && !optional) {
        refuse(rq);
    } else if (user && user->by == GW_CRED_SESSION && !csrf_ok(rq)) {
        rq->csrf_missing = true;
        if (optional)
            next(rq);
        else
            gw_req_fail_status(rq, 403, DBX_DENIED, "csrf",
                               "a write with a session needs its X-CSRF-Token, from our own pages",
                               NULL);
    } else if (user && !optional && (user->scopes & scope_needed(rq)) == 0) {
        gw_req_forbidden(rq, "this key's scopes do not allow it");
    } else {
        next(rq);
    }
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
    } else {
        decide(rq, user, l->next);
    }
    gw_req_unref(rq);
    free(l);
}

/* A key goes before a session. */
static enum gw_credential find_credential(struct gw_req *rq, uint8_t hash[static DBX_SHA256_LEN])
{
    const char *header = dbx_http_header(rq->http, "authorization"), *key = gw_bearer(header);
    const char *cookies = dbx_http_header(rq->http, "cookie");
    char secret[GW_SECRET_TEXT];
    if (key)
        dbx_sha256(key, strlen(key), hash);
    if (header)
        return key ? GW_CRED_KEY : GW_CRED_NONE;
    if (!gw_cookie_secret(cookies, GW_COOKIE_HOST, secret) &&
        (gw_auth_secure(rq->gw) || !gw_cookie_secret(cookies, GW_COOKIE_PLAIN, secret)))
        return GW_CRED_NONE;
    gw_secret_hash("session:", secret, hash);
    gw_csrf_token(secret, rq->csrf);
    explicit_bzero(secret, sizeof(secret));
    return GW_CRED_SESSION;
}

void gw_auth_request(struct gw_req *rq, void (*next)(struct gw_req *rq))
{
    uint8_t hash[DBX_SHA256_LEN];
    enum gw_credential by = find_credential(rq, hash);
    if (by == GW_CRED_NONE) {
        decide(rq, NULL, next);
        return;
    }
    const struct known *k = dbx_map_get(rq->gw->auth->keys, hash, sizeof(hash));
    if (k && k->until_ms >= dbx_now_ms()) {
        struct gw_user user = k->user; /* `next` may forget k */
        decide(rq, k->valid ? &user : NULL, next);
        return;
    }
    struct lookup *l = DBX_NEW(struct lookup);
    l->rq = rq;
    l->next = next;
    memcpy(l->hash, hash, sizeof(hash));
    gw_req_ref(rq);
    if (by == GW_CRED_KEY)
        gw_store_user_of_key(rq->gw->store, hash, on_user, l);
    else
        gw_store_user_of_session(rq->gw->store, hash, on_user, l);
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
