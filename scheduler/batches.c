/* SPDX-License-Identifier: Apache-2.0 */
/* What the core knows of batches. */
#include "scheduler/core_int.h"

#include <stdlib.h>

#define MIN_ROOM 64  /* of one batch in the core, when nothing else bounds it */
#define MAX_ALL 8192 /* of all batches together */
#define MAX_SHARED                                                                                 \
    (128u << 20) /* of files that batches share; what is beyond is read with each execution */

struct sched_batch *sched_core_batch(struct sched_core *core, const struct dbx_id *id, bool create)
{
    struct sched_batch *b = dbx_map_get(core->batches, id->b, sizeof(id->b));

    if (b || !create)
        return b;
    b = DBX_NEW(struct sched_batch);
    b->id = *id;
    b->after = -1;
    dbx_list_push(&core->batch_list, &b->_node);
    (void)dbx_map_put(core->batches, id->b, sizeof(id->b), b);
    return b;
}

struct dbx_list *sched_core_batches(struct sched_core *core)
{
    return &core->batch_list;
}

static void forget(struct sched_core *core, struct sched_batch *b)
{
    dbx_list_remove(&b->_node);
    (void)dbx_map_del(core->batches, b->id.b, sizeof(b->id.b));
    core->shared_bytes -= b->shared_len;
    free(b->shared);
    free(b);
}

void sched_core_batch_keep(struct sched_core *core, struct sched_batch *b, uint8_t **shared,
                           size_t len)
{
    if (b->has_shared || len > MAX_SHARED - core->shared_bytes)
        return;
    b->has_shared = true;
    b->shared = DBX_TAKE(*shared);
    b->shared_len = len;
    core->shared_bytes += len;
}

void sched_core_batches_sweep(struct sched_core *core)
{
    struct dbx_list *it, *next;

    dbx_list_each(it, next, &core->batch_list)
    {
        struct sched_batch *b = dbx_list_entry(it, struct sched_batch, _node);
        if (!b->listed && b->in_core == 0 && !b->stopping)
            forget(core, b);
    }
}

void sched_batches__done(struct sched_core *core)
{
    struct dbx_list *it, *next;

    dbx_list_each(it, next, &core->batch_list)
        forget(core, dbx_list_entry(it, struct sched_batch, _node));
    dbx_map_free(core->batches);
}

/* Enough that no slot waits for the next page. */
uint32_t sched_core_batch_room(const struct sched_core *core, const struct sched_batch *b)
{
    uint32_t slots = 0, room, share = MAX_ALL / (uint32_t)(dbx_map_count(core->batches) + 1);
    const struct dbx_list *it;

    for (it = core->node_list.next; it != &core->node_list; it = it->next) {
        const struct sched_node *node = dbx_list_entry(it, struct sched_node, _node);
        slots += node->online ? node->cap.sandboxes : 0;
    }
    room = slots > MIN_ROOM / 2 ? 2 * slots : MIN_ROOM;
    if (room > share)
        room = share > 0 ? share : 1;
    return b->max_parallel > 0 && b->max_parallel < room ? b->max_parallel : room;
}

void sched_core_each_of_batch(struct sched_core *core, const struct sched_batch *b,
                              void (*fn)(struct sched_proc *sp, void *arg), void *arg)
{
    struct dbx_map_iter it = {0};

    while (dbx_map_next(core->procs, &it)) {
        struct sched_proc *sp = it.value;
        if (sp->batch == b)
            fn(sp, arg);
    }
}
