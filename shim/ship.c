/* SPDX-License-Identifier: Apache-2.0 */
/* Shipping. The bytes stay in the ring until the log has acknowledged them: a record is given to
 * the log straight from ring memory, `next` moves when the log has taken it, `tail` (room for the
 * program) when the log has acknowledged it. So back-pressure needs no queue of ours: a log that
 * says -EAGAIN, or 1 MiB in flight, lets the ring fill, then the pipe, then the program wait: it is
 * held back by the log, also when all that the ring holds is on its way.
 *
 * When to cut a record: a stream that was quiet is flushed at once; a busy one after
 * SHIM_SHIP_QUIET_MS or 64 KiB, whichever comes first. The ring is the buffer in which bytes
 * coalesce.
 *
 * Our own records (status, end, words) have no ring: they wait in the process's queue when the log
 * is full, and no byte overtakes them, for seq is given at append.
 *
 * Death: before a record is given to the log, where it is cut, its number and its time are written
 * into memory that the keeper holds (ship_durable.h); they are taken back when it is acknowledged,
 * before `tail` moves. The next shim gives such records to the log again, the same bytes under the
 * same numbers, and goes on behind them: a reader that drops numbers it has seen sees each byte
 * once.
 *
 * Lifetime: a record in flight holds its phase and its process; both go when they were stopped and
 * nothing is in flight any more. Callbacks to the owner come from the loop or from feed, never from
 * a call that is not said to. */
#include "shim/ship.h"

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/metrics.h"
#include "common/io/loop.h"
#include "shim/ship_durable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROC_MAGIC 0x50495348u
#define PHASE_MAGIC 0x46495348u

struct shim_ship {
    struct shim_ship_opts opts;
    struct dbx_list waiting; /* processes with something that the log had no room for */
    bool full;
    struct dbx_metric *bytes, *records, *stalls;
};

/* A record of our own, waiting in its process's queue. */
struct own {
    struct dbx_list link;
    struct shim_ship_phase *ph; /* held: it has the intent; or NULL */
    struct keeper_intent *it;
    uint8_t type, flags;
    uint64_t offset;
    uint32_t len;
    uint8_t data[];
};

/* A record that an earlier shim gave to the log, to be given again. */
struct replay {
    struct dbx_list link;
    struct shim_ship_phase *ph; /* held */
    struct keeper_intent *it;
};

struct flight {
    struct shim_ship_proc *sp;
    struct shim_ship_phase *ph; /* held; NULL: one of our own */
    struct keeper_intent *it;   /* or NULL */
    int stream;                 /* -1: not from a ring */
    uint32_t len;
    uint64_t upto;
    bool end;
};

struct shim_ship_proc {
    uint32_t magic;
    struct shim_ship *ship;
    struct dbx_list link;   /* in ship->waiting */
    struct dbx_list replay; /* struct replay, by seq: go before all else */
    struct dbx_list own;    /* struct own */
    struct dbx_list phases; /* live ones */
    struct dbx_id sandbox, process;
    uint64_t seq;
    size_t own_bytes, n_own, in_flight;
    unsigned refs; /* the owner, phases, records in flight */
    bool closed, ending;
    struct dbx_err failed; /* the first record that the log lost */
    shim_ship_ended *on_ended;
    void *user;
};

struct stream {
    struct dbx_sha256_ctx *sha;
    uint64_t bytes, in_ring; /* shipped; taken from the ring (words are not from the ring) */
    uint64_t hashed;         /* by an earlier shim */
    uint64_t last_ms;        /* when its last record went out */
    unsigned flying;         /* records that are not acknowledged */
    bool eof, waits_log, waits_time;
};

struct shim_ship_phase {
    uint32_t magic;
    struct shim_ship_proc *sp;
    struct dbx_list link; /* in sp->phases */
    struct shim_ship_phase_opts opts;
    unsigned intents; /* in use */
    struct stream st[2];
    struct dbx_timer *timer;
    uint64_t total;
    unsigned refs; /* the owner until stopped, records in flight */
    bool over, held, eof_told, stopped, hurry;
};

static void proc_unref(struct shim_ship_proc *sp)
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
    proc_unref(ph->sp);
    ph->magic = 0;
    free(ph);
}

static void phase_unref(struct shim_ship_phase *ph)
{
    if (--ph->refs == 0)
        dbx_loop_defer(ph->sp->ship->opts.loop, phase_gone, ph);
}

static void set_held(struct shim_ship_phase *ph, bool held)
{
    if (ph->held == held)
        return;
    ph->held = held;
    if (!ph->stopped && ph->opts.h->on_held)
        ph->opts.h->on_held(held, ph->opts.user);
}

/* The log takes no more of a stream, or its ring is full of what the log has not acknowledged. */
static bool is_blocked(const struct shim_ship_phase *ph)
{
    for (int i = 0; i < 2; i++) {
        const struct stream *st = &ph->st[i];
        if (st->waits_log || (st->flying > 0 && ph->opts.ops->is_full(ph->opts.stream[i])))
            return true;
    }
    return false;
}

static const char *status_text(uint8_t flags)
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

/* No more may be given to the log until something is acknowledged. */
static bool is_capped(const struct shim_ship_proc *sp, const struct shim_ship_phase *ph)
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
    if (ph->held && !is_blocked(ph))
        set_held(ph, false);
}

static void on_acked(int64_t offset, const struct dbx_err *err, void *user)
{
    (void)offset;
    struct flight *fl = user;
    struct shim_ship_proc *sp = DBX_CAST(struct shim_ship_proc, PROC_MAGIC, fl->sp);
    bool was_capped = is_capped(sp, fl->ph);
    sp->in_flight -= fl->len;
    if (err && !sp->failed.code)
        sp->failed = *err;
    if (fl->ph) {
        phase_acked(fl);
        phase_unref(fl->ph);
    }
    if (was_capped && sp->in_flight < SHIM_SHIP_MAX_IN_FLIGHT && !sp->closed)
        resume_proc(sp);
    if (fl->end && !sp->closed)
        sp->on_ended(sp->failed.code ? &sp->failed : NULL, sp->user);
    proc_unref(sp);
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

/* The next record. fl.it: where its intent stands already, else one is made if ph outlives us. */
static int append(struct shim_ship_proc *sp, struct flight fl, const struct dbx_record *rec)
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

static void wait_for_room(struct shim_ship_proc *sp)
{
    dbx_list_remove(&sp->link);
    dbx_list_push(&sp->ship->waiting, &sp->link);
}

/* ---- again ---- */

static void replay_free(struct replay *rp)
{
    dbx_list_remove(&rp->link);
    phase_unref(rp->ph);
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
        rec.data = (const uint8_t *)status_text(it->flags);
        rec.len = (uint32_t)strlen(status_text(it->flags));
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
            wait_for_room(sp);
            return false;
        }
        if (r < 0) {
            rp->ph->over = true;
            if (!sp->failed.code)
                dbx_err_set(&sp->failed, r, DBX_INTERNAL, "a record could not be given again");
        }
        replay_free(rp);
    }
    return true;
}

static void own_free(struct shim_ship_proc *sp, struct own *own)
{
    dbx_list_remove(&own->link);
    sp->own_bytes -= own->len;
    sp->n_own--;
    if (own->ph)
        phase_unref(own->ph);
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
        int r = append(sp, fl, &rec);
        if (r == -EAGAIN) {
            wait_for_room(sp);
            return false;
        }
        if (r < 0 && own->ph)
            forget_intent(own->ph, own->it);
        if (r < 0 && !sp->failed.code)
            dbx_err_set(&sp->failed, r, DBX_INTERNAL, "the log refused a record");
        if (r < 0 && fl.end && !sp->closed)
            sp->on_ended(&sp->failed, sp->user);
        own_free(sp, own);
    }
    return true;
}

static void on_flush(void *user)
{
    struct shim_ship_proc *sp = DBX_CAST(struct shim_ship_proc, PROC_MAGIC, user);
    if (!sp->closed && flush_own(sp))
        resume_proc(sp);
    proc_unref(sp);
}

static void flush_soon(struct shim_ship_proc *sp)
{
    sp->refs++;
    dbx_loop_defer(sp->ship->opts.loop, on_flush, sp);
}

/* Queued, and flushed from the loop: the caller is never called back before it returned. */
static struct own *push_own(struct shim_ship_proc *sp, uint8_t type, uint8_t flags, uint64_t offset,
                            const void *data, size_t len)
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
    flush_soon(sp);
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
        proc_unref(sp);
    }
}

/* ---- feeding ---- */

static void on_timer(void *user)
{
    struct shim_ship_phase *ph = DBX_CAST(struct shim_ship_phase, PHASE_MAGIC, user);
    for (int i = 0; i < 2; i++)
        if (ph->st[i].waits_time && !ph->stopped) {
            ph->st[i].waits_time = false;
            ph->opts.ops->resume(ph->opts.stream[i]);
        }
}

/* Everything has been given away, or the limit was crossed: the rest is dropped. */
static void drop_bytes(struct shim_ship_phase *ph, int i, size_t n)
{
    struct stream *st = &ph->st[i];
    ph->opts.ops->advance(ph->opts.stream[i], n);
    st->in_ring += n;
    /* Room for what is dropped too, but not before what is in flight in front of it. */
    if (st->flying == 0)
        ph->opts.ops->release(ph->opts.stream[i], st->in_ring);
}

static void check_eof(struct shim_ship_phase *ph)
{
    if (!ph->st[0].eof || !ph->st[1].eof || ph->eof_told)
        return;
    ph->eof_told = true;
    set_held(ph, false);
    ph->opts.h->on_eof(ph->opts.user);
}

static bool wait_for_log(struct shim_ship_phase *ph, int i)
{
    ph->st[i].waits_log = true;
    if (ph->sp->ship->full)
        wait_for_room(ph->sp);
    set_held(ph, true);
    return false;
}

/* Busy: more will come soon and fit into the same record. */
static bool wait_for_more(struct shim_ship_phase *ph, int i, size_t n, uint64_t now)
{
    struct stream *st = &ph->st[i];
    if (n >= SHIM_SHIP_MAX_DATA || ph->hurry || !st->last_ms ||
        now - st->last_ms >= SHIM_SHIP_QUIET_MS)
        return false;
    bool armed = ph->st[0].waits_time || ph->st[1].waits_time;
    st->waits_time = true;
    if (!armed)
        dbx_timer_start(ph->timer, SHIM_SHIP_QUIET_MS - (now - st->last_ms), 0);
    return true;
}

static uint8_t type_of(const struct shim_ship_phase *ph, int stream)
{
    if (ph->opts.pty)
        return DBX_REC_PTY;
    return stream == 0 ? DBX_REC_STDOUT : DBX_REC_STDERR;
}

static bool ship_some(struct shim_ship_phase *ph, int i, const uint8_t *data, size_t n)
{
    struct stream *st = &ph->st[i];
    uint64_t now = ph->sp->ship->opts.now_ms(), left = ph->opts.max_bytes - ph->total;
    if (left == 0) {
        ph->over = true;
        drop_bytes(ph, i, n);
        ph->opts.h->on_over(ph->opts.user);
        return true;
    }
    if (wait_for_more(ph, i, n, now))
        return false;
    size_t len = n < SHIM_SHIP_MAX_DATA ? n : SHIM_SHIP_MAX_DATA;
    if (len > left)
        len = (size_t)left;
    struct dbx_record rec = {.type = type_of(ph, i),
                             .flags = ph->opts.flags,
                             .offset = st->bytes,
                             .data = data,
                             .len = (uint32_t)len};
    struct flight fl = {.ph = ph, .stream = i, .upto = st->in_ring + len};
    int r = append(ph->sp, fl, &rec);
    if (r == -EAGAIN)
        return wait_for_log(ph, i);
    if (r < 0) {
        dbx_err_set(&ph->sp->failed, r, DBX_INTERNAL, "the log refused a record");
        ph->over = true;
        drop_bytes(ph, i, n);
        return true;
    }
    dbx_sha256_update(st->sha, data, len);
    if (ph->opts.durable)
        shim_durable_hash(ph->opts.durable, i, st->sha);
    ph->opts.ops->advance(ph->opts.stream[i], len);
    st->in_ring += len;
    st->bytes += len;
    st->last_ms = now ? now : 1;
    ph->total += len;
    set_held(ph, is_blocked(ph));
    return true;
}

bool shim_ship_feed(struct shim_ship_phase *ph, int i)
{
    DBX_CAST(struct shim_ship_phase, PHASE_MAGIC, ph);
    struct stream *st = &ph->st[i];
    size_t n = 0;
    if (ph->stopped || st->eof)
        return false;
    const uint8_t *data = ph->opts.ops->peek(ph->opts.stream[i], &n);
    if (n == 0) {
        if (!ph->opts.ops->at_eof(ph->opts.stream[i]))
            return true;
        st->eof = true;
        check_eof(ph);
        return false;
    }
    if (ph->over) {
        drop_bytes(ph, i, n);
        return true;
    }
    if (ph->sp->ship->full || !dbx_list_empty(&ph->sp->own) || !dbx_list_empty(&ph->sp->replay) ||
        is_capped(ph->sp, ph))
        return wait_for_log(ph, i);
    return ship_some(ph, i, data, n);
}

void shim_ship_hurry(struct shim_ship_phase *ph)
{
    ph->hurry = true;
    dbx_timer_stop(ph->timer);
    on_timer(ph);
}

/* ---- life ---- */

struct shim_ship *shim_ship_new(const struct shim_ship_opts *opts)
{
    struct shim_ship *ship = DBX_NEW(struct shim_ship);
    ship->opts = *opts;
    if (!ship->opts.now_ms)
        ship->opts.now_ms = dbx_now_ms;
    dbx_list_init(&ship->waiting);
    ship->bytes = dbx_counter("devbox_shim_output_bytes_total", NULL, "Bytes given to the log");
    ship->records = dbx_counter("devbox_shim_records_total", NULL, "Records given to the log");
    ship->stalls = dbx_counter("devbox_shim_log_full_total", NULL, "Times the log had no room");
    return ship;
}

struct shim_ship *shim_ship_free(struct shim_ship *ship)
{
    if (!ship)
        return NULL;
    while (!dbx_list_empty(&ship->waiting)) /* their owners free them; they wait for nothing now */
        dbx_list_remove(ship->waiting.next);
    free(ship);
    return NULL;
}

struct shim_ship_proc *shim_ship_proc_new(struct shim_ship *ship, const struct dbx_id *sandbox,
                                          const struct dbx_id *process)
{
    struct shim_ship_proc *sp = DBX_NEW(struct shim_ship_proc);
    sp->magic = PROC_MAGIC;
    sp->ship = ship;
    sp->sandbox = *sandbox;
    sp->process = *process;
    sp->refs = 1;
    dbx_list_init(&sp->link);
    dbx_list_init(&sp->replay);
    dbx_list_init(&sp->own);
    dbx_list_init(&sp->phases);
    return sp;
}

struct shim_ship_proc *shim_ship_proc_free(struct shim_ship_proc *sp)
{
    if (!sp)
        return NULL;
    DBX_CAST(struct shim_ship_proc, PROC_MAGIC, sp);
    struct dbx_list *it, *tmp;
    sp->closed = true;
    dbx_list_remove(&sp->link);
    /* They will not be given any more; and they hold phases, which hold us. */
    dbx_list_each(it, tmp, &sp->replay) replay_free(dbx_list_entry(it, struct replay, link));
    dbx_list_each(it, tmp, &sp->own) own_free(sp, dbx_list_entry(it, struct own, link));
    proc_unref(sp);
    return NULL;
}

uint64_t shim_ship_seq(const struct shim_ship_proc *sp)
{
    return sp->seq + sp->n_own;
}

void shim_ship_go_on(struct shim_ship_proc *sp, uint64_t seq)
{
    if (seq > sp->seq)
        sp->seq = seq;
}

void shim_ship_end(struct shim_ship_proc *sp, const void *json, size_t len, shim_ship_ended *fn,
                   void *user)
{
    dbx_assert(!sp->ending);
    sp->ending = true;
    sp->on_ended = fn;
    sp->user = user;
    push_own(sp, DBX_REC_END, 0, 0, json, len);
}

static struct shim_ship_phase *phase_new(struct shim_ship_proc *sp,
                                         const struct shim_ship_phase_opts *opts)
{
    struct shim_ship_phase *ph = DBX_NEW(struct shim_ship_phase);
    ph->magic = PHASE_MAGIC;
    ph->sp = sp;
    ph->opts = *opts;
    ph->refs = 1;
    ph->timer = dbx_timer_new(sp->ship->opts.loop, on_timer, ph);
    for (int i = 0; i < 2; i++) {
        ph->st[i].sha = dbx_sha256_new();
        ph->st[i].eof = !opts->ops;
    }
    sp->refs++;
    dbx_list_push(&sp->phases, &ph->link);
    return ph;
}

struct shim_ship_phase *shim_ship_phase_new(struct shim_ship_proc *sp,
                                            const struct shim_ship_phase_opts *opts)
{
    if (opts->durable)
        shim_durable_init(opts->durable, shim_ship_seq(sp));
    return phase_new(sp, opts);
}

/* By seq, among those of the process's other phase. */
static void add_replay(struct shim_ship_phase *ph, struct keeper_intent *intent)
{
    struct replay *rp = DBX_NEW(struct replay);
    struct dbx_list *it, *tmp, *behind = &ph->sp->replay;
    *rp = (struct replay){.ph = ph, .it = intent};
    ph->refs++;
    ph->intents++;
    dbx_list_each(it, tmp, &ph->sp->replay) if (behind == &ph->sp->replay &&
                                                dbx_list_entry(it, struct replay, link)->it->seq >
                                                    intent->seq) behind = it;
    dbx_list_push(behind, &rp->link);
}

int shim_ship_phase_adopt(struct shim_ship_proc *sp, const struct shim_ship_phase_opts *opts,
                          const uint64_t at[static 2], const uint64_t head[static 2],
                          struct shim_ship_phase **ret, struct dbx_err *err)
{
    struct shim_durable_state ds;
    int r = shim_durable_load(opts->durable, at, head, &ds, err);
    if (r < 0)
        return r;
    struct shim_ship_phase *ph = phase_new(sp, opts);
    for (int i = 0; i < 2; i++) {
        struct stream *st = &ph->st[i];
        if (at[i] < ds.acked[i]) { /* it died before it gave the room back */
            opts->ops->advance(opts->stream[i], (size_t)(ds.acked[i] - at[i]));
            opts->ops->release(opts->stream[i], ds.acked[i]);
        }
        st->in_ring = at[i] < ds.acked[i] ? ds.acked[i] : at[i];
        ph->over |= at[i] > ds.given[i]; /* it had begun to drop */
        st->bytes = ds.given[i];
        st->hashed = ds.hash[i].bytes;
        dbx_sha256_restore(st->sha, &ds.hash[i]);
        ph->total += ds.given[i];
    }
    for (size_t k = 0; k < ds.n; k++)
        add_replay(ph, ds.intents[k]);
    shim_ship_go_on(sp, ds.next_seq);
    /* Else the highest number would be known from its intent only, and that goes. */
    shim_durable_given(opts->durable, ds.next_seq);
    if (ds.n)
        flush_soon(sp);
    *ret = ph;
    return 0;
}

void shim_ship_status(struct shim_ship_phase *ph)
{
    const char *json = status_text(ph->opts.flags);
    struct dbx_record rec = {.type = DBX_REC_STATUS,
                             .flags = ph->opts.flags,
                             .seq = shim_ship_seq(ph->sp),
                             .ts_us = dbx_wall_us()};
    struct own *own = push_own(ph->sp, DBX_REC_STATUS, rec.flags, 0, json, strlen(json));
    if (!ph->opts.durable)
        return;
    own->it = shim_durable_intend(ph->opts.durable, &rec);
    own->ph = ph;
    ph->refs++;
    ph->intents++;
    dbx_assert(own->it); /* it is the first */
}

void shim_ship_words(struct shim_ship_phase *ph, int stream, const char *text)
{
    stream = ph->opts.pty ? 0 : stream;
    struct stream *st = &ph->st[stream];
    size_t len = strlen(text);
    if (len > ph->opts.max_bytes - ph->total)
        len = (size_t)(ph->opts.max_bytes - ph->total);
    if (len == 0 || ph->sp->own_bytes + len > SHIM_SHIP_MAX_WORDS)
        return;
    push_own(ph->sp, type_of(ph, stream), ph->opts.flags, st->bytes, text, len);
    /* Lost when we die now; but nothing may come under their number. */
    if (ph->opts.durable)
        shim_durable_given(ph->opts.durable, shim_ship_seq(ph->sp));
    dbx_sha256_update(st->sha, text, len);
    st->bytes += len;
    ph->total += len;
}

void shim_ship_say(struct shim_ship_proc *sp, uint8_t type, uint8_t flags, uint64_t offset,
                   const char *text, size_t len)
{
    push_own(sp, type, flags, offset, text, len);
}

void shim_ship_phase_stop(struct shim_ship_phase *ph)
{
    DBX_CAST(struct shim_ship_phase, PHASE_MAGIC, ph);
    dbx_assert(!ph->stopped);
    ph->stopped = true;
    dbx_timer_stop(ph->timer);
    phase_unref(ph);
}

uint64_t shim_ship_bytes(const struct shim_ship_phase *ph, int stream)
{
    return ph->st[stream].bytes;
}

void shim_ship_sha256(const struct shim_ship_phase *ph, int stream,
                      uint8_t out[static DBX_SHA256_LEN])
{
    dbx_sha256_peek(ph->st[stream].sha, out);
}

bool shim_ship_is_held(const struct shim_ship_phase *ph)
{
    return ph->held;
}
