/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core_int.h"

#include "common/base/str.h"
#include <stdlib.h>
#include <string.h>

struct sched_node *sched_core_node(struct sched_core *core, const char *id, bool create)
{
    struct sched_node *node = DBX_MAP_GET_STR(core->nodes, id);

    if (node || !create)
        return node;
    node = DBX_NEW(struct sched_node);
    bool fits = dbx_strcpy(node->id, sizeof(node->id), id);
    dbx_assert(fits);
    dbx_list_init(&node->procs);
    dbx_list_push(&core->node_list, &node->_node);
    (void)dbx_map_put(core->nodes, id, strlen(id), node);
    return node;
}

struct dbx_list *sched_core_nodes(struct sched_core *core)
{
    return &core->node_list;
}

static const struct sched_template *template_of(const struct sched_node *node, const char *name)
{
    for (size_t i = 0; i < node->cap.ntemplates; i++) {
        if (strcmp(node->cap.templates[i].name, name) == 0)
            return &node->cap.templates[i];
    }
    return NULL;
}

/* What the node said, less what was sent since and has not arrived: its next report will have it.
 */
static bool has_warm(const struct sched_node *node, const struct sched_template *t)
{
    uint32_t promised = 0;
    struct dbx_list *it, *next;

    if (t->warm == 0)
        return false;
    dbx_list_each(it, next, &node->procs)
    {
        const struct sched_proc *sp = dbx_list_entry(it, struct sched_proc, _of_node);
        bool on_its_way =
            sp->state == SCHED_PLACING || (sp->state == SCHED_STARTING && !sp->accepted);
        if (on_its_way && strcmp(sp->template, t->name) == 0)
            promised++;
    }
    return promised < t->warm;
}

/* What runs in batches keeps processors busy: more at a time would only be slower, and in the way
 * of those who wait for an answer. */
#define BATCH_PER_CPU 2

static uint32_t batch_slots(const struct sched_node *node)
{
    uint32_t most = node->cap.sandboxes - node->cap.sandboxes / 4;
    uint32_t by_cpu = node->cap.cpus * BATCH_PER_CPU;
    return by_cpu > 0 && by_cpu < most ? by_cpu : most;
}

/* The node has one of its batch's sandboxes that nobody is on his way to. */
static bool has_lane(const struct sched_node *node, const struct sched_batch *b)
{
    size_t lanes = 0, promised = 0;
    struct dbx_list *it, *next;

    for (size_t i = 0; b && b->shares && i < node->cap.nlanes; i++)
        lanes += dbx_id_equal(&node->cap.lanes[i], &b->id);
    if (lanes == 0)
        return false;
    dbx_list_each(it, next, &node->procs)
    {
        const struct sched_proc *sp = dbx_list_entry(it, struct sched_proc, _of_node);
        promised += sp->batch == b && sp->state <= SCHED_STARTING && !sp->accepted;
    }
    return promised < lanes;
}

struct sched_node *sched_nodes__choose(struct sched_core *core, const struct sched_proc *sp,
                                       bool ahead, uint64_t now)
{
    struct sched_node *best = NULL;
    bool waited_for = !sp->batch && !ahead;
    int best_warm = 0;
    uint32_t best_free = 0;
    struct dbx_list *it, *next;

    dbx_list_each(it, next, &core->node_list)
    {
        struct sched_node *node = dbx_list_entry(it, struct sched_node, _node);
        uint32_t used = node->nprocs - node->njoined + node->nboxes;
        uint32_t spared = waited_for ? node->nidle : 0;
        if (!node->online || used >= node->cap.sandboxes + spared || node->hold_until > now)
            continue;
        const struct sched_template *t = template_of(node, sp->template);
        if (!t || (sp->batch && node->nbatch >= batch_slots(node)) ||
            (sp->size && !(node->cap.sizes & dbx_size_bit(sp->size))))
            continue;
        uint32_t free_slots = used < node->cap.sandboxes ? node->cap.sandboxes - used : 0;
        int warm = !free_slots ? -1 : has_lane(node, sp->batch) ? 2 : has_warm(node, t);
        if (!best || warm > best_warm || (warm == best_warm && free_slots > best_free)) {
            best = node;
            best_warm = warm;
            best_free = free_slots;
        }
    }
    return best;
}

struct sched_node *sched_core_expire(struct sched_core *core, uint64_t now)
{
    struct dbx_list *it, *next;

    dbx_list_each(it, next, &core->node_list)
    {
        struct sched_node *node = dbx_list_entry(it, struct sched_node, _node);
        if (node->deadline == 0 || node->deadline > now)
            continue;
        node->deadline = 0;
        node->online = false;
        sched_core_boxes_reset(core, node);
        return node;
    }
    return NULL;
}

void sched_core_sweep(struct sched_core *core)
{
    struct dbx_list *it, *next;

    dbx_list_each(it, next, &core->node_list)
    {
        struct sched_node *node = dbx_list_entry(it, struct sched_node, _node);
        if (node->online || node->deadline > 0 || node->nprocs > 0 || node->nboxes > 0)
            continue;
        dbx_list_remove(&node->_node);
        (void)dbx_map_del(core->nodes, node->id, strlen(node->id));
        free(node);
    }
}
