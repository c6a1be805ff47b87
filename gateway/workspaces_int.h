/* SPDX-License-Identifier: Apache-2.0 */
/* What the handlers of workspaces share: a write from its body to its answer (workspace_write.c).
 *
 *   decode -> [was the key used? then the same answer] -> lock and one statement -> answer
 */
#pragma once

#include "common/ext/crypto.h"
#include "common/ext/pg.h"
#include "gateway/gw.h"
#include "gateway/people_decode.h"
#include "gateway/request.h"
#include "gateway/workspace_decode.h"

extern const struct dbx_pg_stmt gw_workspace_sql[];
extern const size_t gw_workspace_sql_len;

extern const struct dbx_pg_stmt gw_sandbox_sql[]; /* sandboxes.c */
extern const size_t gw_sandbox_sql_len;

extern const struct dbx_pg_stmt gw_bulk_sql[];
extern const size_t gw_bulk_sql_len;

struct gw_write;
struct gw_import;
void gw_import_free(struct gw_import *im);
struct gw_store_item;
struct gw_run_files;
void gw_run_files_free(struct gw_run_files *rf);
/* All files of it; the etags live as long as the import. The caller frees. */
struct gw_store_item *gw_import_items(struct gw_import *im, size_t *ret_n);

struct gw_write_kind {
    enum gw_body_kind body;
    /* Or NULL: instead of `body`; a body of people, into wr->people. */
    int (*decode)(struct gw_write *wr, const void *body, size_t len, struct dbx_err *err);
    bool no_body;            /* nothing is decoded */
    const char *lock, *stmt; /* lock NULL: the statement alone */
    /* The statement's last parameters: whether the caller acts as an administrator (where his role
     * counts), and where the request came from (where it is audited). */
    bool by_role, audited;
    bool lock_caller; /* what `lock` locks is the caller, not the object */
    bool stores;      /* its large contents go to the blob store first (gw_write_store) */
    /* Fills params[4..] and returns their number with the first four; strings live as long as the
     * write. */
    size_t (*fill)(struct gw_write *wr, struct dbx_pg_param params[static 16]);
    void (*done)(struct gw_write *wr, const struct dbx_pg_result *res); /* it is written: answers */
    void (*again)(struct gw_write *wr, const char *kept); /* the key was used for it: answers */
    int kept_status; /* of gw_write_again_kept and gw_write_done_kept */
    int (*check)(struct gw_write *wr, struct dbx_err *err); /* or NULL: after decoding */
    void (*begin)(
        struct gw_write *wr); /* or NULL: instead of writing at once; calls gw_write_now */
};

struct gw_write {
    const struct gw_write_kind *kind;
    struct gw_req *rq; /* borrowed: the request owns this */
    struct gw_body body;
    char *key; /* owned, or NULL */
    uint8_t hash[DBX_SHA256_LEN];
    struct dbx_id object, made; /* of the route; of what is made */
    char owner_text[DBX_ID_TEXT], object_text[DBX_ID_TEXT], made_text[DBX_ID_TEXT];
    char if_match[65], etag[2 * DBX_SHA256_LEN + 1];
    char at_text[24], origin[128], size_text[24], idle_text[24], max_text[24];
    int64_t at_us;
    char *parents, *parent_ids;     /* owned: array literals */
    struct gw_import *import;       /* owned, or NULL (workspace_import.c) */
    struct gw_run_files *run_files; /* owned, or NULL (workspace_run.c) */
    struct dbx_buf kept, request;   /* what is kept under the key; the request of a process */
    /* run */
    struct dbx_buf files;
    struct dbx_id sandbox, process;
    char sandbox_text[DBX_ID_TEXT], process_text[DBX_ID_TEXT], offset_text[24], template[65],
        size[16];
    int64_t revision, log_offset;
    unsigned tries;
    /* people */
    struct gw_people_body people;
    char email[GW_EMAIL_TEXT], secret[64], hint[16], scopes[GW_SCOPES_TEXT], expires_text[24];
    uint8_t secret_hash[DBX_SHA256_LEN];
    bool busy; /* a question of `begin` is on its way */
};

void gw_write_begin(struct gw_req *rq, const struct gw_write_kind *kind);
/* 204, for a kind that has nothing to say. */
void gw_write_done_empty(struct gw_write *wr, const struct dbx_pg_result *res);
void gw_write_again_empty(struct gw_write *wr, const char *kept);
/* What is kept under the key, as it stands. */
void gw_write_done_kept(struct gw_write *wr, const struct dbx_pg_result *res);
void gw_write_again_kept(struct gw_write *wr, const char *kept);
/* Written again without its key: for what may be done twice. */
void gw_write_again_anew(struct gw_write *wr, const char *kept);
void gw_write_now(struct gw_write *wr);
/* Stores what is large in the body or the import, then gw_write_now. */
void gw_write_store(struct gw_write *wr);
/* The digest of the body's content; what of it stands in the row. */
void gw_write_hash(struct gw_write *wr);

/* The id in the route, or answers 404. */
bool gw_route_id(struct gw_req *rq, struct dbx_id *ret);
/* `limit` and `cursor` of a list. */
bool gw_column_id(const struct dbx_pg_result *res, size_t row, const char *column,
                  struct dbx_id *ret);
/* Answers with a workspace that the caller may see. */
void gw_workspace_answer(struct gw_req *rq, const struct dbx_id *id, int status);
void gw_put_entry(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row);
/* Query with the caller as further parameters: $1 the route's id, $2 his, $3 whether he acts as an
 * administrator. fn has a reference to rq,
 * and drops it. */
void gw_workspace_ask(struct gw_req *rq, const char *stmt, const struct dbx_id *id, dbx_pg_fn *fn);
/* The common ends: true when there is nothing to answer with (it was answered then). Drops the
 * reference. */
bool gw_answered(struct gw_req *rq, const struct dbx_err *err);
/* There is a row; else it was answered, with 404 where there is none. */
bool gw_found(struct gw_req *rq, const struct dbx_pg_result *res, const struct dbx_err *err);
