/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits, who runs where, and who goes where next: plain data, no I/O, no clock of its own.
 * Everything in here can be built anew from the database and from what the nodes say.
 *
 * Queue: one for each template (a template whose image is still being built holds up nobody else);
 * in it the owners stand in a ring and take turns, each with a FIFO of its own. What belongs to a
 * batch waits in queues apart, by priority within an owner, goes after what was posted alone (but
 * has every BATCH_TURN-th turn when both wait), and leaves part of each node to the others. */
#pragma once

#include "common/base/list.h"
#include "common/proto/id.h"
#include "common/proto/sizes.h"

#define SCHED_MAX_ATTEMPTS 3
#define SCHED_MAX_TEMPLATES 64
#define SCHED_MAX_LANES 256
#define SCHED_NAME_MAX 64 /* of nodes and templates */

/* The transitions are in core.c; docs/architecture.md draws them. */
enum sched_state {
    SCHED_QUEUED,   /* waits for a node */
    SCHED_PLACING,  /* has a node and its slot; the commit is under way */
    SCHED_STARTING, /* committed; `start` is on its way, or was answered */
    SCHED_RUNNING,  /* the node said `started` */
    SCHED_ENDING,   /* its terminal state is being committed */
};
const char *sched_state_name(enum sched_state st);

struct sched_node;
struct sched_owner_queue;
struct sched_box;

/* Many executions posted at once. Only so many of them stand in the core at a time. */
struct sched_batch {
    struct dbx_id id;
    int64_t priority;
    uint32_t max_parallel; /* 0: as many as there is room for */
    uint32_t in_core;      /* its processes here, in any state */
    uint32_t wanted;       /* so many were asked for */
    int32_t after;         /* index of the last one that was read from the database; -1: none */
    bool shares;           /* its executions use sandboxes one after another */
    bool listed;           /* it runs, says the database */
    bool exhausted;        /* nothing is left there, as it was read last */
    bool stop, stopping;   /* what is left is to be cancelled; the statement is under way */
    bool has_shared;       /* the files of all its executions are here, or it has none */
    uint8_t *shared;       /* owned; by sched_core_batch_keep only */
    size_t shared_len;
    struct dbx_list _node;
};

struct sched_proc {
    struct dbx_id id, sandbox, owner;
    char template[SCHED_NAME_MAX + 1];
    char *request, *trace; /* owned; JSON as it was given */
    int64_t accepted_us;
    uint8_t *blob; /* owned; files and stdin. NULL: in the database */
    size_t blob_len, files_len;
    bool retry_safe;
    bool workspace;              /* it joins the sandbox, where that stands */
    const struct dbx_size *size; /* of that; NULL: any node will do */
    struct sched_batch *batch;   /* borrowed from the core; NULL: posted alone */

    enum sched_state state;  /* by sched_proc_set_state only */
    struct sched_node *node; /* borrowed; set from PLACING on */
    int64_t started_us;      /* as its node says with its end; 0: not known */
    uint32_t attempt;        /* how often it was handed to a node */
    uint32_t refusals;
    uint32_t asks;      /* how often this `start` was sent */
    uint64_t start_ask; /* id of the `start` whose answer counts, or 0 */
    bool accepted;      /* the node answered `start` with ok */
    bool cancel;        /* somebody wants it to end */

    struct dbx_list _queue; /* of an owner, or `delayed` */
    struct dbx_list _of_node;
    struct sched_owner_queue *_oq; /* while it waits in one */
    uint64_t _not_before;
    struct sched_box *_box; /* while it has a node, in a workspace */
};

struct sched_template {
    char name[SCHED_NAME_MAX + 1];
    uint32_t warm;
};

struct sched_capacity {
    uint32_t sandboxes;
    uint32_t cpus;  /* 0: not said */
    uint32_t sizes; /* dbx_size_bit */
    size_t ntemplates;
    struct sched_template templates[SCHED_MAX_TEMPLATES];
    size_t nlanes;
    struct dbx_id lanes[SCHED_MAX_LANES]; /* the batch of each sandbox that waits for more of it */
};

struct sched_node {
    char id[SCHED_NAME_MAX + 1];
    char url[256];
    bool online;           /* has said hello, and its link stands */
    uint64_t conn;         /* id of that link, for the caller */
    uint64_t deadline;     /* lease; 0: it has run out */
    uint64_t hold_until;   /* refused something: nothing goes there for so long */
    struct dbx_list procs; /* sched_proc._of_node: PLACING .. ENDING */
    uint32_t nprocs;
    uint32_t nboxes;  /* sandboxes of workspaces: each takes a slot */
    uint32_t nidle;   /* of those, without any process: the node ends one for who is waited for */
    uint32_t njoined; /* processes in those: they take none */
    uint32_t nbatch;  /* processes of batches */
    struct sched_capacity cap;
    struct dbx_list _node;
};

struct sched_core;

struct sched_core *sched_core_new(size_t max_queue);
struct sched_core *sched_core_free(struct sched_core *core); /* and everything in it */

/* ---- processes ---- */

struct sched_proc *sched_core_find(const struct sched_core *core, const struct dbx_id *id);
bool sched_core_full(const struct sched_core *core); /* the queue is */
size_t sched_core_queued(const struct sched_core *core);
size_t sched_core_count(const struct sched_core *core);
/* Takes sp (from dbx_calloc, its strings and blob too), whose id is not there yet: into the queue.
 */
void sched_core_add(struct sched_core *core, struct sched_proc *sp);
/* The same for one that stands at a node already: STARTING or RUNNING. */
void sched_core_adopt(struct sched_core *core, struct sched_proc *sp, struct sched_node *node,
                      bool running);
void sched_core_remove(struct sched_core *core, struct sched_proc *sp); /* frees it */
void sched_proc_free(struct sched_proc *sp); /* one that was never added */
void sched_proc_drop_blob(struct sched_core *core, struct sched_proc *sp);
/* For one without its blob. */
void sched_proc_set_blob(struct sched_core *core, struct sched_proc *sp, uint8_t *blob, size_t len,
                         size_t files_len);
size_t sched_core_blob_bytes(const struct sched_core *core);

/* The one setter. Leaving a node's states for QUEUED or for gone gives its slot back. Asserts that
 * it is legal. */
void sched_proc_set_state(struct sched_core *core, struct sched_proc *sp, enum sched_state to);
/* Back into the queue, first of its owner. not_before > 0: only then. refused: the attempt does not
 * count. */
void sched_core_requeue(struct sched_core *core, struct sched_proc *sp, uint64_t not_before,
                        bool refused);
uint64_t sched_proc_backoff(const struct sched_proc *sp); /* ms, by its refusals */

/* Chooses for one that waits: it is PLACING then, has its node and the next attempt. NULL when none
 * can go anywhere. */
struct sched_proc *sched_core_assign(struct sched_core *core, uint64_t now);

enum sched_fate { SCHED_AGAIN, SCHED_END_LOST, SCHED_END_CANCELLED };
enum sched_fate sched_proc_fate(const struct sched_proc *sp); /* when its node is lost */

/* ---- nodes ---- */

struct sched_node *sched_core_node(struct sched_core *core, const char *id, bool create);
/* ---- sandboxes of workspaces ---- */

/* Where it stands, or is about to; NULL: nowhere. */
struct sched_node *sched_core_box_node(const struct sched_core *core, const struct dbx_id *sandbox);
/* The node has it. One that stands elsewhere as we know is left to end by being idle. */
void sched_core_box_live(struct sched_core *core, const struct dbx_id *sandbox,
                         struct sched_node *node);
/* Where it stands, or is about to; else chooses its node. It counts as live there from now on.
 * NULL: there is no room. */
struct sched_node *sched_core_box_place(struct sched_core *core, const struct dbx_id *sandbox,
                                        const char *template, const struct dbx_size *size,
                                        uint64_t now);
void sched_core_box_gone(struct sched_core *core, const struct dbx_id *sandbox,
                         const struct sched_node *node);
bool sched_core_has_boxes(const struct sched_core *core);
void sched_core_boxes_reset(struct sched_core *core,
                            const struct sched_node *node); /* it has none */
/* All processes of a sandbox, in any state. */
void sched_core_each_of_sandbox(struct sched_core *core, const struct dbx_id *sandbox,
                                void (*fn)(struct sched_proc *sp, void *arg), void *arg);

/* ---- batches: each lives while it is listed or has a process here ---- */

struct sched_batch *sched_core_batch(struct sched_core *core, const struct dbx_id *id, bool create);
struct dbx_list *sched_core_batches(struct sched_core *core); /* sched_batch._node */
void sched_core_batches_sweep(struct sched_core *core);       /* forgets the others */
/* How many of this batch may stand in the core. */
uint32_t sched_core_batch_room(const struct sched_core *core, const struct sched_batch *b);
/* The files of all its executions, which never change; taken, when there is room to keep them. */
void sched_core_batch_keep(struct sched_core *core, struct sched_batch *b, uint8_t **shared,
                           size_t len);
void sched_core_each_of_batch(struct sched_core *core, const struct sched_batch *b,
                              void (*fn)(struct sched_proc *sp, void *arg), void *arg);

/* Any node whose lease ended before now; its deadline is 0 and it is offline from then on. NULL
 * when there is none. */
struct sched_node *sched_core_expire(struct sched_core *core, uint64_t now);
/* Forgets nodes that are offline, lost, and have no process. */
void sched_core_sweep(struct sched_core *core);
struct dbx_list *sched_core_nodes(struct sched_core *core); /* sched_node._node */
