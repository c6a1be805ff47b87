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
#include "shim/ship_int.h"

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/io/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
    shim_ship__hold(ph, false);
    ph->opts.h->on_eof(ph->opts.user);
}

static bool wait_for_log(struct shim_ship_phase *ph, int i)
{
    ph->st[i].waits_log = true;
    if (ph->sp->ship->full)
        shim_ship__wait_for_room(ph->sp);
    shim_ship__hold(ph, true);
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
    int r = shim_ship__append(ph->sp, fl, &rec);
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
    shim_ship__hold(ph, shim_ship__is_blocked(ph));
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
        shim_ship__is_capped(ph->sp, ph))
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
    dbx_list_each(it, tmp, &sp->replay)
        shim_ship__replay_free(dbx_list_entry(it, struct replay, link));
    dbx_list_each(it, tmp, &sp->own) shim_ship__own_free(sp, dbx_list_entry(it, struct own, link));
    shim_ship__proc_unref(sp);
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
    shim_ship__push_own(sp, DBX_REC_END, 0, 0, json, len);
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
        shim_ship__flush_soon(sp);
    *ret = ph;
    return 0;
}

void shim_ship_status(struct shim_ship_phase *ph)
{
    const char *json = shim_ship__status_text(ph->opts.flags);
    struct dbx_record rec = {.type = DBX_REC_STATUS,
                             .flags = ph->opts.flags,
                             .seq = shim_ship_seq(ph->sp),
                             .ts_us = dbx_wall_us()};
    struct own *own = shim_ship__push_own(ph->sp, DBX_REC_STATUS, rec.flags, 0, json, strlen(json));
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
    shim_ship__push_own(ph->sp, type_of(ph, stream), ph->opts.flags, st->bytes, text, len);
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
    shim_ship__push_own(sp, type, flags, offset, text, len);
}

void shim_ship_phase_stop(struct shim_ship_phase *ph)
{
    DBX_CAST(struct shim_ship_phase, PHASE_MAGIC, ph);
    dbx_assert(!ph->stopped);
    ph->stopped = true;
    dbx_timer_stop(ph->timer);
    shim_ship__phase_unref(ph);
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
