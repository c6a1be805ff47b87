/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/archiver.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/ext/blob.h"
#include "common/ext/json.h"
#include "common/io/loop.h"
#include "gateway/archived.h"
#include "gateway/contents.h"
#include "gateway/follow.h"
#include "gateway/gw.h"
#include "gateway/process.h"
#include "gateway/progress.h"
#include "gateway/store.h"

#define LOOK_MS 1000
#define AT_A_TIME 8
#define GATHER_MS 50
#define PIECE (2u << 20) /* more than an entry */
#define NUMBER 24

const struct dbx_pg_stmt gw_archiver_sql[] = {
    /* $1 how many, $2 how long ago they ended, $3 for how long; what others left behind goes */
    {"archive_take",
     "with due as (select id from processes where ended_at is not null and archived_at is null and "
     "ended_at < now() - $2::bigint * interval '1 millisecond' and (archive_until is null or "
     "archive_until < now()) order by ended_at limit $1::int for update skip locked), "
     "old as (delete from process_outputs o using due where o.process_id = due.id) "
     "update processes p set archive_until = now() + $3::bigint * interval '1 millisecond', "
     "archive_try = archive_try + 1 from due where p.id = due.id returning p.id, p.sandbox_id, "
     "p.owner, p.status, "
     "p.verdict, p.outcome, p.log_offset, p.archive_try, p.attempt, coalesce((select u.bytes from "
     "output_usage u where u.owner = p.owner), 0) as used"},
    /* $1 process, $2 try, $3 piece, $4 its first and $5 last offset, $6 size, $7 digest, $8 content
       or $9 object, $10 for how long from now; no row: the try is not the one that counts */
    {"archive_piece",
     "with p as (update processes set archive_until = now() + $10::bigint * "
     "interval '1 millisecond' where id = $1::uuid and archive_try = $2::int and archived_at is "
     "null returning id, owner) insert into process_outputs (process_id, piece, owner, first_at, "
     "last_at, size, digest, content, object) select p.id, $3::int, p.owner, $4::bigint, "
     "$5::bigint, $6::bigint, $7::text, $8::bytea, $9::text from p returning 1"},
    /* The last pieces of several processes of one owner (size 0: it has none), and they count: $1
       to $7 as above, $8 where each one's content begins, from 1, in $9, which is all of it. Gives
       those whose try is the one that counts. */
    {"archive_last",
     "with k as (select * from unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[], "
     "$5::bigint[], "
     "$6::bigint[], $7::text[], $8::int[]) as k (id, try, piece, first_at, last_at, size, digest, "
     "start)), due as (select p.id from processes p join k on k.id = p.id where p.archive_try = "
     "k.try and p.archived_at is null order by p.id for update of p), done as (update processes p "
     "set archived_at = now(), archive_until = null from due where p.id = due.id returning p.id, "
     "p.archive_try as try, p.owner), pieces as (insert into process_outputs (process_id, piece, "
     "owner, first_at, "
     "last_at, size, digest, content) select d.id, k.piece, d.owner, k.first_at, k.last_at, "
     "k.size, k.digest, substring($9::bytea from k.start for k.size::int) from done d join k "
     "using (id, try) where k.size > 0) select id from done"},
};
const size_t gw_archiver_sql_len = DBX_ARRAY_LEN(gw_archiver_sql);

/* One process. */
struct keeping {
    struct dbx_list node;   /* in all */
    struct dbx_list last;   /* in gathered, or those of a statement */
    struct gw_archiver *ar; /* NULL: the archiver has gone, and this with its last call */
    struct dbx_id process, owner;
    int64_t try;
    struct gw_end end;
    struct gw_follow *follow;
    struct gw_progress progress;
    struct dbx_buf piece;
    int64_t first_at, last_at;
    size_t n, bytes; /* pieces written, and what they hold */
    char *object;    /* owned; of the piece that is being written */
    unsigned calls;
    bool over; /* all was read */
};

struct gw_archiver {
    struct gw *gw; /* NULL: freed with the answer of the database */
    struct dbx_timer *timer, *gather;
    struct dbx_list all;
    struct dbx_list gathered; /* only their last statement is left to be done */
    size_t n, n_last;         /* of all; those that are gathered, or in a last statement */
    bool asking;
    struct dbx_metric *kept, *failed, *skipped;
};

static void keeping_free(struct keeping *k)
{
    k->follow = gw_follow_free(k->follow);
    dbx_buf_done(&k->piece);
    free(k->object);
    free(k);
}

/* Left to the next try when why is said. */
static void end_keeping(struct keeping *k, const char *why)
{
    struct gw_archiver *ar = k->ar;
    dbx_list_remove(&k->node);
    ar->n--;
    dbx_metric_add(why ? ar->failed : ar->kept, 1);
    if (why)
        dbx_log(DBX_LOG_WARN, &ar->gw->log, "keep the output of a process, trying again: %s", why);
    else if (ar->n <= AT_A_TIME / 2)
        dbx_timer_start(ar->timer, 0, LOOK_MS); /* there are more, it may be */
    keeping_free(k);
}

/* After a call: false when the archiver has gone. */
static bool back(struct keeping *k)
{
    k->calls--;
    if (!k->ar && k->calls == 0)
        keeping_free(k);
    else if (k->ar)
        return true;
    return false;
}

static void digest_of(const struct keeping *k, char ret[static 2 * DBX_SHA256_LEN + 1])
{
    uint8_t hash[DBX_SHA256_LEN];
    dbx_sha256(k->piece.data, k->piece.len, hash);
    dbx_hex_encode(hash, sizeof(hash), ret);
}

/* --- writing --- */

static void gather(struct keeping *k);

/* The piece is where it belongs. */
static void go_on(struct keeping *k)
{
    k->n++;
    k->bytes += k->piece.len;
    dbx_buf_clear(&k->piece);
    if (k->over || k->bytes >= k->ar->gw->cfg->archive_max_bytes)
        gather(k);
    else
        gw_follow_resume(k->follow);
}

static void on_put(struct dbx_buf *data, const struct dbx_err *err, void *user)
{
    struct keeping *k = user;
    (void)data;
    if (!back(k))
        return;
    if (err)
        end_keeping(k, err->msg);
    else
        go_on(k);
}

static void on_row(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct keeping *k = user;
    if (!back(k))
        return;
    if (err) {
        end_keeping(k, err->msg);
    } else if (dbx_pg_rows(res) == 0) {
        end_keeping(k, "it took too long, another gateway has it");
    } else if (k->object) {
        k->calls++;
        dbx_blob_put(k->ar->gw->blobs, k->object, k->piece.data, k->piece.len, on_put, k);
    } else {
        go_on(k);
    }
}

/* The row comes before the object, so that each object has a row that knows it. */
static void write_piece(struct keeping *k)
{
    bool large = gw_content_is_large(k->ar->gw, k->piece.len);
    char id[DBX_ID_TEXT], digest[2 * DBX_SHA256_LEN + 1], numbers[6][NUMBER];
    const int64_t values[6] = {
        k->try,     (int64_t)k->n,         k->first_at,
        k->last_at, (int64_t)k->piece.len, (int64_t)k->ar->gw->cfg->archive_lease_ms};
    if (k->over && !large) {
        gather(k);
        return;
    }
    dbx_id_format(&k->process, id);
    digest_of(k, digest);
    for (size_t i = 0; i < DBX_ARRAY_LEN(values); i++)
        snprintf(numbers[i], sizeof(numbers[i]), "%" PRId64, values[i]);
    free(DBX_TAKE(k->object));
    if (large)
        k->object = dbx_asprintf("outputs/%.2s/%s-%s-%s", digest, id, numbers[1], numbers[0]);
    const struct dbx_pg_param params[] = {
        DBX_PG_TEXT(id),
        DBX_PG_TEXT(numbers[0]),
        DBX_PG_TEXT(numbers[1]),
        DBX_PG_TEXT(numbers[2]),
        DBX_PG_TEXT(numbers[3]),
        DBX_PG_TEXT(numbers[4]),
        DBX_PG_TEXT(digest),
        large ? DBX_PG_BYTES("", 0) : DBX_PG_BYTES(k->piece.data, k->piece.len),
        DBX_PG_TEXT(k->object),
        DBX_PG_TEXT(numbers[5])};
    k->calls++;
    dbx_pg_query(gw_store_pg(k->ar->gw->store), "archive_piece", params, DBX_ARRAY_LEN(params),
                 on_row, k);
}

/* --- the last statement --- */

/* Several processes of one owner: each statement counts its bytes in one row, his, and whoever
 * writes that waits for the commit of who did before. */
struct lasts {
    struct dbx_list keepings;
};

static bool is_in(const struct dbx_pg_result *res, const struct dbx_id *process)
{
    struct dbx_id id;
    for (size_t i = 0; i < dbx_pg_rows(res); i++)
        if (dbx_id_parse(dbx_pg_text(res, i, "id", NULL), &id) == 0 && dbx_id_equal(&id, process))
            return true;
    return false;
}

static void on_last(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct lasts *ls = user;
    while (!dbx_list_empty(&ls->keepings)) {
        struct keeping *k = dbx_list_first(&ls->keepings, struct keeping, last);
        dbx_list_remove(&k->last);
        if (!back(k))
            continue;
        k->ar->n_last--;
        if (err)
            end_keeping(k, err->msg);
        else if (k->piece.len > 0 && !is_in(res, &k->process))
            end_keeping(k, "it took too long, another gateway has it");
        else /* without a piece: who else has it does the same */
            end_keeping(k, NULL);
    }
    free(ls);
}

enum { L_ID, L_TRY, L_PIECE, L_FIRST, L_LAST, L_SIZE, L_DIGEST, L_START, L_ARRAYS };

static void put_last(struct keeping *k, struct dbx_buf arrays[static L_ARRAYS], struct dbx_buf *all)
{
    char id[DBX_ID_TEXT], digest[2 * DBX_SHA256_LEN + 1];
    const int64_t values[L_ARRAYS] = {
        [L_TRY] = k->try,      [L_PIECE] = (int64_t)k->n,        [L_FIRST] = k->first_at,
        [L_LAST] = k->last_at, [L_SIZE] = (int64_t)k->piece.len, [L_START] = (int64_t)all->len + 1};
    dbx_id_format(&k->process, id);
    digest_of(k, digest);
    for (int i = 0; i < L_ARRAYS; i++) {
        char number[NUMBER];
        snprintf(number, sizeof(number), "%" PRId64, values[i]);
        int r = dbx_buf_printf(&arrays[i], "%s%s", arrays[i].len ? "," : "{",
                               i == L_ID ? id : (i == L_DIGEST ? digest : number));
        dbx_assert(r == 0); /* few of them */
    }
    int r = dbx_buf_append(all, k->piece.data, k->piece.len);
    dbx_assert(r == 0); /* each is small */
}

/* Those of the same owner as the first. */
static void send_lasts(struct gw_archiver *ar)
{
    struct dbx_buf arrays[L_ARRAYS] = {0}, all;
    struct dbx_pg_param params[L_ARRAYS + 1];
    struct lasts *ls = DBX_NEW(struct lasts);
    struct dbx_list *it, *tmp;
    const struct dbx_id owner = dbx_list_first(&ar->gathered, struct keeping, last)->owner;
    dbx_list_init(&ls->keepings);
    dbx_buf_init(&all, AT_A_TIME * PIECE);
    for (int i = 0; i < L_ARRAYS; i++)
        dbx_buf_init(&arrays[i], DBX_MAX_HEADER);
    dbx_list_each(it, tmp, &ar->gathered)
    {
        struct keeping *k = dbx_list_entry(it, struct keeping, last);
        if (!dbx_id_equal(&k->owner, &owner))
            continue;
        put_last(k, arrays, &all);
        dbx_list_remove(&k->last);
        dbx_list_push(&ls->keepings, &k->last);
        k->calls++;
    }
    for (int i = 0; i < L_ARRAYS; i++) {
        int r = dbx_buf_str(&arrays[i], "}");
        dbx_assert(r == 0);
        params[i] = DBX_PG_TEXT(dbx_buf_cstr(&arrays[i]));
    }
    params[L_ARRAYS] = DBX_PG_BYTES(all.data ? (const void *)all.data : "", all.len);
    dbx_pg_query(gw_store_pg(ar->gw->store), "archive_last", params, DBX_ARRAY_LEN(params), on_last,
                 ls);
    for (int i = 0; i < L_ARRAYS; i++)
        dbx_buf_done(&arrays[i]);
    dbx_buf_done(&all);
}

static void send_all(void *user)
{
    struct gw_archiver *ar = user;
    dbx_timer_stop(ar->gather);
    while (!dbx_list_empty(&ar->gathered))
        send_lasts(ar);
}

static void go_if_all(struct gw_archiver *ar)
{
    if (ar->n_last == ar->n && !ar->asking && !dbx_list_empty(&ar->gathered))
        dbx_timer_start(ar->gather, 0, 0);
}

/* All of it was read: with what is left of it, if anything, it is to count. It waits for the others
 * a little. */
static void gather(struct keeping *k)
{
    struct gw_archiver *ar = k->ar;
    k->follow = gw_follow_free(k->follow);
    if (dbx_list_empty(&ar->gathered))
        dbx_timer_start(ar->gather, GATHER_MS, 0);
    dbx_list_push(&ar->gathered, &k->last);
    ar->n_last++;
    go_if_all(ar);
}

/* --- reading --- */

static void finish(struct keeping *k)
{
    k->over = true;
    k->follow = gw_follow_free(k->follow);
    if (k->piece.len > 0)
        write_piece(k);
    else
        gather(k);
}

/* An END record with another verdict is that of an attempt that was lost and made again. */
static bool is_its_end(struct keeping *k, const struct dbx_record *r)
{
    struct gw_event ev;
    do {
        gw_progress_next(&k->progress, r, DBX_REC_MAX_DATA, &ev);
    } while (ev.kind != GW_EV_NONE && ev.kind != GW_EV_END);
    return k->progress.end && k->progress.verdict == k->end.verdict;
}

static bool on_record(const struct dbx_record *r, const struct dbx_olog_entry *e, void *user)
{
    struct keeping *k = user;
    if (!dbx_id_equal(&r->process, &k->process))
        return true;
    if (k->piece.len > 0 && k->piece.len + GW_ARCHIVED_HEAD + e->len > PIECE) {
        write_piece(k);
        return false; /* it comes again */
    }
    if (k->piece.len == 0)
        k->first_at = e->offset;
    k->last_at = e->offset;
    int put = gw_archived_put(&k->piece, e);
    dbx_assert(put == 0); /* a record is smaller than a piece */
    if (is_its_end(k, r))
        finish(k);
    return true;
}

static void on_end(void *user)
{
    finish(user);
}

static void on_error(const struct dbx_err *err, void *user)
{
    end_keeping(user, err->msg);
}

static const struct gw_follow_handlers follow_handlers = {
    .on_record = on_record, .on_end = on_end, .on_error = on_error};

/* --- taking --- */

static bool wrote_nothing(const struct gw_end *end, int64_t attempts)
{
    if (attempts == 0) /* no node ever had it */
        return true;
    return end->has_outcome && end->compile.stdout_bytes == 0 && end->compile.stderr_bytes == 0 &&
           end->run.stdout_bytes == 0 && end->run.stderr_bytes == 0;
}

static void begin(struct gw_archiver *ar, const struct dbx_pg_result *res, size_t row)
{
    struct keeping *k = DBX_NEW(struct keeping);
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_id sandbox = {0};
    size_t len;
    const char *outcome = dbx_pg_text(res, row, "outcome", &len);
    bool has = outcome && dbx_json_parse(outcome, len, NULL, &doc, NULL) == 0;
    bool full = (uint64_t)dbx_pg_i64(res, row, "used", 0) >= ar->gw->cfg->archive_user_bytes;
    k->ar = ar;
    dbx_list_init(&k->last);
    k->try = dbx_pg_i64(res, row, "archive_try", 0);
    dbx_buf_init(&k->piece, PIECE);
    dbx_list_push(&ar->all, &k->node);
    ar->n++;
    int r =
        gw_end_read(dbx_pg_text(res, row, "status", NULL), dbx_pg_text(res, row, "verdict", NULL),
                    has ? dbx_json_root(doc) : NULL, &k->end);
    dbx_assert(r == 0); /* the schema allows no other status */
    r = dbx_id_parse(dbx_pg_text(res, row, "id", NULL), &k->process) |
        dbx_id_parse(dbx_pg_text(res, row, "sandbox_id", NULL), &sandbox) |
        dbx_id_parse(dbx_pg_text(res, row, "owner", NULL), &k->owner);
    dbx_assert(r == 0);
    if (full)
        dbx_metric_add(ar->skipped, 1);
    if (full || wrote_nothing(&k->end, dbx_pg_i64(res, row, "attempt", 1))) {
        gather(k);
        return;
    }
    k->follow =
        gw_follow_new(ar->gw, &sandbox, dbx_pg_i64(res, row, "log_offset", 0), &follow_handlers, k);
    gw_follow_to_end(k->follow);
}

static void on_taken(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw_archiver *ar = user;
    if (!ar->gw) { /* it was freed meanwhile */
        free(ar);
        return;
    }
    if (err && !ar->gw->draining)
        dbx_log(DBX_LOG_WARN, &ar->gw->log, "look for outputs to keep: %s", err->msg);
    for (size_t i = 0; !err && i < dbx_pg_rows(res); i++)
        begin(ar, res, i);
    ar->asking = false;
    go_if_all(ar);
}

static void look(void *user)
{
    struct gw_archiver *ar = user;
    struct gw *gw = ar->gw;
    char n[NUMBER], after[NUMBER], lease[NUMBER];
    if (ar->asking || ar->n > AT_A_TIME / 2 || !gw->olog || gw->draining ||
        !gw->cfg->archive_max_bytes || !gw_store_ready(gw->store))
        return;
    ar->asking = true;
    snprintf(n, sizeof(n), "%zu", AT_A_TIME - ar->n);
    snprintf(after, sizeof(after), "%" PRIu64, gw->cfg->archive_after_ms);
    snprintf(lease, sizeof(lease), "%" PRIu64, gw->cfg->archive_lease_ms);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(n), DBX_PG_TEXT(after), DBX_PG_TEXT(lease)};
    dbx_pg_query(gw_store_pg(gw->store), "archive_take", params, DBX_ARRAY_LEN(params), on_taken,
                 ar);
}

struct gw_archiver *gw_archiver_new(struct gw *gw)
{
    static const char name[] = "devbox_gateway_outputs_archived_total";
    static const char help[] = "Ended processes whose output was to be kept.";
    struct gw_archiver *ar = DBX_NEW(struct gw_archiver);
    ar->gw = gw;
    dbx_list_init(&ar->all);
    dbx_list_init(&ar->gathered);
    ar->gather = dbx_timer_new(gw->loop, send_all, ar);
    ar->timer = dbx_timer_new(gw->loop, look, ar);
    dbx_timer_start(ar->timer, LOOK_MS, LOOK_MS);
    ar->kept = dbx_counter(name, "result=\"kept\"", help);
    ar->failed = dbx_counter(name, "result=\"failed\"", help);
    ar->skipped = dbx_counter(name, "result=\"over_quota\"", help);
    return ar;
}

struct gw_archiver *gw_archiver_free(struct gw_archiver *ar)
{
    if (!ar)
        return NULL;
    ar->timer = dbx_timer_free(ar->timer);
    ar->gather = dbx_timer_free(ar->gather);
    while (!dbx_list_empty(&ar->all)) {
        struct keeping *k = dbx_list_first(&ar->all, struct keeping, node);
        dbx_list_remove(&k->node);
        k->ar = NULL;
        k->follow = gw_follow_free(k->follow);
        if (k->calls > 0)
            continue;
        dbx_list_remove(&k->last);
        keeping_free(k);
    }
    ar->gw = NULL;
    if (!ar->asking)
        free(ar);
    return NULL;
}
