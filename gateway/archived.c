/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/archived.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/str.h"
#include "common/io/loop.h"
#include "common/proto/contents.h"
#include "gateway/gw.h"
#include "gateway/store.h"

#define ARCHIVED_MAGIC 0x48435241u
#define SLICE (256u << 10) /* given in one turn of the loop */

const struct dbx_pg_stmt gw_archived_sql[] = {
    /* $1 sandbox, $2 from, $3 to */
    {"archived_pieces",
     "select o.process_id, o.piece from process_outputs o join processes p on p.id = o.process_id "
     "where p.sandbox_id = $1::uuid and p.archived_at is not null and o.first_at < $3::bigint and "
     "o.last_at >= $2::bigint order by o.first_at limit 50000"},
    {"archived_piece", "select content, size as content_size, digest as content_etag, object from "
                       "process_outputs where process_id = $1::uuid and piece = $2::int"},
};
const size_t gw_archived_sql_len = DBX_ARRAY_LEN(gw_archived_sql);

struct piece {
    struct dbx_id process;
    int64_t number;
};

struct gw_archived {
    uint32_t magic;
    struct gw *gw;
    int64_t from, to;
    const struct gw_archived_handlers *h;
    void *user;
    struct piece *pieces; /* owned */
    size_t n, at;
    struct dbx_contents *contents; /* of the piece that is being read */
    struct dbx_reader left;        /* in it */
    unsigned calls;                /* to the database, and callbacks that run */
    bool held, freed;
};

int gw_archived_put(struct dbx_buf *piece, const struct dbx_olog_entry *e)
{
    int r = dbx_buf_reserve(piece, GW_ARCHIVED_HEAD + e->len);
    if (r < 0)
        return r;
    r = dbx_buf_u64(piece, (uint64_t)e->offset) | dbx_buf_u32(piece, (uint32_t)e->len) |
        dbx_buf_append(piece, e->value, e->len);
    dbx_assert(r == 0);
    return 0;
}

bool gw_archived_next(struct dbx_reader *r, struct dbx_olog_entry *ret)
{
    if (r->left == 0 || r->bad)
        return false;
    uint64_t offset = dbx_rd_u64(r);
    size_t len = dbx_rd_u32(r);
    const uint8_t *value = dbx_rd_bytes(r, len);
    r->bad |= offset > INT64_MAX;
    *ret = (struct dbx_olog_entry){.offset = (int64_t)offset, .value = value, .len = len};
    return !r->bad;
}

static void leave(struct gw_archived *a)
{
    if (--a->calls > 0 || !a->freed)
        return;
    a->magic = 0;
    free(a);
}

static void ask_piece(struct gw_archived *a);
static void on_turn(void *user);

/* --- giving --- */

/* One entry; false: no more now. */
static bool give(struct gw_archived *a, const struct dbx_olog_entry *e)
{
    struct dbx_record r;
    if (e->offset < a->from || e->offset >= a->to || dbx_record_decode(e->value, e->len, &r) < 0)
        return true;
    a->held = !a->h->on_record(&r, e, a->user);
    return !a->freed && !a->held;
}

static void on_turn(void *user)
{
    struct gw_archived *a = DBX_CAST(struct gw_archived, ARCHIVED_MAGIC, user);
    size_t start = a->left.left;
    struct dbx_olog_entry e;
    bool more = true;
    a->calls++;
    while (more && start - a->left.left < SLICE) {
        struct dbx_reader before = a->left;
        if (!gw_archived_next(&a->left, &e)) { /* a damaged rest is a hole */
            a->contents = dbx_contents_free(a->contents);
            a->at++;
            ask_piece(a);
            break;
        }
        more = give(a, &e);
        if (!a->freed && a->held)
            a->left = before;
        else if (more && start - a->left.left >= SLICE)
            dbx_loop_defer(a->gw->loop, on_turn, a);
    }
    leave(a);
}

void gw_archived_resume(struct gw_archived *a)
{
    if (!a->held)
        return;
    a->held = false;
    dbx_loop_defer(a->gw->loop, on_turn, a);
}

/* --- getting --- */

static void on_loaded(struct dbx_contents *cs, const struct dbx_err *err, void *arg)
{
    struct gw_archived *a = DBX_CAST(struct gw_archived, ARCHIVED_MAGIC, arg);
    if (err) {
        a->calls++;
        a->h->on_done(err, a->user);
        leave(a);
        return;
    }
    const struct dbx_content *c = dbx_contents_at(cs, 0);
    a->left = (struct dbx_reader){.p = c->data, .left = c->len};
    dbx_loop_defer(a->gw->loop, on_turn, a);
}

static void on_piece(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_archived *a = DBX_CAST(struct gw_archived, ARCHIVED_MAGIC, arg);
    if (a->freed) {
        leave(a);
        return;
    }
    if (err) {
        a->h->on_done(err, a->user);
    } else if (dbx_pg_rows(res) == 0) { /* its time was over just now */
        a->at++;
        ask_piece(a);
    } else {
        a->contents = dbx_contents_new(a->gw->loop, a->gw->blobs);
        dbx_contents_add(a->contents, res, 0);
        dbx_contents_load(a->contents, on_loaded, a);
    }
    leave(a);
}

static void ask_piece(struct gw_archived *a)
{
    char process[DBX_ID_TEXT], number[24];
    if (a->at == a->n) {
        a->h->on_done(NULL, a->user);
        return;
    }
    const struct piece *p = &a->pieces[a->at];
    dbx_id_format(&p->process, process);
    snprintf(number, sizeof(number), "%" PRId64, p->number);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(process), DBX_PG_TEXT(number)};
    a->calls++;
    dbx_pg_query(gw_store_pg(a->gw->store), "archived_piece", params, DBX_ARRAY_LEN(params),
                 on_piece, a);
}

static void on_pieces(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_archived *a = DBX_CAST(struct gw_archived, ARCHIVED_MAGIC, arg);
    size_t n = err || a->freed ? 0 : dbx_pg_rows(res);
    if (n > 0)
        a->pieces = dbx_calloc(n, sizeof(*a->pieces));
    for (size_t i = 0; i < n; i++) {
        struct piece *p = &a->pieces[a->n];
        const char *process = dbx_pg_text(res, i, "process_id", NULL);
        p->number = dbx_pg_i64(res, i, "piece", 0);
        if (dbx_id_parse(process, &p->process) == 0 && a->h->wants(&p->process, a->user))
            a->n++;
    }
    if (!a->freed && err)
        a->h->on_done(err, a->user);
    else if (!a->freed)
        ask_piece(a);
    leave(a);
}

struct gw_archived *gw_archived_new(struct gw *gw, const struct dbx_id *sandbox, int64_t from,
                                    int64_t to, const struct gw_archived_handlers *h, void *user)
{
    struct gw_archived *a = DBX_NEW(struct gw_archived);
    char id[DBX_ID_TEXT], from_text[24], to_text[24];
    *a = (struct gw_archived){.magic = ARCHIVED_MAGIC,
                              .gw = gw,
                              .from = from,
                              .to = to,
                              .h = h,
                              .user = user,
                              .calls = 1};
    dbx_id_format(sandbox, id);
    snprintf(from_text, sizeof(from_text), "%" PRId64, from);
    snprintf(to_text, sizeof(to_text), "%" PRId64, to);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(id), DBX_PG_TEXT(from_text),
                                          DBX_PG_TEXT(to_text)};
    dbx_pg_query(gw_store_pg(gw->store), "archived_pieces", params, DBX_ARRAY_LEN(params),
                 on_pieces, a);
    return a;
}

struct gw_archived *gw_archived_free(struct gw_archived *a)
{
    if (!a)
        return NULL;
    dbx_loop_undefer(a->gw->loop, on_turn, a);
    a->contents = dbx_contents_free(a->contents);
    free(a->pieces);
    a->pieces = NULL;
    a->freed = true;
    a->calls++;
    leave(a);
    return NULL;
}
