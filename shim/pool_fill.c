/* SPDX-License-Identifier: Apache-2.0 */
/* How many sandboxes of each kind are made ahead: what demand asks for from the template's own
 * number up, in what room the claims leave; and one less in a while when it asks for less. */
#include "shim/pool_int.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/loop.h"

#define CALM_REFRESH_MS 5000 /* when every template has its image: for those that are rebuilt */
#define CALM_MS 100

static uint32_t floor_of(const struct shim_pool *pool, const struct kind *kd)
{
    if (kd->workspace)
        return pool->opts.warm < 0 && kd->tpl->warm > 0;
    return pool->opts.warm >= 0 ? (uint32_t)pool->opts.warm : kd->tpl->warm;
}

uint32_t shim_pool__target(const struct shim_pool *pool, const struct kind *kd)
{
    uint32_t floor = floor_of(pool, kd);
    if (pool->opts.warm >= 0)
        return floor;
    uint32_t wanted = shim_demand_target(&kd->demand, dbx_now_ms(), pool->opts.max_starts, floor);
    if (wanted > pool->opts.max_warm)
        wanted = pool->opts.max_warm;
    return wanted > floor ? wanted : floor;
}

uint32_t shim_pool__unclaimed_in(const struct shim_pool *pool, const struct kind *kd,
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
    return shim_pool__unclaimed_in(pool, kd, SLOT_WARM) +
           shim_pool__unclaimed_in(pool, kd, SLOT_STARTING);
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
        uint32_t want = shim_pool__target(pool, kd), have = unclaimed(pool, kd);
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

void shim_pool__fill(struct shim_pool *pool)
{
    uint64_t wait = is_waited_for(pool) ? 0 : calm_for(pool);
    if (wait) {
        dbx_timer_start(pool->calm, wait, 0);
        return;
    }
    while (pool->n_starting[false] < pool->opts.max_starts) {
        struct kind *kd = neediest(pool);
        if (!kd || !shim_pool__room_for(pool, shim_pool__overhead_mb(kd)))
            return;
        if (all_unclaimed(pool) >= pool->opts.max_warm && unclaimed(pool, kd) >= floor_of(pool, kd))
            return; /* what is above the floor shares one ceiling */
        shim_pool__slot_new(pool, kd, NULL);
    }
}

/* One of each template at a time: demand may come back. */
static void end_surplus(struct shim_pool *pool)
{
    for (size_t i = 0; i < pool->n_kinds; i++) {
        struct kind *kd = &pool->kinds[i];
        struct dbx_list *it, *tmp;
        if (pool->opts.warm >= 0 || unclaimed(pool, kd) <= shim_pool__target(pool, kd))
            continue;
        dbx_list_each(it, tmp, &pool->slots)
        {
            struct slot *sl = dbx_list_entry(it, struct slot, node);
            if (sl->kind == kd && sl->state == SLOT_WARM && !sl->claim) {
                shim_pool__slot_end(sl);
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

void shim_pool__on_refresh(void *user)
{
    struct shim_pool *pool = user;
    bool changed = false;
    struct dbx_err err = {0};
    if (bnd_store_refresh(pool->opts.store, &changed, &err) < 0)
        dbx_log(DBX_LOG_WARN, pool->opts.node->log, "look for images: %s", err.msg);
    if (changed)
        shim_pool__touch(pool);
    end_surplus(pool);
    uint64_t every = all_images(pool) ? CALM_REFRESH_MS : REFRESH_MS;
    dbx_timer_start(pool->refresh, every, every);
}
