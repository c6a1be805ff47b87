/* SPDX-License-Identifier: Apache-2.0 */
/* One function, kick(), decides everything: it runs (from a timer, never inside a call of the
 * pool's users) after anything has changed, answers what is decided, serves the claims in their
 * order, and fills with what room is left. Everything else only changes the lists and asks for a
 * kick.
 *
 * A slot is a sandbox of the pool's, from its order until nothing is left of it. A claim without a
 * warm sandbox takes over a start that nobody waits for, else orders one of its own; strict order
 * keeps a large claim from starving: while the first waits for room, later ones get only what is
 * warm. Room is made by ending warm sandboxes that no waiting claim can use, and then, for who is
 * waited for, by whom on_pressure ends. */
#include "shim/pool.h"

#include "bundles/bundles.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "common/proto/sizes.h"
#include "shim/demand.h"
#include "shim/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOT_MAGIC 0x5b5b0002u
#define CLAIM_MAGIC 0x5b5b0003u
#define OVERHEAD_MB 32 /* of the runtime, for each sandbox, in the memory budget */
#define REFRESH_MS 1000
#define CALM_REFRESH_MS 5000 /* when every template has its image: for those that are rebuilt */
#define FIRST_BACKOFF_MS 500
#define MAX_BACKOFF_MS 30000
#define CALM_MS 100
#define PRESSURE_MS 100 /* so long one waits for what ends by itself, and to ask again */
#define MAX_FAILURES 2  /* of the starts that one claim waits for */

enum slot_state { SLOT_STARTING, SLOT_WARM, SLOT_CLAIMED, SLOT_ENDING };

/* Warm ones that can stand for each other: a template's, of the pool's disk (for executions) or of
 * the usual size of workspaces. */
struct kind {
    const struct bnd_template *tpl;
    uint64_t disk_mb, memory_mb;
    bool workspace;
    struct shim_demand demand;
    uint32_t n[SLOT_ENDING + 1];   /* slots by state */
    uint64_t retry_ms, backoff_ms; /* after a start that failed */
};

struct slot {
    uint32_t magic;
    struct dbx_list node; /* pool->slots */
    struct shim_pool *pool;
    struct kind *kind;
    enum slot_state state;
    struct shim_sandbox *sb;  /* a handle until it is gone */
    struct shim_claim *claim; /* who waits for this start; or NULL */
    bool background;          /* it was ordered for one of these */
    uint64_t disk_mb, cost_mb;
    uint64_t given_ms; /* to a claim that is waited for; 0: never */
    uint64_t ordered_ms;
    char digest[BND_DIGEST_LEN + 1]; /* of its image */
};

struct shim_claim {
    uint32_t magic;
    struct dbx_list node; /* pool->claims */
    struct shim_pool *pool;
    struct kind *kind; /* NULL when refused */
    struct shim_claim_opts opts;
    struct slot *slot;          /* the start it waits for; or NULL */
    struct dbx_err refused;     /* code != 0: it is decided */
    struct dbx_timer *deadline; /* owned */
    shim_claimed *fn;
    void *user;
    uint64_t began_ms;
    bool missed;       /* none was warm for it */
    unsigned failures; /* starts that came to nothing */
};

struct shim_pool {
    struct shim_pool_opts opts;
    struct kind kinds[2 * SHIM_POOL_MAX_TEMPLATES]; /* a template's are 2i and 2i + 1 */
    size_t n_kinds;
    struct dbx_list slots, claims;
    uint32_t n_slots, n_claims;
    uint32_t n_starting[2]; /* [1]: for claims in the background */
    uint64_t used_mb;
    bool started, draining, changed;
    char held[240];                                             /* "": not */
    struct dbx_timer *kick, *refresh, *retry, *calm, *pressure; /* owned */
    void (*on_drained)(void *user);
    void *drained_user;
    void (*on_change)(void *user);
    void *change_user;
    struct shim_sandbox *(*on_pressure)(void *user);
    void *pressure_user;
};

static void ask(struct shim_pool *pool)
{
    dbx_timer_start(pool->kick, 0, 0);
}

static void touch(struct shim_pool *pool)
{
    pool->changed = true;
    ask(pool);
}

/* ---- slots ---- */

static void slot_state(struct slot *sl, enum slot_state st)
{
    struct shim_pool *pool = sl->pool;
    pool->n_starting[sl->background] -= sl->state == SLOT_STARTING;
    sl->kind->n[sl->state]--;
    sl->state = st;
    sl->kind->n[st]++;
    touch(pool);
}

/* Without a program; what is parked is one, but nobody's yet. */
static uint64_t overhead_mb(const struct kind *kd)
{
    return OVERHEAD_MB + (kd->workspace ? 0 : kd->tpl->parked.memory_mb);
}

static void set_cost(struct slot *sl, uint64_t memory_mb)
{
    sl->pool->used_mb -= sl->cost_mb;
    sl->cost_mb = memory_mb + overhead_mb(sl->kind);
    sl->pool->used_mb += sl->cost_mb;
}

static void slot_end(struct slot *sl)
{
    if (sl->state == SLOT_ENDING)
        return;
    slot_state(sl, SLOT_ENDING);
    sl->pool->opts.source->end(sl->sb);
}

static void on_ready(struct shim_sandbox *sb, void *user)
{
    struct slot *sl = DBX_CAST(struct slot, SLOT_MAGIC, user);
    (void)sb;
    sl->kind->backoff_ms = sl->kind->retry_ms = 0;
    shim_demand_made(&sl->kind->demand, dbx_now_ms() - sl->ordered_ms);
    if (sl->state == SLOT_STARTING)
        slot_state(sl, SLOT_WARM);
}

static void back_off(struct kind *kd)
{
    kd->backoff_ms = kd->backoff_ms ? kd->backoff_ms * 2 : FIRST_BACKOFF_MS;
    if (kd->backoff_ms > MAX_BACKOFF_MS)
        kd->backoff_ms = MAX_BACKOFF_MS;
    kd->retry_ms = dbx_now_ms() + kd->backoff_ms;
}

/* What one start did not do, on a machine that is as busy as it may be, the next one does. */
static void claim_failed(struct shim_claim *cl, const struct dbx_err *err)
{
    cl->slot = NULL;
    if (++cl->failures < MAX_FAILURES || cl->refused.code)
        return;
    cl->refused = *err;
    dbx_err_wrap(&cl->refused, err->code ? err->code : -EIO, "make a sandbox");
}

/* Of one that nobody has claimed: it ends itself. */
static void on_lost(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct slot *sl = DBX_CAST(struct slot, SLOT_MAGIC, user);
    (void)sb;
    if (sl->state == SLOT_STARTING)
        back_off(sl->kind);
    if (sl->claim)
        claim_failed(DBX_TAKE(sl->claim), err);
    if (sl->state != SLOT_ENDING)
        slot_state(sl, SLOT_ENDING);
}

static void on_gone(struct shim_sandbox *sb, void *user)
{
    struct slot *sl = DBX_CAST(struct slot, SLOT_MAGIC, user);
    struct shim_pool *pool = sl->pool;
    (void)sb;
    sl->kind->n[sl->state]--;
    dbx_list_remove(&sl->node);
    pool->n_slots--;
    pool->used_mb -= sl->cost_mb;
    sl->magic = 0;
    free(sl);
    touch(pool);
}

static const struct shim_sandbox_handlers slot_handlers = {
    .on_ready = on_ready, .on_lost = on_lost, .on_gone = on_gone};

/* cl NULL: for the pool itself. */
static struct slot *slot_new(struct shim_pool *pool, struct kind *kd, struct shim_claim *cl)
{
    struct slot *sl = DBX_NEW(struct slot);
    *sl = (struct slot){
        .magic = SLOT_MAGIC,
        .pool = pool,
        .kind = kd,
        .claim = cl,
        .background = cl && cl->opts.background,
        .disk_mb = cl ? cl->opts.disk_mb : kd->disk_mb,
        .ordered_ms = dbx_now_ms(),
    };
    (void)dbx_strcpy(sl->digest, sizeof(sl->digest), kd->tpl->digest ? kd->tpl->digest : "");
    const struct shim_sandbox_opts opts = {
        .tpl = kd->tpl,
        .disk_mb = sl->disk_mb,
        /* warm or made to measure, what it shows as its memory and /dev/shm is the same */
        .memory_mb =
            (cl && cl->opts.memory_mb > kd->memory_mb ? cl->opts.memory_mb : kd->memory_mb) +
            OVERHEAD_MB,
        .plain = kd->workspace,
        .processes = cl ? cl->opts.processes : pool->opts.processes,
        .weight = !cl              ? SHIM_WEIGHT_AHEAD
                  : sl->background ? SHIM_WEIGHT_IDLE
                                   : SHIM_WEIGHT_FULL,
    };
    dbx_list_push(&pool->slots, &sl->node);
    pool->n_slots++;
    pool->n_starting[sl->background]++;
    kd->n[SLOT_STARTING]++;
    set_cost(sl, cl ? cl->opts.memory_mb : 0); /* a warm one is promised to nobody yet */
    if (cl)
        cl->slot = sl;
    sl->sb = pool->opts.source->create(pool->opts.source_ctx, &opts, &slot_handlers, sl);
    touch(pool);
    return sl;
}

/* ---- claims ---- */

static bool fits(const struct slot *sl, const struct shim_claim *cl)
{
    return sl->kind == cl->kind && sl->disk_mb == cl->opts.disk_mb;
}

static bool budget_allows(const struct shim_pool *pool, uint64_t more_mb, uint64_t less_mb)
{
    return !pool->opts.memory_mb || pool->used_mb - less_mb + more_mb <= pool->opts.memory_mb;
}

static void claim_free(struct shim_claim *cl)
{
    if (cl->slot)
        cl->slot->claim = NULL;
    dbx_list_remove(&cl->node);
    cl->pool->n_claims--;
    dbx_timer_free(cl->deadline);
    cl->magic = 0;
    free(cl);
}

static void observe_wait(const struct shim_claim *cl)
{
    static struct dbx_metric *waited;
    if (!waited)
        waited = dbx_histogram("devbox_shim_claim_seconds", NULL, "From a claim to its sandbox");
    dbx_metric_observe(waited, (double)(dbx_now_ms() - cl->began_ms) / 1000.0);
}

static void claim_give(struct shim_claim *cl, struct slot *sl)
{
    shim_claimed *fn = cl->fn;
    void *user = cl->user;
    uint32_t cpu_millis = cl->opts.cpu_millis;
    set_cost(sl, cl->opts.memory_mb);
    sl->given_ms = cl->opts.background ? 0 : dbx_now_ms();
    observe_wait(cl);
    claim_free(cl); /* lets go of its start, be it this one or another */
    slot_state(sl, SLOT_CLAIMED);
    sl->pool->opts.source->assign(sl->sb, cpu_millis);
    fn(sl->sb, NULL, user);
}

static void claim_refuse(struct shim_claim *cl)
{
    struct dbx_err err = cl->refused;
    shim_claimed *fn = cl->fn;
    void *user = cl->user;
    claim_free(cl);
    fn(NULL, &err, user);
}

static void on_claim_deadline(void *user)
{
    struct shim_claim *cl = DBX_CAST(struct shim_claim, CLAIM_MAGIC, user);
    if (!cl->refused.code)
        dbx_err_set(&cl->refused, -ETIMEDOUT, DBX_TIMEOUT,
                    "no sandbox was free within %" PRIu64 " ms", cl->opts.wait_ms);
    ask(cl->pool);
}

/* ---- deciding ---- */

static struct slot *find_slot(struct shim_pool *pool, const struct shim_claim *cl,
                              enum slot_state st)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &pool->slots)
    {
        struct slot *sl = dbx_list_entry(it, struct slot, node);
        if (sl->state == st && !sl->claim && fits(sl, cl))
            return sl;
    }
    return NULL;
}

/* Ends the warm sandbox that is missed least: of the template with most of them, but none that this
 * claim fits. One at a time: while one is ending, room is on its way. */
static void evict(struct shim_pool *pool, const struct shim_claim *cl)
{
    struct slot *best = NULL;
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &pool->slots)
    {
        struct slot *sl = dbx_list_entry(it, struct slot, node);
        if (sl->state == SLOT_ENDING)
            return;
        if (sl->state == SLOT_WARM && !sl->claim && !fits(sl, cl) &&
            (!best || sl->kind->n[SLOT_WARM] > best->kind->n[SLOT_WARM]))
            best = sl;
    }
    if (best)
        slot_end(best);
}

static bool room_for(const struct shim_pool *pool, uint64_t cost_mb)
{
    return pool->n_slots < pool->opts.max_sandboxes && budget_allows(pool, cost_mb, 0);
}

static void note_miss(struct shim_claim *cl)
{
    const struct shim_pool *pool = cl->pool;
    bool own = cl->opts.disk_mb == cl->kind->disk_mb;
    if (own && !cl->missed && !cl->opts.background && cl->kind->demand.missed < pool->opts.max_warm)
        shim_demand_missed(&cl->kind->demand, dbx_now_ms());
    cl->missed = true;
}

enum served { NOT_YET, ASIDE, UNDER_WAY, GIVEN };

static uint32_t floor_of(const struct shim_pool *pool, const struct kind *kd)
{
    if (kd->workspace)
        return pool->opts.warm < 0 && kd->tpl->warm > 0;
    return pool->opts.warm >= 0 ? (uint32_t)pool->opts.warm : kd->tpl->warm;
}

static uint32_t target(const struct shim_pool *pool, const struct kind *kd)
{
    uint32_t floor = floor_of(pool, kd);
    if (pool->opts.warm >= 0)
        return floor;
    uint32_t wanted = shim_demand_target(&kd->demand, dbx_now_ms(), pool->opts.max_starts, floor);
    if (wanted > pool->opts.max_warm)
        wanted = pool->opts.max_warm;
    return wanted > floor ? wanted : floor;
}

/* Of one kind, not promised to anybody: warm, or on their way. */
static uint32_t unclaimed_in(const struct shim_pool *pool, const struct kind *kd,
                             enum slot_state st)
{
    uint32_t n = 0;
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &pool->slots)
    {
        const struct slot *sl = dbx_list_entry(it, struct slot, node);
        n += sl->kind == kd && sl->state == st && !sl->claim;
    }
    return n;
}

static uint32_t unclaimed(const struct shim_pool *pool, const struct kind *kd)
{
    return unclaimed_in(pool, kd, SLOT_WARM) + unclaimed_in(pool, kd, SLOT_STARTING);
}

/* What a template holds ready is for those that are alone (theirs is the demand that says how
 * many), while there is room for one more. */
static bool leaves_warm(const struct shim_pool *pool, const struct shim_claim *cl)
{
    return !cl->opts.background ||
           unclaimed_in(pool, cl->kind, SLOT_WARM) > target(pool, cl->kind) ||
           !room_for(pool, cl->opts.memory_mb + overhead_mb(cl->kind));
}

/* Of those who wait for room, the first who may have another's. */
static const struct shim_claim *first_pressed(struct shim_pool *pool)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &pool->claims)
    {
        const struct shim_claim *cl = dbx_list_entry(it, struct shim_claim, node);
        if (!cl->refused.code && !cl->slot && !cl->opts.background && !cl->opts.ahead)
            return cl;
    }
    return NULL;
}

static enum served serve(struct shim_pool *pool, struct shim_claim *cl, bool may_start)
{
    uint64_t cost_mb = cl->opts.memory_mb + overhead_mb(cl->kind);
    struct slot *sl = cl->slot && cl->slot->state == SLOT_WARM ? cl->slot
                      : leaves_warm(pool, cl)                  ? find_slot(pool, cl, SLOT_WARM)
                                                               : NULL;
    if (sl && budget_allows(pool, cost_mb, sl->cost_mb)) {
        claim_give(cl, sl);
        return GIVEN;
    }
    note_miss(cl);
    if (cl->slot)
        return UNDER_WAY;
    if (!may_start)
        return NOT_YET;
    sl = leaves_warm(pool, cl) ? find_slot(pool, cl, SLOT_STARTING) : NULL;
    if (sl && budget_allows(pool, cost_mb, sl->cost_mb)) {
        sl->claim = cl;
        cl->slot = sl;
        if (pool->opts.source->hurry && !cl->opts.background)
            pool->opts.source->hurry(sl->sb);
        set_cost(sl, cl->opts.memory_mb);
        return UNDER_WAY;
    }
    if (cl->opts.ahead && first_pressed(pool))
        return ASIDE; /* the room is another's */
    if (!room_for(pool, cost_mb)) {
        evict(pool, cl);
        return cl->opts.ahead ? ASIDE : NOT_YET;
    }
    if (cl->opts.background && pool->n_starting[true] >= pool->opts.max_starts)
        return ASIDE; /* its turn comes when one of them is made; it holds up nobody */
    if (pool->n_starting[false] >= 2 * pool->opts.max_starts) /* half is never the pool's own */
        return NOT_YET;
    slot_new(pool, cl->kind, cl);
    return UNDER_WAY;
}

/* Each of these two answers one claim at most, and then says so: what is called back may claim,
 * cancel and end anything, so the walk must begin anew. */
static bool refuse_one(struct shim_pool *pool)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &pool->claims)
    {
        struct shim_claim *cl = dbx_list_entry(it, struct shim_claim, node);
        if (cl->refused.code) {
            claim_refuse(cl);
            return true;
        }
    }
    return false;
}

static bool serve_one(struct shim_pool *pool, bool *ret_all)
{
    struct dbx_list *it, *tmp;
    *ret_all = true;
    dbx_list_each(it, tmp, &pool->claims)
    {
        struct shim_claim *cl = dbx_list_entry(it, struct shim_claim, node);
        if (cl->refused.code) /* meanwhile; answered in the next kick */
            continue;
        enum served r = serve(pool, cl, *ret_all);
        if (r == GIVEN)
            return true;
        *ret_all = *ret_all && r != NOT_YET;
    }
    return false;
}

static uint32_t all_unclaimed(const struct shim_pool *pool)
{
    uint32_t n = 0;
    for (size_t i = 0; i < pool->n_kinds; i++)
        n += unclaimed(pool, &pool->kinds[i]);
    return n;
}

/* The template that misses most; NULL: none may be started now. */
static struct kind *neediest(struct shim_pool *pool)
{
    struct kind *best = NULL;
    double best_share = 1;
    uint64_t now = dbx_now_ms(), soonest = UINT64_MAX;
    for (size_t i = 0; i < pool->n_kinds; i++) {
        struct kind *kd = &pool->kinds[i];
        uint32_t want = target(pool, kd), have = unclaimed(pool, kd);
        if (!kd->tpl->image || have >= want)
            continue;
        if (kd->retry_ms > now) {
            soonest = kd->retry_ms < soonest ? kd->retry_ms : soonest;
            continue;
        }
        if ((double)have / want < best_share) {
            best_share = (double)have / want;
            best = kd;
        }
    }
    if (soonest != UINT64_MAX)
        dbx_timer_start(pool->retry, soonest - now, 0);
    return best;
}

/* A start costs more CPU than most programs do: for a moment the sandboxes that were just given
 * away have the machine for themselves, until they have gone or CALM_MS have passed. How long from
 * now. */
static uint64_t calm_for(const struct shim_pool *pool)
{
    uint64_t now = dbx_now_ms(), until = now;
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &pool->slots)
    {
        const struct slot *sl = dbx_list_entry(it, struct slot, node);
        if (sl->given_ms && sl->given_ms + CALM_MS > until)
            until = sl->given_ms + CALM_MS;
    }
    return until - now;
}

/* Somebody who is alone has no sandbox yet. */
static bool is_waited_for(struct shim_pool *pool)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &pool->claims)
    {
        if (!dbx_list_entry(it, struct shim_claim, node)->opts.background)
            return true;
    }
    return false;
}

static void fill(struct shim_pool *pool)
{
    uint64_t wait = is_waited_for(pool) ? 0 : calm_for(pool);
    if (wait) {
        dbx_timer_start(pool->calm, wait, 0);
        return;
    }
    while (pool->n_starting[false] < pool->opts.max_starts) {
        struct kind *kd = neediest(pool);
        if (!kd || !room_for(pool, overhead_mb(kd)))
            return;
        if (all_unclaimed(pool) >= pool->opts.max_warm && unclaimed(pool, kd) >= floor_of(pool, kd))
            return; /* what is above the floor shares one ceiling */
        slot_new(pool, kd, NULL);
    }
}

static void tell_change(struct shim_pool *pool)
{
    if (!pool->changed)
        return;
    pool->changed = false;
    if (pool->on_change)
        pool->on_change(pool->change_user);
}

/* A start whose claim has gone is kept if it is of the pool's sizes. */
static void end_misfits(struct shim_pool *pool)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &pool->slots)
    {
        struct slot *sl = dbx_list_entry(it, struct slot, node);
        bool own = sl->disk_mb == sl->kind->disk_mb && dbx_streq(sl->digest, sl->kind->tpl->digest);
        if (sl->claim || (sl->state != SLOT_STARTING && sl->state != SLOT_WARM))
            continue;
        if (pool->draining || !own)
            slot_end(sl);
        else if (sl->cost_mb != overhead_mb(sl->kind))
            set_cost(sl, 0);
    }
}

void shim_pool_renew(struct shim_pool *pool)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &pool->slots)
    {
        struct slot *sl = dbx_list_entry(it, struct slot, node);
        if (sl->state != SLOT_STARTING && sl->state != SLOT_WARM)
            continue;
        if (sl->claim) /* it waits for another */
            sl->claim->slot = NULL;
        sl->claim = NULL;
        slot_end(sl);
    }
}

static void decide(struct shim_pool *pool)
{
    bool all = true;
    uint32_t turns = pool->n_claims + 1; /* those that come meanwhile wait for the next kick */
    while (turns && serve_one(pool, &all))
        turns--;
    if (!turns)
        ask(pool);
    else if (all && !pool->held[0] && !pool->draining)
        fill(pool);
}

/* What ends, or may be ended without asking anybody, makes room as well. */
static bool has_no_room(struct shim_pool *pool, const struct shim_claim *cl)
{
    struct dbx_list *it, *tmp;
    if (room_for(pool, cl->opts.memory_mb + overhead_mb(cl->kind)))
        return false;
    dbx_list_each(it, tmp, &pool->slots)
    {
        const struct slot *sl = dbx_list_entry(it, struct slot, node);
        if (sl->state == SLOT_ENDING || (sl->state == SLOT_WARM && !sl->claim && !fits(sl, cl)))
            return false;
    }
    return true;
}

static void relieve(struct shim_pool *pool)
{
    const struct shim_claim *cl = pool->on_pressure ? first_pressed(pool) : NULL;
    struct dbx_list *it, *tmp;
    if (!cl || !has_no_room(pool, cl))
        return;
    uint64_t waited_ms = dbx_now_ms() - cl->began_ms;
    const struct shim_sandbox *sb =
        waited_ms < PRESSURE_MS ? NULL : pool->on_pressure(pool->pressure_user);
    dbx_list_each(it, tmp, &pool->slots)
    {
        struct slot *sl = dbx_list_entry(it, struct slot, node);
        if (sb && sl->sb == sb)
            slot_state(sl, SLOT_ENDING);
    }
    if (!sb)
        dbx_timer_start(pool->pressure, PRESSURE_MS, 0);
}

static struct shim_sandbox *create_real(void *ctx, const struct shim_sandbox_opts *opts,
                                        const struct shim_sandbox_handlers *h, void *user)
{
    return shim_sandbox_create(ctx, opts, h, user);
}

static const struct shim_pool_source real_source = {.create = create_real,
                                                    .assign = shim_sandbox_assign,
                                                    .end = shim_sandbox_end,
                                                    .hurry = shim_sandbox_hurry};

static void on_kick(void *user)
{
    struct shim_pool *pool = user;
    for (uint32_t turns = pool->n_claims; turns && refuse_one(pool);)
        turns--;
    end_misfits(pool);
    if (pool->started && !pool->draining) {
        decide(pool);
        relieve(pool);
    }
    tell_change(pool);
    if (pool->draining && !pool->n_slots && !pool->n_claims && pool->on_drained) {
        if (pool->opts.source == &real_source)
            shim_sandbox_release(pool->opts.node);
        void (*fn)(void *) = pool->on_drained;
        pool->on_drained = NULL;
        fn(pool->drained_user);
    }
}

/* ---- the store, and what demand no longer asks for ---- */

/* One of each template at a time: demand may come back. */
static void end_surplus(struct shim_pool *pool)
{
    for (size_t i = 0; i < pool->n_kinds; i++) {
        struct kind *kd = &pool->kinds[i];
        struct dbx_list *it, *tmp;
        if (pool->opts.warm >= 0 || unclaimed(pool, kd) <= target(pool, kd))
            continue;
        dbx_list_each(it, tmp, &pool->slots)
        {
            struct slot *sl = dbx_list_entry(it, struct slot, node);
            if (sl->kind == kd && sl->state == SLOT_WARM && !sl->claim) {
                slot_end(sl);
                break;
            }
        }
    }
}

static bool all_images(const struct shim_pool *pool)
{
    for (size_t i = 0; i < pool->n_kinds; i++)
        if (!pool->kinds[i].tpl->image)
            return false;
    return true;
}

static void on_refresh(void *user)
{
    struct shim_pool *pool = user;
    bool changed = false;
    struct dbx_err err = {0};
    if (bnd_store_refresh(pool->opts.store, &changed, &err) < 0)
        dbx_log(DBX_LOG_WARN, pool->opts.node->log, "look for images: %s", err.msg);
    if (changed)
        touch(pool);
    end_surplus(pool);
    uint64_t every = all_images(pool) ? CALM_REFRESH_MS : REFRESH_MS;
    dbx_timer_start(pool->refresh, every, every);
}

/* ---- the face ---- */

static void set_defaults(struct shim_pool_opts *o)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (!o->max_sandboxes)
        o->max_sandboxes = 64;
    if (!o->max_starts)
        o->max_starts = cpus > 0 ? (uint32_t)cpus : 1;
    if (!o->max_warm)
        o->max_warm = o->max_sandboxes * 3 / 4;
    if (!o->max_waiting)
        o->max_waiting = 256;
    if (!o->disk_mb)
        o->disk_mb = 256;
    if (!o->warm_memory_mb)
        o->warm_memory_mb = 256;
    if (!o->processes)
        o->processes = 64;
    if (!o->source) {
        o->source = &real_source;
        o->source_ctx = (void *)(uintptr_t)o->node; /* create_real only reads it */
    }
}

struct shim_pool *shim_pool_new(const struct shim_pool_opts *opts)
{
    struct shim_pool *pool = DBX_NEW(struct shim_pool);
    pool->opts = *opts;
    set_defaults(&pool->opts);
    dbx_list_init(&pool->slots);
    dbx_list_init(&pool->claims);
    const struct dbx_size *usual = dbx_size_find(DBX_SIZE_DEFAULT);
    for (size_t i = 0; i < bnd_store_count(opts->store) && i < SHIM_POOL_MAX_TEMPLATES; i++) {
        const struct bnd_template *tpl = bnd_store_at(opts->store, i);
        pool->kinds[pool->n_kinds++] = (struct kind){
            .tpl = tpl, .disk_mb = pool->opts.disk_mb, .memory_mb = pool->opts.warm_memory_mb};
        pool->kinds[pool->n_kinds++] = (struct kind){.tpl = tpl,
                                                     .disk_mb = usual->disk_mb,
                                                     .memory_mb = usual->memory_mb,
                                                     .workspace = true};
    }
    pool->kick = dbx_timer_new(opts->node->loop, on_kick, pool);
    pool->retry = dbx_timer_new(opts->node->loop, on_kick, pool);
    pool->calm = dbx_timer_new(opts->node->loop, on_kick, pool);
    pool->pressure = dbx_timer_new(opts->node->loop, on_kick, pool);
    pool->refresh = dbx_timer_new(opts->node->loop, on_refresh, pool);
    dbx_timer_start(pool->refresh, REFRESH_MS, REFRESH_MS);
    return pool;
}

void shim_pool_start(struct shim_pool *pool)
{
    pool->started = true;
    ask(pool);
}

void shim_pool_hold(struct shim_pool *pool, const char *why)
{
    dbx_strcpy(pool->held, sizeof(pool->held), why ? why : "");
    ask(pool);
}

const char *shim_pool_held(const struct shim_pool *pool)
{
    return pool->held[0] ? pool->held : NULL;
}

void shim_pool_drain(struct shim_pool *pool, void (*fn)(void *user), void *user)
{
    struct dbx_list *it, *tmp;
    pool->draining = true;
    pool->on_drained = fn;
    pool->drained_user = user;
    dbx_timer_stop(pool->refresh);
    dbx_list_each(it, tmp, &pool->claims)
    {
        struct shim_claim *cl = dbx_list_entry(it, struct shim_claim, node);
        if (!cl->refused.code)
            dbx_err_set(&cl->refused, -ECANCELED, DBX_UNAVAIL, "the node is shutting down");
    }
    ask(pool);
}

struct shim_pool *shim_pool_free(struct shim_pool *pool)
{
    if (!pool)
        return NULL;
    while (!dbx_list_empty(&pool->claims))
        claim_free(dbx_list_first(&pool->claims, struct shim_claim, node));
    while (!dbx_list_empty(&pool->slots)) {
        struct slot *sl = dbx_list_first(&pool->slots, struct slot, node);
        dbx_list_remove(&sl->node);
        free(sl);
    }
    dbx_timer_free(pool->kick);
    dbx_timer_free(pool->retry);
    dbx_timer_free(pool->calm);
    dbx_timer_free(pool->pressure);
    dbx_timer_free(pool->refresh);
    free(pool);
    return NULL;
}

/* What no kind has the disk for is made to measure, as the first. */
static struct kind *find_kind(struct shim_pool *pool, const char *name, uint64_t disk_mb,
                              bool workspace)
{
    for (size_t i = 0; i < pool->n_kinds; i += 2)
        if (dbx_streq(pool->kinds[i].tpl->name, name))
            return &pool->kinds[i + (workspace && pool->kinds[i + 1].disk_mb == disk_mb)];
    return NULL;
}

static void admit(struct shim_pool *pool, struct shim_claim *cl)
{
    struct dbx_err *err = &cl->refused;
    cl->kind = find_kind(pool, cl->opts.template, cl->opts.disk_mb, cl->opts.workspace);
    if (pool->draining)
        dbx_err_set(err, -ECANCELED, DBX_UNAVAIL, "the node is shutting down");
    else if (!cl->kind)
        dbx_err_set(err, -ENOENT, DBX_NOT_FOUND, "no template '%.40s'", cl->opts.template);
    else if (pool->held[0])
        dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "the node is not fit: %s", pool->held);
    else if (!cl->kind->tpl->image)
        dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "the image of template '%.40s' is not built yet",
                    cl->opts.template);
    else if (pool->opts.memory_mb &&
             cl->opts.memory_mb + overhead_mb(cl->kind) > pool->opts.memory_mb)
        dbx_err_set(err, -ENOMEM, DBX_LIMIT, "%" PRIu64 " MiB are more than this node has",
                    cl->opts.memory_mb);
    else if (pool->n_claims >= pool->opts.max_waiting)
        dbx_err_set(err, -ENOBUFS, DBX_LIMIT, "%u claims wait already", pool->n_claims);
}

struct shim_claim *shim_pool_claim(struct shim_pool *pool, const struct shim_claim_opts *opts,
                                   shim_claimed *fn, void *user)
{
    struct shim_claim *cl = DBX_NEW(struct shim_claim);
    *cl = (struct shim_claim){.magic = CLAIM_MAGIC,
                              .pool = pool,
                              .opts = *opts,
                              .fn = fn,
                              .user = user,
                              .began_ms = dbx_now_ms()};
    cl->opts.disk_mb = opts->disk_mb ? opts->disk_mb : pool->opts.disk_mb;
    cl->opts.memory_mb = opts->memory_mb ? opts->memory_mb : pool->opts.warm_memory_mb;
    cl->opts.processes = opts->processes ? opts->processes : pool->opts.processes;
    cl->opts.wait_ms = opts->wait_ms ? opts->wait_ms : 10000;
    admit(pool, cl);
    if (cl->kind && !cl->refused.code && !cl->opts.background)
        shim_demand_claim(&cl->kind->demand, dbx_now_ms());
    cl->opts.template = cl->kind ? cl->kind->tpl->name : NULL; /* the caller's may go */
    cl->deadline = dbx_timer_new(pool->opts.node->loop, on_claim_deadline, cl);
    dbx_timer_start(cl->deadline, cl->opts.wait_ms, 0);
    dbx_list_push(&pool->claims, &cl->node);
    pool->n_claims++;
    touch(pool);
    return cl;
}

void shim_claim_wanted(struct shim_claim *cl)
{
    DBX_CAST(struct shim_claim, CLAIM_MAGIC, cl);
    cl->opts.ahead = false;
    ask(cl->pool);
}

void shim_claim_cancel(struct shim_claim *cl)
{
    DBX_CAST(struct shim_claim, CLAIM_MAGIC, cl);
    if (!cl->refused.code)
        dbx_err_set(&cl->refused, -ECANCELED, DBX_CONFLICT, "cancelled");
    ask(cl->pool);
}

struct shim_sandbox *shim_pool_adopt(struct shim_pool *pool, const struct dbx_id *id,
                                     const struct shim_sandbox_record *rec, int control,
                                     uint64_t claimed_mb)
{
    struct kind *kd = find_kind(pool, rec->template, rec->disk_mb, rec->plain);
    if (!kd || !kd->tpl->image) {
        dbx_close(control);
        return NULL;
    }
    struct slot *sl = DBX_NEW(struct slot);
    *sl = (struct slot){.magic = SLOT_MAGIC,
                        .pool = pool,
                        .kind = kd,
                        .state = claimed_mb ? SLOT_CLAIMED : SLOT_WARM,
                        .disk_mb = rec->disk_mb};
    (void)dbx_strcpy(sl->digest, sizeof(sl->digest), rec->digest);
    dbx_list_push(&pool->slots, &sl->node);
    pool->n_slots++;
    kd->n[sl->state]++;
    set_cost(sl, claimed_mb);
    sl->sb = shim_sandbox_adopt(pool->opts.node, id, rec, kd->tpl, control, claimed_mb > 0,
                                &slot_handlers, sl);
    touch(pool);
    return sl->sb;
}

void shim_pool_counts(const struct shim_pool *pool, struct shim_pool_counts *ret)
{
    *ret = (struct shim_pool_counts){
        .max_sandboxes = pool->opts.max_sandboxes,
        .sandboxes = pool->n_slots,
        .starting = pool->n_starting[false] + pool->n_starting[true],
        .waiting = pool->n_claims,
        .memory_mb = pool->opts.memory_mb,
        .memory_used_mb = pool->used_mb,
        .n_templates = pool->n_kinds / 2,
    };
    for (size_t i = 0; i < pool->n_kinds; i++) {
        const struct kind *kd = &pool->kinds[i];
        struct shim_pool_template_counts *c = &ret->templates[i / 2];
        ret->claimed += kd->n[SLOT_CLAIMED];
        ret->ending += kd->n[SLOT_ENDING];
        c->name = kd->tpl->name;
        c->image = kd->tpl->image != NULL;
        c->starting += kd->n[SLOT_STARTING];
        c->claimed += kd->n[SLOT_CLAIMED];
        if (kd->workspace) {
            c->workspace_warm = kd->n[SLOT_WARM];
        } else {
            c->warm = kd->n[SLOT_WARM];
            c->target = target(pool, kd);
        }
    }
}

void shim_pool_on_change(struct shim_pool *pool, void (*fn)(void *user), void *user)
{
    pool->on_change = fn;
    pool->change_user = user;
}

void shim_pool_on_pressure(struct shim_pool *pool, struct shim_sandbox *(*fn)(void *user),
                           void *user)
{
    pool->on_pressure = fn;
    pool->pressure_user = user;
}
