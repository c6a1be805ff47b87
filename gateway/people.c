/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "gateway/auth.h"
#include "gateway/executions.h"
#include "gateway/people_int.h"
#include "gateway/result.h"
#include "gateway/store.h"
#include "gateway/workspaces_int.h"

#define MAX_LIST (4u << 20)

/* --- the session's cookie --- */

void gw_session_make(struct gw_req *rq, struct gw_new_session *ret)
{
    struct dbx_id id = dbx_id_new();
    gw_secret_new(ret->secret);
    gw_secret_hash("session:", ret->secret, ret->hash);
    dbx_id_format(&id, ret->id);
    snprintf(ret->ttl, sizeof(ret->ttl), "%" PRIu64, rq->gw->cfg->session_seconds);
}

static void add_cookie(struct gw_req *rq, const char *name, const char *value, const char *age,
                       bool secure)
{
    char text[256];
    snprintf(text, sizeof(text), "%s=%s; Path=/; Max-Age=%s; HttpOnly; SameSite=Lax%s", name, value,
             age, secure ? "; Secure" : "");
    gw_req_add_header(rq, "Set-Cookie", text);
}

static void add_cookies(struct gw_req *rq, const char *value, const char *age)
{
    add_cookie(rq, GW_COOKIE_HOST, value, age, true);
    if (!gw_auth_secure(rq->gw))
        add_cookie(rq, GW_COOKIE_PLAIN, value, age, false);
}

void gw_session_give(struct gw_req *rq, const struct gw_new_session *s)
{
    add_cookies(rq, s->secret, s->ttl);
    gw_csrf_token(s->secret, rq->csrf);
}

void gw_session_take_away(struct gw_req *rq)
{
    add_cookies(rq, "", "0");
}

void gw_base_url(struct gw_req *rq, char out[static 300])
{
    const char *host = rq->http ? dbx_http_header(rq->http, "host") : NULL;
    size_t len = host ? strlen(host) : 0;
    out[0] = '\0';
    if (*rq->gw->cfg->public_url) {
        len = strlen(rq->gw->cfg->public_url);
        while (len > 0 && rq->gw->cfg->public_url[len - 1] == '/')
            len--;
        snprintf(out, 300, "%.*s", (int)len, rq->gw->cfg->public_url);
    } else if (len > 0 && len < 256 &&
               strspn(host,
                      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]") ==
                   len) {
        snprintf(out, 300, "%s://%s", gw_auth_secure(rq->gw) ? "https" : "http", host);
    }
}

/* --- small queries --- */

void gw_people_ask(struct gw_req *rq, const char *stmt, const struct dbx_pg_param *params, size_t n,
                   dbx_pg_fn *fn)
{
    gw_req_ref(rq);
    dbx_pg_query(gw_store_pg(rq->gw->store), stmt, params, n, fn, rq);
}

bool gw_people_read(struct gw_req *rq, enum gw_people_kind kind, struct gw_people_body *ret)
{
    struct dbx_err err = {0};
    size_t len;
    const uint8_t *body = dbx_http_body(rq->http, &len);
    if (gw_people_decode(kind, body, len, dbx_wall_us(), ret, &err) == 0)
        return true;
    gw_req_fail(rq, &err, NULL);
    return false;
}

void gw_people_done(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (!err)
        gw_auth_forget(rq->gw->auth); /* what was revoked here is known here at once */
    if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (dbx_pg_i64(res, 0, "taken", 0) == 0) {
        gw_req_not_found(rq);
    } else {
        gw_req_reply(rq, 204, NULL, NULL, NULL, 0);
    }
    gw_req_unref(rq);
}

void gw_people_items(struct gw_req *rq, const struct dbx_pg_result *res, size_t limit,
                     gw_put_row_fn *put)
{
    struct dbx_buf buf;
    size_t n = dbx_pg_rows(res), given = limit && n > limit ? limit : n;
    dbx_buf_init(&buf, MAX_LIST);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_key(w, "items");
    dbx_jw_array(w);
    for (size_t i = 0; i < given; i++) {
        dbx_jw_object(w);
        put(w, res, i);
        dbx_jw_object_end(w);
    }
    dbx_jw_array_end(w);
    dbx_jw_kstr(w, "next_cursor", given < n ? dbx_pg_text(res, given - 1, "cursor", NULL) : NULL);
    dbx_jw_object_end(w);
    gw_answer_json(rq, 200, &buf, &w);
}

void gw_put_user(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row)
{
    dbx_jw_kstr(w, "id", dbx_pg_text(res, row, "id", NULL));
    dbx_jw_kstr(w, "email", dbx_pg_text(res, row, "email", NULL));
    dbx_jw_kstr(w, "role", dbx_pg_text(res, row, "role", NULL));
    dbx_jw_kbool(w, "guest", dbx_streq(dbx_pg_text(res, row, "guest", NULL), "t"));
    dbx_jw_kbool(w, "disabled", dbx_streq(dbx_pg_text(res, row, "disabled", NULL), "t"));
    gw_put_time(w, "created_at", dbx_pg_i64(res, row, "created_us", 0));
}

void gw_put_scopes(struct dbx_jw *w, const char *scopes)
{
    dbx_jw_key(w, "scopes");
    dbx_jw_array(w);
    for (size_t len; scopes && *scopes; scopes += len) {
        scopes += strspn(scopes, " ");
        len = strcspn(scopes, " ");
        if (len > 0)
            dbx_jw_strn(w, scopes, len);
    }
    dbx_jw_array_end(w);
}
