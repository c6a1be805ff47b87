/* SPDX-License-Identifier: Apache-2.0 */
/* Records on their way: given to the log, given again after an earlier shim, acknowledged. The
 * design is at the head of ship.c. */
#include "shim/ship_int.h"

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/io/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void shim_ship__proc_unref(struct shim_ship_proc *sp)
{
    if (--sp->refs)
        return;
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &sp->own) free(dbx_list_entry(it, struct own, link));
    dbx_list_remove(&sp->link);
    dbx_assert(dbx_list_empty(&sp->replay)); /* they hold phases, and these hold us */
    sp->magic = 0;
    free(sp);
}

static void phase_gone(void *user)
{
    struct shim_ship_phase *ph = DBX_CAST(struct shim_ship_phase, PHASE_MAGIC, user);
    if (ph->opts.h && ph->opts.h->on_released)
        ph->opts.h->on_released(ph->opts.source, ph->opts.user);
    for (int i = 0; i < 2; i++)
        dbx_sha256_free(ph->st[i].sha);
    dbx_timer_free(ph->timer);
    dbx_list_remove(&ph->link);
    shim_ship__proc_unref(ph->sp);
    ph->magic = 0;
    free(ph);
}

void shim_ship__phase_unref(struct shim_ship_phase *ph)
{
    if (--ph->refs == 0)
        dbx_loop_defer(ph->sp->ship->opts.loop, phase_gone, ph);
}

void shim_ship__hold(struct shim_ship_phase *ph, bool held)
{
    if (ph->held == held)
        return;
    ph->held = held;
    if (!ph->stopped && ph->opts.h->on_held)
        ph->opts.h->on_held(held, ph->opts.user);
}

bool shim_ship__is_blocked(const struct shim_ship_phase *ph)
{
    for (int i = 0; i < 2; i++) {
        const struct stream *st = &ph->st[i];
        if (st->waits_log || (st->flying > 0 && ph->opts.ops->is_full(ph->opts.stream[i])))
            return true;
    }
    return false;
}

const char *shim_ship__status_text(uint8_t flags)
{
    return flags & DBX_REC_COMPILE ? "{\"status\":\"running\",\"phase\":\"compile\"}"
                                   : "{\"status\":\"running\",\"phase\":\"run\"}";
}

/* ---- appending ---- */

static void resume_streams(struct shim_ship_phase *ph)
{
    for (int i = 0; i < 2; i++)
        if (ph->st[i].waits_log) {
            ph->st[i].waits_log = false;
            if (!ph->stopped)
                ph->opts.ops->resume(ph->opts.stream[i]);
        }
}

static void resume_proc(struct shim_ship_proc *sp)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &sp->phases)
        resume_streams(dbx_list_entry(it, struct shim_ship_phase, link));
}

bool shim_ship__is_capped(const struct shim_ship_proc *sp, const struct shim_ship_phase *ph)
{
    return sp->in_flight >= SHIM_SHIP_MAX_IN_FLIGHT || (ph && ph->intents >= KEEPER_INTENTS);
}

static void forget_intent(struct shim_ship_phase *ph, struct keeper_intent *it)
{
    if (!it)
        return;
    shim_durable_forget(it);
    ph->intents--;
}

static void phase_acked(struct flight *fl)
{
    struct shim_ship_phase *ph = fl->ph;
    if (fl->stream < 0) {
        forget_intent(ph, fl->it);
        return;
    }
    struct stream *st = &ph->st[fl->stream];
    if (ph->opts.durable)
        shim_durable_acked(ph->opts.durable, fl->stream, fl->upto);
    forget_intent(ph, fl->it);
    /* With nothing in flight, what was dropped behind it goes too. */
    uint64_t upto = --st->flying == 0 ? st->in_ring : fl->upto;
    ph->opts.ops->release(ph->opts.stream[fl->stream], upto);
    if (ph->held && !shim_ship__is_blocked(ph))
        shim_ship__hold(ph, false);
}

static void on_acked(int64_t offset, const struct dbx_err *err, void *user)
{
    (void)offset;
    struct flight *fl = user;
    struct shim_ship_proc *sp = DBX_CAST(struct shim_ship_proc, PROC_MAGIC, fl->sp);
    bool was_capped = shim_ship__is_capped(sp, fl->ph);
    sp->in_flight -= fl->len;
    if (err && !sp->failed.code)
        sp->failed = *err;
    if (fl->ph) {
        phase_acked(fl);
        shim_ship__phase_unref(fl->ph);
    }
    if (was_capped && sp->in_flight < SHIM_SHIP_MAX_IN_FLIGHT && !sp->closed)
        resume_proc(sp);
    if (fl->end && !sp->closed)
        sp->on_ended(sp->failed.code ? &sp->failed : NULL, sp->user);
    shim_ship__proc_unref(sp);
    free(fl);
}

/* rec is complete but for its process. */
static int give(struct shim_ship_proc *sp, struct flight fl, const struct dbx_record *rec)
{
    struct shim_ship *ship = sp->ship;
    uint8_t head[DBX_REC_HEADER];
    struct dbx_record r = *rec;
    r.process = sp->process;
    dbx_record_header(&r, head);
    struct flight *copy = DBX_NEW(struct flight);
    *copy = fl;
    copy->sp = sp;
    copy->len = r.len;
    int e = ship->opts.append(ship->opts.log, &sp->sandbox, head, sizeof(head), r.data, r.len,
                              on_acked, copy);
    if (e < 0) {
        free(copy);
        if (e == -EAGAIN && !ship->full) {
            ship->full = true;
            dbx_metric_add(ship->stalls, 1);
        }
        return e;
    }
    sp->refs++;
    sp->in_flight += r.len;
    if (fl.ph)
        fl.ph->refs++;
    if (fl.ph && fl.stream >= 0)
        fl.ph->st[fl.stream].flying++;
    dbx_metric_add(ship->records, 1);
    dbx_metric_add(ship->bytes, r.len);
    return 0;
}

int shim_ship__append(struct shim_ship_proc *sp, struct flight fl, const struct dbx_record *rec)
{
    struct dbx_record r = *rec;
    struct keeper_durable *d = fl.ph ? fl.ph->opts.durable : NULL;
    bool intend = d && !fl.it;
    r.seq = sp->seq;
    dbx_assert(!fl.it || fl.it->seq == r.seq);
    r.ts_us = fl.it ? fl.it->ts_us : dbx_wall_us();
    if (intend) {
        fl.it = shim_durable_intend(d, &r);
        dbx_assert(fl.it); /* is_capped */
        fl.ph->intents++;
    }
    int e = give(sp, fl, &r);
    if (e < 0) {
        if (intend)
            forget_intent(fl.ph, fl.it);
        return e;
    }
    sp->seq++;
    if (d)
        shim_durable_given(d, sp->seq);
    return 0;
}

void shim_ship__wait_for_room(struct shim_ship_proc *sp)
{
    dbx_list_remove(&sp->link);
    dbx_list_push(&sp->ship->waiting, &sp->link);
}

/* ---- again ---- */

void shim_ship__replay_free(struct replay *rp)
{
    dbx_list_remove(&rp->link);
    shim_ship__phase_unref(rp->ph);
    free(rp);
}

/* The ring stands at its first byte: they follow each other. */
static int replay_one(struct shim_ship_proc *sp, struct replay *rp)
{
    struct shim_ship_phase *ph = rp->ph;
    struct keeper_intent *it = rp->it;
    int i = it->type == DBX_REC_STATUS ? -1 : it->type == DBX_REC_STDERR;
    struct dbx_record rec = {.type = (enum dbx_rec_type)it->type,
                             .flags = it->flags,
                             .seq = it->seq,
                             .ts_us = it->ts_us,
                             .offset = it->offset,
                             .len = it->len};
    struct flight fl = {.ph = ph, .it = it, .stream = i, .upto = it->offset + it->len};
    size_t n = 0;
    if (i < 0) {
        rec.data = (const uint8_t *)shim_ship__status_text(it->flags);
        rec.len = (uint32_t)strlen(shim_ship__status_text(it->flags));
        return give(sp, fl, &rec);
    }
    rec.data = ph->opts.ops->peek(ph->opts.stream[i], &n);
    if (n < it->len)
        return -EBADMSG;
    int r = give(sp, fl, &rec);
    if (r < 0)
        return r;
    struct stream *st = &ph->st[i];
    if (it->offset >= st->hashed) {
        dbx_sha256_update(st->sha, rec.data, rec.len);
        shim_durable_hash(ph->opts.durable, i, st->sha);
    }
    ph->opts.ops->advance(ph->opts.stream[i], it->len);
    st->in_ring += it->len;
    return 0;
}

/* True: all are given again. */
static bool flush_replay(struct shim_ship_proc *sp)
{
    struct replay *rp;
    while ((rp = dbx_list_first(&sp->replay, struct replay, link))) {
        int r = replay_one(sp, rp);
        if (r == -EAGAIN) {
            shim_ship__wait_for_room(sp);
            return false;
        }
        if (r < 0) {
            rp->ph->over = true;
            if (!sp->failed.code)
                dbx_err_set(&sp->failed, r, DBX_INTERNAL, "a record could not be given again");
        }
        shim_ship__replay_free(rp);
    }
    return true;
}

void shim_ship__own_free(struct shim_ship_proc *sp, struct own *own)
{
    dbx_list_remove(&own->link);
    sp->own_bytes -= own->len;
    sp->n_own--;
    if (own->ph)
        shim_ship__phase_unref(own->ph);
    free(own);
}

/* True: nothing of our own waits. */
static bool flush_own(struct shim_ship_proc *sp)
{
    struct own *own;
    if (!flush_replay(sp))
        return false;
    while ((own = dbx_list_first(&sp->own, struct own, link))) {
        struct dbx_record rec = {.type = own->type,
                                 .flags = own->flags,
                                 .offset = own->offset,
                                 .data = own->data,
                                 .len = own->len};
        struct flight fl = {
            .ph = own->ph, .it = own->it, .stream = -1, .end = own->type == DBX_REC_END};
        int r = shim_ship__append(sp, fl, &rec);
        if (r == -EAGAIN) {
            shim_ship__wait_for_room(sp);
            return false;
        }
        if (r < 0 && own->ph)
            forget_intent(own->ph, own->it);
        if (r < 0 && !sp->failed.code)
            dbx_err_set(&sp->failed, r, DBX_INTERNAL, "the log refused a record");
        if (r < 0 && fl.end && !sp->closed)
            sp->on_ended(&sp->failed, sp->user);
        shim_ship__own_free(sp, own);
    }
    return true;
}

static void on_flush(void *user)
{
    struct shim_ship_proc *sp = DBX_CAST(struct shim_ship_proc, PROC_MAGIC, user);
    if (!sp->closed && flush_own(sp))
        resume_proc(sp);
    shim_ship__proc_unref(sp);
}

void shim_ship__flush_soon(struct shim_ship_proc *sp)
{
    sp->refs++;
    dbx_loop_defer(sp->ship->opts.loop, on_flush, sp);
}

struct own *shim_ship__push_own(struct shim_ship_proc *sp, uint8_t type, uint8_t flags,
                                uint64_t offset, const void *data, size_t len)
{
    struct own *own = dbx_calloc(1, sizeof(*own) + len);
    own->type = type;
    own->flags = flags;
    own->offset = offset;
    own->len = (uint32_t)len;
    memcpy(own->data, data, len);
    dbx_list_push(&sp->own, &own->link);
    sp->own_bytes += len;
    sp->n_own++;
    shim_ship__flush_soon(sp);
    return own;
}

void shim_ship_on_room(void *user)
{
    struct shim_ship *ship = user;
    ship->full = false;
    /* Whoever does not get room again goes behind the others. */
    while (!dbx_list_empty(&ship->waiting) && !ship->full) {
        struct shim_ship_proc *sp = dbx_list_first(&ship->waiting, struct shim_ship_proc, link);
        dbx_list_remove(&sp->link);
        sp->refs++;
        if (!sp->closed && flush_own(sp))
            resume_proc(sp);
        shim_ship__proc_unref(sp);
    }
}
