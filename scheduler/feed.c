/* SPDX-License-Identifier: Apache-2.0 */
/* Batches, from the database to the queue: which ones run, and the next few processes of each. So
 * what stands in memory does not depend on how large they are, and a new leader finds them again.
 */
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/io/loop.h"
#include "scheduler/flow.h"
#include "scheduler/leader.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PAGE 256 /* processes in one answer */
#define MAX_LITERAL (1u << 20)

/* A query that may outlive its reign. */
struct query {
    struct sched *s;
    uint64_t reign;
    struct dbx_id batch;
};

static struct query *query_new(struct sched *s)
{
    struct query *q = DBX_NEW(struct query);

    q->s = s;
    q->reign = s->reign;
    return q;
}

/* Frees q; NULL when its reign is over. */
static struct sched *query_take(struct query *q, struct dbx_id *ret_batch)
{
    struct sched *s = q->s->leading && q->s->reign == q->reign ? q->s : NULL;

    if (ret_batch)
        *ret_batch = q->batch;
    free(q);
    return s;
}

static void format_epoch(const struct sched *s, char out[static 24])
{
    snprintf(out, 24, "%lld", (long long)s->epoch);
}

/* ---- what is to end ---- */

static void cancel_one(struct sched_proc *sp, void *arg)
{
    if (sp->state != SCHED_ENDING)
        sched_cancel(arg, sp);
}

static void stop_more(struct sched *s, struct sched_batch *b);

static void fill_batch(struct dbx_jw *w, void *arg)
{
    const struct sched_batch *b = arg;
    char id[DBX_ID_TEXT];

    dbx_id_format(&b->id, id);
    dbx_jw_kstr(w, "batch_id", id);
}

static void on_stopped(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct dbx_id id;
    struct sched *s = query_take(user, &id);
    struct sched_batch *b = s ? sched_core_batch(s->core, &id, /* create= */ false) : NULL;

    if (!b)
        return;
    b->stopping = false;
    if (err) {
        dbx_log(DBX_LOG_WARN, NULL, "cancelling a batch, will be tried again: %s", err->msg);
        return; /* at the next look */
    }
    if (dbx_pg_i64(res, 0, "lead", 0) == 0) {
        sched_depose(s, "another scheduler has taken the lead");
        return;
    }
    if (dbx_pg_i64(res, 0, "n", 0) > 0) {
        sched_tell_gateways(s, "batch", fill_batch, b);
        stop_more(s, b);
    }
}

static void stop_more(struct sched *s, struct sched_batch *b)
{
    struct query *q = query_new(s);
    char epoch[24], id[DBX_ID_TEXT];
    struct dbx_pg_param params[] = {DBX_PG_TEXT(epoch), DBX_PG_TEXT(id)};

    b->stopping = true;
    q->batch = b->id;
    format_epoch(s, epoch);
    dbx_id_format(&b->id, id);
    dbx_pg_query(s->pg, "batch_stop", params, 2, on_stopped, q);
}

static void stop(struct sched *s, struct sched_batch *b)
{
    b->stop = true;
    sched_core_each_of_batch(s->core, b, cancel_one, s);
    if (!b->stopping)
        stop_more(s, b);
}

/* ---- which ones run ---- */

static void use_batch(struct sched *s, const struct dbx_pg_result *res, size_t i)
{
    struct dbx_id id;
    const char *stop_it = dbx_pg_text(res, i, "stop", NULL);

    if (dbx_id_parse(dbx_pg_text(res, i, "id", NULL), &id) < 0)
        return;
    struct sched_batch *b = sched_core_batch(s->core, &id, /* create= */ true);
    int64_t most = dbx_pg_i64(res, i, "max_parallel", 0);
    b->listed = true;
    b->priority = dbx_pg_i64(res, i, "priority", 0);
    b->shares = dbx_streq(dbx_pg_text(res, i, "isolation", NULL), "batch");
    b->max_parallel = most > 0 && most <= UINT32_MAX ? (uint32_t)most : 0;
    if (b->exhausted && b->in_core == 0) { /* it still runs: nothing was left, as it seemed */
        b->exhausted = false;
        b->after = -1;
    }
    if (stop_it && stop_it[0] == 't')
        stop(s, b);
}

static void on_batches(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct sched *s = query_take(user, NULL);
    struct dbx_list *it, *next;

    if (!s)
        return;
    s->listing = false;
    if (err) {
        dbx_log(DBX_LOG_WARN, NULL, "reading the batches, will be tried again: %s", err->msg);
        return;
    }
    dbx_list_each(it, next, sched_core_batches(s->core))
        dbx_list_entry(it, struct sched_batch, _node)
            ->listed = false;
    for (size_t i = 0; i < dbx_pg_rows(res); i++)
        use_batch(s, res, i);
    sched_core_batches_sweep(s->core);
    sched_batches_feed(s);
    if (s->list_again)
        sched_batches_look(s);
}

void sched_batches_look(struct sched *s)
{
    char epoch[24];
    struct dbx_pg_param param = DBX_PG_TEXT(epoch);

    if (!s->leading)
        return;
    s->list_again = s->listing;
    if (s->listing)
        return;
    s->listing = true;
    format_epoch(s, epoch);
    dbx_pg_query(s->pg, "batches", &param, 1, on_batches, query_new(s));
}

/* ---- the next of each ---- */

static void on_fed(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct sched *s = query_take(user, NULL);
    struct dbx_list *it, *next;

    if (!s)
        return;
    s->feeding = false;
    if (err) {
        dbx_log(DBX_LOG_WARN, NULL, "reading on in the batches, will be tried again: %s", err->msg);
        dbx_list_each(it, next, sched_core_batches(s->core))
            dbx_list_entry(it, struct sched_batch, _node)
                ->wanted = 0;
        return; /* at the next look */
    }
    for (size_t i = 0; i < dbx_pg_rows(res); i++) {
        struct dbx_id id;
        struct sched_batch *b = NULL;
        if (dbx_id_parse(dbx_pg_text(res, i, "batch_id", NULL), &id) == 0)
            b = sched_core_batch(s->core, &id, /* create= */ false);
        if (!b)
            continue;
        b->after = (int32_t)dbx_pg_i64(res, i, "batch_index", b->after);
        b->wanted--;
        if (!b->stop)
            sched_use_row(s, res, i, /* placed= */ false);
    }
    dbx_list_each(it, next, sched_core_batches(s->core))
    {
        struct sched_batch *b = dbx_list_entry(it, struct sched_batch, _node);
        b->exhausted |= b->wanted > 0;
        b->wanted = 0;
    }
    sched_pump_soon(s);
    sched_batches_feed(s); /* those for whom this page had no place */
}

/* How many to read for it now: rather some together than each alone. */
static uint32_t wants(const struct sched *s, const struct sched_batch *b)
{
    if (!b->listed || b->exhausted || b->stop)
        return 0;
    uint32_t room = sched_core_batch_room(s->core, b);
    uint32_t left = room > b->in_core ? room - b->in_core : 0;
    return left * 2 >= room ? left : 0;
}

static void on_feed(void *user)
{
    struct sched *s = user;
    struct dbx_buf ids, after, n;
    struct dbx_list *it, *next, asked;
    uint32_t total = 0;

    s->feed_due = false;
    if (!s->leading || s->feeding)
        return;
    dbx_list_init(&asked);
    dbx_buf_init(&ids, MAX_LITERAL);
    dbx_buf_init(&after, MAX_LITERAL);
    dbx_buf_init(&n, MAX_LITERAL);
    dbx_list_each(it, next, sched_core_batches(s->core))
    {
        struct sched_batch *b = dbx_list_entry(it, struct sched_batch, _node);
        char id[DBX_ID_TEXT], comma = total > 0 ? ',' : '{';
        uint32_t more = wants(s, b);
        if (more == 0 || total >= MAX_PAGE)
            continue;
        more = more < MAX_PAGE - total ? more : MAX_PAGE - total;
        total += more;
        b->wanted = more;
        dbx_id_format(&b->id, id);
        (void)dbx_buf_printf(&ids, "%c%s", comma, id);
        (void)dbx_buf_printf(&after, "%c%d", comma, b->after);
        (void)dbx_buf_printf(&n, "%c%u", comma, more);
        dbx_list_remove(it);
        dbx_list_push(&asked, it);
    }
    while (!dbx_list_empty(&asked)) { /* the next page begins with others */
        it = asked.next;
        dbx_list_remove(it);
        dbx_list_push(sched_core_batches(s->core), it);
    }
    if (total > 0) {
        (void)dbx_buf_str(&ids, "}");
        (void)dbx_buf_str(&after, "}");
        (void)dbx_buf_str(&n, "}");
        struct dbx_pg_param params[] = {DBX_PG_TEXT(dbx_buf_cstr(&ids)),
                                        DBX_PG_TEXT(dbx_buf_cstr(&after)),
                                        DBX_PG_TEXT(dbx_buf_cstr(&n))};
        s->feeding = true;
        dbx_pg_query(s->pg, "feed", params, 3, on_fed, query_new(s));
    }
    dbx_buf_done(&ids);
    dbx_buf_done(&after);
    dbx_buf_done(&n);
}

void sched_batches_feed(struct sched *s)
{
    if (s->feed_due || s->feeding || !s->leading)
        return;
    s->feed_due = true;
    dbx_loop_defer(s->loop, on_feed, s);
}
