/* SPDX-License-Identifier: Apache-2.0 */
/* The pool's sandboxes: each a slot, from its order until nothing is left of it. */
#include "shim/pool_int.h"

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/str.h"
#include "shim/record.h"

#include <stdlib.h>

#define OVERHEAD_MB 32 /* of the runtime, for each sandbox, in the memory budget */
#define FIRST_BACKOFF_MS 500
#define MAX_BACKOFF_MS 30000

void shim_pool__slot_state(struct slot *sl, enum slot_state st)
{
    struct shim_pool *pool = sl->pool;
    pool->n_starting[sl->background] -= sl->state == SLOT_STARTING;
    sl->kind->n[sl->state]--;
    sl->state = st;
    sl->kind->n[st]++;
    shim_pool__touch(pool);
}

uint64_t shim_pool__overhead_mb(const struct kind *kd)
{
    return OVERHEAD_MB + (kd->workspace ? 0 : kd->tpl->parked.memory_mb);
}

void shim_pool__set_cost(struct slot *sl, uint64_t memory_mb)
{
    sl->pool->used_mb -= sl->cost_mb;
    sl->cost_mb = memory_mb + shim_pool__overhead_mb(sl->kind);
    sl->pool->used_mb += sl->cost_mb;
}

void shim_pool__slot_end(struct slot *sl)
{
    if (sl->state == SLOT_ENDING)
        return;
    shim_pool__slot_state(sl, SLOT_ENDING);
    sl->pool->opts.source->end(sl->sb);
}

static void on_ready(struct shim_sandbox *sb, void *user)
{
    struct slot *sl = DBX_CAST(struct slot, SLOT_MAGIC, user);
    (void)sb;
    sl->kind->backoff_ms = sl->kind->retry_ms = 0;
    shim_demand_made(&sl->kind->demand, dbx_now_ms() - sl->ordered_ms);
    if (sl->state == SLOT_STARTING)
        shim_pool__slot_state(sl, SLOT_WARM);
}

static void back_off(struct kind *kd)
{
    kd->backoff_ms = kd->backoff_ms ? kd->backoff_ms * 2 : FIRST_BACKOFF_MS;
    if (kd->backoff_ms > MAX_BACKOFF_MS)
        kd->backoff_ms = MAX_BACKOFF_MS;
    kd->retry_ms = dbx_now_ms() + kd->backoff_ms;
}

/* Of one that nobody has claimed: it ends itself. */
static void on_lost(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct slot *sl = DBX_CAST(struct slot, SLOT_MAGIC, user);
    (void)sb;
    if (sl->state == SLOT_STARTING)
        back_off(sl->kind);
    if (sl->claim)
        shim_pool__claim_failed(DBX_TAKE(sl->claim), err);
    if (sl->state != SLOT_ENDING)
        shim_pool__slot_state(sl, SLOT_ENDING);
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
    shim_pool__touch(pool);
}

static const struct shim_sandbox_handlers slot_handlers = {
    .on_ready = on_ready, .on_lost = on_lost, .on_gone = on_gone};

struct slot *shim_pool__slot_new(struct shim_pool *pool, struct kind *kd, struct shim_claim *cl)
{
    struct slot *sl = DBX_NEW(struct slot);
    *sl = (struct slot){
        .magic = SLOT_MAGIC,
        .pool = pool,
        .kind = kd,
        .claim = cl,
        .background = cl && cl->opts.background,
        .plain = cl ? cl->opts.workspace : kd->workspace,
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
        .plain = sl->plain,
        .processes = cl ? cl->opts.processes : pool->opts.processes,
        .weight = !cl              ? SHIM_WEIGHT_AHEAD
                  : sl->background ? SHIM_WEIGHT_IDLE
                                   : SHIM_WEIGHT_FULL,
    };
    dbx_list_push(&pool->slots, &sl->node);
    pool->n_slots++;
    pool->n_starting[sl->background]++;
    kd->n[SLOT_STARTING]++;
    shim_pool__set_cost(sl, cl ? cl->opts.memory_mb : 0); /* a warm one is promised to nobody yet */
    if (cl)
        cl->slot = sl;
    sl->sb = pool->opts.source->create(pool->opts.source_ctx, &opts, &slot_handlers, sl);
    shim_pool__touch(pool);
    return sl;
}

struct shim_sandbox *shim_pool_adopt(struct shim_pool *pool, const struct dbx_id *id,
                                     const struct shim_sandbox_record *rec, int control,
                                     uint64_t claimed_mb)
{
    struct kind *kd = shim_pool__find_kind(pool, rec->template, rec->disk_mb, rec->plain);
    if (!kd || !kd->tpl->image) {
        dbx_close(control);
        return NULL;
    }
    struct slot *sl = DBX_NEW(struct slot);
    *sl = (struct slot){.magic = SLOT_MAGIC,
                        .pool = pool,
                        .kind = kd,
                        .state = claimed_mb ? SLOT_CLAIMED : SLOT_WARM,
                        .plain = rec->plain,
                        .disk_mb = rec->disk_mb};
    (void)dbx_strcpy(sl->digest, sizeof(sl->digest), rec->digest);
    dbx_list_push(&pool->slots, &sl->node);
    pool->n_slots++;
    kd->n[sl->state]++;
    shim_pool__set_cost(sl, claimed_mb);
    sl->sb = shim_sandbox_adopt(pool->opts.node, id, rec, kd->tpl, control, claimed_mb > 0,
                                &slot_handlers, sl);
    shim_pool__touch(pool);
    return sl->sb;
}
