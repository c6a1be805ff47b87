/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/workspaces.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/access.h"
#include "gateway/executions.h"
#include "gateway/result.h"
#include "gateway/store.h"
#include "gateway/upstream.h"
#include "gateway/workspaces_int.h"

#define MAX_WHOLE (4u << 20) /* 1000 paths of 1024 bytes, escaped */

static void put_fields(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row)
{
    static const char *const columns[] = {"id", "name", "template", "sharing_mode", "sandbox_id"};
    for (size_t i = 0; i < DBX_ARRAY_LEN(columns); i++)
        dbx_jw_kstr(w, columns[i], dbx_pg_text(res, row, columns[i], NULL));
    dbx_jw_kstr(w, "role", gw_role_name((enum dbx_role)dbx_pg_i64(res, row, "role", 0)));
    gw_put_time(w, "created_at", dbx_pg_i64(res, row, "created_us", 0));
    gw_put_time(w, "updated_at", dbx_pg_i64(res, row, "updated_us", 0));
}

static void put_workspace(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row)
{
    dbx_jw_object(w);
    put_fields(w, res, row);
    dbx_jw_object_end(w);
}

static void answer(struct gw_req *rq, const struct dbx_pg_result *res, const struct dbx_err *err,
                   int status)
{
    if (gw_found(rq, res, err)) {
        struct dbx_buf buf;
        dbx_buf_init(&buf, DBX_MAX_HEADER);
        struct dbx_jw *w = dbx_jw_new(&buf);
        put_workspace(w, res, 0);
        gw_answer_json(rq, status, &buf, &w);
    }
    gw_req_unref(rq);
}

static void on_workspace(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    answer(arg, res, err, 200);
}

static void on_new_workspace(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    answer(arg, res, err, 201);
}

void gw_workspace_answer(struct gw_req *rq, const struct dbx_id *id, int status)
{
    gw_workspace_ask(rq, "ws_get", id, status == 201 ? on_new_workspace : on_workspace);
}

/* --- with its files --- */

static void put_files(struct dbx_jw *w, const struct dbx_pg_result *res)
{
    dbx_jw_key(w, "files");
    dbx_jw_array(w);
    for (size_t i = 0; i < dbx_pg_rows(res); i++) {
        if (!dbx_pg_text(res, i, "f_id", NULL))
            continue; /* it has none */
        dbx_jw_object(w);
        dbx_jw_kstr(w, "id", dbx_pg_text(res, i, "f_id", NULL));
        dbx_jw_kstr(w, "path", dbx_pg_text(res, i, "f_path", NULL));
        dbx_jw_kstr(w, "type", dbx_pg_text(res, i, "f_type", NULL));
        dbx_jw_ki64(w, "size", dbx_pg_i64(res, i, "f_size", 0));
        dbx_jw_kstr(w, "etag", dbx_pg_text(res, i, "f_etag", NULL));
        gw_put_time(w, "updated_at", dbx_pg_i64(res, i, "f_us", 0));
        dbx_jw_object_end(w);
    }
    dbx_jw_array_end(w);
}

static void on_whole(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_found(rq, res, err)) {
        struct dbx_buf buf;
        dbx_buf_init(&buf, MAX_WHOLE);
        struct dbx_jw *w = dbx_jw_new(&buf);
        dbx_jw_object(w);
        put_fields(w, res, 0);
        put_files(w, res);
        dbx_jw_object_end(w);
        gw_answer_json(rq, 200, &buf, &w);
    }
    gw_req_unref(rq);
}

void gw_workspaces_get(struct gw_req *rq)
{
    struct dbx_id id;
    if (gw_route_id(rq, &id))
        gw_workspace_ask(rq, "ws_whole", &id, on_whole);
}

/* --- making one --- */

static size_t fill_create(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    const struct gw_body *b = &wr->body;
    const char *mode = b->sharing_mode ? b->sharing_mode : "private";
    struct dbx_jw *w = dbx_jw_new(&wr->kept);
    snprintf(wr->at_text, sizeof(wr->at_text), "%" PRId64, wr->at_us);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "id", wr->made_text);
    dbx_jw_kstr(w, "name", b->name);
    dbx_jw_kstr(w, "template", b->template);
    dbx_jw_kstr(w, "sharing_mode", mode);
    dbx_jw_kstr(w, "sandbox_id", NULL);
    dbx_jw_kstr(w, "role", gw_role_name(DBX_ROLE_OWNER));
    gw_put_time(w, "created_at", wr->at_us);
    gw_put_time(w, "updated_at", wr->at_us);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0); /* the body was bounded */
    params[4] = DBX_PG_TEXT(wr->made_text);
    params[5] = DBX_PG_TEXT(b->name);
    params[6] = DBX_PG_TEXT(b->template);
    params[7] = DBX_PG_TEXT(mode);
    params[8] = DBX_PG_TEXT(wr->at_text);
    return 9;
}

void gw_workspaces_create(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.body = GW_BODY_WORKSPACE,
                                              .lock = "user_lock",
                                              .lock_caller = true,
                                              .stmt = "ws_create",
                                              .fill = fill_create,
                                              .done = gw_write_done_kept,
                                              .again = gw_write_again_kept,
                                              .kept_status = 201};
    gw_write_begin(rq, &kind);
}

/* --- changing it --- */

static size_t fill_put(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = DBX_PG_TEXT(wr->body.name);
    params[6] = DBX_PG_TEXT(wr->body.template);
    params[7] = DBX_PG_TEXT(wr->body.sharing_mode);
    return 8;
}

static void answer_put(struct gw_write *wr, const char *kept)
{
    (void)kept;
    if (!gw_req_gone(wr->rq))
        gw_workspace_ask(wr->rq, "ws_get", &wr->object, on_workspace);
}

static void done_put(struct gw_write *wr, const struct dbx_pg_result *res)
{
    (void)res;
    answer_put(wr, NULL);
}

void gw_workspaces_put(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.body = GW_BODY_WORKSPACE_PATCH,
                                              .lock = "ws_lock",
                                              .stmt = "ws_put",
                                              .by_role = true,
                                              .fill = fill_put,
                                              .done = done_put,
                                              .again = answer_put};
    gw_write_begin(rq, &kind);
}

static size_t fill_delete(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    params[4] = DBX_PG_TEXT(wr->object_text);
    return 5;
}

static void done_deleted(struct gw_write *wr, const struct dbx_pg_result *res)
{
    struct dbx_id sandbox;
    if (gw_column_id(res, 0, "sandbox_id", &sandbox))
        gw_upstream_end_sandbox(wr->rq->gw->up, &sandbox, NULL, NULL);
    gw_write_again_empty(wr, NULL);
}

void gw_workspaces_delete(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.no_body = true,
                                              .lock = "ws_lock",
                                              .stmt = "ws_delete",
                                              .by_role = true,
                                              .fill = fill_delete,
                                              .done = done_deleted,
                                              .again = gw_write_again_empty};
    gw_write_begin(rq, &kind);
}

/* --- the list --- */

struct list {
    struct gw_req *rq;
    size_t limit;
};

static void on_list(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct list l = *(struct list *)arg;
    struct gw_req *rq = l.rq;
    free(arg);
    if (!gw_answered(rq, err)) {
        struct dbx_buf buf;
        size_t n = dbx_pg_rows(res);
        dbx_buf_init(&buf, DBX_MAX_BODY);
        struct dbx_jw *w = dbx_jw_new(&buf);
        dbx_jw_object(w);
        dbx_jw_key(w, "items");
        dbx_jw_array(w);
        for (size_t i = 0; i < n && i < l.limit; i++)
            put_workspace(w, res, i);
        dbx_jw_array_end(w);
        if (n > l.limit) {
            char cursor[DBX_ID_TEXT + 24];
            snprintf(cursor, sizeof(cursor), "%" PRId64 ".%s",
                     dbx_pg_i64(res, l.limit - 1, "created_us", 0),
                     dbx_pg_text(res, l.limit - 1, "id", NULL));
            dbx_jw_kstr(w, "next_cursor", cursor);
        } else {
            dbx_jw_kstr(w, "next_cursor", NULL);
        }
        dbx_jw_object_end(w);
        gw_answer_json(rq, 200, &buf, &w);
    }
    gw_req_unref(rq);
}

void gw_workspaces_list(struct gw_req *rq)
{
    char owner[DBX_ID_TEXT], before[DBX_ID_TEXT], us[24], limit[24];
    struct gw_list_range range;
    struct dbx_err err = {0};
    if (gw_list_range(rq, &range, &err) < 0) {
        gw_req_fail(rq, &err, NULL);
        return;
    }
    struct list *l = DBX_NEW(struct list);
    l->rq = rq;
    l->limit = range.limit;
    dbx_id_format(&rq->user.id, owner);
    dbx_id_format(&range.before, before);
    snprintf(us, sizeof(us), "%" PRId64, range.before_us);
    snprintf(limit, sizeof(limit), "%zu", range.limit + 1);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(owner), DBX_PG_TEXT(us), DBX_PG_TEXT(before),
                                          DBX_PG_TEXT(limit)};
    gw_req_ref(rq);
    dbx_pg_query(gw_store_pg(rq->gw->store), "ws_list", params, DBX_ARRAY_LEN(params), on_list, l);
}
