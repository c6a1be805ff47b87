/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core_int.h"

#include <stdlib.h>

/* Rows: from; columns: to QUEUED, PLACING, STARTING, RUNNING, ENDING. */
static const bool legal[5][5] = {
    [SCHED_QUEUED] = {0, 1, 0, 0, 1},   [SCHED_PLACING] = {1, 0, 1, 0, 1},
    [SCHED_STARTING] = {1, 0, 0, 1, 1}, [SCHED_RUNNING] = {1, 0, 0, 0, 1},
    [SCHED_ENDING] = {0, 0, 0, 0, 0},
};

const char *sched_state_name(enum sched_state st)
{
    static const char *const names[] = {"queued", "placing", "starting", "running", "ending"};
    return names[st];
}

struct sched_core *sched_core_new(size_t max_queue)
{
    struct sched_core *core = DBX_NEW(struct sched_core);

    core->max_queue = max_queue;
    core->procs = dbx_map_new();
    core->nodes = dbx_map_new();
    core->boxes = dbx_map_new();
    core->templates = dbx_map_new();
    dbx_list_init(&core->node_list);
    dbx_list_init(&core->template_ring);
    dbx_list_init(&core->batch_ring);
    core->batches = dbx_map_new();
    dbx_list_init(&core->batch_list);
    dbx_list_init(&core->delayed);
    return core;
}

void sched_proc_free(struct sched_proc *sp)
{
    if (!sp)
        return;
    free(sp->request);
    free(sp->trace);
    free(sp->blob);
    free(sp);
}

struct sched_core *sched_core_free(struct sched_core *core)
{
    struct dbx_map_iter it = {0};

    if (!core)
        return NULL;
    sched_queue__done(core);
    while (dbx_map_next(core->procs, &it))
        sched_proc_free(it.value);
    sched_boxes__done(core);
    sched_batches__done(core);
    it = (struct dbx_map_iter){0};
    while (dbx_map_next(core->nodes, &it))
        free(it.value);
    dbx_map_free(core->procs);
    dbx_map_free(core->nodes);
    dbx_map_free(core->templates);
    free(core);
    return NULL;
}

struct sched_proc *sched_core_find(const struct sched_core *core, const struct dbx_id *id)
{
    return dbx_map_get(core->procs, id->b, sizeof(id->b));
}

bool sched_core_full(const struct sched_core *core)
{
    return core->queued >= core->max_queue;
}

size_t sched_core_queued(const struct sched_core *core)
{
    return core->queued;
}

size_t sched_core_count(const struct sched_core *core)
{
    return dbx_map_count(core->procs);
}

size_t sched_core_blob_bytes(const struct sched_core *core)
{
    return core->blob_bytes;
}

static void insert(struct sched_core *core, struct sched_proc *sp)
{
    dbx_list_init(&sp->_queue);
    dbx_list_init(&sp->_of_node);
    core->blob_bytes += sp->blob ? sp->blob_len : 0;
    if (sp->batch)
        sp->batch->in_core++;
    void *was = dbx_map_put(core->procs, sp->id.b, sizeof(sp->id.b), sp);
    dbx_assert(was == NULL);
}

void sched_core_add(struct sched_core *core, struct sched_proc *sp)
{
    insert(core, sp);
    sp->state = SCHED_QUEUED;
    sched_queue__push(core, sp, /* front= */ false);
}

void sched_core__join(struct sched_core *core, struct sched_proc *sp, struct sched_node *node)
{
    sp->node = node;
    dbx_list_push(&node->procs, &sp->_of_node);
    node->nprocs++;
    node->nbatch += sp->batch != NULL;
    if (sp->workspace)
        sched_boxes__join(core, sp);
}

static void leave_node(struct sched_core *core, struct sched_proc *sp)
{
    if (!sp->node)
        return;
    if (sp->_box)
        sched_boxes__leave(core, sp);
    dbx_list_remove(&sp->_of_node);
    sp->node->nprocs--;
    sp->node->nbatch -= sp->batch != NULL;
    sp->node = NULL;
}

void sched_core_adopt(struct sched_core *core, struct sched_proc *sp, struct sched_node *node,
                      bool running)
{
    insert(core, sp);
    sp->state = running ? SCHED_RUNNING : SCHED_STARTING;
    sched_core__join(core, sp, node);
}

void sched_proc_drop_blob(struct sched_core *core, struct sched_proc *sp)
{
    if (!sp->blob)
        return;
    core->blob_bytes -= sp->blob_len;
    free(sp->blob);
    sp->blob = NULL;
    sp->blob_len = sp->files_len = 0;
}

void sched_proc_set_blob(struct sched_core *core, struct sched_proc *sp, uint8_t *blob, size_t len,
                         size_t files_len)
{
    dbx_assert(!sp->blob);
    sp->blob = blob;
    sp->blob_len = len;
    sp->files_len = files_len;
    core->blob_bytes += len;
}

void sched_core_remove(struct sched_core *core, struct sched_proc *sp)
{
    if (sp->state == SCHED_QUEUED)
        sched_queue__remove(core, sp);
    leave_node(core, sp);
    sched_proc_drop_blob(core, sp);
    if (sp->batch)
        sp->batch->in_core--;
    (void)dbx_map_del(core->procs, sp->id.b, sizeof(sp->id.b));
    sched_proc_free(sp);
}

void sched_proc_set_state(struct sched_core *core, struct sched_proc *sp, enum sched_state to)
{
    dbx_assert(legal[sp->state][to]);
    if (sp->state == SCHED_QUEUED)
        sched_queue__remove(core, sp);
    if (to == SCHED_QUEUED)
        leave_node(core, sp);
    sp->state = to;
    sp->accepted = sp->accepted && to != SCHED_QUEUED;
    sp->asks = 0;
    sp->start_ask = 0;
}

void sched_core_requeue(struct sched_core *core, struct sched_proc *sp, uint64_t not_before,
                        bool refused)
{
    sched_proc_set_state(core, sp, SCHED_QUEUED);
    if (refused) {
        sp->attempt--;
        sp->refusals++;
    }
    if (not_before > 0)
        sched_queue__delay(core, sp, not_before);
    else
        sched_queue__push(core, sp, /* front= */ true);
}

uint64_t sched_proc_backoff(const struct sched_proc *sp)
{
    return sp->refusals < 5 ? 100u << sp->refusals : 2000;
}

enum sched_fate sched_proc_fate(const struct sched_proc *sp)
{
    if (sp->cancel)
        return SCHED_END_CANCELLED;
    if (sp->state == SCHED_PLACING) /* never sent */
        return SCHED_AGAIN;
    return sp->retry_safe && sp->attempt < SCHED_MAX_ATTEMPTS ? SCHED_AGAIN : SCHED_END_LOST;
}

void sched_core_each_of_sandbox(struct sched_core *core, const struct dbx_id *sandbox,
                                void (*fn)(struct sched_proc *sp, void *arg), void *arg)
{
    struct dbx_map_iter it = {0};

    while (dbx_map_next(core->procs, &it)) {
        struct sched_proc *sp = it.value;
        if (dbx_id_equal(&sp->sandbox, sandbox))
            fn(sp, arg);
    }
}
