/* SPDX-License-Identifier: Apache-2.0 */
/* Processes in a workspace. POST .../run reads the files of record and which sandbox is the current
 * one, takes the log offset of that sandbox's partition, and writes the process only if the sandbox
 * is still the same: else it begins anew. Each process carries all files of record and their
 * revision; the node writes what has changed since it last did. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/proto/files.h"
#include "common/proto/output_log.h"
#include "gateway/access.h"
#include "gateway/contents.h"
#include "gateway/executions.h"
#include "gateway/result.h"
#include "gateway/store.h"
#include "gateway/upstream.h"
#include "gateway/workspaces.h"
#include "gateway/workspaces_int.h"

/* --- run --- */

struct gw_run_files {
    struct dbx_contents *contents;
    struct run_entry {
        char *path; /* owned */
        bool folder;
    } * entries; /* owned; as many as contents */
    size_t n;
};

void gw_run_files_free(struct gw_run_files *rf)
{
    if (!rf)
        return;
    dbx_contents_free(rf->contents);
    for (size_t i = 0; i < rf->n; i++)
        free(rf->entries[i].path);
    free(rf->entries);
    free(rf);
}

static struct gw_run_files *read_files(struct gw *gw, const struct dbx_pg_result *res)
{
    struct gw_run_files *rf = DBX_NEW(struct gw_run_files);
    rf->contents = dbx_contents_new(gw->loop, gw->blobs);
    rf->entries = dbx_calloc(dbx_pg_rows(res), sizeof(*rf->entries));
    for (size_t i = 0; i < dbx_pg_rows(res); i++) {
        const char *path = dbx_pg_text(res, i, "path", NULL);
        if (!path)
            continue; /* the workspace has none */
        rf->entries[rf->n++] = (struct run_entry){
            dbx_strdup(path), dbx_streq(dbx_pg_text(res, i, "type", NULL), "directory")};
        dbx_contents_add(rf->contents, res, i);
    }
    return rf;
}

static int add_file(struct gw_write *wr, size_t i)
{
    const struct run_entry *e = &wr->run_files->entries[i];
    const struct dbx_content *c = dbx_contents_at(wr->run_files->contents, i);
    bool script = c->len > 2 && memcmp(c->data, "#!", 2) == 0;
    const struct dbx_file f = {.folder = e->folder,
                               .mode = e->folder || script ? 0755 : 0644,
                               .path = e->path,
                               .path_len = (uint16_t)strlen(e->path),
                               .data = c->data,
                               .size = c->len};
    return dbx_files_add(&wr->files, &f);
}

static int make_block(struct gw_write *wr, struct dbx_err *err)
{
    dbx_buf_clear(&wr->files);
    int r = dbx_files_begin(&wr->files);
    for (size_t i = 0; r == 0 && i < wr->run_files->n; i++)
        r = add_file(wr, i);
    if (r < 0)
        return dbx_err_set(err, r, DBX_INTERNAL, "the files do not fit into a block");
    return 0;
}

static int make_plan(struct gw_write *wr, const struct dbx_pg_result *res, struct dbx_err *err)
{
    int64_t oldest;
    (void)dbx_strcpy(wr->template, sizeof(wr->template), dbx_pg_text(res, 0, "template", NULL));
    (void)dbx_strcpy(wr->size, sizeof(wr->size), dbx_pg_text(res, 0, "size", NULL));
    wr->revision = dbx_pg_i64(res, 0, "revision", 0);
    if (!gw_column_id(res, 0, "sandbox_id", &wr->sandbox))
        wr->sandbox = dbx_id_new();
    wr->process = dbx_id_new();
    dbx_id_format(&wr->sandbox, wr->sandbox_text);
    dbx_id_format(&wr->process, wr->process_text);
    if (!wr->rq->gw->olog)
        return dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "the output log is not there yet, try again");
    return dbx_olog_bounds(wr->rq->gw->olog, dbx_olog_partition(&wr->sandbox), &oldest,
                           &wr->log_offset, err);
}

static void on_run_loaded(struct dbx_contents *cs, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct dbx_err why = {0};
    (void)cs;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err) {
        gw_req_fail_blobs(rq, err);
    } else if (make_block(rq->op, &why) < 0) {
        gw_req_fail(rq, &why, NULL);
    } else {
        gw_write_now(rq->op);
    }
    gw_req_unref(rq);
}

static void load_files(struct gw_write *wr, const struct dbx_pg_result *res)
{
    gw_run_files_free(wr->run_files);
    wr->run_files = read_files(wr->rq->gw, res);
    gw_req_ref(wr->rq);
    dbx_contents_load(wr->run_files->contents, on_run_loaded, wr->rq);
}

static void on_plan(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct dbx_err why = {0};
    if (gw_answered(rq, err)) {
        /* nothing to do */
    } else if (dbx_pg_rows(res) == 0) {
        gw_req_not_found(rq);
    } else if (!gw_role_at_least(rq, res, DBX_ROLE_EDITOR)) {
        gw_req_forbidden(rq, "viewers may only look");
    } else if (make_plan(rq->op, res, &why) < 0) {
        gw_req_fail(rq, &why, NULL);
    } else {
        load_files(rq->op, res);
    }
    gw_req_unref(rq);
}

static void begin_run(struct gw_write *wr)
{
    if (!gw_req_gone(wr->rq))
        gw_workspace_ask(wr->rq, "run_plan", &wr->object, on_plan);
}

static struct gw_run run_of(const struct gw_write *wr)
{
    const struct gw_config *cfg = wr->rq->gw->cfg;
    return (struct gw_run){.body = &wr->body,
                           .template = wr->template,
                           .size = wr->size,
                           .revision = wr->revision,
                           .idle_ms = cfg->workspace_idle_ms,
                           .max_ms = cfg->workspace_max_ms};
}

static size_t fill_run(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    const struct gw_run run = run_of(wr);
    struct dbx_jw *w = dbx_jw_new(&wr->request);
    gw_run_write_request(w, &run);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0); /* the body was bounded */
    w = dbx_jw_new(&wr->kept);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "process_id", wr->process_text);
    dbx_jw_kstr(w, "sandbox_id", wr->sandbox_text);
    dbx_jw_object_end(w);
    r = dbx_jw_end(&w);
    dbx_assert(r == 0);
    snprintf(wr->offset_text, sizeof(wr->offset_text), "%" PRId64, wr->log_offset);
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = DBX_PG_TEXT(wr->sandbox_text);
    params[6] = DBX_PG_TEXT(wr->process_text);
    params[7] = DBX_PG_TEXT(wr->offset_text);
    params[8] = DBX_PG_TEXT(dbx_buf_cstr(&wr->request));
    params[9] = DBX_PG_TEXT(wr->rq->trace);
    params[10] = DBX_PG_BYTES(wr->files.data, wr->files.len);
    params[11] = DBX_PG_TEXT(wr->template);
    params[12] = DBX_PG_TEXT(wr->size);
    return 13;
}

static void answer_run(struct gw_write *wr)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    gw_put_id(w, "process_id", &wr->process);
    gw_put_id(w, "sandbox_id", &wr->sandbox);
    gw_put_token(w, wr->rq, &wr->sandbox, dbx_wall_us() / 1000000);
    dbx_jw_object_end(w);
    gw_answer_json(wr->rq, 202, &buf, &w);
}

static void done_run(struct gw_write *wr, const struct dbx_pg_result *res)
{
    struct gw_req *rq = wr->rq;
    const struct gw_run run = run_of(wr);
    (void)res;
    const struct gw_place place = {.process = &wr->process,
                                   .sandbox = &wr->sandbox,
                                   .owner = &rq->user.id,
                                   .trace = rq->trace,
                                   .run = &run,
                                   .files = &wr->files,
                                   .stdin_data = ""};
    dbx_log(DBX_LOG_INFO, &rq->log, "accepted process=%s workspace=%s sandbox=%s trace=%s",
            wr->process_text, wr->object_text, wr->sandbox_text, rq->trace);
    gw_upstream_place(rq->gw->up, &place);
    if (!gw_req_gone(rq))
        answer_run(wr);
}

static void on_role_again(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_found(rq, res, err)) {
        (void)gw_role_at_least(rq, res, DBX_ROLE_VIEWER);
        answer_run(rq->op);
    }
    gw_req_unref(rq);
}

/* The same ids; the token is a fresh one, of what he is now. */
static void again_run(struct gw_write *wr, const char *kept)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    const struct dbx_json *root =
        dbx_json_parse(kept, strlen(kept), NULL, &doc, NULL) == 0 ? dbx_json_root(doc) : NULL;
    const char *process = dbx_json_get_str(root, "process_id");
    const char *sandbox = dbx_json_get_str(root, "sandbox_id");
    if (!process || !sandbox || dbx_id_parse(process, &wr->process) < 0 ||
        dbx_id_parse(sandbox, &wr->sandbox) < 0)
        gw_req_fail_status(wr->rq, 500, DBX_INTERNAL, NULL, "internal error", NULL);
    else
        gw_workspace_ask(wr->rq, "ws_get", &wr->object, on_role_again);
}

void gw_workspaces_run(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.body = GW_BODY_RUN,
                                              .lock = "ws_lock",
                                              .stmt = "run_accept",
                                              .by_role = true,
                                              .begin = begin_run,
                                              .fill = fill_run,
                                              .done = done_run,
                                              .again = again_run};
    gw_write_begin(rq, &kind);
}

/* --- the sandbox --- */

static size_t fill_sandbox(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    const struct gw_config *cfg = wr->rq->gw->cfg;
    snprintf(wr->idle_text, sizeof(wr->idle_text), "%" PRIu64, cfg->workspace_idle_ms);
    snprintf(wr->max_text, sizeof(wr->max_text), "%" PRIu64, cfg->workspace_max_ms);
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = DBX_PG_TEXT(wr->made_text);
    params[6] = DBX_PG_TEXT(wr->body.size);
    params[7] = DBX_PG_TEXT(wr->idle_text);
    params[8] = DBX_PG_TEXT(wr->max_text);
    return 9;
}

static void done_sandbox(struct gw_write *wr, const struct dbx_pg_result *res)
{
    struct gw_upstream *up = wr->rq->gw->up;
    struct dbx_id old;
    struct dbx_buf buf;
    if (gw_column_id(res, 0, "old", &old))
        gw_upstream_end_sandbox(up, &old, NULL, NULL);
    if (dbx_streq(dbx_pg_text(res, 0, "ordered", NULL), "t"))
        gw_upstream_standby(up);
    if (gw_req_gone(wr->rq) || !gw_column_id(res, 0, "sandbox_id", &wr->sandbox))
        return;
    (void)gw_role_at_least(wr->rq, res, DBX_ROLE_VIEWER);
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    gw_put_id(w, "sandbox_id", &wr->sandbox);
    dbx_jw_kstr(w, "status", dbx_pg_text(res, 0, "status", NULL));
    dbx_jw_kstr(w, "size", dbx_pg_text(res, 0, "size", NULL));
    gw_put_token(w, wr->rq, &wr->sandbox, dbx_wall_us() / 1000000);
    dbx_jw_object_end(w);
    gw_answer_json(wr->rq, 200, &buf, &w);
}

/* It finds a sandbox or orders one: doing it again is the same. */
void gw_workspaces_sandbox(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.body = GW_BODY_SANDBOX,
                                              .lock = "ws_lock",
                                              .stmt = "sandbox_bind",
                                              .by_role = true,
                                              .fill = fill_sandbox,
                                              .done = done_sandbox,
                                              .again = gw_write_again_anew};
    gw_write_begin(rq, &kind);
}
