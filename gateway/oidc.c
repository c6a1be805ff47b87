/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/oidc_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/ext/jwk.h"
#include "gateway/auth.h"
#include "gateway/gw.h"
#include "gateway/jwt.h"
#include "gateway/people_int.h"
#include "gateway/rate.h"
#include "gateway/workspaces_int.h"

#define COOKIE "__Host-devbox-login"
#define COOKIE_PLAIN "devbox-login"
#define LOGIN_SECONDS "600"
#define MAX_URL 4096
#define MAX_TOKENS (256u << 10)

static const struct gw_rate_rule by_peer = {"auth", 120, 500 * DBX_NS_PER_MS};

/* A login: first half (to the provider) or second half (back from it). */
struct login {
    struct gw_req *rq; /* borrowed: the request owns this */
    struct gw_new_session session;
    char browser[GW_SECRET_TEXT], state[GW_SECRET_TEXT], nonce[GW_SECRET_TEXT];
    char verifier[GW_SECRET_TEXT], guest[DBX_ID_TEXT], user[DBX_ID_TEXT], origin[128];
    char redirect[360], return_to[520];
    uint8_t state_hash[DBX_SHA256_LEN], browser_hash[DBX_SHA256_LEN];
    char *id_token; /* owned */
    struct gw_identity id;
    bool keys_again;
};

static void free_login(void *op)
{
    struct login *lo = op;
    explicit_bzero(lo->session.secret, sizeof(lo->session.secret));
    free(lo->id_token);
    free(lo);
}

/* Answers when there is no provider, or no more tries. */
static struct login *begin(struct gw_req *rq)
{
    char base[300];
    if (!rq->gw->oidc) {
        gw_req_fail_status(rq, 404, DBX_NOT_FOUND, "no_oidc",
                           "this server has no identity provider", NULL);
        return NULL;
    }
    if (!gw_rate_allow(rq, &by_peer, rq->peer))
        return NULL;
    struct login *lo = DBX_NEW(struct login);
    lo->rq = rq;
    rq->op = lo;
    rq->op_free = free_login;
    gw_req_origin(rq, lo->origin);
    gw_base_url(rq, base);
    snprintf(lo->redirect, sizeof(lo->redirect), "%s/api/auth/oidc/callback", base);
    return lo;
}

static void add_cookie(struct gw_req *rq, const char *value, const char *age)
{
    bool plain = !gw_auth_secure(rq->gw);
    char text[200];
    snprintf(text, sizeof(text), "%s=%s; Path=/; Max-Age=%s; HttpOnly; SameSite=Lax%s",
             plain ? COOKIE_PLAIN : COOKIE, value, age, plain ? "" : "; Secure");
    gw_req_add_header(rq, "Set-Cookie", text);
}

static void go(struct gw_req *rq, const char *location)
{
    const struct dbx_header header[] = {{"Location", location}, {NULL, NULL}};
    gw_req_reply(rq, 303, NULL, header, NULL, 0);
}

static void unreached(struct gw_req *rq)
{
    gw_req_fail_status(rq, 503, DBX_UNAVAIL, "provider_unavailable",
                       "the identity provider cannot be asked now, try again", NULL);
}

/* --- to the provider --- */

/* application/x-www-form-urlencoded, as values of a query and of a form. */
static void add_param(struct dbx_buf *out, char before, const char *name, const char *value)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    (void)dbx_buf_printf(out, "%.*s%s%s", before ? 1 : 0, &before, name, *name ? "=" : "");
    for (; *value; value++) {
        if (strchr(plain, *value))
            (void)dbx_buf_append(out, value, 1);
        else
            (void)dbx_buf_printf(out, "%%%02X", (unsigned char)*value);
    }
}

static void send_away(struct login *lo)
{
    struct gw_req *rq = lo->rq;
    const char *endpoint = gw_oidc_about(rq->gw->oidc, "authorization_endpoint");
    uint8_t hash[DBX_SHA256_LEN];
    char challenge[GW_SECRET_TEXT];
    struct dbx_buf url;
    dbx_buf_init(&url, MAX_URL);
    dbx_sha256(lo->verifier, strlen(lo->verifier), hash);
    (void)dbx_base64_encode(hash, sizeof(hash), challenge, /* url= */ true);
    (void)dbx_buf_str(&url, endpoint);
    add_param(&url, strchr(endpoint, '?') ? '&' : '?', "response_type", "code");
    add_param(&url, '&', "client_id", rq->gw->cfg->oidc_client_id);
    add_param(&url, '&', "redirect_uri", lo->redirect);
    add_param(&url, '&', "scope", "openid email");
    add_param(&url, '&', "state", lo->state);
    add_param(&url, '&', "nonce", lo->nonce);
    add_param(&url, '&', "code_challenge", challenge);
    add_param(&url, '&', "code_challenge_method", "S256");
    add_cookie(rq, lo->browser, LOGIN_SECONDS);
    go(rq, dbx_buf_cstr(&url));
    dbx_buf_done(&url);
}

static void on_begun(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    (void)res;
    if (!gw_answered(rq, err))
        send_away(rq->op);
    gw_req_unref(rq);
}

static void on_known(const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct login *lo = rq->op;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err) {
        unreached(rq);
    } else {
        const struct dbx_pg_param params[] = {DBX_PG_BYTES(lo->state_hash, DBX_SHA256_LEN),
                                              DBX_PG_BYTES(lo->browser_hash, DBX_SHA256_LEN),
                                              DBX_PG_TEXT(lo->nonce),
                                              DBX_PG_TEXT(lo->verifier),
                                              DBX_PG_TEXT(lo->return_to),
                                              DBX_PG_TEXT(*lo->guest ? lo->guest : NULL),
                                              DBX_PG_TEXT(LOGIN_SECONDS)};
        gw_people_ask(rq, "oidc_begin", params, DBX_ARRAY_LEN(params), on_begun);
    }
    gw_req_unref(rq);
}

void gw_oidc_login(struct gw_req *rq)
{
    struct login *lo = begin(rq);
    if (!lo)
        return;
    gw_secret_new(lo->browser);
    gw_secret_new(lo->state);
    gw_secret_new(lo->nonce);
    gw_secret_new(lo->verifier);
    gw_secret_hash("oidc-browser:", lo->browser, lo->browser_hash);
    gw_secret_hash("oidc-state:", lo->state, lo->state_hash);
    (void)dbx_strcpy(lo->return_to, sizeof(lo->return_to),
                     gw_return_to(dbx_http_query(rq->http, "return_to", 0)));
    if (rq->user.guest && rq->user.by == GW_CRED_SESSION)
        dbx_id_format(&rq->user.id, lo->guest);
    gw_req_ref(rq);
    gw_oidc_know(rq->gw->oidc, false, on_known, rq);
}

/* --- and back --- */

static void refuse(struct gw_req *rq, const char *why)
{
    dbx_log(DBX_LOG_INFO, &rq->log, "login refused: %s", why);
    gw_req_fail_status(rq, 403, DBX_DENIED, "login_refused", why, NULL);
}

static void on_entered(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct login *lo = rq->op;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if ((err && err->kind == DBX_CONFLICT) || (!err && dbx_pg_rows(res) == 0)) {
        refuse(rq, "there is another account with this e-mail, or this one may not come in");
    } else if (!gw_answered(rq, err)) {
        gw_auth_forget(rq->gw->auth);
        add_cookie(rq, "", "0");
        gw_session_give(rq, &lo->session);
        go(rq, lo->return_to);
    }
    gw_req_unref(rq);
}

static void enter(struct login *lo)
{
    struct dbx_id id = dbx_id_new();
    dbx_id_format(&id, lo->user);
    gw_session_make(lo->rq, &lo->session);
    const struct dbx_pg_param params[] = {
        DBX_PG_TEXT(lo->rq->gw->cfg->oidc_issuer),
        DBX_PG_TEXT(lo->id.subject),
        DBX_PG_TEXT(*lo->id.email ? lo->id.email : NULL),
        DBX_PG_TEXT(lo->user),
        DBX_PG_TEXT(lo->session.id),
        DBX_PG_BYTES(lo->session.hash, DBX_SHA256_LEN),
        DBX_PG_TEXT(lo->session.ttl),
        DBX_PG_TEXT(*lo->guest ? lo->guest : NULL),
        DBX_PG_TEXT(lo->origin),
    };
    gw_people_ask(lo->rq, "oidc_enter", params, DBX_ARRAY_LEN(params), on_entered);
}

static void judge(struct login *lo);

static void on_keys(const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err) {
        unreached(rq);
    } else {
        judge(rq->op);
    }
    gw_req_unref(rq);
}

/* Signature first, then what it says. A key that is not known: the provider may have new ones. */
static void judge(struct login *lo)
{
    struct gw_req *rq = lo->rq;
    struct gw_oidc *oi = rq->gw->oidc;
    const struct gw_id_rules rules = {.issuer = rq->gw->cfg->oidc_issuer,
                                      .client_id = rq->gw->cfg->oidc_client_id,
                                      .nonce = lo->nonce,
                                      .now = dbx_wall_us() / 1000000};
    struct dbx_err err = {0};
    struct gw_jwt t;
    int r = gw_jwt_parse(lo->id_token, &t, &err);
    if (r < 0) {
        refuse(rq, err.msg);
        return;
    }
    r = dbx_jwk_verify(dbx_json_root(oi->keys), t.alg, t.kid, lo->id_token, t.signed_len, t.sig,
                       t.sig_len, &err);
    if (r == 0)
        r = gw_id_token_check(dbx_json_root(t.claims), &rules, &lo->id, &err);
    gw_jwt_done(&t);
    if (r == 0) {
        enter(lo);
    } else if (r == -ENOENT && !lo->keys_again) {
        lo->keys_again = true;
        gw_req_ref(rq);
        gw_oidc_know(oi, true, on_keys, rq);
    } else {
        refuse(rq, err.msg);
    }
}

static void on_tokens(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct gw_req *rq = user;
    struct login *lo = rq->op;
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    const char *token = NULL;
    (void)f;
    if (result->status == 200 &&
        dbx_json_parse(result->body->data, result->body->len, NULL, &doc, NULL) == 0)
        token = dbx_json_get_str(dbx_json_root(doc), "id_token");
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (result->status == 0 || result->status >= 500) {
        unreached(rq);
    } else if (!token) {
        refuse(rq, "the provider did not accept its own code");
    } else {
        lo->id_token = dbx_strdup(token);
        judge(lo);
    }
    gw_req_unref(rq);
}

static void basic_auth(const char *id, const char *secret, struct dbx_buf *out)
{
    struct dbx_buf plain;
    dbx_buf_init(&plain, DBX_MAX_HEADER);
    add_param(&plain, '\0', "", id);
    (void)dbx_buf_str(&plain, ":");
    add_param(&plain, '\0', "", secret);
    DBX_CLEANUP(dbx_freep) char *text = dbx_malloc((plain.len + 2) / 3 * 4 + 1);
    (void)dbx_base64_encode(plain.data, plain.len, text, false);
    (void)dbx_buf_printf(out, "Authorization: Basic %s", text);
    explicit_bzero(plain.data, plain.len);
    dbx_buf_done(&plain);
}

static void ask_for_tokens(struct login *lo)
{
    struct gw_req *rq = lo->rq;
    struct gw_oidc *oi = rq->gw->oidc;
    const char *code = dbx_http_query(rq->http, "code", 0);
    struct dbx_buf form, basic;
    dbx_buf_init(&form, 2 * DBX_MAX_HEADER);
    dbx_buf_init(&basic, 2 * DBX_MAX_HEADER);
    add_param(&form, '\0', "grant_type", "authorization_code");
    add_param(&form, '&', "code", code);
    add_param(&form, '&', "redirect_uri", lo->redirect);
    add_param(&form, '&', "code_verifier", lo->verifier);
    if (*oi->secret)
        basic_auth(rq->gw->cfg->oidc_client_id, oi->secret, &basic);
    else
        add_param(&form, '&', "client_id", rq->gw->cfg->oidc_client_id);
    const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded",
                                   "Accept: application/json",
                                   *oi->secret ? dbx_buf_cstr(&basic) : NULL, NULL};
    const struct dbx_fetch_opts opts = {
        .method = "POST",
        .url = gw_oidc_about(oi, "token_endpoint"),
        .headers = headers,
        .body = form.data,
        .body_len = form.len,
        .max_response = MAX_TOKENS,
        .timeout_ms = GW_OIDC_TIMEOUT_MS,
        .ca_file = *rq->gw->cfg->oidc_ca_file ? rq->gw->cfg->oidc_ca_file : NULL};
    gw_req_ref(rq);
    dbx_fetch(oi->http, &opts, on_tokens, rq);
    dbx_buf_done(&form);
    dbx_buf_done(&basic);
}

static void on_known_again(const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err) {
        unreached(rq);
    } else {
        ask_for_tokens(rq->op);
    }
    gw_req_unref(rq);
}

static void on_taken(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct login *lo = rq->op;
    if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (dbx_pg_rows(res) == 0) {
        refuse(rq, "this login was not begun in this browser, was answered, or took too long");
    } else if (dbx_http_query(rq->http, "error", 0)) {
        refuse(rq, "the provider did not let you in");
    } else if (!dbx_http_query(rq->http, "code", 0) ||
               strlen(dbx_http_query(rq->http, "code", 0)) > 4096) {
        refuse(rq, "the provider gave no code");
    } else {
        (void)dbx_strcpy(lo->nonce, sizeof(lo->nonce), dbx_pg_text(res, 0, "nonce", NULL));
        (void)dbx_strcpy(lo->verifier, sizeof(lo->verifier), dbx_pg_text(res, 0, "verifier", NULL));
        (void)dbx_strcpy(lo->return_to, sizeof(lo->return_to),
                         dbx_pg_text(res, 0, "return_to", NULL));
        if (dbx_pg_text(res, 0, "guest", NULL))
            (void)dbx_strcpy(lo->guest, sizeof(lo->guest), dbx_pg_text(res, 0, "guest", NULL));
        gw_req_ref(rq);
        gw_oidc_know(rq->gw->oidc, false, on_known_again, rq);
    }
    gw_req_unref(rq);
}

void gw_oidc_callback(struct gw_req *rq)
{
    struct login *lo = begin(rq);
    if (!lo)
        return;
    const char *state = dbx_http_query(rq->http, "state", 0);
    const char *cookies = dbx_http_header(rq->http, "cookie");
    if (!state || strlen(state) != GW_SECRET_LEN ||
        !gw_cookie_secret(cookies, gw_auth_secure(rq->gw) ? COOKIE : COOKIE_PLAIN, lo->browser)) {
        refuse(rq, "this login was not begun in this browser, was answered, or took too long");
        return;
    }
    gw_secret_hash("oidc-browser:", lo->browser, lo->browser_hash);
    gw_secret_hash("oidc-state:", state, lo->state_hash);
    const struct dbx_pg_param params[] = {DBX_PG_BYTES(lo->state_hash, DBX_SHA256_LEN),
                                          DBX_PG_BYTES(lo->browser_hash, DBX_SHA256_LEN)};
    gw_people_ask(rq, "oidc_take", params, DBX_ARRAY_LEN(params), on_taken);
}
