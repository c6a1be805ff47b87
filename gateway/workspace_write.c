/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "gateway/contents.h"
#include "gateway/execution_decode.h"
#include "gateway/executions.h"
#include "gateway/once.h"
#include "gateway/store.h"
#include "gateway/templates.h"
#include "gateway/workspaces_int.h"

static void free_write(void *op)
{
    struct gw_write *wr = op;
    gw_body_done(&wr->body);
    gw_import_free(wr->import);
    gw_run_files_free(wr->run_files);
    gw_people_body_done(&wr->people);
    explicit_bzero(wr->secret, sizeof(wr->secret));
    free(wr->key);
    free(wr->parents);
    free(wr->parent_ids);
    dbx_buf_done(&wr->kept);
    dbx_buf_done(&wr->request);
    dbx_buf_done(&wr->files);
    free(wr);
}

bool gw_answered(struct gw_req *rq, const struct dbx_err *err)
{
    if (gw_req_gone(rq))
        return true;
    if (err)
        gw_req_fail_db(rq, err);
    return err != NULL;
}

bool gw_found(struct gw_req *rq, const struct dbx_pg_result *res, const struct dbx_err *err)
{
    if (gw_answered(rq, err))
        return false;
    if (dbx_pg_rows(res) > 0)
        return true;
    gw_req_not_found(rq);
    return false;
}

static const struct {
    const char *word, *field, *message;
    int status;
} problems[] = {
    {"exists", "path", "there is something with this path already", 409},
    {"parent", "path", "a part of this path is a file", 409},
    {"inside", "path", "a directory cannot be moved into itself", 409},
    {"directory", "", "this is a directory", 409},
    {"stale", "If-Match", "it has changed since", 412},
    {"count", "", "a workspace has at most 1000 files and directories", 409},
    {"bytes", "content", "the files of a workspace have at most 32 MiB", 409},
    {"quota", "content",
     "the files of all workspaces of their owner have as many bytes as they may", 409},
    {"workspaces", "", "no more workspaces: your quota is used up", 409},
    {"running", "", "too many of your processes run or wait", 429},
    {"keys", "", "no more keys: revoke one", 409},
    {"links", "", "no more links and members for this workspace", 409},
    {"size", "size", "the sandbox has another size and is in use: end it first", 409},
    {"no_node", "size", "no node has this size", 409},
    {"long", "path", "the path of something in it would be too long", 409},
};

static void answer_problem(struct gw_req *rq, const char *word)
{
    if (dbx_streq(word, "forbidden")) {
        gw_req_forbidden(rq, "your role in this workspace does not allow it");
        return;
    }
    if (dbx_streq(word, "absent")) {
        gw_req_not_found(rq);
        return;
    }
    for (size_t i = 0; i < DBX_ARRAY_LEN(problems); i++)
        if (dbx_streq(word, problems[i].word)) {
            gw_req_fail_field(rq, problems[i].status,
                              problems[i].status == 429 ? DBX_LIMIT : DBX_CONFLICT,
                              problems[i].word, problems[i].message, problems[i].field);
            return;
        }
    gw_req_fail_status(rq, 409, DBX_CONFLICT, NULL, "it has changed meanwhile, try again", NULL);
}

/* --- the key --- */

static void look_up_key(struct gw_write *wr, gw_idempotent_fn *fn)
{
    gw_req_ref(wr->rq);
    gw_store_idempotent(wr->rq->gw->store, &wr->rq->user.id, wr->key, wr->hash, fn, wr->rq);
}

/* It was used: by the same request, or not. */
static void answer_known(struct gw_write *wr, const char *kept, bool same)
{
    if (same)
        wr->kind->again(wr, kept);
    else
        gw_req_key_reused(wr->rq);
}

static void on_taken_key(const char *kept, bool same, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (!gw_answered(rq, err)) {
        if (kept)
            answer_known(rq->op, kept, same);
        else
            gw_req_fail_status(rq, 503, DBX_UNAVAIL, "idempotency_unknown",
                               "what was answered under this key is not known, try again", NULL);
    }
    gw_req_unref(rq);
}

static void start_write(struct gw_write *wr)
{
    if (wr->kind->begin)
        wr->kind->begin(wr);
    else if (wr->kind->stores)
        gw_write_store(wr);
    else
        gw_write_now(wr);
}

static void on_first_look(const char *kept, bool same, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (!gw_answered(rq, err)) {
        if (kept)
            answer_known(rq->op, kept, same);
        else
            start_write(rq->op);
    }
    gw_req_unref(rq);
}

/* --- the write --- */

static void on_written(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct gw_write *wr = rq->op;
    const char *problem = err ? NULL : dbx_pg_text(res, 0, "problem", NULL);
    bool taken = !err && dbx_pg_i64(res, 0, "taken", 0) > 0;
    if (taken) { /* also when nobody waits: what follows from it has to be done */
        wr->kind->done(wr, res);
    } else if (err && err->kind == DBX_CONFLICT && !gw_req_gone(rq)) {
        answer_problem(rq, NULL);
    } else if (err && err->kind == DBX_NOT_FOUND && wr->kind->stores && !gw_req_gone(rq)) {
        gw_req_fail_blobs(rq, err); /* what was stored went away before it was referred to */
    } else if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (dbx_pg_i64(res, 0, "found", 0) == 0) {
        gw_req_not_found(rq);
    } else if (problem && dbx_streq(problem, "moved") && wr->kind->begin && wr->tries++ < 5) {
        wr->kind->begin(wr);
    } else if (problem) {
        answer_problem(rq, problem);
    } else if (wr->key) {
        look_up_key(wr, on_taken_key);
    } else {
        answer_problem(rq, NULL);
    }
    gw_req_unref(rq);
}

void gw_write_now(struct gw_write *wr)
{
    dbx_buf_clear(&wr->kept);
    dbx_buf_clear(&wr->request);
    struct dbx_pg_call calls[2] = {
        {.stmt = wr->kind->lock,
         .params = {DBX_PG_TEXT(wr->kind->lock_caller ? wr->owner_text : wr->object_text)},
         .n = 1},
        {.stmt = wr->kind->stmt}};
    struct dbx_pg_call *call = &calls[1];
    struct dbx_pg *pg = gw_store_pg(wr->rq->gw->store);
    call->params[0] = DBX_PG_TEXT(wr->owner_text);
    call->params[1] = DBX_PG_TEXT(wr->key);
    call->params[2] = wr->key ? DBX_PG_BYTES(wr->hash, DBX_SHA256_LEN) : DBX_PG_TEXT(NULL);
    call->params[3] = DBX_PG_TEXT(wr->key ? dbx_buf_cstr(&wr->kept) : NULL);
    call->n = wr->kind->fill(wr, call->params);
    call->params[3] = DBX_PG_TEXT(wr->key ? dbx_buf_cstr(&wr->kept) : NULL); /* fill may write it */
    if (wr->kind->by_role)
        call->params[call->n++] = DBX_PG_TEXT(wr->rq->user.admin ? "t" : "f");
    if (wr->kind->audited)
        call->params[call->n++] = DBX_PG_TEXT(wr->origin);
    gw_req_ref(wr->rq);
    dbx_pg_batch(pg, wr->kind->lock ? calls : call, wr->kind->lock ? 2 : 1, on_written, wr->rq);
}

/* --- what is large goes first --- */

static void on_stored(const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_req_gone(rq))
        return;
    if (err && err->kind == DBX_UNAVAIL && err->code == -ECANCELED)
        gw_req_fail_status(rq, 503, DBX_UNAVAIL, NULL, "this gateway ends, try again", NULL);
    else if (err)
        gw_req_fail_blobs(rq, err);
    else
        gw_write_now(rq->op);
}

void gw_write_store(struct gw_write *wr)
{
    struct gw_store_item one = {wr->etag, wr->body.content, wr->body.content_len};
    struct gw_store_item *all = &one;
    size_t n = 1, large = 0;
    if (wr->import)
        all = gw_import_items(wr->import, &n);
    else
        gw_write_hash(wr);
    for (size_t i = 0; i < n; i++)
        large += gw_content_is_large(wr->rq->gw, all[i].len);
    if (large)
        gw_contents_store(wr->rq, wr->object_text, wr->import != NULL, all, n, on_stored, wr->rq);
    if (wr->import)
        free(all);
    if (!large)
        gw_write_now(wr);
}

/* --- from the request --- */

static bool has_template(const char *name, void *user)
{
    return gw_templates_has(user, name);
}

static int read_request(struct gw_write *wr, struct dbx_err *err)
{
    struct gw_req *rq = wr->rq;
    const struct gw_body_rules rules = {.has_template = has_template, .user = rq->gw->templates};
    size_t len;
    const uint8_t *body = dbx_http_body(rq->http, &len);
    int r = gw_idempotency_key(dbx_http_header(rq->http, "idempotency-key"), &wr->key, err);
    if (r == 0)
        r = gw_if_match(dbx_http_header(rq->http, "if-match"), wr->if_match, err);
    if (r == 0 && wr->kind->decode)
        r = wr->kind->decode(wr, body, len, err);
    else if (r == 0 && !wr->kind->no_body)
        r = gw_body_decode(wr->kind->body, body, len, &rules, &wr->body, err);
    if (r == 0 && wr->kind->check)
        r = wr->kind->check(wr, err);
    if (r == 0 && wr->key)
        gw_request_hash(rq, body, len, wr->hash);
    return r;
}

void gw_write_again_empty(struct gw_write *wr, const char *kept)
{
    (void)kept;
    gw_req_reply(wr->rq, 204, NULL, NULL, NULL, 0);
}

void gw_write_done_empty(struct gw_write *wr, const struct dbx_pg_result *res)
{
    (void)res;
    gw_write_again_empty(wr, NULL);
}

void gw_write_again_kept(struct gw_write *wr, const char *kept)
{
    gw_req_reply(wr->rq, wr->kind->kept_status, "application/json", NULL, kept, strlen(kept));
}

void gw_write_done_kept(struct gw_write *wr, const struct dbx_pg_result *res)
{
    (void)res;
    gw_write_again_kept(wr, dbx_buf_cstr(&wr->kept));
}

void gw_write_again_anew(struct gw_write *wr, const char *kept)
{
    (void)kept;
    free(wr->key);
    wr->key = NULL;
    gw_write_now(wr);
}

void gw_write_begin(struct gw_req *rq, const struct gw_write_kind *kind)
{
    struct dbx_err err = {0};
    struct dbx_id object = {0};
    if (*rq->params.first && !gw_route_id(rq, &object))
        return;
    struct gw_write *wr = DBX_NEW(struct gw_write);
    wr->kind = kind;
    wr->rq = rq;
    wr->object = object;
    wr->made = dbx_id_new();
    wr->at_us = dbx_wall_us();
    dbx_id_format(&rq->user.id, wr->owner_text);
    dbx_id_format(&object, wr->object_text);
    dbx_id_format(&wr->made, wr->made_text);
    gw_req_origin(rq, wr->origin);
    dbx_buf_init(&wr->kept, DBX_MAX_HEADER);
    dbx_buf_init(&wr->request, DBX_MAX_LINK_MSG);
    dbx_buf_init(&wr->files, GW_MAX_WORKSPACE_BYTES + (4u << 20));
    rq->op = wr;
    rq->op_free = free_write;
    if (read_request(wr, &err) < 0)
        gw_req_fail(rq, &err, NULL);
    else if (wr->key)
        look_up_key(wr, on_first_look);
    else
        start_write(wr);
}

/* --- reading --- */

bool gw_route_id(struct gw_req *rq, struct dbx_id *ret)
{
    if (dbx_id_parse(rq->params.first, ret) == 0)
        return true;
    gw_req_not_found(rq);
    return false;
}

bool gw_column_id(const struct dbx_pg_result *res, size_t row, const char *column,
                  struct dbx_id *ret)
{
    const char *text = dbx_pg_text(res, row, column, NULL);
    *ret = (struct dbx_id){0};
    return text && dbx_id_parse(text, ret) == 0;
}

void gw_workspace_ask(struct gw_req *rq, const char *stmt, const struct dbx_id *id, dbx_pg_fn *fn)
{
    char text[DBX_ID_TEXT], user[DBX_ID_TEXT];
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(text), DBX_PG_TEXT(user),
                                          DBX_PG_TEXT(rq->user.admin ? "t" : "f")};
    dbx_id_format(id, text);
    dbx_id_format(&rq->user.id, user);
    gw_req_ref(rq);
    dbx_pg_query(gw_store_pg(rq->gw->store), stmt, params, DBX_ARRAY_LEN(params), fn, rq);
}
