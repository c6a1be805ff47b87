/* SPDX-License-Identifier: Apache-2.0 */
/* What people do with their own account: who am I, password, sessions. */
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/auth.h"
#include "gateway/executions.h"
#include "gateway/once.h"
#include "gateway/passwords.h"
#include "gateway/people.h"
#include "gateway/people_int.h"
#include "gateway/rate.h"
#include "gateway/result.h"
#include "gateway/workspaces_int.h"

static const struct gw_rate_rule by_user = {"password", 10, 30000 * DBX_NS_PER_MS};

static void on_me(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_found(rq, res, err)) {
        struct dbx_buf buf;
        char scopes[GW_SCOPES_TEXT];
        dbx_buf_init(&buf, DBX_MAX_HEADER);
        gw_scopes_text(rq->user.scopes, scopes);
        struct dbx_jw *w = dbx_jw_new(&buf);
        dbx_jw_object(w);
        gw_put_user(w, res, 0);
        dbx_jw_key(w, "quotas");
        dbx_jw_object(w);
        dbx_jw_ki64(w, "max_workspaces", dbx_pg_i64(res, 0, "max_workspaces", 0));
        dbx_jw_ki64(w, "max_running", dbx_pg_i64(res, 0, "max_running", 0));
        dbx_jw_ki64(w, "max_bytes", dbx_pg_i64(res, 0, "max_bytes", 0));
        dbx_jw_ki64(w, "bytes_used", dbx_pg_i64(res, 0, "bytes_used", 0));
        dbx_jw_object_end(w);
        dbx_jw_kstr(w, "by", rq->user.by == GW_CRED_KEY ? "key" : "session");
        gw_put_scopes(w, scopes);
        dbx_jw_kstr(w, "csrf_token", rq->user.by == GW_CRED_SESSION ? rq->csrf : NULL);
        dbx_jw_object_end(w);
        gw_answer_json(rq, 200, &buf, &w);
    }
    gw_req_unref(rq);
}

void gw_me_get(struct gw_req *rq)
{
    char user[DBX_ID_TEXT];
    dbx_id_format(&rq->user.id, user);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(user)};
    gw_people_ask(rq, "me", params, DBX_ARRAY_LEN(params), on_me);
}

/* --- another password --- */

struct change {
    struct gw_req *rq; /* borrowed: the request owns this */
    struct gw_people_body body;
    char user[DBX_ID_TEXT], session[DBX_ID_TEXT], origin[128];
};

static void free_change(void *op)
{
    struct change *ch = op;
    gw_people_body_done(&ch->body);
    free(ch);
}

static void busy(struct gw_req *rq)
{
    gw_req_fail_status(rq, 503, DBX_UNAVAIL, "busy", "too many are signing in, try again", NULL);
}

static void on_changed(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    gw_auth_forget(rq->gw->auth);
    on_me(res, err, arg);
}

static void on_hash(const char *hash, bool matches, void *arg)
{
    struct gw_req *rq = arg;
    struct change *ch = rq->op;
    (void)matches;
    if (!gw_req_gone(rq) && !hash) {
        busy(rq);
    } else if (hash) {
        const struct dbx_pg_param params[] = {DBX_PG_TEXT(ch->user), DBX_PG_TEXT(hash),
                                              DBX_PG_TEXT(ch->session), DBX_PG_TEXT(ch->origin)};
        gw_people_ask(rq, "password_put", params, DBX_ARRAY_LEN(params), on_changed);
    }
    gw_req_unref(rq);
}

static void on_checked(const char *hash, bool matches, void *arg)
{
    struct gw_req *rq = arg;
    struct change *ch = rq->op;
    (void)hash;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (!matches) {
        gw_req_fail_field(rq, 403, DBX_DENIED, "wrong_credentials",
                          "this is not the current password", "current_password");
    } else {
        gw_req_ref(rq);
        if (gw_password_hash(rq->gw->passwords, ch->body.password, on_hash, rq) < 0) {
            busy(rq);
            gw_req_unref(rq);
        }
    }
    gw_req_unref(rq);
}

static void on_password(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct change *ch = rq->op;
    if (gw_found(rq, res, err)) {
        const char *now = dbx_pg_text(res, 0, "password", NULL);
        const char *given = ch->body.current_password ? ch->body.current_password : "";
        gw_req_ref(rq);
        if (gw_password_check(rq->gw->passwords, now, given, on_checked, rq) < 0) {
            busy(rq);
            gw_req_unref(rq);
        }
    }
    gw_req_unref(rq);
}

void gw_me_put(struct gw_req *rq)
{
    struct change *ch = DBX_NEW(struct change);
    ch->rq = rq;
    rq->op = ch;
    rq->op_free = free_change;
    dbx_id_format(&rq->user.id, ch->user);
    dbx_id_format(&rq->user.credential, ch->session);
    gw_req_origin(rq, ch->origin);
    if (!gw_people_read(rq, GW_PEOPLE_PASSWORD, &ch->body) ||
        !gw_rate_allow(rq, &by_user, ch->user))
        return;
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(ch->user)};
    gw_people_ask(rq, "password_of", params, DBX_ARRAY_LEN(params), on_password);
}

/* --- sessions --- */

static void put_session(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row)
{
    dbx_jw_kstr(w, "id", dbx_pg_text(res, row, "id", NULL));
    dbx_jw_kbool(w, "current", dbx_streq(dbx_pg_text(res, row, "current", NULL), "t"));
    gw_put_time(w, "created_at", dbx_pg_i64(res, row, "created_us", 0));
    gw_put_time(w, "expires_at", dbx_pg_i64(res, row, "expires_us", 0));
    gw_put_time(w, "last_used_at", dbx_pg_i64(res, row, "used_us", 0));
}

static void on_sessions(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (!gw_answered(rq, err))
        gw_people_items(rq, res, 0, put_session);
    gw_req_unref(rq);
}

void gw_sessions_list(struct gw_req *rq)
{
    char user[DBX_ID_TEXT], current[DBX_ID_TEXT];
    dbx_id_format(&rq->user.id, user);
    dbx_id_format(&rq->user.credential, current);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(user), DBX_PG_TEXT(current)};
    gw_people_ask(rq, "sessions", params, DBX_ARRAY_LEN(params), on_sessions);
}

static void end_session(struct gw_req *rq, const struct dbx_id *id)
{
    char user[DBX_ID_TEXT], session[DBX_ID_TEXT], origin[128];
    dbx_id_format(&rq->user.id, user);
    dbx_id_format(id, session);
    gw_req_origin(rq, origin);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(user), DBX_PG_TEXT(session),
                                          DBX_PG_TEXT(origin)};
    gw_people_ask(rq, "session_end", params, DBX_ARRAY_LEN(params), gw_people_done);
}

static void delete_session(struct gw_req *rq)
{
    struct dbx_id id;
    if (gw_route_id(rq, &id))
        end_session(rq, &id);
}

void gw_sessions_delete(struct gw_req *rq)
{
    gw_once_again(rq, delete_session);
}

void gw_auth_logout(struct gw_req *rq)
{
    if (rq->user.by != GW_CRED_SESSION) { /* a key has nothing to leave */
        gw_req_reply(rq, 204, NULL, NULL, NULL, 0);
        return;
    }
    gw_session_take_away(rq);
    end_session(rq, &rq->user.credential);
}
