/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/store.h"

#include "common/base/buf.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/ext/pg.h"
#include "common/io/loop.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BATCH 256
#define RETRY_MS 200
#define MAX_ARRAY (64u << 20)
#define MAX_COLUMNS 6

struct batch {
    struct sched_store *st;
    enum sched_batch_kind kind;
    struct dbx_list waiting, flying;
    struct dbx_map *by_id; /* both */
    bool in_flight, scheduled;
    size_t careful; /* so many go one by one: some statement before was refused */
    struct dbx_timer *timer;
};

struct sched_store {
    struct sched *s;
    struct batch batches[3];
    sched_committed *fns[3];
};

/* Outlives the store when the reign ends while it flies. */
struct flight {
    struct sched *s;
    uint64_t reign;
    enum sched_batch_kind kind;
};

static void on_flush(void *user);

struct sched_store *sched_store_new(struct sched *s, sched_committed *const fns[3])
{
    struct sched_store *st = DBX_NEW(struct sched_store);

    st->s = s;
    for (int i = 0; i < 3; i++) {
        struct batch *b = &st->batches[i];
        st->fns[i] = fns[i];
        b->st = st;
        b->kind = (enum sched_batch_kind)i;
        b->by_id = dbx_map_new();
        b->timer = dbx_timer_new(s->loop, on_flush, b);
        dbx_list_init(&b->waiting);
        dbx_list_init(&b->flying);
    }
    return st;
}

static void entry_free(struct sched_entry *e)
{
    free(e->outcome);
    free(e->targets);
    free(e);
}

static void entries_free(struct dbx_list *list)
{
    while (!dbx_list_empty(list)) {
        struct sched_entry *e = dbx_list_first(list, struct sched_entry, _node);
        dbx_list_remove(&e->_node);
        entry_free(e);
    }
}

struct sched_store *sched_store_free(struct sched_store *st)
{
    for (int i = 0; st && i < 3; i++) {
        struct batch *b = &st->batches[i];
        entries_free(&b->waiting);
        entries_free(&b->flying);
        dbx_map_free(b->by_id);
        dbx_timer_free(b->timer);
    }
    free(st);
    return NULL;
}

void sched_entry_target(struct sched_entry *e, const struct sched_target *t)
{
    if (!t || t->rid <= 0)
        return;
    e->targets = dbx_realloc(e->targets, (e->ntargets + 1) * sizeof(*e->targets));
    e->targets[e->ntargets++] = *t;
}

struct sched_entry *sched_store_find(struct sched_store *st, enum sched_batch_kind kind,
                                     const struct dbx_id *id)
{
    return dbx_map_get(st->batches[kind].by_id, id->b, sizeof(id->b));
}

/* A timer of 0 ms: everything of this turn of the loop goes together. */
static void schedule(struct batch *b, uint64_t after_ms)
{
    if (b->in_flight || b->scheduled || dbx_list_empty(&b->waiting))
        return;
    b->scheduled = true;
    dbx_timer_start(b->timer, after_ms, 0);
}

void sched_store_put(struct sched_store *st, enum sched_batch_kind kind, struct sched_entry *e)
{
    struct batch *b = &st->batches[kind];
    void *was = dbx_map_put(b->by_id, e->id.b, sizeof(e->id.b), e);

    dbx_assert(was == NULL);
    dbx_list_push(&b->waiting, &e->_node);
    schedule(b, 0);
}

void sched_store_kick(struct sched_store *st)
{
    for (int i = 0; i < 3; i++)
        schedule(&st->batches[i], 0);
}

/* ---- array literals ---- */

static void put_text(struct dbx_buf *a, const char *s)
{
    (void)dbx_buf_str(a, a->len ? "," : "{");
    if (!s) {
        (void)dbx_buf_str(a, "NULL");
        return;
    }
    (void)dbx_buf_str(a, "\"");
    while (*s) {
        size_t n = strcspn(s, "\"\\");
        (void)dbx_buf_append(a, s, n);
        s += n;
        if (*s) {
            (void)dbx_buf_printf(a, "\\%c", *s);
            s++;
        }
    }
    (void)dbx_buf_str(a, "\"");
}

static void put_i64(struct dbx_buf *a, int64_t v)
{
    (void)dbx_buf_printf(a, "%s%lld", a->len ? "," : "{", (long long)v);
}

static void put_id(struct dbx_buf *a, const struct dbx_id *id)
{
    char text[DBX_ID_TEXT];

    dbx_id_format(id, text);
    (void)dbx_buf_printf(a, "%s%s", a->len ? "," : "{", text);
}

static void put_entry(struct dbx_buf *col, enum sched_batch_kind kind, const struct sched_entry *e)
{
    put_id(&col[0], &e->id);
    switch (kind) {
    case SCHED_B_PLACE:
        put_text(&col[1], e->node);
        put_i64(&col[2], e->attempt);
        break;
    case SCHED_B_STARTED:
        put_i64(&col[1], e->attempt);
        put_i64(&col[2], e->at_us);
        break;
    case SCHED_B_ENDED:
        put_text(&col[1], dbx_verdict_status(e->verdict));
        put_text(&col[2], dbx_verdict_name(e->verdict));
        put_text(&col[3], e->outcome);
        put_text(&col[4], e->ran ? "t" : "f");
        put_i64(&col[5], e->at_us);
        break;
    }
}

/* ---- flights ---- */

static struct sched_entry *next_waiting(struct batch *b)
{
    return dbx_list_first(&b->waiting, struct sched_entry, _node);
}

static void take_back(struct batch *b, uint64_t after_ms)
{
    while (!dbx_list_empty(&b->flying)) {
        struct dbx_list *last = b->flying.prev;
        dbx_list_remove(last);
        dbx_list_push_front(&b->waiting, last);
    }
    schedule(b, after_ms);
}

static void land(struct batch *b)
{
    struct sched_store *st = b->st;
    struct dbx_list landed;
    struct dbx_list *it, *next;

    dbx_list_init(&landed);
    dbx_list_each(it, next, &b->flying)
    {
        struct sched_entry *e = dbx_list_entry(it, struct sched_entry, _node);
        (void)dbx_map_del(b->by_id, e->id.b, sizeof(e->id.b));
        dbx_list_remove(it);
        dbx_list_push(&landed, it);
    }
    dbx_list_each(it, next, &landed)
        st->fns[b->kind](st->s, dbx_list_entry(it, struct sched_entry, _node));
    entries_free(&landed);
    schedule(b, 0);
}

static void on_refused(struct batch *b, const struct dbx_err *err)
{
    struct sched_entry *e = dbx_list_first(&b->flying, struct sched_entry, _node);
    bool again = err->kind == DBX_UNAVAIL || err->kind == DBX_TIMEOUT || err->kind == DBX_LIMIT;
    size_t n = 0;

    for (struct dbx_list *it = b->flying.next; it != &b->flying; it = it->next)
        n++;
    if (!again && n == 1) {
        char id[DBX_ID_TEXT];
        dbx_id_format(&e->id, id);
        dbx_log(DBX_LOG_ERR, NULL,
                "the database refuses what is to be written of process %s, giving up: %s", id,
                err->msg);
        land(b);
        return;
    }
    dbx_log(DBX_LOG_WARN, NULL, "a commit of %zu failed, trying again: %s", n, err->msg);
    if (!again)
        b->careful += n;
    take_back(b, RETRY_MS);
}

static void mark_hits(struct batch *b, const struct dbx_pg_result *res)
{
    for (size_t i = 0; i < dbx_pg_rows(res); i++) {
        struct dbx_id id;
        struct sched_entry *e;
        if (dbx_id_parse(dbx_pg_text(res, i, "id", NULL), &id) < 0)
            continue;
        e = dbx_map_get(b->by_id, id.b, sizeof(id.b));
        if (e)
            e->hit = true;
    }
}

static void on_committed(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct flight *fl = user;
    struct sched *s = fl->s;
    bool ours = s->leading && fl->reign == s->reign;
    struct batch *b = ours ? &s->store->batches[fl->kind] : NULL;

    free(fl);
    if (!ours)
        return;
    b->in_flight = false;
    if (err) {
        on_refused(b, err);
        return;
    }
    if (dbx_pg_i64(res, 0, "lead", 0) == 0) {
        sched_depose(s, "another scheduler has taken the lead");
        return;
    }
    mark_hits(b, res);
    land(b);
}

static void take_off(struct batch *b, size_t limit)
{
    static const char *const names[] = {"place", "started", "ended"};
    static const size_t columns[] = {3, 3, 6};
    struct sched *s = b->st->s;
    struct dbx_buf col[MAX_COLUMNS];
    struct dbx_pg_param params[MAX_COLUMNS + 1];
    char epoch[24];
    size_t n = 0;

    for (size_t i = 0; i < MAX_COLUMNS; i++)
        dbx_buf_init(&col[i], MAX_ARRAY);
    for (struct sched_entry *e; n < limit && (e = next_waiting(b)); n++) {
        dbx_list_remove(&e->_node);
        dbx_list_push(&b->flying, &e->_node);
        put_entry(col, b->kind, e);
    }
    (void)snprintf(epoch, sizeof(epoch), "%lld", (long long)s->epoch);
    params[0] = DBX_PG_TEXT(epoch);
    for (size_t i = 0; i < columns[b->kind]; i++) {
        (void)dbx_buf_str(&col[i], "}");
        params[i + 1] = DBX_PG_TEXT(dbx_buf_cstr(&col[i]));
    }
    struct flight *fl = DBX_NEW(struct flight);
    fl->s = s;
    fl->reign = s->reign;
    fl->kind = b->kind;
    b->in_flight = true;
    dbx_metric_add(s->metrics.commits, 1);
    dbx_metric_add(s->metrics.committed, (double)n);
    dbx_pg_query(s->pg, names[b->kind], params, columns[b->kind] + 1, on_committed, fl);
    for (size_t i = 0; i < MAX_COLUMNS; i++)
        dbx_buf_done(&col[i]);
}

static void on_flush(void *user)
{
    struct batch *b = user;
    size_t limit = b->careful > 0 ? 1 : MAX_BATCH;

    b->scheduled = false;
    if (!b->st->s->leading || b->in_flight || dbx_list_empty(&b->waiting))
        return;
    if (b->careful > 0)
        b->careful--;
    take_off(b, limit);
}
