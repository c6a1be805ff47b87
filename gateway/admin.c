/* SPDX-License-Identifier: Apache-2.0 */
/* What administrators do: people and their quotas, recovery, the audit log. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/auth.h"
#include "gateway/executions.h"
#include "gateway/once.h"
#include "gateway/people.h"
#include "gateway/people_int.h"
#include "gateway/result.h"
#include "gateway/workspaces_int.h"

#define RECOVERY_SECONDS "3600"
#define LIST_DEFAULT 50
#define LIST_MAX 200

static bool allowed(struct gw_req *rq)
{
    bool is = rq->user.admin;
    if (!is)
        gw_req_forbidden(rq, "only administrators may do that");
    return is;
}

/* A page of a list, and how it goes on. */
struct page {
    size_t limit;
    char limit_text[24];
};

static bool read_limit(struct gw_req *rq, struct page *pg)
{
    const char *limit = dbx_http_query(rq->http, "limit", 0);
    uint64_t n = LIST_DEFAULT;
    struct dbx_err err = {0};
    if (limit && dbx_parse_u64(limit, strlen(limit), 1, LIST_MAX, &n) < 0) {
        (void)dbx_err_field(&err, "limit", "must be a number from 1 to %d", LIST_MAX);
        gw_req_fail(rq, &err, NULL);
        return false;
    }
    pg->limit = n;
    snprintf(pg->limit_text, sizeof(pg->limit_text), "%zu", pg->limit + 1);
    return true;
}

static void bad_cursor(struct gw_req *rq)
{
    struct dbx_err err = {0};
    (void)dbx_err_field(&err, "cursor", "was not given by this server");
    gw_req_fail(rq, &err, NULL);
}

static struct page *new_page(struct gw_req *rq)
{
    struct page *pg = DBX_NEW(struct page);
    rq->op = pg;
    rq->op_free = free;
    return read_limit(rq, pg) ? pg : NULL;
}

/* --- people --- */

static void put_user(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row)
{
    gw_put_user(w, res, row);
    dbx_jw_ki64(w, "max_workspaces", dbx_pg_i64(res, row, "max_workspaces", 0));
    dbx_jw_ki64(w, "max_running", dbx_pg_i64(res, row, "max_running", 0));
    dbx_jw_ki64(w, "max_bytes", dbx_pg_i64(res, row, "max_bytes", 0));
    dbx_jw_ki64(w, "bytes_used", dbx_pg_i64(res, row, "bytes_used", 0));
}

static void on_users(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    const struct page *pg = rq->op;
    if (!gw_answered(rq, err))
        gw_people_items(rq, res, pg->limit, put_user);
    gw_req_unref(rq);
}

void gw_users_list(struct gw_req *rq)
{
    char email[GW_EMAIL_TEXT];
    struct dbx_id before;
    const struct page *pg;
    if (!allowed(rq) || !(pg = new_page(rq)))
        return;
    const char *cursor = dbx_http_query(rq->http, "cursor", 0);
    const char *wanted = dbx_http_query(rq->http, "email", 0);
    if (cursor && dbx_id_parse(cursor, &before) < 0) {
        bad_cursor(rq);
        return;
    }
    if (wanted && gw_email_normalize(wanted, email) < 0) {
        struct dbx_err err = {0};
        (void)dbx_err_field(&err, "email", "must be an e-mail address");
        gw_req_fail(rq, &err, NULL);
        return;
    }
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(wanted ? email : NULL), DBX_PG_TEXT(cursor),
                                          DBX_PG_TEXT(pg->limit_text)};
    gw_people_ask(rq, "users", params, DBX_ARRAY_LEN(params), on_users);
}

struct change {
    struct gw_people_body body;
    char actor[DBX_ID_TEXT], user[DBX_ID_TEXT], origin[128], workspaces[24], running[24], bytes[24];
    char secret[GW_SECRET_TEXT];
};

static void free_change(void *op)
{
    struct change *ch = op;
    gw_people_body_done(&ch->body);
    explicit_bzero(ch->secret, sizeof(ch->secret));
    free(ch);
}

static struct change *new_change(struct gw_req *rq)
{
    struct dbx_id id;
    if (!allowed(rq) || !gw_route_id(rq, &id))
        return NULL;
    struct change *ch = DBX_NEW(struct change);
    rq->op = ch;
    rq->op_free = free_change;
    dbx_id_format(&rq->user.id, ch->actor);
    dbx_id_format(&id, ch->user);
    gw_req_origin(rq, ch->origin);
    return ch;
}

static void on_user(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_found(rq, res, err)) {
        struct dbx_buf buf;
        dbx_buf_init(&buf, DBX_MAX_HEADER);
        struct dbx_jw *w = dbx_jw_new(&buf);
        dbx_jw_object(w);
        put_user(w, res, 0);
        dbx_jw_object_end(w);
        gw_answer_json(rq, 200, &buf, &w);
    }
    gw_req_unref(rq);
}

/* Read again: a statement does not see its own change of the quotas. */
static void on_put(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    gw_auth_forget(rq->gw->auth);
    if (gw_found(rq, res, err)) {
        const struct change *ch = rq->op;
        const struct dbx_pg_param params[] = {DBX_PG_TEXT(ch->user)};
        gw_people_ask(rq, "me", params, DBX_ARRAY_LEN(params), on_user);
    }
    gw_req_unref(rq);
}

static const char *number(int64_t value, char out[static 24])
{
    snprintf(out, 24, "%" PRId64, value);
    return value < 0 ? NULL : out;
}

static void put(struct gw_req *rq)
{
    struct change *ch = new_change(rq);
    if (!ch || !gw_people_read(rq, GW_PEOPLE_USER, &ch->body))
        return;
    const struct gw_people_body *b = &ch->body;
    const struct dbx_pg_param params[] = {
        DBX_PG_TEXT(ch->actor),
        DBX_PG_TEXT(ch->user),
        DBX_PG_TEXT(b->role),
        DBX_PG_TEXT(!b->has_disabled ? NULL
                    : b->disabled    ? "t"
                                     : "f"),
        DBX_PG_TEXT(number(b->max_workspaces, ch->workspaces)),
        DBX_PG_TEXT(number(b->max_running, ch->running)),
        DBX_PG_TEXT(ch->origin),
        DBX_PG_TEXT(number(b->max_bytes, ch->bytes)),
    };
    gw_people_ask(rq, "user_put", params, DBX_ARRAY_LEN(params), on_put);
}

void gw_users_put(struct gw_req *rq)
{
    gw_once_again(rq, put);
}

/* --- recovery --- */

static void on_recovery(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    const struct change *ch = rq->op;
    if (gw_found(rq, res, err)) {
        struct dbx_buf buf;
        char base[300], url[400];
        dbx_buf_init(&buf, DBX_MAX_HEADER);
        gw_base_url(rq, base);
        snprintf(url, sizeof(url), "%s/recover#%s", base, ch->secret);
        struct dbx_jw *w = dbx_jw_new(&buf);
        dbx_jw_object(w);
        dbx_jw_kstr(w, "token", ch->secret);
        dbx_jw_kstr(w, "url", url);
        gw_put_time(w, "expires_at", dbx_pg_i64(res, 0, "expires_us", 0));
        dbx_jw_object_end(w);
        gw_answer_json(rq, 201, &buf, &w);
    }
    gw_req_unref(rq);
}

static void recover(struct gw_req *rq)
{
    uint8_t hash[DBX_SHA256_LEN];
    struct change *ch = new_change(rq);
    if (!ch)
        return;
    gw_secret_new(ch->secret);
    gw_secret_hash("recovery:", ch->secret, hash);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(ch->actor), DBX_PG_TEXT(ch->user),
                                          DBX_PG_BYTES(hash, sizeof(hash)),
                                          DBX_PG_TEXT(RECOVERY_SECONDS), DBX_PG_TEXT(ch->origin)};
    gw_people_ask(rq, "recovery_create", params, DBX_ARRAY_LEN(params), on_recovery);
}

void gw_users_recovery(struct gw_req *rq)
{
    gw_once_again(rq, recover);
}

/* --- the audit log --- */

static void put_line(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row)
{
    static const char *const columns[] = {"actor", "action", "object", "detail", "origin"};
    dbx_jw_ki64(w, "id", dbx_pg_i64(res, row, "id", 0));
    gw_put_time(w, "created_at", dbx_pg_i64(res, row, "created_us", 0));
    for (size_t i = 0; i < DBX_ARRAY_LEN(columns); i++)
        dbx_jw_kstr(w, columns[i], dbx_pg_text(res, row, columns[i], NULL));
}

static void on_audit(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    const struct page *pg = rq->op;
    if (!gw_answered(rq, err))
        gw_people_items(rq, res, pg->limit, put_line);
    gw_req_unref(rq);
}

void gw_audit_list(struct gw_req *rq)
{
    const struct page *pg;
    uint64_t before = 0;
    char text[24];
    if (!allowed(rq) || !(pg = new_page(rq)))
        return;
    const char *cursor = dbx_http_query(rq->http, "cursor", 0);
    if (cursor && dbx_parse_u64(cursor, strlen(cursor), 1, INT64_MAX, &before) < 0) {
        bad_cursor(rq);
        return;
    }
    snprintf(text, sizeof(text), "%" PRIu64, before);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(text), DBX_PG_TEXT(pg->limit_text)};
    gw_people_ask(rq, "audit", params, DBX_ARRAY_LEN(params), on_audit);
}
