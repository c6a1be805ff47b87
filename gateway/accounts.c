/* SPDX-License-Identifier: Apache-2.0 */
/* Coming in: register, login, guest, recover. Each ends with a session: a cookie, and the CSRF
 * token that goes with it. Who does not know the password learns nothing from answers or their
 * time: an unknown address costs one hash too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/auth.h"
#include "gateway/executions.h"
#include "gateway/passwords.h"
#include "gateway/people.h"
#include "gateway/people_int.h"
#include "gateway/rate.h"
#include "gateway/store.h"
#include "gateway/workspaces_int.h"

static const struct gw_rate_rule by_peer = {"auth", 120, 500 * DBX_NS_PER_MS};
static const struct gw_rate_rule by_pair = {"login", 10,
                                            30000 * DBX_NS_PER_MS}; /* an address from one place */
static const struct gw_rate_rule by_email = {"email", 100, 10000 * DBX_NS_PER_MS};

/* Somebody on his way in. */
struct entry {
    struct gw_req *rq; /* borrowed: the request owns this */
    struct gw_people_body body;
    struct gw_new_session session;
    char user[DBX_ID_TEXT], guest[DBX_ID_TEXT], origin[128];
    char pair[GW_EMAIL_TEXT + 64];
};

static void free_entry(void *op)
{
    struct entry *en = op;
    gw_people_body_done(&en->body);
    explicit_bzero(en->session.secret, sizeof(en->session.secret));
    free(en);
}

/* Pages of others may not sign anybody in or out (nor up). */
static struct entry *begin(struct gw_req *rq)
{
    if (!gw_auth_own_origin(rq)) {
        gw_req_fail_status(rq, 403, DBX_DENIED, "foreign_origin",
                           "pages of this origin may not do that", NULL);
        return NULL;
    }
    struct entry *en = DBX_NEW(struct entry);
    en->rq = rq;
    gw_req_origin(rq, en->origin);
    gw_session_make(rq, &en->session);
    rq->op = en;
    rq->op_free = free_entry;
    return en;
}

static void answer_in(struct entry *en, int status, const struct dbx_pg_result *res)
{
    struct gw_req *rq = en->rq;
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    gw_session_give(rq, &en->session);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    gw_put_user(w, res, 0);
    dbx_jw_kstr(w, "csrf_token", rq->csrf);
    dbx_jw_object_end(w);
    gw_answer_json(rq, status, &buf, &w);
}

static void too_busy(struct gw_req *rq)
{
    gw_req_fail_status(rq, 503, DBX_UNAVAIL, "busy", "too many are signing in, try again", NULL);
}

/* --- register --- */

static void on_registered(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if ((err && err->kind == DBX_CONFLICT) || (!err && dbx_pg_rows(res) == 0)) {
        gw_req_fail_field(rq, 409, DBX_CONFLICT, "email_taken",
                          "there is an account with this address already", "email");
    } else if (!gw_answered(rq, err)) {
        gw_auth_forget(rq->gw->auth);
        answer_in(rq->op, 201, res);
    }
    gw_req_unref(rq);
}

static void on_register_hash(const char *hash, bool matches, void *arg)
{
    struct gw_req *rq = arg;
    struct entry *en = rq->op;
    (void)matches;
    if (!gw_req_gone(rq) && !hash) {
        too_busy(rq);
    } else if (hash) {
        struct dbx_id id = dbx_id_new();
        dbx_id_format(&id, en->user);
        const struct dbx_pg_param params[] = {
            DBX_PG_TEXT(en->body.email),
            DBX_PG_TEXT(hash),
            DBX_PG_TEXT(en->user),
            DBX_PG_TEXT(en->session.id),
            DBX_PG_BYTES(en->session.hash, DBX_SHA256_LEN),
            DBX_PG_TEXT(en->session.ttl),
            DBX_PG_TEXT(*en->guest ? en->guest : NULL),
            DBX_PG_TEXT(en->origin),
        };
        gw_people_ask(rq, "register", params, DBX_ARRAY_LEN(params), on_registered);
    }
    gw_req_unref(rq);
}

void gw_auth_register(struct gw_req *rq)
{
    struct entry *en;
    if (!gw_rate_allow(rq, &by_peer, rq->peer) || !(en = begin(rq)) ||
        !gw_people_read(rq, GW_PEOPLE_REGISTER, &en->body))
        return;
    if (rq->user.guest && rq->csrf_missing) {
        gw_req_fail_status(rq, 403, DBX_DENIED, "csrf",
                           "to keep what you made as a guest, send your session's X-CSRF-Token",
                           NULL);
        return;
    }
    if (rq->user.guest)
        dbx_id_format(&rq->user.id, en->guest);
    gw_req_ref(rq);
    if (gw_password_hash(rq->gw->passwords, en->body.password, on_register_hash, rq) < 0) {
        too_busy(rq);
        gw_req_unref(rq);
    }
}

/* --- login --- */

static void on_session(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (dbx_pg_rows(res) == 0) {
        gw_req_fail_status(rq, 401, DBX_DENIED, "wrong_credentials",
                           "this e-mail and password do not fit", NULL);
    } else {
        answer_in(rq->op, 200, res);
    }
    gw_req_unref(rq);
}

static void on_audited(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    (void)res;
    if (err)
        dbx_log(DBX_LOG_WARN, &rq->log, "audit: %s", err->msg);
    gw_req_unref(rq);
}

static void refuse_login(struct gw_req *rq)
{
    struct entry *en = rq->op;
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(*en->user ? en->user : NULL),
                                          DBX_PG_TEXT("login_failed"), DBX_PG_TEXT(en->body.email),
                                          DBX_PG_TEXT(""), DBX_PG_TEXT(en->origin)};
    gw_people_ask(rq, "audit_add", params, DBX_ARRAY_LEN(params), on_audited);
    gw_req_fail_status(rq, 401, DBX_DENIED, "wrong_credentials",
                       "this e-mail and password do not fit", NULL);
}

static void on_login_checked(const char *hash, bool matches, void *arg)
{
    struct gw_req *rq = arg;
    struct entry *en = rq->op;
    (void)hash;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (!matches) {
        refuse_login(rq);
    } else {
        gw_rate_give_back(rq->gw->rates, &by_pair, en->pair);
        gw_rate_give_back(rq->gw->rates, &by_email, en->body.email);
        const struct dbx_pg_param params[] = {DBX_PG_TEXT(en->user),
                                              DBX_PG_TEXT(en->session.id),
                                              DBX_PG_BYTES(en->session.hash, DBX_SHA256_LEN),
                                              DBX_PG_TEXT(en->session.ttl),
                                              DBX_PG_TEXT("login"),
                                              DBX_PG_TEXT(en->origin)};
        gw_people_ask(rq, "session_create", params, DBX_ARRAY_LEN(params), on_session);
    }
    gw_req_unref(rq);
}

static void on_login_found(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct entry *en = rq->op;
    if (!gw_answered(rq, err)) {
        bool known = dbx_pg_rows(res) > 0;
        const char *hash = known ? dbx_pg_text(res, 0, "password", NULL) : NULL;
        if (known)
            (void)dbx_strcpy(en->user, sizeof(en->user), dbx_pg_text(res, 0, "id", NULL));
        gw_req_ref(rq);
        if (gw_password_check(rq->gw->passwords, hash, en->body.password, on_login_checked, rq) <
            0) {
            too_busy(rq);
            gw_req_unref(rq);
        }
    }
    gw_req_unref(rq);
}

void gw_auth_login(struct gw_req *rq)
{
    struct entry *en = begin(rq);
    if (!en || !gw_people_read(rq, GW_PEOPLE_LOGIN, &en->body))
        return;
    snprintf(en->pair, sizeof(en->pair), "%s %s", rq->peer, en->body.email);
    if (!gw_rate_allow(rq, &by_pair, en->pair) || !gw_rate_allow(rq, &by_peer, rq->peer) ||
        !gw_rate_allow(rq, &by_email, en->body.email))
        return;
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(en->body.email)};
    gw_people_ask(rq, "login_find", params, DBX_ARRAY_LEN(params), on_login_found);
}

/* --- guest --- */

static void on_guest(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (!gw_answered(rq, err))
        answer_in(rq->op, 201, res);
    gw_req_unref(rq);
}

void gw_auth_guest(struct gw_req *rq)
{
    struct entry *en;
    if (!gw_rate_allow(rq, &by_peer, rq->peer) || !(en = begin(rq)))
        return;
    struct dbx_id id = dbx_id_new();
    dbx_id_format(&id, en->user);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(en->user), DBX_PG_TEXT(en->session.id),
                                          DBX_PG_BYTES(en->session.hash, DBX_SHA256_LEN),
                                          DBX_PG_TEXT(en->session.ttl), DBX_PG_TEXT(en->origin)};
    gw_people_ask(rq, "guest_create", params, DBX_ARRAY_LEN(params), on_guest);
}

/* --- an administrator's link to come in again --- */

static void refuse_recovery(struct gw_req *rq)
{
    gw_req_fail_field(rq, 403, DBX_DENIED, "recovery_invalid",
                      "this link was used, has expired, or never was", "token");
}

static void on_recovered(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (!gw_answered(rq, err)) {
        gw_auth_forget(rq->gw->auth);
        if (dbx_pg_rows(res) == 0)
            refuse_recovery(rq);
        else
            answer_in(rq->op, 200, res);
    }
    gw_req_unref(rq);
}

static void on_recovery_hash(const char *hash, bool matches, void *arg)
{
    struct gw_req *rq = arg;
    struct entry *en = rq->op;
    uint8_t token[DBX_SHA256_LEN];
    (void)matches;
    if (!gw_req_gone(rq) && !hash) {
        too_busy(rq);
    } else if (hash) {
        gw_secret_hash("recovery:", en->body.token, token);
        const struct dbx_pg_param params[] = {
            DBX_PG_BYTES(token, sizeof(token)), DBX_PG_TEXT(hash),
            DBX_PG_TEXT(en->session.id),        DBX_PG_BYTES(en->session.hash, DBX_SHA256_LEN),
            DBX_PG_TEXT(en->session.ttl),       DBX_PG_TEXT(en->origin)};
        gw_people_ask(rq, "recovery_use", params, DBX_ARRAY_LEN(params), on_recovered);
    }
    gw_req_unref(rq);
}

static void on_recovery_found(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct entry *en = rq->op;
    if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (dbx_pg_rows(res) == 0) {
        refuse_recovery(rq);
    } else {
        gw_req_ref(rq);
        if (gw_password_hash(rq->gw->passwords, en->body.password, on_recovery_hash, rq) < 0) {
            too_busy(rq);
            gw_req_unref(rq);
        }
    }
    gw_req_unref(rq);
}

void gw_auth_recover(struct gw_req *rq)
{
    struct entry *en;
    uint8_t token[DBX_SHA256_LEN];
    if (!gw_rate_allow(rq, &by_peer, rq->peer) || !(en = begin(rq)) ||
        !gw_people_read(rq, GW_PEOPLE_RECOVER, &en->body))
        return;
    gw_secret_hash("recovery:", en->body.token, token);
    const struct dbx_pg_param params[] = {DBX_PG_BYTES(token, sizeof(token))};
    gw_people_ask(rq, "recovery_find", params, DBX_ARRAY_LEN(params), on_recovery_found);
}
