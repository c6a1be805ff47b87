/* SPDX-License-Identifier: Apache-2.0 */
/* Queues come into being with the first who waits in them, and go with the last. */
#include "scheduler/core_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASIDE_MS 100
#define BATCH_TURN 5 /* every so many-th is a batch's, when both wait */

struct template_queue {
    char name[SCHED_NAME_MAX + 32];
    struct dbx_list node;   /* in `ring` */
    struct dbx_list *ring;  /* the core's template_ring or batch_ring */
    struct dbx_list owners; /* a ring: the first is next */
    struct dbx_map *by_owner;
};

struct sched_owner_queue {
    struct dbx_id owner;
    struct template_queue *tq;
    struct dbx_list node;
    struct dbx_list procs;
};

/* No template's name begins so: the queue of a template's batches. */
#define BATCH "+"

static struct template_queue *template_queue(struct sched_core *core, const char *name)
{
    struct template_queue *tq = DBX_MAP_GET_STR(core->templates, name);

    if (tq)
        return tq;
    tq = DBX_NEW(struct template_queue);
    memcpy(tq->name, name, strlen(name) + 1);
    dbx_list_init(&tq->owners);
    tq->by_owner = dbx_map_new();
    tq->ring = name[0] == BATCH[0] ? &core->batch_ring : &core->template_ring;
    dbx_list_push(tq->ring, &tq->node);
    (void)dbx_map_put(core->templates, tq->name, strlen(tq->name), tq);
    return tq;
}

static struct sched_owner_queue *owner_queue(struct template_queue *tq, const struct dbx_id *owner)
{
    struct sched_owner_queue *oq = dbx_map_get(tq->by_owner, owner->b, sizeof(owner->b));

    if (oq)
        return oq;
    oq = DBX_NEW(struct sched_owner_queue);
    oq->owner = *owner;
    oq->tq = tq;
    dbx_list_init(&oq->procs);
    dbx_list_push(&tq->owners, &oq->node);
    (void)dbx_map_put(tq->by_owner, owner->b, sizeof(owner->b), oq);
    return oq;
}

static void free_if_empty(struct sched_core *core, struct sched_owner_queue *oq)
{
    struct template_queue *tq = oq->tq;

    if (!dbx_list_empty(&oq->procs))
        return;
    dbx_list_remove(&oq->node);
    (void)dbx_map_del(tq->by_owner, oq->owner.b, sizeof(oq->owner.b));
    free(oq);
    if (!dbx_list_empty(&tq->owners))
        return;
    dbx_list_remove(&tq->node);
    (void)dbx_map_del(core->templates, tq->name, strlen(tq->name));
    dbx_map_free(tq->by_owner);
    free(tq);
}

/* No template has this name. Those whose sandbox stands wait for nobody's room. */
#define JOINING "@"

static struct sched_node *bound_to(const struct sched_core *core, const struct sched_proc *sp)
{
    return sp->workspace ? sched_core_box_node(core, &sp->sandbox) : NULL;
}

static void push_by_priority(struct dbx_list *procs, struct sched_proc *sp, bool front)
{
    struct dbx_list *at = procs->prev;
    for (; at != procs; at = at->prev) {
        const struct sched_proc *other = dbx_list_entry(at, struct sched_proc, _queue);
        if (front ? other->batch->priority > sp->batch->priority
                  : other->batch->priority >= sp->batch->priority)
            break;
    }
    dbx_list_push_front(at, &sp->_queue); /* behind `at` */
}

void sched_queue__push(struct sched_core *core, struct sched_proc *sp, bool front)
{
    char name[SCHED_NAME_MAX + 32];
    bool joins = bound_to(core, sp) != NULL, other = sp->size && sp->size != &dbx_sizes[0];
    /* What waits for a node of another size holds up nobody else. */
    snprintf(name, sizeof(name), "%s%s%s%s", sp->batch ? BATCH : "", joins ? JOINING : sp->template,
             other && !joins ? " " : "", other && !joins ? sp->size->name : "");
    struct sched_owner_queue *oq = owner_queue(template_queue(core, name), &sp->owner);

    sp->_oq = oq;
    if (sp->batch)
        push_by_priority(&oq->procs, sp, front);
    else if (front)
        dbx_list_push_front(&oq->procs, &sp->_queue);
    else
        dbx_list_push(&oq->procs, &sp->_queue);
    core->queued++;
}

void sched_queue__delay(struct sched_core *core, struct sched_proc *sp, uint64_t not_before)
{
    sp->_oq = NULL;
    sp->_not_before = not_before;
    dbx_list_push(&core->delayed, &sp->_queue);
    core->queued++;
}

void sched_queue__remove(struct sched_core *core, struct sched_proc *sp)
{
    struct sched_owner_queue *oq = sp->_oq;

    dbx_list_remove(&sp->_queue);
    core->queued--;
    sp->_oq = NULL;
    if (oq)
        free_if_empty(core, oq);
}

void sched_queue__wake(struct sched_core *core, uint64_t now)
{
    struct dbx_list *it, *next;

    dbx_list_each(it, next, &core->delayed)
    {
        struct sched_proc *sp = dbx_list_entry(it, struct sched_proc, _queue);
        if (sp->_not_before > now)
            continue;
        sched_queue__remove(core, sp);
        sched_queue__push(core, sp, /* front= */ true);
    }
}

void sched_queue__done(struct sched_core *core)
{
    struct dbx_map_iter i = {0};

    while (dbx_map_next(core->procs, &i)) {
        struct sched_proc *sp = i.value;
        if (sp->state == SCHED_QUEUED)
            sched_queue__remove(core, sp);
    }
    dbx_assert(dbx_list_empty(&core->template_ring) && dbx_list_empty(&core->batch_ring));
}

/* It was its turn: the template goes to the end of the ring, and so does the owner within it. */
static void take_turn(struct template_queue *tq, struct sched_owner_queue *oq)
{
    dbx_list_remove(&tq->node);
    dbx_list_push(tq->ring, &tq->node);
    dbx_list_remove(&oq->node);
    dbx_list_push(&tq->owners, &oq->node);
}

/* The first of a queue, and where it goes. A process whose sandbox stands at a node that takes
 * nothing now steps aside for a while, and the next one is looked at. */
static struct sched_proc *next_of(struct sched_core *core, struct template_queue *tq, uint64_t now,
                                  struct sched_node **ret_node, bool *ret_aside)
{
    struct sched_owner_queue *oq = dbx_list_first(&tq->owners, struct sched_owner_queue, node);
    struct sched_proc *sp = dbx_list_first(&oq->procs, struct sched_proc, _queue);
    struct sched_node *node = bound_to(core, sp);
    *ret_aside = false;
    if (!node) {
        node = sched_nodes__choose(core, sp, /* ahead= */ false, now);
    } else if (!node->online || node->hold_until > now) {
        sched_queue__remove(core, sp);
        sched_queue__delay(core, sp, now + ASIDE_MS);
        *ret_aside = true;
        return NULL;
    }
    *ret_node = node;
    if (!node)
        return NULL;
    take_turn(tq, oq);
    return sp;
}

static struct sched_proc *assign_from(struct sched_core *core, struct dbx_list *ring, uint64_t now)
{
    struct dbx_list *it, *next;
    bool aside;

    do {
        aside = false;
        dbx_list_each(it, next, ring)
        {
            struct template_queue *tq = dbx_list_entry(it, struct template_queue, node);
            struct sched_node *node = NULL;
            struct sched_proc *sp = next_of(core, tq, now, &node, &aside);
            if (aside)
                break; /* the queue may have gone with it */
            if (!sp)
                continue;
            sched_proc_set_state(core, sp, SCHED_PLACING);
            sched_core__join(core, sp, node);
            sp->attempt++;
            return sp;
        }
    } while (aside);
    return NULL;
}

struct sched_proc *sched_core_assign(struct sched_core *core, uint64_t now)
{
    sched_queue__wake(core, now);
    bool waits = !dbx_list_empty(&core->batch_ring);
    bool batch_first = waits && core->turns + 1 >= BATCH_TURN;
    struct sched_proc *sp =
        assign_from(core, batch_first ? &core->batch_ring : &core->template_ring, now);

    if (!sp)
        sp = assign_from(core, batch_first ? &core->template_ring : &core->batch_ring, now);
    if (sp)
        core->turns = sp->batch || !waits ? 0 : core->turns + 1;
    return sp;
}
