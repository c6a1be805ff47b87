/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/follow.h"

#include <stdlib.h>

#include "gateway/archived.h"
#include "gateway/gw.h"

#define FOLLOW_MAGIC 0x4c4c4f46u

struct gw_follow {
    uint32_t magic;
    struct gw *gw; /* borrowed */
    struct dbx_id sandbox;
    struct dbx_olog_reader *reader; /* one of these two is there */
    struct gw_archived *archived;
    int64_t archived_to; /* there the log goes on */
    const struct gw_follow_handlers *h;
    void *user;
    int64_t at; /* everything before has been given */
    bool end_asked, held;
    unsigned depth; /* callbacks that run */
    bool freed;
};

static void leave(struct gw_follow *f)
{
    if (--f->depth > 0 || !f->freed)
        return;
    f->magic = 0;
    free(f);
}

static bool on_entry(const struct dbx_olog_entry *e, void *user)
{
    struct gw_follow *f = DBX_CAST(struct gw_follow, FOLLOW_MAGIC, user);
    struct dbx_record r;
    bool taken = true;
    f->depth++;
    if (dbx_record_decode(e->value, e->len, &r) == 0) /* else: a newer kind, or a stranger's */
        taken = f->h->on_record(&r, e, f->user);
    if (!f->freed) {
        f->at = taken ? e->next : f->at;
        f->held = !taken;
    }
    leave(f);
    return taken;
}

/* --- the archive --- */

static bool archive_wants(const struct dbx_id *process, void *user)
{
    struct gw_follow *f = DBX_CAST(struct gw_follow, FOLLOW_MAGIC, user);
    return f->h->wants(process, f->user);
}

/* `at` stays before all of it until the last: processes do not come in the log's order. */
static bool on_archived(const struct dbx_record *r, const struct dbx_olog_entry *e, void *user)
{
    struct gw_follow *f = DBX_CAST(struct gw_follow, FOLLOW_MAGIC, user);
    f->depth++;
    bool taken = f->h->on_record(r, e, f->user);
    f->held = !taken;
    leave(f);
    return taken;
}

static void on_archived_done(const struct dbx_err *err, void *user)
{
    struct gw_follow *f = DBX_CAST(struct gw_follow, FOLLOW_MAGIC, user);
    f->depth++;
    if (err)
        f->h->on_error(err, f->user);
    else
        gw_follow_restart(f, f->archived_to);
    leave(f);
}

static const struct gw_archived_handlers archived_handlers = {
    .wants = archive_wants, .on_record = on_archived, .on_done = on_archived_done};

/* --- the log --- */

static void on_truncated(int64_t wanted, int64_t oldest, void *user)
{
    struct gw_follow *f = DBX_CAST(struct gw_follow, FOLLOW_MAGIC, user);
    (void)wanted;
    f->depth++;
    if (f->h->on_lost)
        f->h->on_lost(f->user);
    if (!f->freed && oldest > f->at && f->h->wants) {
        f->reader = dbx_olog_reader_free(f->reader);
        f->archived_to = oldest;
        f->archived = gw_archived_new(f->gw, &f->sandbox, f->at, oldest, &archived_handlers, f);
    } else if (oldest > f->at) {
        f->at = oldest;
    }
    leave(f);
}

static void on_live(int64_t next, void *user)
{
    struct gw_follow *f = DBX_CAST(struct gw_follow, FOLLOW_MAGIC, user);
    f->depth++;
    if (next > f->at)
        f->at = next;
    if (f->end_asked) {
        f->end_asked = false;
        f->h->on_end(f->user);
    }
    leave(f);
}

static void on_error(const struct dbx_err *err, void *user)
{
    struct gw_follow *f = DBX_CAST(struct gw_follow, FOLLOW_MAGIC, user);
    f->depth++;
    f->h->on_error(err, f->user);
    leave(f);
}

static const struct dbx_olog_reader_handlers reader_handlers = {
    .on_entry = on_entry, .on_truncated = on_truncated, .on_live = on_live, .on_error = on_error};

struct gw_follow *gw_follow_new(struct gw *gw, const struct dbx_id *sandbox, int64_t from,
                                const struct gw_follow_handlers *h, void *user)
{
    struct gw_follow *f = DBX_NEW(struct gw_follow);
    f->magic = FOLLOW_MAGIC;
    f->gw = gw;
    f->sandbox = *sandbox;
    f->h = h;
    f->user = user;
    gw_follow_restart(f, from);
    return f;
}

struct gw_follow *gw_follow_free(struct gw_follow *f)
{
    if (!f)
        return NULL;
    f->reader = dbx_olog_reader_free(f->reader);
    f->archived = gw_archived_free(f->archived);
    f->freed = true;
    f->depth++;
    leave(f);
    return NULL;
}

void gw_follow_resume(struct gw_follow *f)
{
    if (!f->held)
        return;
    f->held = false;
    if (f->archived)
        gw_archived_resume(f->archived);
    else
        dbx_olog_resume(f->reader);
}

void gw_follow_restart(struct gw_follow *f, int64_t from)
{
    f->reader = dbx_olog_reader_free(f->reader);
    f->archived = gw_archived_free(f->archived);
    f->at = from;
    f->held = false;
    f->reader = dbx_olog_follow(f->gw->olog, &f->sandbox, from, &reader_handlers, f);
}

int64_t gw_follow_at(const struct gw_follow *f)
{
    return f->at;
}

void gw_follow_to_end(struct gw_follow *f)
{
    f->end_asked = true;
    if (f->reader) /* else it begins anew later, and says when it is at the end */
        dbx_olog_catch_up(f->reader);
}
