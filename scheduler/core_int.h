/* SPDX-License-Identifier: Apache-2.0 */
/* Inside core.c, queue.c and nodes.c. */
#pragma once

#include "common/base/map.h"
#include "scheduler/core.h"

struct sched_core {
    struct dbx_map *procs;     /* by id: sched_proc, owned */
    struct dbx_map *nodes;     /* by name: sched_node, owned */
    struct dbx_list node_list; /* the same */
    struct dbx_map *boxes;     /* by sandbox: sched_box, owned */
    size_t max_queue, queued, blob_bytes, shared_bytes;
    struct dbx_map
        *templates; /* by name: template_queue, owned; only those with somebody in them */
    struct dbx_list template_ring, batch_ring;
    uint32_t turns;          /* of what was posted alone, while batches waited */
    struct dbx_map *batches; /* by id: sched_batch, owned */
    struct dbx_list batch_list;
    struct dbx_list delayed; /* sched_proc._queue: back-off */
};

void sched_queue__push(struct sched_core *core, struct sched_proc *sp, bool front);
void sched_queue__delay(struct sched_core *core, struct sched_proc *sp, uint64_t not_before);
void sched_queue__remove(struct sched_core *core, struct sched_proc *sp);
/* Moves those whose time has come from `delayed` to the queue. */
void sched_queue__wake(struct sched_core *core, uint64_t now);
void sched_queue__done(struct sched_core *core);
/* boxes.c: sp->node is set. */
void sched_boxes__join(struct sched_core *core, struct sched_proc *sp);
void sched_boxes__leave(struct sched_core *core, struct sched_proc *sp);
void sched_boxes__done(struct sched_core *core);
void sched_core__join(struct sched_core *core, struct sched_proc *sp, struct sched_node *node);
void sched_batches__done(struct sched_core *core);
/* The node for this one, or NULL. ahead: it is a sandbox that nobody waits for yet. */
struct sched_node *sched_nodes__choose(struct sched_core *core, const struct sched_proc *sp,
                                       bool ahead, uint64_t now);
