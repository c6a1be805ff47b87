/* SPDX-License-Identifier: Apache-2.0 */
/* Members and links of a workspace; its owner's to give. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/access.h"
#include "gateway/auth.h"
#include "gateway/executions.h"
#include "gateway/page.h"
#include "gateway/people.h"
#include "gateway/people_int.h"
#include "gateway/rate.h"
#include "gateway/result.h"
#include "gateway/store.h"
#include "gateway/workspaces_int.h"

#define SLUG_LEN 22 /* 16 random bytes */

/* --- members --- */

static int check_email(struct gw_write *wr, struct dbx_err *err)
{
    if (gw_email_of_path(wr->rq->params.second, wr->email) < 0)
        return dbx_err_field(err, "email", "must be an e-mail address");
    return 0;
}

static int decode_member(struct gw_write *wr, const void *body, size_t len, struct dbx_err *err)
{
    return gw_people_decode(GW_PEOPLE_MEMBER, body, len, wr->at_us, &wr->people, err);
}

static size_t fill_member(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    struct dbx_jw *w = dbx_jw_new(&wr->kept);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "email", wr->email);
    dbx_jw_kstr(w, "role", wr->people.role);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0); /* an address is bounded */
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = DBX_PG_TEXT(wr->email);
    params[6] = DBX_PG_TEXT(wr->people.role);
    return 7;
}

void gw_members_put(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.decode = decode_member,
                                              .lock = "ws_lock",
                                              .stmt = "member_put",
                                              .by_role = true,
                                              .audited = true,
                                              .check = check_email,
                                              .fill = fill_member,
                                              .done = gw_write_done_kept,
                                              .again = gw_write_again_kept,
                                              .kept_status = 200};
    gw_write_begin(rq, &kind);
}

static size_t fill_member_delete(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = DBX_PG_TEXT(wr->email);
    return 6;
}

void gw_members_delete(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.no_body = true,
                                              .lock = "ws_lock",
                                              .stmt = "member_delete",
                                              .by_role = true,
                                              .audited = true,
                                              .check = check_email,
                                              .fill = fill_member_delete,
                                              .done = gw_write_done_empty,
                                              .again = gw_write_again_empty};
    gw_write_begin(rq, &kind);
}

/* The column `mine` says what the caller is; `key` is null in the row that stands for "none". */
static bool may_list(struct gw_req *rq, const struct dbx_pg_result *res, enum dbx_role need)
{
    int64_t role = dbx_pg_i64(res, 0, "mine", DBX_ROLE_NONE);
    if (role == DBX_ROLE_NONE)
        gw_req_not_found(rq);
    else if (role < (int64_t)need)
        gw_req_forbidden(rq, "your role in this workspace does not allow it");
    return role >= (int64_t)need;
}

/* An array of its own: there are at most 1000, and a left join's row of nulls is none of them. */
static void answer_rows(struct gw_req *rq, const struct dbx_pg_result *res, const char *key,
                        gw_put_row_fn *put)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_BODY);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_key(w, "items");
    dbx_jw_array(w);
    for (size_t i = 0; i < dbx_pg_rows(res) && dbx_pg_text(res, i, key, NULL); i++) {
        dbx_jw_object(w);
        put(w, res, i);
        dbx_jw_object_end(w);
    }
    dbx_jw_array_end(w);
    dbx_jw_kstr(w, "next_cursor", NULL);
    dbx_jw_object_end(w);
    gw_answer_json(rq, 200, &buf, &w);
}

static void put_member(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row)
{
    dbx_jw_kstr(w, "email", dbx_pg_text(res, row, "email", NULL));
    dbx_jw_kstr(w, "role", dbx_pg_text(res, row, "role", NULL));
    gw_put_time(w, "created_at", dbx_pg_i64(res, row, "created_us", 0));
    dbx_jw_kbool(w, "pending", dbx_streq(dbx_pg_text(res, row, "pending", NULL), "t"));
    dbx_jw_kbool(w, "verified", dbx_streq(dbx_pg_text(res, row, "verified", NULL), "t"));
}

static void on_members(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (!gw_answered(rq, err) && may_list(rq, res, DBX_ROLE_EDITOR))
        answer_rows(rq, res, "email", put_member);
    gw_req_unref(rq);
}

void gw_members_list(struct gw_req *rq)
{
    struct dbx_id id;
    if (gw_route_id(rq, &id))
        gw_workspace_ask(rq, "members", &id, on_members);
}

/* --- links --- */

static int decode_link(struct gw_write *wr, const void *body, size_t len, struct dbx_err *err)
{
    return gw_people_decode(GW_PEOPLE_LINK, body, len, wr->at_us, &wr->people, err);
}

static void put_link(struct dbx_jw *w, const char *base, const char *id, const char *slug,
                     const char *role)
{
    char url[384];
    snprintf(url, sizeof(url), "%s/s/%s", base, slug);
    dbx_jw_kstr(w, "id", id);
    dbx_jw_kstr(w, "slug", slug);
    dbx_jw_kstr(w, "url", url);
    dbx_jw_kstr(w, "role", role);
}

static size_t fill_link(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    char base[300];
    gw_secret_new(wr->secret);
    wr->secret[SLUG_LEN] = '\0';
    gw_base_url(wr->rq, base);
    if (wr->people.expires_us)
        snprintf(wr->expires_text, sizeof(wr->expires_text), "%" PRId64, wr->people.expires_us);
    struct dbx_jw *w = dbx_jw_new(&wr->kept);
    dbx_jw_object(w);
    put_link(w, base, wr->made_text, wr->secret, wr->people.role);
    gw_put_time(w, "created_at", wr->at_us);
    gw_put_time(w, "expires_at", wr->people.expires_us);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0); /* all of it is bounded */
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = DBX_PG_TEXT(wr->made_text);
    params[6] = DBX_PG_TEXT(wr->secret);
    params[7] = DBX_PG_TEXT(wr->people.role);
    params[8] = DBX_PG_TEXT(wr->people.expires_us ? wr->expires_text : NULL);
    return 9;
}

void gw_links_create(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.decode = decode_link,
                                              .lock = "ws_lock",
                                              .stmt = "link_create",
                                              .by_role = true,
                                              .audited = true,
                                              .fill = fill_link,
                                              .done = gw_write_done_kept,
                                              .again = gw_write_again_kept,
                                              .kept_status = 201};
    gw_write_begin(rq, &kind);
}

static int check_link_id(struct gw_write *wr, struct dbx_err *err)
{
    if (dbx_id_parse(wr->rq->params.second, &wr->made) < 0)
        return dbx_err_set(err, -ENOENT, DBX_NOT_FOUND, "no such object");
    dbx_id_format(&wr->made, wr->made_text);
    return 0;
}

static size_t fill_link_delete(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = DBX_PG_TEXT(wr->made_text);
    return 6;
}

void gw_links_delete(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.no_body = true,
                                              .lock = "ws_lock",
                                              .stmt = "link_delete",
                                              .by_role = true,
                                              .audited = true,
                                              .check = check_link_id,
                                              .fill = fill_link_delete,
                                              .done = gw_write_done_empty,
                                              .again = gw_write_again_empty};
    gw_write_begin(rq, &kind);
}

static void on_links(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (!gw_answered(rq, err) && may_list(rq, res, DBX_ROLE_OWNER)) {
        struct dbx_buf buf;
        char base[300];
        gw_base_url(rq, base);
        dbx_buf_init(&buf, DBX_MAX_BODY);
        struct dbx_jw *w = dbx_jw_new(&buf);
        dbx_jw_object(w);
        dbx_jw_key(w, "items");
        dbx_jw_array(w);
        for (size_t i = 0; i < dbx_pg_rows(res) && dbx_pg_text(res, i, "id", NULL); i++) {
            dbx_jw_object(w);
            put_link(w, base, dbx_pg_text(res, i, "id", NULL), dbx_pg_text(res, i, "slug", NULL),
                     dbx_pg_text(res, i, "role", NULL));
            gw_put_time(w, "created_at", dbx_pg_i64(res, i, "created_us", 0));
            gw_put_time(w, "expires_at", dbx_pg_i64(res, i, "expires_us", 0));
            dbx_jw_object_end(w);
        }
        dbx_jw_array_end(w);
        dbx_jw_kstr(w, "next_cursor", NULL);
        dbx_jw_object_end(w);
        gw_answer_json(rq, 200, &buf, &w);
    }
    gw_req_unref(rq);
}

void gw_links_list(struct gw_req *rq)
{
    struct dbx_id id;
    if (gw_route_id(rq, &id))
        gw_workspace_ask(rq, "links", &id, on_links);
}

/* --- coming by a link: /s/{slug} ---
 * Who is signed in (or has a key) is given the link's role for as long as the link is good. Who is
 * nobody becomes a guest first. A browser goes on to the workspace, a program is told of it. */

static const struct gw_rate_rule misses = {"slug", 60, 1000 * DBX_NS_PER_MS};
static const struct gw_rate_rule new_guests = {"auth", 120, 500 * DBX_NS_PER_MS};

struct visit {
    struct gw_new_session session;
    char user[DBX_ID_TEXT], origin[128];
    bool made_guest;
};

static bool wants_page(struct gw_req *rq)
{
    const char *accept = dbx_http_header(rq->http, "accept");
    return dbx_streq(dbx_http_method(rq->http), "GET") && accept && strstr(accept, "text/html");
}

/* No such link, any more or ever: a browser gets the page, which says so in words. */
static void no_such_link(struct gw_req *rq)
{
    if (gw_rate_allow(rq, &misses, rq->peer) && !(wants_page(rq) && gw_page_reply(rq, 404)))
        gw_req_not_found(rq);
}

static void on_used(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct visit *v = rq->op;
    if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (dbx_pg_rows(res) == 0) {
        no_such_link(rq);
    } else {
        const char *id = dbx_pg_text(res, 0, "workspace_id", NULL);
        char location[64];
        struct dbx_buf buf;
        if (v->made_guest)
            gw_session_give(rq, &v->session);
        snprintf(location, sizeof(location), "/w/%s", id);
        dbx_buf_init(&buf, DBX_MAX_HEADER);
        struct dbx_jw *w = dbx_jw_new(&buf);
        dbx_jw_object(w);
        dbx_jw_kstr(w, "workspace_id", id);
        dbx_jw_kstr(w, "role", gw_role_name((enum dbx_role)dbx_pg_i64(res, 0, "role", 0)));
        dbx_jw_kstr(w, "location", location);
        if (v->made_guest)
            dbx_jw_kstr(w, "csrf_token", rq->csrf);
        dbx_jw_object_end(w);
        if (wants_page(rq)) {
            int r = dbx_jw_end(&w);
            const struct dbx_header header[] = {{"Location", location}, {NULL, NULL}};
            dbx_assert(r == 0);
            gw_req_reply(rq, 303, "application/json", header, buf.data, buf.len);
            dbx_buf_done(&buf);
        } else {
            gw_answer_json(rq, 200, &buf, &w);
        }
    }
    gw_req_unref(rq);
}

static void use_link(struct gw_req *rq)
{
    struct visit *v = rq->op;
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(rq->params.first), DBX_PG_TEXT(v->user)};
    gw_people_ask(rq, "link_use", params, DBX_ARRAY_LEN(params), on_used);
}

static void on_guest_made(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    (void)res;
    if (!gw_answered(rq, err))
        use_link(rq);
    gw_req_unref(rq);
}

static void on_looked(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct visit *v = rq->op;
    if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (dbx_pg_rows(res) == 0) {
        no_such_link(rq);
    } else if (gw_rate_allow(rq, &new_guests, rq->peer)) {
        struct dbx_id id = dbx_id_new();
        v->made_guest = true;
        gw_session_make(rq, &v->session);
        dbx_id_format(&id, v->user);
        const struct dbx_pg_param params[] = {DBX_PG_TEXT(v->user), DBX_PG_TEXT(v->session.id),
                                              DBX_PG_BYTES(v->session.hash, DBX_SHA256_LEN),
                                              DBX_PG_TEXT(v->session.ttl), DBX_PG_TEXT(v->origin)};
        gw_people_ask(rq, "guest_create", params, DBX_ARRAY_LEN(params), on_guest_made);
    }
    gw_req_unref(rq);
}

void gw_links_use(struct gw_req *rq)
{
    struct visit *v = DBX_NEW(struct visit);
    rq->op = v;
    rq->op_free = free;
    gw_req_origin(rq, v->origin);
    if (strlen(rq->params.first) != SLUG_LEN) {
        no_such_link(rq);
        return;
    }
    if (!dbx_id_is_zero(&rq->user.id) && !rq->csrf_missing) {
        dbx_id_format(&rq->user.id, v->user);
        use_link(rq);
        return;
    }
    if (rq->csrf_missing) {
        gw_req_fail_status(rq, 403, DBX_DENIED, "csrf",
                           "a write with a session needs its X-CSRF-Token, from our own pages",
                           NULL);
        return;
    }
    if (dbx_http_header(rq->http, "authorization")) { /* a wrong key is not nobody */
        gw_req_fail_status(rq, 401, DBX_DENIED, "unauthorized", "this API key is not valid", NULL);
        return;
    }
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(rq->params.first)};
    gw_people_ask(rq, "link_look", params, DBX_ARRAY_LEN(params), on_looked);
}
