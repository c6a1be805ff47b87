/* SPDX-License-Identifier: Apache-2.0 */
/* What the handlers of people share: the beginning of a session, and small queries. */
#pragma once

#include "common/ext/pg.h"
#include "gateway/gw.h"
#include "gateway/people_decode.h"
#include "gateway/request.h"

extern const struct dbx_pg_stmt gw_people_sql[];
extern const size_t gw_people_sql_len;

/* A session on its way into the database: its secret goes to the browser, the hash into a row. */
struct gw_new_session {
    char secret[GW_SECRET_TEXT], id[DBX_ID_TEXT], ttl[24];
    uint8_t hash[DBX_SHA256_LEN];
};
void gw_session_make(struct gw_req *rq, struct gw_new_session *ret);
/* Adds the cookies. */
void gw_session_give(struct gw_req *rq, const struct gw_new_session *s);
void gw_session_take_away(struct gw_req *rq);
/* "https://HOST", as the caller reaches us; "" when the Host header is none. */
void gw_base_url(struct gw_req *rq, char out[static 300]);

/* fn gets rq with a reference that it drops (gw_answered, then gw_req_unref). */
void gw_people_ask(struct gw_req *rq, const char *stmt, const struct dbx_pg_param *params, size_t n,
                   dbx_pg_fn *fn);
/* Decodes the body of the request; answers and returns false when it is not in order. */
bool gw_people_read(struct gw_req *rq, enum gw_people_kind kind, struct gw_people_body *ret);
/* A dbx_pg_fn: 204, or 404 when the column `taken` is 0. */
void gw_people_done(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg);

/* Answers with {"items":[...],"next_cursor"}: row by row by `put`. With limit 0 all of them; else
 * the cursor is the column `cursor` of the last row given, when there are more than limit. */
typedef void gw_put_row_fn(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row);
void gw_people_items(struct gw_req *rq, const struct dbx_pg_result *res, size_t limit,
                     gw_put_row_fn *put);
/* The object of a user, from the columns of `me`, in the object that is open. */
void gw_put_user(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row);
/* "scopes": [...], from their text. */
void gw_put_scopes(struct dbx_jw *w, const char *scopes);
