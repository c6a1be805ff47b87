/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/oidc_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "gateway/gw.h"

#define FRESH_MS 600000
#define KEYS_AGAIN_MS 5000 /* an unknown key makes us ask for the keys no more often */
#define MAX_ANSWER (256u << 10)
#define MAX_SECRET 4096

struct wait {
    struct dbx_list node;
    gw_oidc_fn *fn;
    void *arg;
};

static const char *const endpoints[] = {"authorization_endpoint", "token_endpoint", "jwks_uri"};

const char *gw_oidc_about(const struct gw_oidc *oi, const char *name)
{
    return dbx_json_get_str(dbx_json_root(oi->about), name);
}

static void finish(struct gw_oidc *oi, const struct dbx_err *err)
{
    struct dbx_list batch;
    dbx_list_init(&batch);
    oi->asking = false;
    if (err)
        dbx_log(DBX_LOG_WARN, &oi->gw->log, "identity provider: %s", err->msg);
    while (!dbx_list_empty(&oi->waiting)) {
        struct dbx_list *node = oi->waiting.next;
        dbx_list_remove(node);
        dbx_list_push(&batch, node);
    }
    while (!dbx_list_empty(&batch)) {
        struct wait *w = dbx_list_first(&batch, struct wait, node);
        dbx_list_remove(&w->node);
        w->fn(err, w->arg);
        free(w);
    }
}

static int read_answer(const struct dbx_fetch_result *result, struct dbx_json_doc **ret,
                       struct dbx_err *err)
{
    if (result->status == 0)
        return dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "%s", result->err->msg);
    if (result->status != 200)
        return dbx_err_set(err, -EPROTO, DBX_UNAVAIL, "it answered %d", result->status);
    if (dbx_json_parse(result->body->data, result->body->len, NULL, ret, err) < 0)
        return dbx_err_set(err, -EPROTO, DBX_UNAVAIL, "its answer is no JSON");
    return 0;
}

static void on_keys(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct gw_oidc *oi = user;
    struct dbx_json_doc *doc = NULL;
    struct dbx_err err = {0};
    (void)f;
    oi->keys_ms = dbx_now_ms();
    if (read_answer(result, &doc, &err) < 0) {
        finish(oi, &err);
        return;
    }
    dbx_json_doc_free(oi->keys);
    oi->keys = doc;
    finish(oi, NULL);
}

static void ask(struct gw_oidc *oi, const char *url, dbx_fetch_fn *fn)
{
    const struct dbx_fetch_opts opts = {
        .url = url,
        .max_response = MAX_ANSWER,
        .timeout_ms = GW_OIDC_TIMEOUT_MS,
        .ca_file = *oi->gw->cfg->oidc_ca_file ? oi->gw->cfg->oidc_ca_file : NULL};
    dbx_fetch(oi->http, &opts, fn, oi);
}

/* Its issuer is the one we were told, and a provider reached by TLS names no plain URL. */
static int check_about(const struct gw_oidc *oi, const struct dbx_json *about, struct dbx_err *err)
{
    const char *issuer = oi->gw->cfg->oidc_issuer;
    bool tls = dbx_starts_with(issuer, "https://");
    if (!dbx_streq(dbx_json_get_str(about, "issuer"), issuer))
        return dbx_err_set(err, -EPROTO, DBX_UNAVAIL, "it calls itself by another name");
    for (size_t i = 0; i < DBX_ARRAY_LEN(endpoints); i++) {
        const char *url = dbx_json_get_str(about, endpoints[i]);
        if (!url ||
            !(dbx_starts_with(url, "https://") || (!tls && dbx_starts_with(url, "http://"))))
            return dbx_err_set(err, -EPROTO, DBX_UNAVAIL, "it has no good %s", endpoints[i]);
    }
    return 0;
}

static void on_about(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct gw_oidc *oi = user;
    struct dbx_json_doc *doc = NULL;
    struct dbx_err err = {0};
    (void)f;
    int r = read_answer(result, &doc, &err);
    if (r == 0 && (r = check_about(oi, dbx_json_root(doc), &err)) < 0)
        dbx_json_doc_free(doc);
    if (r < 0) {
        finish(oi, &err);
        return;
    }
    dbx_json_doc_free(oi->about);
    oi->about = doc;
    oi->about_ms = dbx_now_ms();
    ask(oi, gw_oidc_about(oi, "jwks_uri"), on_keys);
}

static void on_known(void *user)
{
    struct gw_oidc *oi = user;
    if (!oi->asking)
        finish(oi, NULL);
}

void gw_oidc_know(struct gw_oidc *oi, bool fresh_keys, gw_oidc_fn *fn, void *arg)
{
    uint64_t now = dbx_now_ms();
    struct wait *w = DBX_NEW(struct wait);
    w->fn = fn;
    w->arg = arg;
    dbx_list_push(&oi->waiting, &w->node);
    if (oi->asking)
        return;
    if (!oi->about || now - oi->about_ms > FRESH_MS) {
        char url[1100];
        const char *issuer = oi->gw->cfg->oidc_issuer;
        size_t len = strlen(issuer);
        oi->asking = true;
        snprintf(url, sizeof(url), "%.*s/.well-known/openid-configuration",
                 (int)(len > 0 && issuer[len - 1] == '/' ? len - 1 : len), issuer);
        ask(oi, url, on_about);
    } else if (!oi->keys || (fresh_keys && now - oi->keys_ms > KEYS_AGAIN_MS)) {
        oi->asking = true;
        ask(oi, gw_oidc_about(oi, "jwks_uri"), on_keys);
    } else {
        dbx_loop_defer(oi->gw->loop, on_known, oi);
    }
}

int gw_oidc_new(struct gw *gw, struct gw_oidc **ret, struct dbx_err *err)
{
    struct dbx_buf buf;
    *ret = NULL;
    if (!*gw->cfg->oidc_issuer)
        return 0;
    if (!*gw->cfg->oidc_client_id || strlen(gw->cfg->oidc_issuer) > 1000)
        return dbx_err_field(err, "oidc_client_id", "must be given with oidc_issuer");
    struct gw_oidc *oi = DBX_NEW(struct gw_oidc);
    oi->gw = gw;
    dbx_list_init(&oi->waiting);
    int r = 0;
    if (*gw->cfg->oidc_secret_file &&
        (r = dbx_fs_read(gw->cfg->oidc_secret_file, MAX_SECRET, &buf, err)) == 0) {
        oi->secret = dbx_strndup(dbx_buf_cstr(&buf), strcspn(dbx_buf_cstr(&buf), "\r\n"));
        dbx_buf_done(&buf);
    }
    if (r < 0) {
        free(oi);
        return r;
    }
    if (!oi->secret)
        oi->secret = dbx_strdup("");
    oi->http = dbx_http_client_new(gw->loop);
    *ret = oi;
    return 0;
}

struct gw_oidc *gw_oidc_free(struct gw_oidc *oi)
{
    static const struct dbx_err ended = {
        .code = -ECANCELED, .kind = DBX_UNAVAIL, .msg = "the gateway ends"};
    if (!oi)
        return NULL;
    dbx_loop_undefer(oi->gw->loop, on_known, oi);
    dbx_http_client_free(oi->http);
    finish(oi, &ended);
    explicit_bzero(oi->secret, strlen(oi->secret));
    free(oi->secret);
    dbx_json_doc_free(oi->about);
    dbx_json_doc_free(oi->keys);
    free(oi);
    return NULL;
}
