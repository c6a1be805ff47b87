/* SPDX-License-Identifier: Apache-2.0 */
/* Those who want a sandbox. A claim without a warm one takes over a start that nobody waits for,
 * else orders one of its own; strict order keeps a large claim from starving: while the first waits
 * for room, later ones get only what is warm. Room is made by ending warm sandboxes that no waiting
 * claim can use, and then, for who is waited for, by whom on_pressure ends. */
#include "shim/pool_int.h"

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/io/loop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define PRESSURE_MS 100 /* so long one waits for what ends by itself, and to ask again */
#define MAX_FAILURES 2  /* of the starts that one claim waits for */

void shim_pool__claim_failed(struct shim_claim *cl, const struct dbx_err *err)
{
    cl->slot = NULL;
    if (++cl->failures < MAX_FAILURES || cl->refused.code)
        return;
    cl->refused = *err;
    dbx_err_wrap(&cl->refused, err->code ? err->code : -EIO, "make a sandbox");
}

static bool fits(const struct slot *sl, const struct shim_claim *cl)
{
    return sl->kind == cl->kind && sl->disk_mb == cl->opts.disk_mb &&
           sl->plain == cl->opts.workspace;
}

static bool budget_allows(const struct shim_pool *pool, uint64_t more_mb, uint64_t less_mb)
{
    return !pool->opts.memory_mb || pool->used_mb - less_mb + more_mb <= pool->opts.memory_mb;
}

void shim_pool__claim_free(struct shim_claim *cl)
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
    bool background = cl->opts.background;
    shim_pool__set_cost(sl, cl->opts.memory_mb);
    sl->given_ms = cl->opts.background ? 0 : dbx_now_ms();
    observe_wait(cl);
    shim_pool__claim_free(cl); /* lets go of its start, be it this one or another */
    shim_pool__slot_state(sl, SLOT_CLAIMED);
    sl->pool->opts.source->assign(sl->sb, cpu_millis, background);
    fn(sl->sb, NULL, user);
}

static void claim_refuse(struct shim_claim *cl)
{
    struct dbx_err err = cl->refused;
    shim_claimed *fn = cl->fn;
    void *user = cl->user;
    shim_pool__claim_free(cl);
    fn(NULL, &err, user);
}

static void on_claim_deadline(void *user)
{
    struct shim_claim *cl = DBX_CAST(struct shim_claim, CLAIM_MAGIC, user);
    if (!cl->refused.code)
        dbx_err_set(&cl->refused, -ETIMEDOUT, DBX_TIMEOUT,
                    "no sandbox was free within %" PRIu64 " ms", cl->opts.wait_ms);
    shim_pool__ask(cl->pool);
}

/* ---- serving ---- */

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
        shim_pool__slot_end(best);
}

bool shim_pool__room_for(const struct shim_pool *pool, uint64_t cost_mb)
{
    return pool->n_slots < pool->opts.max_sandboxes && budget_allows(pool, cost_mb, 0);
}

static void note_miss(struct shim_claim *cl)
{
    const struct shim_pool *pool = cl->pool;
    bool own = cl->opts.disk_mb == cl->kind->disk_mb && cl->opts.workspace == cl->kind->workspace;
    if (own && !cl->missed && !cl->opts.background && cl->kind->demand.missed < pool->opts.max_warm)
        shim_demand_missed(&cl->kind->demand, dbx_now_ms());
    cl->missed = true;
}

enum served { NOT_YET, ASIDE, UNDER_WAY, GIVEN };

/* What a template holds ready is for those that are alone (theirs is the demand that says how
 * many), while there is room for one more. */
static bool leaves_warm(const struct shim_pool *pool, const struct shim_claim *cl)
{
    return !cl->opts.background ||
           shim_pool__unclaimed_in(pool, cl->kind, SLOT_WARM) > shim_pool__target(pool, cl->kind) ||
           !shim_pool__room_for(pool, cl->opts.memory_mb + shim_pool__overhead_mb(cl->kind));
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
    uint64_t cost_mb = cl->opts.memory_mb + shim_pool__overhead_mb(cl->kind);
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
        shim_pool__set_cost(sl, cl->opts.memory_mb);
        return UNDER_WAY;
    }
    if (cl->opts.ahead && first_pressed(pool))
        return ASIDE; /* the room is another's */
    if (!shim_pool__room_for(pool, cost_mb)) {
        evict(pool, cl);
        return cl->opts.ahead ? ASIDE : NOT_YET;
    }
    if (cl->opts.background && pool->n_starting[true] >= pool->opts.max_starts)
        return ASIDE; /* its turn comes when one of them is made; it holds up nobody */
    if (pool->n_starting[false] >= 2 * pool->opts.max_starts) /* half is never the pool's own */
        return NOT_YET;
    shim_pool__slot_new(pool, cl->kind, cl);
    return UNDER_WAY;
}

bool shim_pool__refuse_one(struct shim_pool *pool)
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

bool shim_pool__serve_one(struct shim_pool *pool, bool *ret_all)
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

/* What ends, or may be ended without asking anybody, makes room as well. */
static bool has_no_room(struct shim_pool *pool, const struct shim_claim *cl)
{
    struct dbx_list *it, *tmp;
    if (shim_pool__room_for(pool, cl->opts.memory_mb + shim_pool__overhead_mb(cl->kind)))
        return false;
    dbx_list_each(it, tmp, &pool->slots)
    {
        const struct slot *sl = dbx_list_entry(it, struct slot, node);
        if (sl->state == SLOT_ENDING || (sl->state == SLOT_WARM && !sl->claim && !fits(sl, cl)))
            return false;
    }
    return true;
}

void shim_pool__relieve(struct shim_pool *pool)
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
            shim_pool__slot_state(sl, SLOT_ENDING);
    }
    if (!sb)
        dbx_timer_start(pool->pressure, PRESSURE_MS, 0);
}

/* ---- the face ---- */

static void admit(struct shim_pool *pool, struct shim_claim *cl)
{
    struct dbx_err *err = &cl->refused;
    cl->kind = shim_pool__find_kind(pool, cl->opts.template, cl->opts.disk_mb, cl->opts.workspace);
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
             cl->opts.memory_mb + shim_pool__overhead_mb(cl->kind) > pool->opts.memory_mb)
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
    shim_pool__touch(pool);
    return cl;
}

void shim_claim_wanted(struct shim_claim *cl)
{
    DBX_CAST(struct shim_claim, CLAIM_MAGIC, cl);
    cl->opts.ahead = false;
    shim_pool__ask(cl->pool);
}

void shim_claim_cancel(struct shim_claim *cl)
{
    DBX_CAST(struct shim_claim, CLAIM_MAGIC, cl);
    if (!cl->refused.code)
        dbx_err_set(&cl->refused, -ECANCELED, DBX_CONFLICT, "cancelled");
    shim_pool__ask(cl->pool);
}
