/* SPDX-License-Identifier: Apache-2.0 */
/* One function, kick(), decides everything: it runs (from a timer, never inside a call of the
 * pool's users) after anything has changed, answers what is decided, serves the claims in their
 * order, and fills with what room is left. Everything else only changes the lists and asks for a
 * kick. */
#include "shim/pool_int.h"

#include "common/base/str.h"
#include "common/io/loop.h"
#include "common/proto/sizes.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

void shim_pool__ask(struct shim_pool *pool)
{
    dbx_timer_start(pool->kick, 0, 0);
}

void shim_pool__touch(struct shim_pool *pool)
{
    pool->changed = true;
    shim_pool__ask(pool);
}

/* ---- deciding ---- */

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
        bool own = sl->disk_mb == sl->kind->disk_mb && sl->plain == sl->kind->workspace &&
                   dbx_streq(sl->digest, sl->kind->tpl->digest);
        if (sl->claim || (sl->state != SLOT_STARTING && sl->state != SLOT_WARM))
            continue;
        if (pool->draining || !own)
            shim_pool__slot_end(sl);
        else if (sl->cost_mb != shim_pool__overhead_mb(sl->kind))
            shim_pool__set_cost(sl, 0);
    }
}

static void decide(struct shim_pool *pool)
{
    bool all = true;
    uint32_t turns = pool->n_claims + 1; /* those that come meanwhile wait for the next kick */
    while (turns && shim_pool__serve_one(pool, &all))
        turns--;
    if (!turns)
        shim_pool__ask(pool);
    else if (all && !pool->held[0] && !pool->draining)
        shim_pool__fill(pool);
}

static struct shim_sandbox *create_real(void *ctx, const struct shim_sandbox_opts *opts,
                                        const struct shim_sandbox_handlers *h, void *user)
{
    return shim_sandbox_create(ctx, opts, h, user);
}

static const struct shim_pool_source real_source = {.create = create_real,
                                                    .assign = shim_sandbox_assign,
                                                    .end = shim_sandbox_end,
                                                    .hurry = shim_sandbox_hurry,
                                                    .warm_up = shim_sandbox_warm_up};

/* Who came out of this turn without a claim may do ahead what its first start would have to. */
static void warm_up(struct shim_pool *pool)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &pool->slots)
    {
        struct slot *sl = dbx_list_entry(it, struct slot, node);
        if (sl->state != SLOT_WARM || sl->claim || sl->warmed)
            continue;
        sl->warmed = true;
        if (pool->opts.source->warm_up)
            pool->opts.source->warm_up(sl->sb);
    }
}

static void on_kick(void *user)
{
    struct shim_pool *pool = user;
    for (uint32_t turns = pool->n_claims; turns && shim_pool__refuse_one(pool);)
        turns--;
    end_misfits(pool);
    if (pool->started && !pool->draining) {
        decide(pool);
        shim_pool__relieve(pool);
    }
    warm_up(pool);
    tell_change(pool);
    if (pool->draining && !pool->n_slots && !pool->n_claims && pool->on_drained) {
        if (pool->opts.source == &real_source)
            shim_sandbox_release(pool->opts.node);
        void (*fn)(void *) = pool->on_drained;
        pool->on_drained = NULL;
        fn(pool->drained_user);
    }
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
    pool->refresh = dbx_timer_new(opts->node->loop, shim_pool__on_refresh, pool);
    dbx_timer_start(pool->refresh, REFRESH_MS, REFRESH_MS);
    return pool;
}

void shim_pool_start(struct shim_pool *pool)
{
    pool->started = true;
    shim_pool__ask(pool);
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
        shim_pool__slot_end(sl);
    }
}

void shim_pool_hold(struct shim_pool *pool, const char *why)
{
    dbx_strcpy(pool->held, sizeof(pool->held), why ? why : "");
    shim_pool__ask(pool);
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
    shim_pool__ask(pool);
}

struct shim_pool *shim_pool_free(struct shim_pool *pool)
{
    if (!pool)
        return NULL;
    while (!dbx_list_empty(&pool->claims))
        shim_pool__claim_free(dbx_list_first(&pool->claims, struct shim_claim, node));
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

struct kind *shim_pool__find_kind(struct shim_pool *pool, const char *name, uint64_t disk_mb,
                                  bool workspace)
{
    for (size_t i = 0; i < pool->n_kinds; i += 2)
        if (dbx_streq(pool->kinds[i].tpl->name, name))
            return &pool->kinds[i + (workspace && pool->kinds[i + 1].disk_mb == disk_mb)];
    return NULL;
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
            c->target = shim_pool__target(pool, kd);
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
