/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes of workspaces: each stands at one node, and its processes go there. It is known while
 * the node has it, or a process of it is on its way there. */
#include "common/base/str.h"
#include "scheduler/core_int.h"

#include <stdlib.h>
#include <string.h>

struct sched_box {
    struct dbx_id id;
    struct sched_node *node; /* borrowed */
    uint32_t nprocs;         /* at the node */
    bool live;               /* the node has it, as far as we know */
};

/* It takes a slot, and could give it up. Its node's count is kept around whatever changes this. */
static bool is_idle(const struct sched_box *box)
{
    return box->live && box->nprocs == 0;
}

static void set_live(struct sched_box *box, bool live)
{
    box->node->nidle -= is_idle(box);
    box->live = live;
    box->node->nidle += is_idle(box);
}

static struct sched_box *find(const struct sched_core *core, const struct dbx_id *id)
{
    return dbx_map_get(core->boxes, id->b, sizeof(id->b));
}

static struct sched_box *add(struct sched_core *core, const struct dbx_id *id,
                             struct sched_node *node)
{
    struct sched_box *box = DBX_NEW(struct sched_box);
    box->id = *id;
    box->node = node;
    node->nboxes++;
    (void)dbx_map_put(core->boxes, id->b, sizeof(id->b), box);
    return box;
}

static void drop_unused(struct sched_core *core, struct sched_box *box)
{
    if (box->live || box->nprocs > 0)
        return;
    box->node->nboxes--;
    (void)dbx_map_del(core->boxes, box->id.b, sizeof(box->id.b));
    free(box);
}

void sched_boxes__join(struct sched_core *core, struct sched_proc *sp)
{
    struct sched_box *box = find(core, &sp->sandbox);
    if (!box)
        box = add(core, &sp->sandbox, sp->node);
    box->node->nidle -= is_idle(box);
    box->nprocs++;
    box->node->njoined++;
    sp->_box = box;
    if (box->node != sp->node) /* read from the database: a past that two nodes share */
        box->node->njoined--, sp->node->njoined++;
}

void sched_boxes__leave(struct sched_core *core, struct sched_proc *sp)
{
    struct sched_box *box = sp->_box;
    sp->_box = NULL;
    sp->node->njoined--;
    box->nprocs--;
    box->node->nidle += is_idle(box);
    drop_unused(core, box);
}

void sched_boxes__done(struct sched_core *core)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(core->boxes, &it))
        free(it.value);
    dbx_map_free(core->boxes);
}

struct sched_node *sched_core_box_node(const struct sched_core *core, const struct dbx_id *sandbox)
{
    const struct sched_box *box = find(core, sandbox);
    return box ? box->node : NULL;
}

bool sched_core_has_boxes(const struct sched_core *core)
{
    return dbx_map_count(core->boxes) > 0;
}

void sched_core_box_live(struct sched_core *core, const struct dbx_id *sandbox,
                         struct sched_node *node)
{
    struct sched_box *box = find(core, sandbox);
    if (!box)
        box = add(core, sandbox, node);
    if (box->node == node)
        set_live(box, true);
}

struct sched_node *sched_core_box_place(struct sched_core *core, const struct dbx_id *sandbox,
                                        const char *template, const struct dbx_size *size,
                                        uint64_t now)
{
    struct sched_proc like = {.size = size, .workspace = true};
    struct sched_node *node = sched_core_box_node(core, sandbox);
    if (!node && dbx_strcpy(like.template, sizeof(like.template), template))
        node = sched_nodes__choose(core, &like, /* ahead= */ true, now);
    if (node)
        sched_core_box_live(core, sandbox, node);
    return node;
}

void sched_core_box_gone(struct sched_core *core, const struct dbx_id *sandbox,
                         const struct sched_node *node)
{
    struct sched_box *box = find(core, sandbox);
    if (!box || box->node != node)
        return;
    set_live(box, false);
    drop_unused(core, box);
}

void sched_core_boxes_reset(struct sched_core *core, const struct sched_node *node)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(core->boxes, &it)) {
        struct sched_box *box = it.value;
        if (box->node != node)
            continue;
        set_live(box, false);
        drop_unused(core, box);
    }
}
