/* SPDX-License-Identifier: Apache-2.0 */
/* API keys. A key is shown once, at its making; the database has its hash. It can do what its
 * scopes say, of what its maker could do when he made it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/executions.h"
#include "gateway/once.h"
#include "gateway/people.h"
#include "gateway/people_int.h"
#include "gateway/result.h"
#include "gateway/workspaces_int.h"

static int decode(struct gw_write *wr, const void *body, size_t len, struct dbx_err *err)
{
    int r = gw_people_decode(GW_PEOPLE_KEY, body, len, wr->at_us, &wr->people, err);
    if (r < 0)
        return r;
    uint32_t mine = wr->rq->user.scopes;
    if (wr->people.scopes & ~mine)
        return dbx_err_field(err, "scopes", "are more than you have yourself");
    if (!wr->people.scopes)
        wr->people.scopes = mine & ~(uint32_t)GW_SCOPE_ADMIN;
    return 0;
}

static size_t fill(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    char secret[GW_SECRET_TEXT];
    gw_secret_new(secret);
    snprintf(wr->secret, sizeof(wr->secret), GW_KEY_PREFIX "%s", secret);
    explicit_bzero(secret, sizeof(secret));
    dbx_sha256(wr->secret, strlen(wr->secret), wr->secret_hash);
    snprintf(wr->hint, sizeof(wr->hint), "%.8s", wr->secret);
    gw_scopes_text(wr->people.scopes, wr->scopes);
    if (wr->people.expires_us)
        snprintf(wr->expires_text, sizeof(wr->expires_text), "%" PRId64, wr->people.expires_us);
    (void)dbx_buf_str(&wr->kept, wr->made_text);
    params[4] = DBX_PG_TEXT(wr->made_text);
    params[5] = DBX_PG_BYTES(wr->secret_hash, DBX_SHA256_LEN);
    params[6] = DBX_PG_TEXT(wr->hint);
    params[7] = DBX_PG_TEXT(wr->people.label ? wr->people.label : "");
    params[8] = DBX_PG_TEXT(wr->scopes);
    params[9] = DBX_PG_TEXT(wr->people.expires_us ? wr->expires_text : NULL);
    return 10;
}

static void done(struct gw_write *wr, const struct dbx_pg_result *res)
{
    struct dbx_buf buf;
    (void)res;
    if (gw_req_gone(wr->rq))
        return;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "id", wr->made_text);
    dbx_jw_kstr(w, "key", wr->secret);
    dbx_jw_kstr(w, "label", wr->people.label ? wr->people.label : "");
    dbx_jw_kstr(w, "hint", wr->hint);
    gw_put_scopes(w, wr->scopes);
    gw_put_time(w, "created_at", wr->at_us);
    gw_put_time(w, "expires_at", wr->people.expires_us);
    dbx_jw_kstr(w, "last_used_at", NULL);
    dbx_jw_object_end(w);
    gw_answer_json(wr->rq, 201, &buf, &w);
}

static void again(struct gw_write *wr, const char *kept)
{
    (void)kept;
    gw_req_fail_status(wr->rq, 409, DBX_CONFLICT, "key_shown_once",
                       "this key was made and shown already; make another", NULL);
}

void gw_keys_create(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.decode = decode,
                                              .stmt = "key_create",
                                              .audited = true,
                                              .fill = fill,
                                              .done = done,
                                              .again = again};
    gw_write_begin(rq, &kind);
}

static void put_key(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row)
{
    dbx_jw_kstr(w, "id", dbx_pg_text(res, row, "id", NULL));
    dbx_jw_kstr(w, "label", dbx_pg_text(res, row, "label", NULL));
    dbx_jw_kstr(w, "hint", dbx_pg_text(res, row, "hint", NULL));
    gw_put_scopes(w, dbx_pg_text(res, row, "scopes", NULL));
    gw_put_time(w, "created_at", dbx_pg_i64(res, row, "created_us", 0));
    gw_put_time(w, "expires_at", dbx_pg_i64(res, row, "expires_us", 0));
    gw_put_time(w, "last_used_at", dbx_pg_i64(res, row, "used_us", 0));
}

static void on_keys(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (!gw_answered(rq, err))
        gw_people_items(rq, res, 0, put_key);
    gw_req_unref(rq);
}

void gw_keys_list(struct gw_req *rq)
{
    char user[DBX_ID_TEXT];
    dbx_id_format(&rq->user.id, user);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(user)};
    gw_people_ask(rq, "keys", params, DBX_ARRAY_LEN(params), on_keys);
}

static void on_key(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_found(rq, res, err)) {
        struct dbx_buf buf;
        dbx_buf_init(&buf, DBX_MAX_HEADER);
        struct dbx_jw *w = dbx_jw_new(&buf);
        dbx_jw_object(w);
        put_key(w, res, 0);
        dbx_jw_object_end(w);
        gw_answer_json(rq, 200, &buf, &w);
    }
    gw_req_unref(rq);
}

void gw_keys_get(struct gw_req *rq)
{
    char user[DBX_ID_TEXT], text[DBX_ID_TEXT];
    struct dbx_id id;
    if (!gw_route_id(rq, &id))
        return;
    dbx_id_format(&rq->user.id, user);
    dbx_id_format(&id, text);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(user), DBX_PG_TEXT(text)};
    gw_people_ask(rq, "key", params, DBX_ARRAY_LEN(params), on_key);
}

static void delete_key(struct gw_req *rq)
{
    char user[DBX_ID_TEXT], text[DBX_ID_TEXT], origin[128];
    struct dbx_id id;
    if (!gw_route_id(rq, &id))
        return;
    dbx_id_format(&rq->user.id, user);
    dbx_id_format(&id, text);
    gw_req_origin(rq, origin);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(user), DBX_PG_TEXT(text),
                                          DBX_PG_TEXT(origin)};
    gw_people_ask(rq, "key_delete", params, DBX_ARRAY_LEN(params), gw_people_done);
}

void gw_keys_delete(struct gw_req *rq)
{
    gw_once_again(rq, delete_key);
}
