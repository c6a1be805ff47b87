/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/follow.h"

#include <stdlib.h>

#define FOLLOW_MAGIC 0x4c4c4f46u

struct gw_follow {
    uint32_t magic;
    struct dbx_olog *log; /* borrowed */
    struct dbx_id sandbox;
    struct dbx_olog_reader *reader;
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

static void on_truncated(int64_t wanted, int64_t oldest, void *user)
{
    struct gw_follow *f = DBX_CAST(struct gw_follow, FOLLOW_MAGIC, user);
    (void)wanted;
    f->depth++;
    if (oldest > f->at)
        f->at = oldest;
    if (f->h->on_lost)
        f->h->on_lost(f->user);
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

struct gw_follow *gw_follow_new(struct dbx_olog *log, const struct dbx_id *sandbox, int64_t from,
                                const struct gw_follow_handlers *h, void *user)
{
    struct gw_follow *f = DBX_NEW(struct gw_follow);
    f->magic = FOLLOW_MAGIC;
    f->log = log;
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
    dbx_olog_resume(f->reader);
}

void gw_follow_restart(struct gw_follow *f, int64_t from)
{
    f->reader = dbx_olog_reader_free(f->reader);
    f->at = from;
    f->held = false;
    f->reader = dbx_olog_follow(f->log, &f->sandbox, from, &reader_handlers, f);
}

int64_t gw_follow_at(const struct gw_follow *f)
{
    return f->at;
}

void gw_follow_to_end(struct gw_follow *f)
{
    f->end_asked = true;
    dbx_olog_catch_up(f->reader);
}
